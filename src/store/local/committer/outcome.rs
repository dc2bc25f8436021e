//! After the sync: what a batch said is applied to the table, then its waiters hear.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::time::Instant;

use crate::model::{Answer, DeliveryId, Timestamp};
use crate::store::local::disk::Disk;
use crate::store::local::queue::{Accept, Moving};
use crate::store::local::record::{Repeated, Replayed, Settled};
use crate::store::local::shared::Shared;
use crate::store::local::table::{Meta, Place, Table};
use crate::store::{CommitError, Promise, Receipt};

/// What an entry says, and who waits for it.
pub(super) enum Work {
    Accept {
        accept: Box<Accept>,
        promise: Promise<Receipt>,
    },
    Repeat {
        repeat: Repeated,
        waiters: Vec<(Receipt, Promise<Receipt>, Instant)>,
    },
    Settle {
        settled: Settled,
        promise: Promise<()>,
    },
    /// Without a promise it came along with a settlement.
    Replay {
        replay: Replayed,
        promise: Option<Promise<Vec<DeliveryId>>>,
    },
    State {
        name: String,
        value: Option<Bytes>,
        promise: Option<Promise<()>>,
    },
    /// Memory knows it already.
    Live,
    Move {
        stood: Meta,
        moving: Moving,
    },
    Keys(MovedKeys),
}

/// Keys that moved.
pub(super) struct MovedKeys {
    pub(super) from: u64,
    /// Where in that segment the last of them begins.
    pub(super) through: u32,
    /// When the last of them ends.
    pub(super) until: Timestamp,
    /// Bytes of their records.
    pub(super) bytes: u64,
    /// Held until nothing is left of those that were asked to move.
    pub(super) moving: Option<Moving>,
}

/// An entry in a batch.
pub(super) struct Taken {
    pub(super) work: Work,
    /// Where in the batch's image its record begins.
    pub(super) offset: usize,
    /// Bytes of the record's head and tail.
    pub(super) length: usize,
    pub(super) tail: usize,
}

/// A batch that is durable.
pub(super) struct Durable {
    pub(super) image: Vec<u8>,
    pub(super) base: usize,
    pub(super) start: usize,
    pub(super) length: usize,
    pub(super) taken: Vec<Taken>,
}

/// Somebody who hears of a success.
enum Waiter {
    Accepted(Box<Accept>, Promise<Receipt>),
    Repeated(Receipt, Promise<Receipt>, Instant),
    Done(Promise<()>),
    Deliveries(Vec<DeliveryId>, Promise<Vec<DeliveryId>>),
}

fn apply(table: &mut Table, work: Work, place: Place, waiters: &mut Vec<Waiter>) {
    match work {
        Work::Accept { accept, promise } => {
            table.add_event(&accept.event, place);
            waiters.push(Waiter::Accepted(accept, promise));
        }
        Work::Repeat { repeat, waiters: repeats } => {
            table.repeat(repeat.event, repeat.count);
            let repeats = repeats.into_iter().map(|(receipt, promise, asked_at)| Waiter::Repeated(receipt, promise, asked_at));
            waiters.extend(repeats);
        }
        Work::Settle { settled, promise } => {
            table.settle(&settled, place);
            waiters.push(Waiter::Done(promise));
        }
        Work::Replay { replay, promise } => {
            let ordinals = (replay.first_ordinal..).take(replay.deliveries.len());
            let ids = ordinals.map(|ordinal| DeliveryId::new(replay.event, ordinal)).collect();
            let event = replay.event;
            table.add_replay(replay);
            if let Some(promise) = promise {
                table.unpin(event);
                waiters.push(Waiter::Deliveries(ids, promise));
            }
        }
        Work::Live => {}
        Work::Move { stood, moving } => {
            table.relocate(stood, place);
            drop(moving);
        }
        Work::Keys(MovedKeys { from, through, until, bytes, moving }) => {
            table.keys_moved((from, through), place.segment, until, bytes);
            drop(moving);
        }
        Work::State { name, value, promise } => {
            table.set_state(name, value, place.segment);
            waiters.extend(promise.map(Waiter::Done));
        }
    }
}

/// A place in a segment; segments are smaller than 4 GiB.
pub(super) fn place(segment: u64, offset: usize, length: usize, tail: usize) -> Place {
    let small = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
    Place { segment, offset: small(offset), length: small(length), tail: small(tail) }
}

/// Applies what became durable, then tells everybody.
pub(super) fn announce<D: Disk>(shared: &Arc<Shared<D>>, taken: Vec<Taken>, segment: u64, base: usize, at: Timestamp) {
    if taken.is_empty() {
        return;
    }
    let mut waiters = Vec::with_capacity(taken.len());
    let has_moved = taken.iter().any(|taken| matches!(taken.work, Work::Move { .. } | Work::Keys(_)));
    let (position, is_wanted) = {
        let mut table = shared.table.lock();
        table.touch(segment, at);
        for Taken { work, offset, length, tail } in taken {
            apply(&mut table, work, place(segment, base + offset, length, tail), &mut waiters);
        }
        let unindexed = table.unindexed();
        shared.unindexed.store(unindexed, Ordering::Relaxed);
        shared.note_crowd(table.waiting());
        (table.position, unindexed > 0 || table.waiting() > shared.sizes.waiting)
    };
    if has_moved {
        shared.supply_wanted.notify_one();
    }
    shared.newest.send_if_modified(|newest| std::mem::replace(newest, position) != position);
    let now = Instant::now();
    let count = |asked_at: Instant| {
        if let Some(metrics) = &shared.metrics {
            metrics.committed(now.saturating_duration_since(asked_at));
        }
    };
    for waiter in waiters {
        match waiter {
            Waiter::Accepted(mut accept, promise) => {
                count(accept.asked_at);
                let receipt = Receipt::new(accept.event.id, std::mem::replace(&mut accept.event.answer, Answer::ok()), false);
                promise.settle_with(Ok(receipt), accept);
            }
            Waiter::Repeated(receipt, promise, asked_at) => {
                count(asked_at);
                promise.settle(Ok(receipt));
            }
            Waiter::Done(promise) => promise.settle(Ok(())),
            Waiter::Deliveries(ids, promise) => promise.settle(Ok(ids)),
        }
    }
    // What else the librarian does begins with a segment, or is asked for.
    if is_wanted {
        shared.index_wanted.notify_one();
    }
}

/// Somebody whose accept was voided.
pub(super) fn refuse(promises: Vec<Promise<Receipt>>) {
    for promise in promises {
        promise.settle(Err(CommitError::Refused("the store could not commit")));
    }
}
