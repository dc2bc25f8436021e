//! What waits for the committer: bounded in entries and in bytes, so that a stalled disk turns into refusals
//! and not into memory (I10).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::record::{EventHead, KeyRecord};
use super::table::Place;
use crate::model::{DeliveryId, DeliveryKind, EventId};
use crate::store::{CommitError, NewDelivery, Promise, Receipt, Settlement};

/// Most accepts that wait.
pub(super) const ACCEPTS_MAX: usize = 16_384;

/// Most bytes of accepts that wait.
pub(super) const ACCEPT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Most settlements, replays and states that wait. Settlements are bounded by deliveries in flight already.
pub(super) const OTHERS_MAX: usize = 65_536;

/// An event to commit: encoded by whoever asked, so that the committer only numbers, copies and checksums.
#[derive(Debug)]
pub(super) struct Accept {
    /// The record's head, with the body behind it where that is small: what is queued is one piece of memory then.
    pub(super) record: Vec<u8>,
    /// Bytes of the head.
    pub(super) head: usize,
    /// The body, where it is not in the record.
    pub(super) body: Bytes,
    /// What the head says; the committer gives it its numbers.
    pub(super) event: EventHead,
    pub(super) asked_at: Instant,
}

impl Accept {
    pub(super) fn bytes(&self) -> usize {
        self.record.len().saturating_add(self.body.len())
    }
}

/// Something to commit.
#[derive(Debug)]
pub(super) enum Entry {
    Accept(Box<Accept>, Promise<Receipt>),
    Settle(Settlement, Promise<()>),
    /// Further deliveries of an event, which is pinned in the table: a replay, or its acknowledgement.
    Add(EventId, DeliveryKind, Vec<NewDelivery>, Promise<Vec<DeliveryId>>),
    State(String, Option<Bytes>, Promise<()>),
    /// An event moves out of its segment.
    Move(Box<Move>),
    /// The newest value of a name moves out of this segment, unless it has changed.
    MoveState(String, u64),
    /// Dedupe keys move out of their segment.
    MoveKeys(MoveKeys),
}

/// An event that is to move, and what it is made of.
#[derive(Debug)]
pub(super) struct Move {
    pub(super) id: EventId,
    pub(super) from: Place,
    /// The head of the event's own record.
    pub(super) head: Vec<u8>,
    pub(super) body: Bytes,
    pub(super) moving: Moving,
}

/// Dedupe keys that are to move, in the order of their places.
#[derive(Debug)]
pub(super) struct MoveKeys {
    pub(super) from: u64,
    /// Where in that segment each record begins.
    pub(super) keys: VecDeque<(u32, KeyRecord)>,
    pub(super) moving: Moving,
}

/// Held while something moves.
#[derive(Debug)]
pub(super) struct Moving(Arc<AtomicUsize>);

impl Moving {
    pub(super) fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count.clone())
    }
}

impl Drop for Moving {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[derive(Debug, Default)]
struct Waiting {
    entries: VecDeque<Entry>,
    accepts: usize,
    accept_bytes: usize,
    closing: bool,
    /// Why accepts are refused just now.
    refusing: Option<Arc<str>>,
}

/// The queue between callers and the committer.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

impl Queue {
    /// Queues an entry and wakes the committer, or says why not.
    pub(super) fn push(&self, entry: Entry) -> Result<(), Box<(CommitError, Entry)>> {
        if self.put(entry)? {
            self.wake();
        }
        Ok(())
    }

    /// Queues an entry, or says why not. `true`: it is the first, of which the committer does not know yet.
    pub(super) fn put(&self, entry: Entry) -> Result<bool, Box<(CommitError, Entry)>> {
        let mut waiting = self.waiting.lock();
        let refused = match &entry {
            _ if waiting.closing => Some("stopping"),
            Entry::Accept(..) if waiting.refusing.is_some() => Some("the store can't commit just now"),
            Entry::Accept(accept, _) => {
                let bytes = waiting.accept_bytes.saturating_add(accept.bytes());
                (waiting.accepts >= ACCEPTS_MAX || bytes > ACCEPT_BYTES_MAX).then_some("too many commits wait")
            }
            Entry::Settle(..) | Entry::Add(..) | Entry::State(..) | Entry::Move(_) | Entry::MoveState(..) | Entry::MoveKeys(_) => {
                (waiting.entries.len() - waiting.accepts >= OTHERS_MAX).then_some("too many commits wait")
            }
        };
        if let Some(reason) = refused {
            return Err(Box::new((CommitError::Refused(reason), entry)));
        }
        if let Entry::Accept(accept, _) = &entry {
            waiting.accepts += 1;
            waiting.accept_bytes += accept.bytes();
        }
        let was_empty = waiting.entries.is_empty();
        waiting.entries.push_back(entry);
        Ok(was_empty)
    }

    /// Tells the committer that there is something to do.
    pub(super) fn wake(&self) {
        self.arrived.notify_one();
    }

    /// Takes all that waits; `into` must be empty, and its memory is reused.
    pub(super) fn drain(&self, into: &mut VecDeque<Entry>) {
        let mut waiting = self.waiting.lock();
        std::mem::swap(&mut waiting.entries, into);
        waiting.accepts = 0;
        waiting.accept_bytes = 0;
    }

    /// Takes the accepts that wait, and leaves the rest.
    pub(super) fn take_accepts(&self) -> VecDeque<Entry> {
        let mut waiting = self.waiting.lock();
        let mut accepts = VecDeque::with_capacity(waiting.accepts);
        let mut others = VecDeque::with_capacity(waiting.entries.len());
        for entry in std::mem::take(&mut waiting.entries) {
            match entry {
                accept @ Entry::Accept(..) => accepts.push_back(accept),
                other @ (Entry::Settle(..)
                | Entry::Add(..)
                | Entry::State(..)
                | Entry::Move(_)
                | Entry::MoveState(..)
                | Entry::MoveKeys(_)) => {
                    others.push_back(other);
                }
            }
        }
        waiting.entries = others;
        waiting.accepts = 0;
        waiting.accept_bytes = 0;
        accepts
    }

    /// Waits until something may have arrived.
    pub(super) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Refuses everything from now on.
    pub(super) fn close(&self) {
        self.waiting.lock().closing = true;
        self.wake();
    }

    pub(super) fn is_closing(&self) -> bool {
        self.waiting.lock().closing
    }

    /// Refuses accepts for this reason, or takes them again.
    pub(super) fn refuse_accepts(&self, reason: Option<&str>) {
        self.waiting.lock().refusing = reason.map(Arc::from);
    }

    /// Why accepts are refused just now.
    pub(super) fn refusing(&self) -> Option<Arc<str>> {
        self.waiting.lock().refusing.clone()
    }
}
