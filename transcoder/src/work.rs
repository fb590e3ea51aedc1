//! The folder that a job is done in, and what is noted down there of what is done.
//!
//! ```text
//! input/          the source, where it came out of a bucket
//! encoded.json    an [`Encoded`] whose files are all here
//! package.json    a [`Package`] whose files are all here
//! ```
//!
//! A note is there whole or not at all, and is believed only as far as the files that it names are there in their
//! sizes. Otherwise the step is done anew. Paths in it are relative, so a folder may be moved.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::encoder::mediaconvert;
use crate::package::{Edition, Encoded, Package};
use crate::plan::CaptionSource;
use crate::{Error, Job};

/// Where the source of a job is kept.
pub(crate) const INPUT: &str = "input";

const ENCODED: &str = "encoded.json";
const PACKAGE: &str = "package.json";

/// What was done, and the files that came of it: paths from the folder, and sizes.
#[derive(Deserialize, Serialize)]
struct Note<T> {
    files: Vec<(PathBuf, u64)>,
    what: T,
}

/// Bytes that are free on the disk of a folder.
pub(crate) fn free(folder: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(folder)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// What was encoded, if that is known and still here.
pub(crate) fn encoded(folder: &Path, job: &Job) -> Option<Encoded> {
    let mut encoded: Encoded = read(folder, ENCODED)?;
    folder.clone_into(&mut encoded.folder);
    encoded.plan.input = std::path::absolute(&job.input).ok()?;
    let beside = job.input.parent()?;
    for captions in &mut encoded.plan.captions {
        if let CaptionSource::File(path) = &mut captions.from {
            *path = beside.join(path.file_name()?);
        }
    }
    Some(encoded)
}

/// Notes down what was encoded. What is not text cannot be: then it is encoded again, should it come to that.
pub(crate) fn note_encoded(folder: &Path, encoded: &Encoded) -> Result<(), Error> {
    let failed = failed(folder);
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(&failed)? {
        let entry = entry.map_err(&failed)?;
        let metadata = entry.metadata().map_err(&failed)?;
        if metadata.is_file() {
            files.push((entry.file_name().into(), metadata.len()));
        }
    }
    let mut what = encoded.clone();
    what.plan.input = PathBuf::new();
    write(folder, ENCODED, &Note { files, what })
}

/// What was packaged as this edition, if that is known and still here.
pub(crate) fn package(folder: &Path, edition: &Edition) -> Option<Package> {
    let mut package: Package = read(folder, PACKAGE)?;
    if package.edition != *edition {
        return None;
    }
    for file in &mut package.media {
        file.path = folder.join(&file.path);
    }
    Some(package)
}

/// Notes down what was packaged, and removes what it was made of.
pub(crate) fn note_package(folder: &Path, package: &Package) -> Result<(), Error> {
    let mut what = package.clone();
    let mut files = Vec::new();
    for file in &mut what.media {
        if let Ok(path) = file.path.strip_prefix(folder) {
            file.path = path.to_owned();
        }
        files.push((file.path.clone(), file.bytes));
    }
    let is_part = |name: &Path| files.iter().any(|(path, _)| path.starts_with(name));
    let others: Vec<_> = names(folder).filter(|name| !is_part(name)).collect();
    write(folder, PACKAGE, &Note { files, what })?;
    for name in others.iter().filter(|name| !is_kept(name)) {
        remove(&folder.join(name))?;
    }
    Ok(())
}

/// Removes everything that an attempt left which did not come to an end: all but the source, and what an encoder elsewhere
/// was asked for, which is paid for once.
pub(crate) fn clear(folder: &Path) -> Result<(), Error> {
    fs::create_dir_all(folder).map_err(failed(folder))?;
    let is_paid_for = folder.join(mediaconvert::RECORD).exists();
    for name in names(folder).filter(|name| name != Path::new(INPUT)) {
        let path = folder.join(name);
        if !(is_paid_for && path.is_file()) {
            remove(&path)?;
        }
    }
    Ok(())
}

fn is_kept(name: &Path) -> bool {
    [INPUT, PACKAGE].iter().any(|kept| name == Path::new(kept))
}

fn names(folder: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name().into())
}

fn remove(path: &Path) -> Result<(), Error> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(path)(error)),
        _ => Ok(()),
    }
}

fn read<T: DeserializeOwned>(folder: &Path, name: &str) -> Option<T> {
    let note: Note<T> = serde_json::from_slice(&fs::read(folder.join(name)).ok()?).ok()?;
    let is_there = |(path, bytes): &(PathBuf, u64)| {
        fs::metadata(folder.join(path)).is_ok_and(|metadata| metadata.len() == *bytes)
    };
    note.files.iter().all(is_there).then_some(note.what)
}

fn write<T: Serialize>(folder: &Path, name: &str, note: &Note<T>) -> Result<(), Error> {
    let Ok(bytes) = serde_json::to_vec(note) else { return Ok(()) };
    let path = folder.join(name);
    let draft = folder.join(format!("{name}.new"));
    let written = File::create(&draft).and_then(|mut file| {
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&draft, &path)
    });
    written.map_err(failed(&path))
}

fn failed(path: &Path) -> impl Fn(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |error| Error::Folder { path: path.clone(), error }
}
