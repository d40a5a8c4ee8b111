//! Child processes, and errors of files.

use std::io;
use std::path::Path;
use std::process::Command;

use hardtack_core::{Error, ErrorKind};

use crate::Result;

/// Runs a command and returns its standard output; on failure its standard error is the cause.
///
/// # Errors
/// Usage if it cannot be started, or if it fails: `what` says what that means.
pub(crate) fn output(command: &mut Command, what: &str) -> Result<String> {
    let done = command.output().map_err(|e| cannot_start(command, e))?;
    if !done.status.success() {
        return Err(Error::usage(what).because(String::from_utf8_lossy(&done.stderr).trim().to_owned()));
    }
    String::from_utf8(done.stdout).map_err(|e| {
        Error::unexpected(format!("the output of `{}` is not text", command.get_program().display())).because(e)
    })
}

/// The error of a program that cannot be started.
pub(crate) fn cannot_start(command: &Command, error: io::Error) -> Error {
    let program = command.get_program().display();
    Error::usage(format!("`{program}` cannot be started"))
        .hint("install Rust, and run this in a folder that exists")
        .because(error)
}

/// An error of the file system. What a person has to change is a usage error.
pub(crate) fn io_error(error: io::Error, what: &str, path: &Path) -> Error {
    use io::ErrorKind as Io;
    let kind = match error.kind() {
        Io::NotFound
        | Io::PermissionDenied
        | Io::NotADirectory
        | Io::IsADirectory
        | Io::AlreadyExists
        | Io::ReadOnlyFilesystem => ErrorKind::Usage,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, what).with("file", path.display()).because(error)
}
