//! What a binary needs of the system, and where it is on this machine.

use std::fs;
use std::path::{Path, PathBuf};

use object::elf;
use object::read::elf::{ElfFile, FileHeader, ProgramHeader};
use object::{FileKind, Object, ObjectSection};

use crate::{Error, Result};

/// An executable or a shared library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Elf {
    machine: u16,
    /// The loader that the kernel starts; none for a static binary.
    loader: Option<String>,
    /// The names of shared libraries.
    needs: Vec<String>,
    /// The compiler that it says it is from.
    pub(crate) rustc: Option<String>,
}

/// A file that a binary needs, by its path in an image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Library {
    pub(crate) path: String,
    pub(crate) bytes: Vec<u8>,
}

impl Elf {
    /// Reads a binary.
    ///
    /// # Errors
    /// Usage if it is not an ELF file.
    pub(crate) fn parse(bytes: &[u8], path: &Path) -> Result<Self> {
        let parsed = match FileKind::parse(bytes) {
            Ok(FileKind::Elf64) => Self::of::<elf::FileHeader64<object::Endianness>>(bytes),
            Ok(FileKind::Elf32) => Self::of::<elf::FileHeader32<object::Endianness>>(bytes),
            Ok(_) => {
                return Err(Error::usage("the binary is not one for Linux")
                    .with("file", path.display())
                    .hint("build for Linux with `--target`"));
            }
            Err(e) => Err(e),
        };
        parsed.map_err(|e| Error::usage("this is not a binary").with("file", path.display()).because(e.to_string()))
    }

    fn of<F: FileHeader<Endian = object::Endianness>>(bytes: &[u8]) -> object::read::Result<Self> {
        let file: ElfFile<'_, F> = ElfFile::parse(bytes)?;
        let endian = file.endian();
        let mut loader = None;
        for segment in file.elf_program_headers() {
            loader = loader.or(segment.interpreter(endian, bytes)?.map(text));
        }
        let mut needs = Vec::new();
        if file.section_by_name(".dynamic").is_some() {
            let table = file.elf_dynamic_table()?;
            for entry in table.iter() {
                if entry.tag == elf::DT_NEEDED {
                    needs.push(text(table.string(entry)?));
                }
            }
        }
        let comment = file.section_by_name(".comment").and_then(|section| section.data().ok()).unwrap_or_default();
        let comments = comment.split(|byte| *byte == 0).map(text);
        let rustc = comments.filter_map(|text| Some(format!("rustc {}", text.strip_prefix("rustc version ")?))).next();
        Ok(Self { machine: file.elf_header().e_machine(endian), loader, needs, rustc })
    }

    /// Fails if the binary is for another processor than a target.
    pub(crate) fn check_target(&self, target: &str) -> Result<()> {
        let wanted = match target.split('-').next() {
            Some("x86_64") => elf::EM_X86_64,
            Some("aarch64") => elf::EM_AARCH64,
            // Names of others do not say what the header has.
            _ => return Ok(()),
        };
        if self.machine == wanted {
            return Ok(());
        }
        Err(Error::usage(format!("the binary is not for `{target}`")).hint("name the target with `--target`"))
    }

    /// The folders that the loader searches for libraries without a cache.
    fn folders(&self) -> Vec<String> {
        let debian = match self.machine {
            elf::EM_X86_64 => Some("x86_64-linux-gnu"),
            elf::EM_AARCH64 => Some("aarch64-linux-gnu"),
            _ => None,
        };
        let multiarch = debian.iter().flat_map(|name| [format!("/lib/{name}"), format!("/usr/lib/{name}")]);
        multiarch.chain(["/lib64", "/usr/lib64", "/lib", "/usr/lib"].map(str::to_owned)).collect()
    }

    /// What an image must have: the names of the loader and of the libraries that the binary itself needs.
    pub(crate) fn needs(&self) -> impl Iterator<Item = &str> {
        let loader = self.loader.as_deref().map(file_name);
        let others = self.needs.iter().map(String::as_str);
        loader.into_iter().chain(others.filter(move |name| Some(*name) != loader))
    }

    /// The loader and all shared libraries that a binary needs, and that these need, from the root file system of this
    /// machine.
    ///
    /// # Errors
    /// Not found, with the names of those that are missing.
    pub(crate) fn libraries(&self) -> Result<Vec<Library>> {
        let mut found: Vec<Library> = Vec::new();
        let mut missing = Vec::new();
        let mut seen: Vec<String> = Vec::new();
        let mut open: Vec<String> = self.needs.clone();
        if let Some(path) = &self.loader {
            // Libraries name the loader, too.
            seen.push(file_name(path).to_owned());
            match fs::read(path) {
                Ok(bytes) => found.push(Library { path: path.clone(), bytes }),
                Err(_) => missing.push(path.clone()),
            }
        }
        while let Some(name) = open.pop() {
            if seen.contains(&name) {
                continue;
            }
            match self.find(&name) {
                Some((library, elf)) => {
                    found.push(library);
                    open.extend(elf.needs);
                }
                None => missing.push(name.clone()),
            }
            seen.push(name);
        }
        if missing.is_empty() {
            found.sort();
            return Ok(found);
        }
        missing.sort();
        Err(Error::not_found("libraries that the binary needs are not on this machine")
            .with("libraries", missing.join(", "))
            .hint("install them, or give an image that has them with `--base`"))
    }

    /// A library for the same processor.
    fn find(&self, name: &str) -> Option<(Library, Elf)> {
        self.folders().into_iter().find_map(|folder| {
            let path = format!("{folder}/{name}");
            let bytes = fs::read(&path).ok()?;
            let elf = Self::parse(&bytes, &PathBuf::from(&path)).ok()?;
            (elf.machine == self.machine).then_some((Library { path, bytes }, elf))
        })
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test's own binary.
    fn own() -> (Vec<u8>, PathBuf) {
        let path = std::env::current_exe().unwrap();
        (fs::read(&path).unwrap(), path)
    }

    #[test]
    fn libraries_are_found_with_what_they_need_themselves() {
        let (bytes, path) = own();
        let elf = Elf::parse(&bytes, &path).unwrap();
        assert!(elf.rustc.as_ref().is_some_and(|version| version.starts_with("rustc 1.")), "{elf:?}");
        let libraries = elf.libraries().unwrap();
        let names: Vec<&str> = libraries.iter().map(|library| file_name(&library.path)).collect();
        assert!(elf.needs().all(|name| names.contains(&name)), "{elf:?}: {names:?}");
        assert!(names.contains(&"libc.so.6"), "{names:?}");
    }

    #[test]
    fn missing_libraries_are_named() {
        let (bytes, path) = own();
        let mut elf = Elf::parse(&bytes, &path).unwrap();
        elf.needs.extend(["libnone.so.1".to_owned(), "libneither.so.2".to_owned()]);
        let error = elf.libraries().unwrap_err();
        assert_eq!(error.get("libraries"), Some("libneither.so.2, libnone.so.1"));
    }

    #[test]
    fn what_is_not_a_binary_for_the_target_is_refused() {
        let error = Elf::parse(b"#!/bin/sh\n", Path::new("job")).unwrap_err();
        assert_eq!(error.message(), "this is not a binary");
        let (bytes, path) = own();
        let elf = Elf::parse(&bytes, &path).unwrap();
        assert!(elf.check_target("s390x-unknown-linux-gnu").is_ok());
        let targets = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"];
        assert_eq!(targets.iter().filter(|target| elf.check_target(target).is_ok()).count(), 1);
    }
}
