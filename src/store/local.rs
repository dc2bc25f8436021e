//! The embedded engine: a journal of segments, and an index that can always be rebuilt from it.
//!
//! The journal is what a 2xx rests on. One committer writes it (`committer`), a helper prepares and recycles
//! its segments (`supply`), another keeps the index (`librarian`); callers queue entries (`queue`) and read
//! what is durable (`table`, then the index, then the journal by place). `docs/data.md` tells what is stored,
//! byte by byte.
//!
//! It must never acknowledge before a sync returned (I1), never let a refused commit come back (I2), never
//! trust the index with anything that the journal does not say, and never grow without a named limit (I10).

mod batch;
mod chain;
mod checkpoint;
mod clean;
mod codec;
mod committer;
mod disk;
mod error;
mod file_system;
mod filter;
mod footer;
mod format;
mod fuzz;
mod index;
mod interrupted;
mod keys;
mod librarian;
mod names;
mod opening;
mod queue;
mod read;
mod record;
mod recovery;
mod segment;
mod shared;
mod supply;
mod table;
pub mod tools;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;

use super::lease::{Lease, Leases};
use super::{
    CommitError, EventFilter, EventRecord, EventSummary, NewDelivery, NewEvent, PendingDelivery, ReadError, Receipt, Settlement, Store,
    Ticket,
};
use crate::model::{AttemptResult, DeliveryId, DeliveryKind, DeliveryState, DestinationCounts, Event, EventId, Name, StoreStats};

use committer::{Shareable, commit_or_wake};
use queue::{Accept, Entry};
use shared::{Recall, Shared};
use table::Pin;

pub use disk::{Disk, DiskFile, FileDisk};
pub use error::StoreError;
pub use fuzz::fuzz_batches;
pub use index::{Index, IndexEntry, IndexError, Indexes, MemoryIndexes, SledIndexes, Stored};
pub use opening::{LocalOptions, Run, Seams};

/// Most bytes of all states together; they are kept in memory.
const STATES_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The largest value of a state.
const STATE_BYTES_MAX: usize = 256 * 1024;

/// Bodies up to this are copied into their record when they are queued.
const BODY_COPIED_MAX: usize = 4 * 1024;

/// The threads that a store runs besides its callers': committer, supply, librarian.
const HELPERS: u32 = 3;

/// An open store. Close it with [`Store::close`]; dropping it lets its threads end by themselves.
pub struct LocalStore<D: Disk = FileDisk> {
    shared: Arc<Shared<D>>,
    committer: Shareable<D>,
    leases: Leases,
    run: Run,
}

impl<D: Disk> LocalStore<D> {
    /// How many events wait for the index.
    pub fn unindexed(&self) -> usize {
        self.shared.unindexed.load(Ordering::Relaxed)
    }

    /// How many deliveries wait and are not in memory.
    pub fn paged_out(&self) -> u64 {
        self.shared.table.lock().paged_out()
    }

    /// Commits further deliveries of a stored event.
    fn add(&self, event: EventId, kind: DeliveryKind, deliveries: Vec<NewDelivery>) -> Ticket<Vec<DeliveryId>> {
        let (promise, ticket) = Ticket::queued();
        if self.shared.queue.is_closing() {
            return Ticket::refused(CommitError::Refused("stopping"));
        }
        let bytes: usize = deliveries.iter().map(|delivery| delivery.destination.len() + 32).sum();
        if bytes > self.shared.sizes.segment / 8 {
            return Ticket::refused(CommitError::Refused("the deliveries are more than the store can hold"));
        }
        let pin = self.shared.table.lock().pin(event);
        match pin {
            Pin::Held => self.shared.add(event, kind, deliveries, promise),
            Pin::Gone => return Ticket::refused(CommitError::NotFound),
            Pin::Elsewhere => {
                if let Err(error) = self.shared.recall(Recall::Add(event, kind, deliveries, promise)) {
                    return Ticket::refused(error);
                }
            }
        }
        ticket
    }

    /// Whether too much waits for the librarian.
    fn is_behind(&self) -> bool {
        self.shared.unindexed.load(Ordering::Relaxed) >= librarian::UNINDEXED_MAX
            || self.shared.unsealed.load(Ordering::Relaxed) >= librarian::UNSEALED_MAX
    }

