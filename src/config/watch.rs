//! Tells whether files have changed, by what is in them and not by events of the file system: an editor's
//! rename, a symlink that is swapped (Kubernetes' `..data`) and a network file system all look the same.
//!
//! Between changes it only asks for the files' status, so watching costs next to nothing.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::environment::read_file;
use super::fingerprint::{self, Fingerprint, Fingerprints};
use super::limits::PEM_BYTES_MAX;

/// Watches a set of files; to be asked every now and then.
pub struct Watcher {
    files: BTreeMap<PathBuf, Watched>,
}

struct Watched {
    content: Fingerprint,
    status: Option<Status>,
    /// The content was read when the status had been the same before: no write can hide in the same tick of
    /// the file system's clock.
    settled: bool,
}

/// What a file's status says without reading it; `None` where it isn't there. Symlinks are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Status {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

fn status(path: &Path) -> Option<Status> {
    fs::metadata(path).ok().map(|metadata| Status {
        device: metadata.dev(),
        inode: metadata.ino(),
        size: metadata.size(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    })
}

fn content(path: &Path) -> Fingerprint {
    read_file(path, PEM_BYTES_MAX).ok().map(|content| fingerprint::of(&content))
}

impl Watcher {
    /// Watches for changes of these files from now on.
    pub fn new(files: &[PathBuf]) -> Self {
        let watched = |path: &PathBuf| (path.clone(), Watched { content: content(path), status: None, settled: false });
        Self { files: files.iter().map(watched).collect() }
    }

    /// Watches for changes since a load: what has changed between its reading and now counts.
    pub fn since(read: &Fingerprints) -> Self {
        let mut watcher = Self { files: BTreeMap::new() };
        watcher.follow(read);
        watcher
    }

    /// After a load that succeeded: watches its files, and no others.
    pub fn follow(&mut self, read: &Fingerprints) {
        self.files.clear();
        self.follow_also(read);
    }

    /// After a load that failed: watches its files beside those of the configuration in force.
    pub fn follow_also(&mut self, read: &Fingerprints) {
        for (path, content) in read.iter() {
            self.files.insert(path.to_owned(), Watched { content: *content, status: None, settled: false });
        }
    }

    /// Whether any file has changed since the last time this was asked. A half-written file counts as a change,
    /// and so does its completion.
    pub fn changed(&mut self) -> bool {
        let mut any = false;
        for (path, watched) in &mut self.files {
            let now = status(path);
            let same = watched.status == now;
            if same && watched.settled {
                continue;
            }
            let content = content(path);
            any |= content != watched.content;
            *watched = Watched { content, status: now, settled: same };
        }
        any
    }
}
