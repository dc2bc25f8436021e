//! What is live moves out of the oldest segment, so that it holds nothing but itself: deliveries that wait, and
//! dedupe keys within their windows.
//!
//! Only the committer writes; here it is decided what moves and when. Little is copied to free much: a segment that is
//! less than half live, or a denser one where space is short and copying makes room.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::ALWAYS_KEPT;
use crate::model::Timestamp;
use crate::store::ReadError;
use crate::store::local::disk::Disk;
use crate::store::local::keys::SLACK;
use crate::store::local::librarian::footing;
use crate::store::local::queue::{Entry, Move, MoveKeys, Moving};
use crate::store::local::record::key_bytes;
use crate::store::local::shared::{Recall, Shared};
use crate::store::local::table::{Meta, Place, Usage};
use crate::store::local::{footer, read};

/// Most events that move at a time, and most bytes: what one batch may carry besides what it is for.
const MOVES_MAX: usize = 256;
const MOVE_BYTES_MAX: u64 = 1024 * 1024;

/// Of which share of a segment being live it stays as it is, unless space is short. So what is past its time takes at
/// most a third more than what is live of it; and what has moved stays for as long as anything new.
const DENSE_PERCENT: u64 = 75;

/// The oldest segment that may go at all: the newest one is being written, and the one before it may still have to
/// be copied from.
fn first<D: Disk>(shared: &Shared<D>) -> Option<u64> {
    let shelf = shared.shelf.lock();
    (shelf.len() > ALWAYS_KEPT).then(|| shelf.keys().next().copied()).flatten()
}

/// Whether a segment is past what it is kept for, what is live in it aside.
fn is_past<D: Disk>(shared: &Shared<D>, over: bool) -> impl Fn(&Usage) -> bool {
    // Where dates can't be believed nothing is old.
    let (now, retention) = (shared.date(), shared.sizes.retention);
    move |usage: &Usage| over || now.is_some_and(|now| usage.newest_at.saturating_add(retention) <= now)
}

/// Whether all keys that end by then have ended. Where dates can't be believed none has.
fn have_ended(until: Timestamp, now: Option<Timestamp>) -> bool {
    until == Timestamp::default() || now.is_some_and(|now| until.saturating_add(SLACK) <= now)
}

/// Bytes that would have to move for a segment to go.
fn live(usage: &Usage, now: Option<Timestamp>) -> u64 {
    let keys = if have_ended(usage.keys_until, now) { 0 } else { usage.key_bytes };
    usage.live.saturating_add(keys)
}

fn live_bytes<D: Disk>(shared: &Shared<D>) -> u64 {
    let now = shared.date();
    shared.table.lock().usage.values().map(|usage| live(usage, now)).sum()
}

/// The oldest segment, if nothing keeps it.
pub(super) fn oldest<D: Disk>(shared: &Shared<D>, over: bool) -> Option<u64> {
    let number = first(shared)?;
    let (now, is_past) = (shared.date(), is_past(shared, over));
    let is_free = |usage: &Usage| is_past(usage) && have_ended(usage.keys_until, now);
    shared.table.lock().leave(number, is_free).then_some(number)
}

/// Whether new events must wait until segments can go. Two segments are always needed: they fill no store.
pub(super) fn is_full<D: Disk>(shared: &Shared<D>, over: bool, is_moving: bool) -> bool {
    let segments = shared.shelf.lock().len();
    if !over || segments <= ALWAYS_KEPT {
        return false;
    }
    let taken = (segments as u64 + 1).saturating_mul(shared.sizes.segment as u64);
    !is_moving || taken > shared.sizes.max_size || live_bytes(shared) > shared.sizes.max_size / 10 * 9
}

/// Whether moving everything live together makes room: little enough of what is used is live, and all of it fits well
/// below `max_size`, or it would be moved in circles.
fn gains<D: Disk>(shared: &Shared<D>) -> bool {
    let (live, segment) = (live_bytes(shared), shared.sizes.segment as u64);
    let used = (shared.shelf.lock().len() as u64).saturating_mul(segment);
    let room = shared.sizes.max_size.saturating_sub(segment.saturating_mul(5));
    live < used / 4 * 3 && live < room / 10 * 9
}

/// Moves what is live.
#[derive(Default)]
pub(super) struct Mover {
    /// The segment whose keys are moving.
    segment: u64,
    /// Their records, in the order of their places.
    keys: VecDeque<Place>,
}

