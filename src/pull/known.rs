//! What was fetched before, where a source lists the same things again and again for longer than dedupe keys last.
//!
//! A set of 64-bit hashes in buckets, each kept as one state, so that a new item rewrites one of them. Two things of the
//! same hash would be taken for one: among half a million that is one chance in a hundred million.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use crate::model::Name;
use crate::store::{CommitError, ReadError, Store};

/// How many states hold a set.
const BUCKETS: u64 = 32;

/// Most hashes in one of them.
const BUCKET_MAX: usize = 16 * 1024;

/// What is known of one route.
pub(super) struct Known {
    route: Name,
    buckets: BTreeMap<u64, BTreeSet<u64>>,
}

fn prefix(route: &Name) -> String {
    format!("pull/{route}/known/")
}

/// Where a key is looked for.
fn place(key: &[u8]) -> (u64, u64) {
    let hash = xxh3_64(key);
    (hash % BUCKETS, hash)
}

impl Known {
    /// As it was kept.
    pub(super) async fn read(store: &dyn Store, route: &Name) -> Result<Self, ReadError> {
        let prefix = prefix(route);
        let mut buckets = BTreeMap::new();
        for (name, bytes) in store.states(&prefix).await? {
            let Some(number) = name.strip_prefix(&prefix).and_then(|number| number.parse().ok()) else { continue };
            let hashes = bytes.chunks_exact(8).filter_map(|chunk| Some(u64::from_le_bytes(chunk.try_into().ok()?)));
            buckets.insert(number, hashes.collect());
        }
        Ok(Self { route: route.clone(), buckets })
    }

    pub(super) fn holds(&self, key: &[u8]) -> bool {
        let (bucket, hash) = place(key);
        self.buckets.get(&bucket).is_some_and(|hashes| hashes.contains(&hash))
    }

    /// Knows these and no others from now on; what is beyond the limit is known by its dedupe key only.
    pub(super) async fn replace<'k>(&mut self, store: &dyn Store, keys: impl Iterator<Item = &'k [u8]>) -> Result<(), CommitError> {
        let mut buckets: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
        for (bucket, hash) in keys.map(place) {
            let hashes = buckets.entry(bucket).or_default();
            if hashes.len() < BUCKET_MAX {
                hashes.insert(hash);
            }
        }
        for bucket in 0..BUCKETS {
            let (old, new) = (self.buckets.get(&bucket), buckets.get(&bucket));
            if old == new {
                continue;
            }
            let bytes = new.map(|hashes| hashes.iter().flat_map(|hash| hash.to_le_bytes()).collect::<Vec<u8>>());
            store.set_state(format!("{}{bucket}", prefix(&self.route)), bytes.map(Bytes::from)).await?;
        }
        self.buckets = buckets;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryStore;

    #[tokio::test]
    async fn what_was_fetched_is_known_after_a_start_and_what_is_gone_is_forgotten() {
        let (store, route) = (MemoryStore::new(), Name::from("invoices"));
        let keys: Vec<String> = (0..1000).map(|n| format!("item-{n}")).collect();
        let mut known = Known::read(&store, &route).await.unwrap();
        known.replace(&store, keys.iter().map(String::as_bytes)).await.unwrap();
        let mut known = Known::read(&store, &route).await.unwrap();
        assert!(keys.iter().all(|key| known.holds(key.as_bytes())) && !known.holds(b"item-1000"));
        known.replace(&store, keys[..1].iter().map(String::as_bytes)).await.unwrap();
        let known = Known::read(&store, &route).await.unwrap();
        assert!(known.holds(b"item-0") && !known.holds(b"item-1"));
        assert_eq!(store.states("pull/invoices/known/").await.unwrap().len(), 1);
    }
}
