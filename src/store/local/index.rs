//! The seam to the index: an ordered map of small entries that can be lost at any time, because everything in
//! it can be read out of the journal again. Nothing that a 2xx rests on is ever only here.

mod memory;
mod sled;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

pub use memory::MemoryIndexes;
pub use sled::SledIndexes;

/// The index failed; it has to be made anew.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("index: {0}")]
pub struct IndexError(pub String);

/// A key and its new value; none removes it.
pub type IndexEntry = (Vec<u8>, Option<Vec<u8>>);

/// A key and its value.
pub type Stored = (Vec<u8>, Vec<u8>);

/// An ordered map. Calls may block for as long as a disk does.
pub trait Index: Send + Sync + fmt::Debug {
    /// The value of a key.
    ///
    /// # Errors
    /// The index is broken.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError>;

    /// The last entries of `from..below`, in falling order, at most `limit`.
    ///
    /// # Errors
    /// The index is broken.
    fn last(&self, from: &[u8], below: &[u8], limit: usize) -> Result<Vec<Stored>, IndexError>;

    /// Applies all entries.
    ///
    /// # Errors
    /// The index is broken.
    fn apply(&self, entries: &[IndexEntry]) -> Result<(), IndexError>;

    /// Hands everything to the operating system.
    ///
    /// # Errors
    /// The index is broken.
    fn flush(&self) -> Result<(), IndexError>;

    /// Bytes it takes on disk, about.
    fn bytes(&self) -> u64;
}

/// Makes indexes.
pub trait Indexes: Send + Sync {
    /// An empty index in this folder, in place of whatever is there.
    ///
    /// # Errors
    /// None can be made.
    fn create(&self, path: &Path) -> Result<Arc<dyn Index>, IndexError>;

    /// The index that lies in this folder, after a clean stop.
    ///
    /// # Errors
    /// There is none, or it is broken.
    fn open(&self, path: &Path) -> Result<Arc<dyn Index>, IndexError>;

    /// Makes a flushed index that nobody uses any more durable, with its names.
    ///
    /// # Errors
    /// The disk said no.
    fn close(&self, path: &Path) -> Result<(), IndexError>;
}
