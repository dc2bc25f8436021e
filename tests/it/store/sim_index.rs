//! Indexes that can be kept, lost, torn and broken: what sled may be found as.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kurier::store::local::{Index, IndexEntry, IndexError, Indexes, Stored};
use parking_lot::Mutex;
use rand::RngExt;
use rand::rngs::StdRng;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Debug, Default)]
struct State {
    current: Map,
    /// As of the last clean stop.
    durable: Map,
    /// After so many calls one fails.
    fails_after: Option<u32>,
    /// Its files are garbage: it can't be opened.
    is_spoiled: bool,
}

impl State {
    fn call(&mut self) -> Result<&mut Map, IndexError> {
        match &mut self.fails_after {
            Some(0) => Err(IndexError("broken on request".to_owned())),
            Some(left) => {
                *left -= 1;
                Ok(&mut self.current)
            }
            None => Ok(&mut self.current),
        }
    }
}

#[derive(Debug, Default)]
struct SimIndex(Mutex<State>);

/// Makes them; clones share what lies on the disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct SimIndexes {
    kept: Arc<Mutex<BTreeMap<PathBuf, Arc<SimIndex>>>>,
    fails_after: Arc<Mutex<Option<u32>>>,
    refuses: Arc<Mutex<bool>>,
}

impl SimIndexes {
    /// The next index that is made breaks after so many calls; the one made in its place does not.
    pub(crate) fn break_after(&self, calls: Option<u32>) {
        *self.fails_after.lock() = calls;
    }

    /// Nobody can open them any more.
    pub(crate) fn spoil(&self) {
        self.kept.lock().values().for_each(|index| index.0.lock().is_spoiled = true);
    }

    /// All of them are gone.
    pub(crate) fn lose(&self) {
        self.kept.lock().clear();
    }

    /// They are as of the last clean stop, whole, as a backup brings them back.
    pub(crate) fn turn_back(&self) {
        for index in self.kept.lock().values() {
            let mut state = index.0.lock();
            state.current = state.durable.clone();
        }
    }

    /// From now on none can be made, or they can again.
    pub(crate) fn refuse(&self, refuses: bool) {
        *self.refuses.lock() = refuses;
    }

    /// The power goes: what was written since the last clean stop is there or not, entry by entry, in silence.
    pub(crate) fn tear(&self, rng: &mut StdRng) {
        for index in self.kept.lock().values() {
            let mut state = index.0.lock();
            let State { current, durable, .. } = &mut *state;
            let keys: Vec<_> = current.keys().chain(durable.keys()).cloned().collect();
            for key in keys {
                if current.get(&key) != durable.get(&key) && rng.random_bool(0.5) {
                    match durable.get(&key) {
                        Some(value) => current.insert(key, value.clone()),
                        None => current.remove(&key),
                    };
                }
            }
        }
    }

    fn index(&self, path: &Path, map: Map) -> Arc<dyn Index> {
        let fails_after = self.fails_after.lock().take();
        let state = State { durable: map.clone(), current: map, fails_after, is_spoiled: false };
        let index = Arc::new(SimIndex(Mutex::new(state)));
        self.kept.lock().insert(path.to_owned(), index.clone());
        index
    }
}

impl Indexes for SimIndexes {
    fn create(&self, path: &Path) -> Result<Arc<dyn Index>, IndexError> {
        if *self.refuses.lock() {
            return Err(IndexError("none can be made".to_owned()));
        }
        Ok(self.index(path, Map::new()))
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn Index>, IndexError> {
        let found = self.kept.lock().get(path).cloned();
        let found = found.filter(|index| !index.0.lock().is_spoiled).map(|index| index.0.lock().current.clone());
        found.map(|map| self.index(path, map)).ok_or_else(|| IndexError("there is none".to_owned()))
    }

    fn close(&self, path: &Path) -> Result<(), IndexError> {
        let kept = self.kept.lock();
        let mut state = kept[path].0.lock();
        state.durable = state.current.clone();
        Ok(())
    }
}

impl Index for SimIndex {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        Ok(self.0.lock().call()?.get(key).cloned())
    }

    fn last(&self, from: &[u8], below: &[u8], limit: usize) -> Result<Vec<Stored>, IndexError> {
        if from >= below {
            return Ok(Vec::new());
        }
        let mut state = self.0.lock();
        let range = state.call()?.range(from.to_vec()..below.to_vec()).rev().take(limit);
        Ok(range.map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn apply(&self, entries: &[IndexEntry]) -> Result<(), IndexError> {
        let mut state = self.0.lock();
        let map = state.call()?;
        for (key, value) in entries {
            match value {
                Some(value) => map.insert(key.clone(), value.clone()),
                None => map.remove(key),
            };
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), IndexError> {
        self.0.lock().call().map(|_| ())
    }

    fn bytes(&self) -> u64 {
        0
    }
}
