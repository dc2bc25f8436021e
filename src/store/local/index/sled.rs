//! The index in sled; the only file that knows sled.
//!
//! sled survives the death of the process but no power cut (docs/decisions.md), and it panics on a damaged
//! folder. So it is believed after a clean stop only, every call catches panics, and an index that failed once
//! is never asked again. Only `flush()` is used: `flush_async` deadlocks from eight tasks on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Index, IndexEntry, IndexError, Indexes, Stored};

/// Bytes of pages that sled keeps in memory.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;

/// How often sled writes out in the background, which is also what frees its dead space.
const FLUSH_EVERY_MS: u64 = 1000;

/// Makes sled indexes.
#[derive(Debug, Clone, Copy, Default)]
pub struct SledIndexes;

impl Indexes for SledIndexes {
    fn create(&self, path: &Path) -> Result<Arc<dyn Index>, IndexError> {
        match std::fs::remove_dir_all(path) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(IndexError(error.to_string())),
        }
        start(path)
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn Index>, IndexError> {
        // sled would make a new one of what is missing, and an empty index would be believed.
        if !path.join("conf").is_file() {
            return Err(IndexError("there is none".to_owned()));
        }
        start(path)
    }

    fn close(&self, path: &Path) -> Result<(), IndexError> {
        sync(path).map_err(|error| IndexError(error.to_string()))
    }
}

fn start(path: &Path) -> Result<Arc<dyn Index>, IndexError> {
    let config = sled::Config::new().path(path).cache_capacity(CACHE_BYTES).flush_every_ms(Some(FLUSH_EVERY_MS));
    let db = guarded(|| config.open())?;
    Ok(Arc::new(SledIndex { db, broken: AtomicBool::new(false) }))
}

/// Syncs every file of a folder, the folders in it, and it itself: sled's own flush stops at `sync_file_range`.
fn sync(path: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync(&entry.path())?;
        } else {
            std::fs::File::open(entry.path())?.sync_all()?;
        }
    }
    std::fs::File::open(path)?.sync_all()
}

struct SledIndex {
    db: sled::Db,
    broken: AtomicBool,
}

impl std::fmt::Debug for SledIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SledIndex")
    }
}

/// Calls sled, and takes a panic for the error that it is.
fn guarded<T>(call: impl FnOnce() -> sled::Result<T>) -> Result<T, IndexError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|error| IndexError(error.to_string())),
        Err(_panic) => Err(IndexError("sled panicked".to_owned())),
    }
}

impl SledIndex {
    fn call<T>(&self, call: impl FnOnce(&sled::Db) -> sled::Result<T>) -> Result<T, IndexError> {
        if self.broken.load(Ordering::Acquire) {
            return Err(IndexError("sled failed before".to_owned()));
        }
        let result = guarded(|| call(&self.db));
        if result.is_err() {
            self.broken.store(true, Ordering::Release);
        }
        result
    }
}

impl Index for SledIndex {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        self.call(|db| Ok(db.get(key)?.map(|value| value.to_vec())))
    }

    fn last(&self, from: &[u8], below: &[u8], limit: usize) -> Result<Vec<Stored>, IndexError> {
        self.call(|db| {
            let mut found = Vec::new();
            for entry in db.range(from..below).rev().take(limit) {
                let (key, value) = entry?;
                found.push((key.to_vec(), value.to_vec()));
            }
            Ok(found)
        })
    }

    fn apply(&self, entries: &[IndexEntry]) -> Result<(), IndexError> {
        self.call(|db| {
            let mut batch = sled::Batch::default();
            for (key, value) in entries {
                match value {
                    Some(value) => batch.insert(key.as_slice(), value.as_slice()),
                    None => batch.remove(key.as_slice()),
                }
            }
            db.apply_batch(batch)
        })
    }

    fn flush(&self) -> Result<(), IndexError> {
        self.call(|db| db.flush().map(|_bytes| ()))
    }

    fn bytes(&self) -> u64 {
        self.call(sled::Db::size_on_disk).unwrap_or(0)
    }
}

impl Drop for SledIndex {
    fn drop(&mut self) {
        // The folder is made anew at the next start; a failure to flush loses nothing.
        drop(self.call(|db| db.flush()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_that_was_taken_away_is_missed_and_not_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index");
        assert!(SledIndexes.open(&path).is_err());
        drop(SledIndexes.create(&path).unwrap());
        // A process that another test is just starting was born with the file and its lock, and keeps both until it
        // becomes another program.
        let is_open = (0..500).any(|_| {
            SledIndexes.open(&path).is_ok() || {
                std::thread::park_timeout(std::time::Duration::from_millis(10));
                false
            }
        });
        assert!(is_open);
        std::fs::remove_dir_all(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(SledIndexes.open(&path).is_err(), "an empty folder is no index either");
    }
}
