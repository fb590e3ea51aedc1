//! Compiles anew when a migration was added, which nothing else would notice.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
