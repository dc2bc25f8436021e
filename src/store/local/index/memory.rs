//! An index in memory, for simulations of a disk that sled could not use.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;

use super::{Index, IndexEntry, IndexError, Indexes, Stored};

/// Makes indexes that live in memory; each folder has one, which outlives its store.
#[derive(Debug, Clone, Default)]
pub struct MemoryIndexes(Arc<RwLock<BTreeMap<PathBuf, Arc<MemoryIndex>>>>);

impl Indexes for MemoryIndexes {
    fn create(&self, path: &Path) -> Result<Arc<dyn Index>, IndexError> {
        let index = Arc::new(MemoryIndex::default());
        self.0.write().insert(path.to_owned(), index.clone());
        Ok(index)
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn Index>, IndexError> {
        let found = self.0.read().get(path).cloned();
        found.map(|index| index as Arc<dyn Index>).ok_or_else(|| IndexError("there is none".to_owned()))
    }

    fn close(&self, _path: &Path) -> Result<(), IndexError> {
        Ok(())
    }
}

#[derive(Debug, Default)]
struct MemoryIndex(RwLock<BTreeMap<Vec<u8>, Vec<u8>>>);

impl Index for MemoryIndex {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        Ok(self.0.read().get(key).cloned())
    }

    fn last(&self, from: &[u8], below: &[u8], limit: usize) -> Result<Vec<Stored>, IndexError> {
        if from >= below {
            return Ok(Vec::new());
        }
        let map = self.0.read();
        let range = map.range(from.to_vec()..below.to_vec()).rev().take(limit);
        Ok(range.map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn apply(&self, entries: &[IndexEntry]) -> Result<(), IndexError> {
        let mut map = self.0.write();
        for (key, value) in entries {
            match value {
                Some(value) => map.insert(key.clone(), value.clone()),
                None => map.remove(key),
            };
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), IndexError> {
        Ok(())
    }

    fn bytes(&self) -> u64 {
        0
    }
}