    fn refused_accept(&self, bytes: usize) -> Option<CommitError> {
        let shared = &self.shared;
        if bytes > committer::record_bytes_max(shared.sizes.segment) {
            return Some(CommitError::Refused("the event is larger than the store can hold"));
        }
        if shared.scarce.load(Ordering::Acquire) {
            return Some(CommitError::Refused("the disk has no room for further segments"));
        }
        if shared.full.load(Ordering::Acquire) {
            return Some(CommitError::Refused("the store is full"));
        }
        if shared.crowded.load(Ordering::Relaxed) {
            return Some(CommitError::Refused("more deliveries wait than memory holds"));
        }
        self.is_behind().then_some(CommitError::Refused("the index is behind"))
    }
}

/// The texts of a settlement, which make its size.
fn settlement_bytes(settlement: &Settlement) -> usize {
    let reason = match &settlement.state {
        DeliveryState::Dead(reason) => reason.detail.len(),
        DeliveryState::Pending { .. } | DeliveryState::Delivered | DeliveryState::Skipped | DeliveryState::Cancelled => 0,
    };
    let attempt = settlement.attempt.as_ref().map_or(0, |attempt| match &attempt.result {
        AttemptResult::Response { excerpt, .. } => excerpt.len(),
        AttemptResult::Fault { detail, .. } => detail.len(),
    });
    let acknowledgement = settlement.acknowledgement.as_ref().map_or(0, |delivery| delivery.destination.len());
    reason.saturating_add(attempt).saturating_add(acknowledgement)
}

impl<D: Disk> Drop for LocalStore<D> {
    fn drop(&mut self) {
        self.shared.queue.close();
    }
}

#[async_trait]
impl<D: Disk> Store for LocalStore<D> {
    fn id(&self) -> u128 {
        self.shared.store
    }

    fn accept(&self, new: NewEvent) -> Ticket<Receipt> {
        let is_small = new.event.body.len() <= BODY_COPIED_MAX;
        let mut record = record::encode_event(&new, if is_small { new.event.body.len() } else { 0 });
        let head = record.len();
        if let Some(refused) = self.refused_accept(head.saturating_add(new.event.body.len())) {
            return Ticket::refused(refused);
        }
        let (promise, ticket) = Ticket::queued();
        let NewEvent { event, dedupe, answer, deliveries } = new;
        let Event { id, route, received_at, mut body, .. } = event;
        if is_small {
            // One that is held as it came keeps the whole buffer that its connection reads into, which is made anew for the
            // next request then.
            record.extend_from_slice(&body);
            body = Bytes::new();
        }
        let asked_at = Instant::now();
        let event = record::EventHead { sequence: 0, first_position: 0, id, received_at, dedupe, answer, route, deliveries };
        match self.shared.queue.put(Entry::Accept(Box::new(Accept { record, head, body, event, asked_at }), promise)) {
            Ok(is_first) => {
                if is_first {
                    commit_or_wake(&self.committer, &self.shared, self.run);
                }
                ticket
            }
            Err(refused) => Ticket::refused(refused.0),
        }
    }

    fn settle(&self, settlement: Settlement) -> Ticket<()> {
        let is_here = self.shared.table.lock().sequence_of(settlement.delivery.event).is_some();
        if settlement_bytes(&settlement) > self.shared.sizes.segment / 8 {
            return Ticket::refused(CommitError::Refused("the settlement is larger than the store can hold"));
        }
        let (promise, ticket) = Ticket::queued();
        let asked = if is_here {
            self.shared.queue.push(Entry::Settle(settlement, promise)).map_err(|refused| refused.0)
        } else {
            self.shared.recall(Recall::Settle(settlement, promise))
        };
        match asked {
            Ok(()) => ticket,
            Err(error) => Ticket::refused(error),
        }
    }

    fn replay(&self, event: EventId, deliveries: Vec<NewDelivery>) -> Ticket<Vec<DeliveryId>> {
        self.add(event, DeliveryKind::Replay, deliveries)
    }

    fn acknowledge(&self, event: EventId, delivery: NewDelivery) -> Ticket<Vec<DeliveryId>> {
        self.add(event, DeliveryKind::Acknowledgement, vec![delivery])
    }

