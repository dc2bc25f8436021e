//! What was in a file when it was read, so that a later look can tell whether it has changed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The content of a file, hashed; `None` where it could not be read.
pub type Fingerprint = Option<[u8; 16]>;

/// Every file that a load has read, or tried to, with what was in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fingerprints(BTreeMap<PathBuf, Fingerprint>);

/// The fingerprint of a content.
pub(super) fn of(content: &[u8]) -> [u8; 16] {
    crate::signature::fingerprint(&[content])
}

impl Fingerprints {
    /// Notes what was in the file; `None`: it could not be read.
    pub(super) fn note(&mut self, path: &Path, content: Option<&[u8]>) {
        self.0.insert(path.to_owned(), content.map(of));
    }

    /// The files.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.keys().map(PathBuf::as_path)
    }

    /// The files with what was in them.
    pub fn iter(&self) -> impl Iterator<Item = (&Path, &Fingerprint)> {
        self.0.iter().map(|(path, fingerprint)| (path.as_path(), fingerprint))
    }
}