impl Mover {
    /// Moves some of what is live out of the oldest segment, if it is little, or little of the whole journal is live and
    /// space is short; not more than `most` bytes. Whether anything is on its way.
    pub(super) async fn move_on<D: Disk>(&mut self, shared: &Arc<Shared<D>>, over: bool, most: u64) -> bool {
        if shared.moving.load(Ordering::Acquire) > 0 {
            return true;
        }
        let Some(number) = first(shared) else { return false };
        let (now, is_past) = (shared.date(), is_past(shared, over));
        let usage = shared.table.lock().usage.get(&number).filter(|usage| usage.sealed && !usage.leaving && is_past(usage)).cloned();
        let Some(usage) = usage else { return false };
        let live = live(&usage, now);
        if live > most || (live >= shared.sizes.segment as u64 / 100 * DENSE_PERCENT && !(over && gains(shared))) {
            return false;
        }
        if shared.table.lock().keep_for_moving(number) {
            // The librarian wakes us once it is back.
            return shared.recall(Recall::Segment(number)).is_ok();
        }
        let holding = shared.table.lock().holding(number, MOVES_MAX);
        if move_events(shared, holding).await {
            return true;
        }
        // How often a key was seen again, the index knows.
        if have_ended(usage.keys_until, now) || shared.index().is_none() {
            return false;
        }
        match self.move_keys(shared, number, usage.keys_through, now).await {
            Ok(is_moving) => is_moving,
            Err(error) => {
                tracing::warn!(segment = number, %error, "dedupe keys can't be read: they keep their segment");
                false
            }
        }
    }

    /// Moves some of the keys whose windows last, or says that there are none any more.
    async fn move_keys<D: Disk>(&mut self, shared: &Arc<Shared<D>>, number: u64, through: u32, now: Option<Timestamp>) -> io::Result<bool> {
        if self.segment != number || self.keys.is_empty() {
            let Some(footing) = footing(shared, number).await? else {
                shared.suspect(number);
                return Ok(false);
            };
            let lasting = footer::key_places(&footing).await?.into_iter().filter(|(_, until)| !have_ended(*until, now));
            let mut keys: Vec<Place> = lasting.map(|(place, _)| place).collect();
            keys.sort_unstable_by_key(|place| place.offset);
            (self.segment, self.keys) = (number, keys.into());
        }
        while self.keys.front().is_some_and(|place| place.offset <= through) {
            self.keys.pop_front();
        }
        let (mut keys, mut bytes) = (VecDeque::new(), 0_u64);
        for place in &self.keys {
            if bytes >= MOVE_BYTES_MAX {
                break;
            }
            match read::key(shared, place).await {
                Ok(Some((mut key, _))) => {
                    key.repeats = key.repeats.max(read::repeats(shared, key.event));
                    bytes = bytes.saturating_add(key_bytes(&key.answer));
                    keys.push_back((place.offset, key));
                }
                Ok(None) => {}
                Err(error @ ReadError::Damaged) => {
                    tracing::error!(segment = number, offset = place.offset, %error, "a dedupe key is lost: its event would be stored again");
                }
                Err(ReadError::Io(error)) => return Err(io::Error::other(error)),
            }
        }
        if keys.is_empty() {
            *self = Self::default();
            shared.table.lock().keys_gone(number);
            shared.supply_wanted.notify_one();
            return Ok(true);
        }
        let asked = MoveKeys { from: number, keys, moving: Moving::new(&shared.moving) };
        Ok(shared.queue.push(Entry::MoveKeys(asked)).is_ok())
    }
}

/// Moves events that wait.
async fn move_events<D: Disk>(shared: &Arc<Shared<D>>, holding: Vec<Meta>) -> bool {
    let (mut bytes, mut is_moving) = (0_u64, false);
    for meta in holding {
        if bytes > 0 && bytes.saturating_add(meta.place.bytes()) > MOVE_BYTES_MAX {
            break;
        }
        bytes += meta.place.bytes();
        match read::whole(shared, &meta).await {
            Ok(Some((head, body))) => {
                let moving = Moving::new(&shared.moving);
                let asked = Move { id: meta.id, from: meta.place, head, body, moving };
                is_moving |= shared.queue.push(Entry::Move(Box::new(asked))).is_ok();
            }
            Ok(None) => {}
            // Its delivery will find that out too, and end.
            Err(error) => tracing::warn!(event.id = %meta.id, %error, "an event can't be read: it keeps its segment"),
        }
    }
    is_moving
}
