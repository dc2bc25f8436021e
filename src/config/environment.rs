//! What a configuration may read beside its own text: the environment and files. Behind a trait, so that
//! tests set no variable of the process and the fuzz target touches no disk.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use zeroize::Zeroizing;

/// Where variables and files come from.
pub trait Environment {
    /// The variable's value, where it is set.
    fn var(&self, name: &str) -> Option<OsString>;

    /// The file's content.
    ///
    /// # Errors
    /// It can't be read, is no regular file, or is longer than `bytes_max`.
    fn read(&self, path: &Path, bytes_max: u64) -> io::Result<Zeroizing<Vec<u8>>> {
        read_file(path, bytes_max)
    }
}

/// The process's own environment.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcessEnvironment;

impl Environment for ProcessEnvironment {
    fn var(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name)
    }
}

impl<F: Fn(&str) -> Option<String>> Environment for F {
    fn var(&self, name: &str) -> Option<OsString> {
        self(name).map(OsString::from)
    }
}

/// Reads a regular file of bounded length. Anything else (a pipe, a device) could block the start for ever.
pub(super) fn read_file(path: &Path, bytes_max: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    let metadata = fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(io::Error::other("is a folder"));
    }
    if !metadata.is_file() {
        return Err(io::Error::other("is no regular file"));
    }
    // With room from the start no growing leaves a copy of a secret behind.
    let room = metadata.len().min(bytes_max).saturating_add(1);
    let mut content = Zeroizing::new(Vec::with_capacity(usize::try_from(room).unwrap_or(0)));
    File::open(path)?.take(bytes_max.saturating_add(1)).read_to_end(&mut content)?;
    if content.len() as u64 > bytes_max {
        return Err(io::Error::other(format!("is longer than {bytes_max} bytes")));
    }
    Ok(content)
}