    fn set_state(&self, name: String, value: Option<Bytes>) -> Ticket<()> {
        let bytes = name.len() + value.as_ref().map_or(0, Bytes::len);
        if bytes > STATE_BYTES_MAX.min(self.shared.sizes.segment / 8) {
            return Ticket::refused(CommitError::Refused("the state is larger than the store can hold"));
        }
        if value.is_some() {
            let table = self.shared.table.lock();
            let replaced = table.states.get(&name).map_or(0, |named| name.len() + named.value.len());
            if table.state_bytes.saturating_sub(replaced).saturating_add(bytes) > STATES_BYTES_MAX {
                return Ticket::refused(CommitError::Refused("too many states"));
            }
        }
        let (promise, ticket) = Ticket::queued();
        match self.shared.queue.push(Entry::State(name, value, promise)) {
            Ok(()) => ticket,
            Err(refused) => Ticket::refused(refused.0),
        }
    }

    async fn lease(&self, name: &str, holder: u128, term: Duration) -> Result<Option<Lease>, CommitError> {
        // The folder's lock keeps every other process out.
        Ok(self.leases.take(name, holder, term))
    }

    fn attempt_begins(&self, delivery: DeliveryId) {
        let version = {
            let table = self.shared.table.lock();
            let version = table.get(delivery.event).and_then(|meta| Some(meta.delivery(delivery.ordinal)?.version));
            // What was tried once is not paged out.
            version.or_else(|| (!table.paged_around(delivery.event).is_empty()).then_some(0))
        };
        if let Some(version) = version {
            self.shared.in_flight.begins(delivery, version);
        }
    }

    async fn keep_attempts(&self) -> Result<(), CommitError> {
        let shared = self.shared.clone();
        self.run.aside(async move { shared.in_flight.keep().await }).await.map_err(|error| {
            tracing::error!(%error, "that attempts begin can't be made durable");
            CommitError::Refused("the disk does not keep that an attempt begins")
        })
    }

    fn attempt_ends(&self, delivery: DeliveryId) {
        self.shared.in_flight.ends(delivery);
    }

    async fn states(&self, prefix: &str) -> Result<BTreeMap<String, Bytes>, ReadError> {
        let table = self.shared.table.lock();
        let named = table.states.range(prefix.to_owned()..).take_while(|(name, _)| name.starts_with(prefix));
        Ok(named.map(|(name, named)| (name.clone(), named.value.clone())).collect())
    }

    fn newest_position(&self) -> watch::Receiver<u64> {
        self.shared.newest.subscribe()
    }

    async fn pending_after(&self, position: u64, limit: usize) -> Result<Vec<PendingDelivery>, ReadError> {
        read::pending_after(&self.shared, position, limit).await
    }

    async fn event(&self, id: EventId) -> Result<Option<Event>, ReadError> {
        read::event(&self.shared, id).await
    }

    async fn record(&self, id: EventId) -> Result<Option<EventRecord>, ReadError> {
        read::record(&self.shared, id).await
    }

    async fn list(&self, filter: &EventFilter, before: Option<u64>, limit: usize) -> Result<(Vec<EventSummary>, Option<u64>), ReadError> {
        read::list(&self.shared, filter, before, limit).await
    }

    fn counts(&self) -> BTreeMap<Name, DestinationCounts> {
        self.shared.table.lock().counts()
    }

    fn stats(&self) -> StoreStats {
        let shared = &self.shared;
        let index_bytes = shared.index().map_or(0, |index| index.bytes());
        let scarce = || shared.supply.lock().trouble.clone().filter(|_| shared.scarce.load(Ordering::Acquire));
        let full = || shared.full.load(Ordering::Acquire).then(|| "the store is full".to_owned());
        let crowded = || shared.crowded.load(Ordering::Relaxed).then(|| "more deliveries wait than memory holds".to_owned());
        let behind = || self.is_behind().then(|| "the index is behind".to_owned());
        let unwritable =
            shared.queue.refusing().map(|reason| reason.to_string()).or_else(scarce).or_else(full).or_else(crowded).or_else(behind);
        let events = shared.table.lock().events;
        let rebuilding =
            shared.index().is_none().then_some("the index is being made anew: events come in and go out, old ones can't be looked up");
        StoreStats { bytes: shared.journal_bytes().saturating_add(index_bytes), events, unwritable, rebuilding }
    }

    async fn close(&self) {
        self.shared.queue.close();
        // The committer ends the helpers; an error would mean that the sender in `shared` is gone.
        let mut ended = self.shared.ended.subscribe();
        drop(ended.wait_for(|ended| *ended >= HELPERS).await);
        if let Some(lock) = self.shared.lock.lock().take()
            && let Err(error) = lock.unlock()
        {
            tracing::warn!(%error, "the store's folder stays locked until the process ends");
        }
    }
}
