//! The librarian: the only one that forgets. It seals segments (footers), writes the index, lets segments be
//! forgotten, and checkpoints what memory knows.
//!
//! An event that was finished before its segment was sealed is known from the footer. One that outlives its segment
//! stays in memory while it waits and goes into the index afterwards, in small batches. An index that fails, or that
//! no clean stop vouches for, is made anew from the footers. Nothing on the accept path ever waits for any of it,
//! but when too much waits for it, accept refuses (I10).

pub(super) mod entries;
pub(super) mod paging;
mod rebuild;
mod seal;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::chain::Chain;
use super::clean;
use super::disk::Disk;
use super::footer::{self, Footing};
use super::index::IndexError;
use super::shared::{Recall, Shared};
use super::table::Pin;
use crate::store::{CommitError, Settlement};

pub(super) use seal::{footing, prime};

/// Most entries in one batch of the index: large ones take sled a lot of memory.
const BATCH_MAX: usize = 128;

/// Events that may wait for the index before accept refuses.
pub(super) const UNINDEXED_MAX: usize = 100_000;

/// Segments that may wait for their footer before accept refuses.
pub(super) const UNSEALED_MAX: usize = 8;

/// How many segments are sealed from one checkpoint to the next.
const CHECKPOINT_EVERY: u64 = 16;

/// How soon something that failed is tried again.
const TRY_EVERY: Duration = Duration::from_secs(1);

/// What the librarian remembers between two pieces of work.
pub(super) struct Librarian<D: Disk> {
    shared: Arc<Shared<D>>,
    /// The journal as read up to the last segment that has a footer.
    chain: Chain,
    /// The segment of the last checkpoint.
    checkpoint: u64,
}

impl<D: Disk> Librarian<D> {
    /// `chain` stands behind the last sealed segment; `checkpoint` is the segment of the last checkpoint.
    pub(super) fn new(shared: Arc<Shared<D>>, chain: Chain, checkpoint: u64) -> Self {
        Self { shared, chain, checkpoint }
    }

    /// Works until the store is closed.
    pub(super) async fn run(mut self) {
        let shared = self.shared.clone();
        self.mend_footers().await;
        while !shared.is_stopping() {
            if shared.index().is_none() {
                self.mend_footers().await;
                if let Err(error) = rebuild::renew(&shared, self.chain.clone()).await {
                    tracing::error!(%error, "the index can't be made anew; it is tried again");
                    tokio::time::sleep(TRY_EVERY).await;
                }
                continue;
            }
            self.recall().await;
            match self.step().await {
                Ok(true) => tokio::task::yield_now().await,
                Ok(false) => shared.index_wanted.notified().await,
                Err(error) => {
                    tracing::error!(%error, "what is old can't be put away; it is tried again");
                    tokio::time::sleep(TRY_EVERY).await;
                }
            }
        }
        if let Err(error) = self.close().await {
            tracing::warn!(%error, "the next start makes the index anew");
        }
        *shared.index.write() = None;
    }

    /// One piece of work; whether there was any.
    async fn step(&mut self) -> io::Result<bool> {
        let suspect = self.shared.suspects.lock().first().copied();
        if let Some(number) = suspect {
            self.mend_if_needed(number).await;
            self.shared.suspects.lock().remove(&number);
            return Ok(true);
        }
        // On a full disk, forgetting makes the room that sealing takes.
        if self.forget_next().await? || self.seal_next().await? || self.page_out() {
            return Ok(true);
        }
        match write_some(&self.shared) {
            Ok(true) => return Ok(true),
            Ok(false) => {}
            Err(error) => {
                tracing::error!(%error, "the index failed; it is made anew from the journal");
                *self.shared.index.write() = None;
                return Ok(true);
            }
        }
        self.checkpoint(CHECKPOINT_EVERY).await
    }

    /// The index is complete and whole: say so, and what it belongs to.
    async fn close(&mut self) -> Result<(), IndexError> {
        let io = |error: io::Error| IndexError(error.to_string());
        let shared = &self.shared;
        while write_some(shared)? {}
        let Some(last) = *shared.last.lock() else { return Ok(()) };
        shared.index().ok_or_else(|| IndexError("there is none".to_owned()))?.flush()?;
        *shared.index.write() = None;
        shared.indexes.close(&shared.path.join("index"))?;
        self.checkpoint(1).await.map_err(io)?;
        clean::write(&self.shared.disk, &self.shared.path, self.shared.store, last).await.map_err(io)
    }

