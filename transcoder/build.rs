//! Lists the files of the studio, so that none is forgotten in the program: `[("index.html", include_bytes!(…)), …]`.
//! Compiles anew when one of them or a migration was added, which nothing else would notice.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=studio");
    println!("cargo::rerun-if-changed=migrations");
    let folder = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where")).join("studio");
    let mut names = Vec::new();
    list(&folder, "", &mut names)?;
    names.sort();
    let mut table = "[\n".to_owned();
    for name in names {
        let path = format!("/studio/{name}");
        let _ =
            writeln!(table, "({name:?}, include_bytes!(concat!(env!(\"CARGO_MANIFEST_DIR\"), {path:?}))),");
    }
    table.push_str("]\n");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo says where"));
    fs::write(out.join("studio.rs"), table)
}

fn list(folder: &Path, before: &str, names: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        // An editor's own.
        if name.starts_with('.') || name.ends_with('~') {
            continue;
        }
        if entry.file_type()?.is_dir() {
            list(&entry.path(), &format!("{before}{name}/"), names)?;
        } else {
            names.push(format!("{before}{name}"));
        }
    }
    Ok(())
}
