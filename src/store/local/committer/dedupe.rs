//! Keys of sealed segments: the filter says that nearly every key is in none of them; for the rest the footers are
//! asked before the batch is built, so that deciding stays one look into memory.

use std::collections::VecDeque;

use super::Committer;
use crate::store::local::disk::Disk;
use crate::store::local::filter::Rows;
use crate::store::local::keys::SLACK;
use crate::store::local::librarian::footing;
use crate::store::local::queue::Entry;
use crate::store::local::record::KeyRecord;
use crate::store::local::{footer, read};

/// Keys of sealed segments that are forgotten before a batch at least: a segment's all at once would hold up everybody for milliseconds.
const LEAVE_MAX: usize = 512;

impl<D: Disk> Committer<D> {
    /// Takes in what was sealed meanwhile: its keys leave a few at a time, and are looked up from then on.
    pub(super) fn leave_keys(&mut self) {
        for sealed in std::mem::take(&mut *self.shared.sealed_keys.lock()) {
            self.ledger.keys.sealed(sealed.keys);
        }
        if self.ledger.keys.leaving() > 0 {
            let moves = self.waiting.iter().any(|entry| matches!(entry, Entry::MoveKeys(_)));
            // Faster than keys come, so that there are never many.
            let some = LEAVE_MAX.max(self.waiting.len().saturating_mul(2)).max(self.ledger.keys.leaving() / 64);
            self.ledger.keys.leave(if moves || self.ledger.keys.is_full() { usize::MAX } else { some });
        }
    }

    /// Brings back the keys that the waiting accepts may repeat.
    pub(super) async fn recall_keys(&mut self) {
        self.ledger.unsure.clear();
        for (hash, ranges) in self.to_recall() {
            // One before it in the batch may have brought it back.
            if !self.ledger.keys.knows(&hash) {
                self.recall_key(hash, &ranges).await;
            }
        }
    }

    /// Keys of what waits that have to be looked up in sealed segments, and in which.
    pub(super) fn to_recall(&self) -> Vec<([u8; 16], Rows)> {
        let filters = self.shared.filters.read();
        filters.fetch(hashes(&self.waiting));
        let maybe = hashes(&self.waiting).map(|hash| (*hash, filters.maybe(hash))).filter(|(_, ranges)| !ranges.is_empty());
        maybe.filter(|(hash, _)| !self.ledger.keys.knows(hash)).collect()
    }

    /// Of all that had the key the latest event has it now. Its own record lies behind those of all others; one that
    /// moved may lie behind a later event's.
    async fn recall_key(&mut self, hash: [u8; 16], ranges: &[(u64, u64)]) {
        let now = self.shared.date().unwrap_or_default();
        let mut latest: Option<KeyRecord> = None;
        for (first, last) in ranges {
            let numbers: Vec<u64> = {
                let table = self.shared.table.lock();
                let alive =
                    table.usage.range(*first..=*last).filter(|(_, usage)| usage.keys_until.saturating_add(SLACK) > now && !usage.forgotten);
                alive.map(|(number, _)| *number).collect()
            };
            for number in numbers.into_iter().rev() {
                match self.look(number, &hash).await {
                    Ok(Some((key, has_moved))) => {
                        latest = latest.filter(|latest| latest.sequence >= key.sequence).or(Some(key));
                        if !has_moved {
                            return self.recalled(&hash, latest);
                        }
                    }
                    Ok(None) => {}
                    Err(error) => {
                        self.shared.suspect(number);
                        tracing::error!(segment = number, %error, "a dedupe key can't be looked up: the request is refused");
                        self.ledger.unsure.insert(hash);
                        return;
                    }
                }
            }
        }
        self.recalled(&hash, latest);
    }

    fn recalled(&mut self, hash: &[u8; 16], mut found: Option<KeyRecord>) {
        if let Some(key) = &mut found {
            key.repeats = key.repeats.max(read::repeats(&self.shared, key.event));
        }
        self.ledger.keys.recall(hash, found.as_ref());
    }

    /// The key as this segment's footer tells it, and whether it had moved there.
    async fn look(&self, number: u64, hash: &[u8; 16]) -> std::io::Result<Option<(KeyRecord, bool)>> {
        let shared = &self.shared;
        let Some(footing) = footing(shared, number).await? else {
            // It goes, or its footer is being made anew.
            let is_kept = shared.table.lock().usage.get(&number).is_some_and(|usage| !usage.forgotten);
            return if is_kept { Err(std::io::Error::other("the segment's footer is missing")) } else { Ok(None) };
        };
        let Some(place) = footer::key(&footing, hash).await? else { return Ok(None) };
        let found = read::key(shared, &place).await.map_err(|error| std::io::Error::other(error.to_string()))?;
        Ok(found.filter(|(key, _)| key.hash == *hash))
    }
}

fn hashes(waiting: &VecDeque<Entry>) -> impl Iterator<Item = &[u8; 16]> {
    waiting.iter().filter_map(|entry| match entry {
        Entry::Accept(accept, _) => accept.event.dedupe.as_ref().map(|key| &key.hash),
        Entry::Settle(..) | Entry::Add(..) | Entry::State(..) | Entry::Move(_) | Entry::MoveState(..) | Entry::MoveKeys(_) => None,
    })
}
