//! Local files, with errors that name them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hardtack_core::{Error, Result};

/// Turns an I/O error into one that names the operation and the file.
pub(crate) fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.display().to_string();
    move |e| Error::unexpected(what).with("path", path).because(e)
}

pub(crate) fn create_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(failed("cannot create a folder", path))
}

pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(failed("cannot rename a file", from))
}

/// Makes a file of the same file system appear at a second place.
pub(crate) fn link(from: &Path, to: &Path) -> Result<()> {
    fs::hard_link(from, to).map_err(failed("cannot link a file", from))
}

pub(crate) fn write(path: &Path, text: String) -> Result<()> {
    fs::write(path, text).map_err(failed("cannot write a file", path))
}

pub(crate) fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(failed("cannot read a file", path))
}

/// Removes a folder with its contents, if it exists.
pub(crate) fn remove_folder(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done.map_err(failed("cannot remove a folder", path)),
    }
}

/// Copies a folder with its contents to a place where nothing is.
pub(crate) fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    create_folder(to)?;
    for entry in fs::read_dir(from).map_err(failed("cannot list a folder", from))? {
        let from = entry.map_err(failed("cannot list a folder", from))?.path();
        let to = to.join(from.file_name().unwrap_or_default());
        match from.is_dir() {
            true => copy_folder(&from, &to)?,
            false => fs::copy(&from, &to).map(|_| ()).map_err(failed("cannot copy a file", &from))?,
        }
    }
    Ok(())
}

/// All files below a folder, sorted; none if it does not exist. Names that begin with `.` or `_` are skipped, as by
/// every reader.
pub(crate) fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = if folder.exists() { vec![folder.to_owned()] } else { Vec::new() };
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).map_err(failed("cannot list a folder", &folder))?;
        for entry in entries {
            let path = entry.map_err(failed("cannot list a folder", &folder))?.path();
            let hidden = path.file_name().is_some_and(|name| matches!(name.as_encoded_bytes()[0], b'.' | b'_'));
            match (hidden, path.is_dir()) {
                (true, _) => {}
                (false, true) => folders.push(path),
                (false, false) => found.push(path),
            }
        }
    }
    found.sort();
    Ok(found)
}
