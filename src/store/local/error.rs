//! Why a store can't be opened.

use std::io;
use std::path::{Path, PathBuf};

/// A store that can't be opened; the program ends with exit code 4.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it.
    #[error("the store `{}` is in use by another process", path.display())]
    InUse {
        /// The store's folder.
        path: PathBuf,
    },
    /// The folder holds something else.
    #[error("`{}` is not empty and holds no store: name an empty folder, or the store's own", path.display())]
    NotAStore {
        /// The folder.
        path: PathBuf,
    },
    /// The folder lies where syncs and locks can't be relied on.
    #[error(
        "the store `{}` lies on `{kind}`, a file system whose syncs and locks can't be relied on: use a local disk, or set \
         `store.allow_file_systems: [{kind}]` if yours can", path.display()
    )]
    FileSystem {
        /// The store's folder.
        path: PathBuf,
        /// The file system's name.
        kind: &'static str,
    },
    /// Another version wrote it.
    #[error("the store `{}` has format version {version}, and this program knows version {} only", path.display(), super::format::VERSION)]
    Version {
        /// The store's folder.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// Something that was durable is no longer what it was.
    #[error("the store `{}` is damaged: {what}; see `kurier store repair`", path.display())]
    Damaged {
        /// The store's folder.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// Sizes that can't work.
    #[error("{0}")]
    Options(String),
    /// The disk said no.
    #[error("the store `{}`: {}", path.display(), with_advice(source))]
    Io {
        /// The store's folder.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
}

impl StoreError {
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }

    pub(super) fn damaged(path: &Path, what: String) -> Self {
        Self::Damaged { path: path.to_owned(), what }
    }
}

/// What a disk said that can't be written to, and what to do about it.
pub(super) fn with_advice(error: &io::Error) -> String {
    let kind = error.kind();
    let advice = if kind == io::ErrorKind::ReadOnlyFilesystem {
        "the kernel's log (`dmesg`) says why, often a failing disk: mend that and mount it writable again; nothing acknowledged is lost"
    } else if matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        "make room on the disk, or lower `store.max_size`"
    } else if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) {
        "the kernel's log (`dmesg`) says more: the disk may be failing"
    } else {
        return error.to_string();
    };
    format!("{error}: {advice}")
}