    /// Brings events back for their further deliveries, and sends these on to the committer; answers what is about others.
    async fn recall(&self) {
        let shared = &self.shared;
        loop {
            let next = shared.recalls.lock().pop_front();
            let next = match next {
                Some(recall) => match paging::serve_one(shared, recall).await {
                    Some(recall) => Some(recall),
                    None => continue,
                },
                None => None,
            };
            let (id, kind, deliveries, promise) = match next {
                Some(Recall::Add(id, kind, deliveries, promise)) => (id, kind, deliveries, promise),
                Some(Recall::Settle(Settlement { delivery: id, .. }, promise)) => {
                    let found = super::read::forgotten(shared, id.event).await;
                    let is_unknown = matches!(&found, Ok(found) if found.as_ref().and_then(|meta| meta.delivery(id.ordinal)).is_none());
                    if promise.take() {
                        promise.settle(Err(if is_unknown { CommitError::NotFound } else { CommitError::Stale }));
                    }
                    continue;
                }
                Some(Recall::Segment(_)) => continue,
                None => return,
            };
            let refused = match super::read::forgotten(shared, id).await {
                Ok(found) => {
                    let pin = {
                        let mut table = shared.table.lock();
                        if let Some(meta) = found {
                            table.bring_back(meta);
                        }
                        table.pin(id)
                    };
                    if pin == Pin::Held {
                        shared.add(id, kind, deliveries, promise);
                        continue;
                    }
                    CommitError::NotFound
                }
                Err(_) => CommitError::Refused("the index is being made anew"),
            };
            if promise.take() {
                promise.settle(Err(refused));
            }
        }
    }

    /// Lets a segment be forgotten that is about to go.
    async fn forget_next(&mut self) -> io::Result<bool> {
        let shared = &self.shared;
        let leaving = {
            let (table, shelf) = (shared.table.lock(), shared.shelf.lock());
            // Only the oldest one ever leaves.
            let usage = shelf.keys().next().and_then(|oldest| Some((oldest, table.usage.get(oldest)?)));
            let leaving = usage.filter(|(_, usage)| usage.leaving && !usage.forgotten);
            leaving.map(|(number, usage)| (*number, usage.events, usage.moved.clone()))
        };
        let Some((segment, events, moved)) = leaving else { return Ok(false) };
        if let Some(index) = shared.index() {
            for range in events.into_iter().chain(moved.into_iter().map(|sequence| (sequence, sequence))) {
                entries::forget(&*index, segment, range).map_err(|error| io::Error::other(error.to_string()))?;
            }
            if let Some(footing) = footing(shared, segment).await? {
                // Events that were repeated here lie here too, have moved on, or are gone, whose repeats nobody asks for.
                let mut ids = footer::ids(&footing).await?;
                ids.extend(footer::repeated(&footing).await?);
                ids.sort_unstable();
                ids.dedup();
                let away = shared.table.lock().moved_away(segment, &ids);
                ids.retain(|id| !away.contains(id));
                entries::forget_repeats(&*index, &ids).map_err(|error| io::Error::other(error.to_string()))?;
            }
        }
        shared.table.lock().drop_segment(segment);
        if let Some(usage) = shared.table.lock().usage.get_mut(&segment) {
            usage.forgotten = true;
        }
        shared.filters.write().forget_below(segment + 1);
        shared.supply_wanted.notify_one();
        Ok(true)
    }
}

/// Writes one batch; whether there was something to write.
fn write_some<D: Disk>(shared: &Shared<D>) -> Result<bool, IndexError> {
    let (metas, repeats) = {
        let table = shared.table.lock();
        (table.to_index(BATCH_MAX / 2), table.repeats_to_index(BATCH_MAX / 4))
    };
    if metas.is_empty() && repeats.is_empty() {
        return Ok(false);
    }
    let index = shared.index().ok_or_else(|| IndexError("there is none".to_owned()))?;
    entries::write(&*index, &metas, &repeats)?;
    let mut table = shared.table.lock();
    for meta in &metas {
        table.indexed(meta);
    }
    table.repeats_indexed(&repeats);
    shared.unindexed.store(table.unindexed(), Ordering::Relaxed);
    Ok(true)
}

/// The footer of a segment that has gone is no error.
pub(super) type Found<D> = Option<Footing<<D as Disk>::File>>;
