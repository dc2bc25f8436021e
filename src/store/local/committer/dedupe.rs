//! Keys of sealed segments: the filter says that nearly every key is in none of them; for the rest the footers are
//! asked before the batch is built, so that deciding stays one look into memory.

use std::collections::VecDeque;

use super::Committer;
use crate::model::Timestamp;
use crate::store::local::disk::Disk;
use crate::store::local::filter::Rows;
use crate::store::local::librarian::footing;
use crate::store::local::queue::Entry;
use crate::store::local::{footer, read};

impl<D: Disk> Committer<D> {
    /// Takes in what was sealed meanwhile, and brings back the keys that the waiting accepts may repeat.
    pub(super) async fn recall_keys(&mut self) {
        for sealed in std::mem::take(&mut *self.shared.sealed_keys.lock()) {
            self.ledger.keys.sealed(&sealed.keys);
        }
        self.ledger.unsure.clear();
        let maybe: Vec<([u8; 16], Rows)> = {
            let filters = self.shared.filters.read();
            let hashes = hashes(&self.waiting).filter(|hash| !self.ledger.keys.holds(hash));
            hashes.map(|hash| (hash, filters.maybe(&hash))).filter(|(_, ranges)| !ranges.is_empty()).collect()
        };
        for (hash, ranges) in maybe {
            if !self.ledger.keys.holds(&hash) {
                self.recall_key(hash, &ranges).await;
            }
        }
    }

    async fn recall_key(&mut self, hash: [u8; 16], ranges: &[(u64, u64)]) {
        let now = self.shared.date().unwrap_or_default();
        for (first, last) in ranges {
            let numbers: Vec<u64> = {
                let table = self.shared.table.lock();
                let alive = table.usage.range(*first..=*last).filter(|(_, usage)| usage.keys_until >= now && !usage.forgotten);
                alive.map(|(number, _)| *number).collect()
            };
            for number in numbers.into_iter().rev() {
                match self.look(number, &hash).await {
                    Ok(Some(())) => return,
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
    }

    async fn look(&mut self, number: u64, hash: &[u8; 16]) -> std::io::Result<Option<()>> {
        let shared = self.shared.clone();
        let Some(footing) = footing(&shared, number).await? else {
            // It goes, or its footer is being made anew.
            let is_kept = shared.table.lock().usage.get(&number).is_some_and(|usage| !usage.forgotten);
            return if is_kept { Err(std::io::Error::other("the segment's footer is missing")) } else { Ok(None) };
        };
        let Some((meta, expires_at)) = footer::key(&footing, hash, &shared.names).await? else { return Ok(None) };
        let head = read::head(&shared, &meta).await.map_err(|error| std::io::Error::other(error.to_string()))?;
        let Some(head) = head.filter(|head| head.dedupe.is_some_and(|key| key.hash == *hash)) else { return Ok(None) };
        let repeats = read::repeats(&shared, meta.id);
        self.ledger.keys.recall(*hash, meta.id, &head.answer, expires_at.max(Timestamp::default()), repeats);
        Ok(Some(()))
    }
}

fn hashes(waiting: &VecDeque<Entry>) -> impl Iterator<Item = [u8; 16]> {
    waiting.iter().filter_map(|entry| match entry {
        Entry::Accept(accept) => accept.dedupe.map(|key| key.hash),
        Entry::Settle(..) | Entry::Add(..) | Entry::State(..) | Entry::Move(_) | Entry::MoveState(..) => None,
    })
}
