//! A batch being built: entries are taken (from here on nobody can call them off), numbered, copied.

use std::collections::{HashMap, HashSet, VecDeque};

use bytes::Bytes;
use tokio::time::Instant;

use super::Ledger;
use super::outcome::{Durable, MovedKeys, Taken, Work};
use crate::model::{DeliveryId, DeliveryKind, EventId, Timestamp};
use crate::store::local::batch;
use crate::store::local::codec::len32;
use crate::store::local::disk::Disk;
use crate::store::local::queue::{Accept, Entry, Move, MoveKeys};
use crate::store::local::record::{
    Repeated, Replayed, Settled, encode_key, encode_live, encode_moved, encode_repeat, encode_replay, encode_settlement, encode_state,
    number_event,
};
use crate::store::local::segment::PAGE;
use crate::store::local::shared::{Recall, Shared};
use crate::store::local::table::{DeliveryMeta, Meta};
use crate::store::{CommitError, NewDelivery, Promise, Receipt, Settlement};

/// Entries that one batch has room for from the start; it grows beyond.
const TAKEN_USUALLY: usize = 256;

/// Bodies up to this are given back to whoever asked, to be freed there; larger ones are not in memory twice.
const BODY_KEPT_MAX: usize = 64 * 1024;

/// See the module.
pub(in crate::store::local) struct Building {
    /// What will be written, from `base` in the segment on.
    pub(super) image: Vec<u8>,
    pub(super) base: usize,
    pub(super) flags: u32,
    /// When it is committed: a witness for the next start, and what retention counts from.
    pub(super) at: Timestamp,
    start: usize,
    /// Header and payload, once finished.
    length: usize,
    room: usize,
    limit: usize,
    pub(super) taken: Vec<Taken>,
    /// Repeats by key: their index in `taken`. Many repeats of one key are one record.
    repeats: HashMap<[u8; 16], usize>,
    /// What was settled, and whether that is final.
    settled: HashMap<DeliveryId, bool>,
    /// The next ordinal of events that were given further deliveries.
    ordinals: HashMap<EventId, u32>,
    acknowledged: HashSet<EventId>,
}

impl Building {
    /// `image` holds what lies before the batch in its first page; `room` is what fits the segment, `limit`
    /// where a batch is closed.
    pub(super) fn new(base: usize, mut image: Vec<u8>, room: usize, limit: usize, at: Timestamp) -> Self {
        let start = image.len();
        image.resize(start + batch::HEADER, 0);
        Self {
            image,
            base,
            flags: 0,
            at,
            start,
            length: 0,
            room,
            limit,
            taken: Vec::new(),
            repeats: HashMap::new(),
            settled: HashMap::new(),
            ordinals: HashMap::new(),
            acknowledged: HashSet::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.taken.is_empty()
    }

    fn payload(&self) -> usize {
        self.image.len() - self.start - batch::HEADER
    }

    fn fits(&self, bytes: usize) -> bool {
        let limit = if self.payload() == 0 { self.room } else { self.room.min(self.limit) };
        self.payload().saturating_add(bytes) <= limit
    }

    /// Takes entries in their order until one doesn't fit.
    pub(super) fn fill<D: Disk>(&mut self, waiting: &mut VecDeque<Entry>, ledger: &mut Ledger, shared: &Shared<D>) {
        self.taken.reserve(waiting.len().min(TAKEN_USUALLY));
        while let Some(entry) = waiting.pop_front() {
            let left = match entry {
                Entry::Accept(accept, promise) => self.accept(accept, promise, ledger, shared),
                Entry::Settle(settlement, promise) => self.settle(settlement, promise, ledger, shared),
                Entry::Add(event, kind, deliveries, promise) => self.add((event, kind), deliveries, promise, ledger, shared),
                Entry::State(name, value, promise) => {
                    let record = encode_state(&name, value.as_ref());
                    if self.fits(record.len()) {
                        if promise.take() {
                            self.push(&record, 0, Work::State { name, value, promise: Some(promise) });
                        }
                        None
                    } else {
                        Some(Entry::State(name, value, promise))
                    }
                }
                Entry::Move(moving) => self.move_event(moving, shared),
                Entry::MoveState(name, segment) => self.move_state(name, segment, shared),
                Entry::MoveKeys(asked) => self.move_keys(asked, ledger, shared),
            };
            if let Some(entry) = left {
                waiting.push_front(entry);
                return;
            }
        }
    }

    fn push(&mut self, record: &[u8], tail: usize, work: Work) {
        let offset = self.image.len();
        self.image.extend_from_slice(record);
        self.taken.push(Taken { work, offset, length: record.len(), tail });
    }

    fn accept<D: Disk>(
        &mut self,
        mut accept: Box<Accept>,
        promise: Promise<Receipt>,
        ledger: &mut Ledger,
        shared: &Shared<D>,
    ) -> Option<Entry> {
        if !self.fits(accept.bytes()) {
            return Some(Entry::Accept(accept, promise));
        }
        if !promise.take() {
            return None;
        }
        let bytes = accept.bytes();
        let Accept { record, head, body, event, asked_at } = &mut *accept;
        if let Some(dedupe) = event.dedupe {
            if let Some(key) = ledger.keys.current(&dedupe.hash, event.received_at) {
                key.repeats += 1;
                let receipt = Receipt::new(key.event, (*key.answer).clone(), true);
                let repeat = Repeated { event: key.event, key: dedupe.hash, count: key.repeats };
                self.repeat(repeat, receipt, promise, *asked_at);
                return None;
            }
            if ledger.unsure.contains(&dedupe.hash) {
                promise.settle(Err(CommitError::Refused("whether the request is a repeat can't be looked up just now")));
                return None;
            }
            if ledger.keys.is_full() || shared.filters.read().is_full() {
                promise.settle(Err(CommitError::Refused("too many dedupe keys are within their windows")));
                return None;
            }
            ledger.keys.insert(dedupe.hash, (event.id, ledger.event), &event.answer, dedupe.expires_at);
        }
        (event.sequence, event.first_position) = (ledger.event, ledger.position);
        ledger.event += 1;
        ledger.position += event.deliveries.len() as u64;
        number_event(record, event.sequence, event.first_position);
        let (offset, length, tail) = (self.image.len(), *head, bytes - *head);
        self.image.extend_from_slice(record);
        self.image.extend_from_slice(body);
        if tail > BODY_KEPT_MAX {
            *body = Bytes::new();
        }
        self.taken.push(Taken { work: Work::Accept { accept, promise }, offset, length, tail });
        None
    }

    fn repeat(&mut self, repeat: Repeated, receipt: Receipt, promise: Promise<Receipt>, asked_at: Instant) {
        let record = encode_repeat(&repeat);
        if let Some(index) = self.repeats.get(&repeat.key)
            && let Some(Taken { work: Work::Repeat { repeat: first, waiters }, offset, .. }) = self.taken.get_mut(*index)
            && first.event == repeat.event
        {
            *first = repeat;
            waiters.push((receipt, promise, asked_at));
            self.image[*offset..*offset + record.len()].copy_from_slice(&record);
            return;
        }
        self.repeats.insert(repeat.key, self.taken.len());
        self.push(&record, 0, Work::Repeat { repeat, waiters: vec![(receipt, promise, asked_at)] });
    }

    fn settle<D: Disk>(&mut self, settlement: Settlement, promise: Promise<()>, ledger: &mut Ledger, shared: &Shared<D>) -> Option<Entry> {
        let id = settlement.delivery;
        let (found, is_paged) = {
            let table = shared.table.lock();
            let sequence = table.sequence_of(id.event);
            let found = sequence.map(|sequence| (sequence, table.standing(sequence, id.ordinal)));
            (found, sequence.is_none() && !table.paged_around(id.event).is_empty())
        };
        if is_paged {
            return Self::wait_for(settlement, promise, shared);
        }
        let is_newest = |standing: (u32, bool)| standing == (settlement.version, false) && !self.settled.contains_key(&id);
        let refused = match found {
            Some((_, Some(standing))) => (!is_newest(standing)).then_some(CommitError::Stale),
            Some((_, None)) => Some(CommitError::NotFound),
            None => Some(CommitError::Stale),
        };
        let sequence = found.map_or(0, |(sequence, _)| sequence);
        if let Some(refused) = refused {
            shared.table.lock().served(sequence);
            if promise.take() {
                promise.settle(Err(refused));
            }
            return None;
        }
        let Settlement { delivery, version, attempt, attempts, state, acknowledgement } = settlement;
        let settled = Settled { delivery, sequence, version: version.saturating_add(1), attempts, state, attempt };
        let record = encode_settlement(&settled);
        let follows = acknowledgement.clone().filter(|_| settled.state.is_final()).and_then(|new| self.follows(id, new, ledger, shared));
        let following = follows.as_ref().map(encode_replay).unwrap_or_default();
        if !self.fits(record.len() + following.len()) {
            let Settled { attempts, state, attempt, .. } = settled;
            return Some(Entry::Settle(Settlement { delivery, version, attempt, attempts, state, acknowledgement }, promise));
        }
        if promise.take() {
            self.settled.insert(id, settled.state.is_final());
            shared.table.lock().want(sequence);
            self.push(&record, 0, Work::Settle { settled, promise });
            if let Some(replay) = follows {
                self.ordinals.insert(id.event, replay.first_ordinal.saturating_add(1));
                self.acknowledged.insert(id.event);
                ledger.position += 1;
                self.push(&following, 0, Work::Replay { replay, promise: None });
            }
        } else {
            shared.table.lock().served(sequence);
        }
        None
    }

    /// The event left memory after its settlement was asked for: it comes back first.
    fn wait_for<D: Disk>(settlement: Settlement, promise: Promise<()>, shared: &Shared<D>) -> Option<Entry> {
        if shared.queue.is_closing() {
            if promise.take() {
                promise.settle(Err(CommitError::Refused("stopping")));
            }
        } else {
            // There is room: it took a place in the committer's queue, which is no longer.
            shared.recalls.lock().push_back(Recall::Settle(settlement, promise));
            shared.index_wanted.notify_one();
        }
        None
    }

    /// The acknowledgement that follows from this settlement, if everything else of its event is final.
    fn follows<D: Disk>(&self, settled: DeliveryId, new: NewDelivery, ledger: &Ledger, shared: &Shared<D>) -> Option<Replayed> {
        let event = settled.event;
        if self.ordinals.contains_key(&event) {
            // What this batch has added is still pending, or is the acknowledgement.
            return None;
        }
        let table = shared.table.lock();
        let meta = table.get(event)?;
        let is_over = |(ordinal, delivery): (u32, &DeliveryMeta)| {
            let id = DeliveryId::new(event, ordinal);
            let is_final = id == settled || self.settled.get(&id).copied().unwrap_or(delivery.state.is_final());
            is_final && delivery.kind != DeliveryKind::Acknowledgement
        };
        (0..).zip(&meta.deliveries).all(is_over).then(|| Replayed {
            event,
            kind: DeliveryKind::Acknowledgement,
            sequence: meta.sequence,
            created_at: shared.stamp(),
            first_position: ledger.position,
            first_ordinal: len32(&meta.deliveries),
            deliveries: vec![new],
        })
    }

    fn add<D: Disk>(
        &mut self,
        (event, kind): (EventId, DeliveryKind),
        deliveries: Vec<NewDelivery>,
        promise: Promise<Vec<DeliveryId>>,
        ledger: &mut Ledger,
        shared: &Shared<D>,
    ) -> Option<Entry> {
        let has_one = |meta: &Meta| meta.deliveries.iter().any(|delivery| delivery.kind == DeliveryKind::Acknowledgement);
        let known = shared.table.lock().get(event).map(|meta| (meta.sequence, len32(&meta.deliveries), has_one(&meta)));
        let Some((sequence, stored, is_acknowledged)) = known else {
            if promise.take() {
                promise.settle(Err(CommitError::NotFound));
            }
            return None;
        };
        if kind == DeliveryKind::Acknowledgement && (is_acknowledged || self.acknowledged.contains(&event)) {
            shared.table.lock().unpin(event);
            if promise.take() {
                promise.settle(Ok(Vec::new()));
            }
            return None;
        }
        let first_ordinal = self.ordinals.get(&event).copied().unwrap_or(stored);
        let (created_at, first_position) = (shared.stamp(), ledger.position);
        let mut replay = Replayed { event, kind, sequence, created_at, first_position, first_ordinal, deliveries };
        let record = encode_replay(&replay);
        let live = shared.table.lock().recalled(event).map_or(0, |meta| encode_live(&meta).len());
        if !self.fits(record.len() + live) {
            return Some(Entry::Add(event, kind, std::mem::take(&mut replay.deliveries), promise));
        }
        if promise.take() {
            self.live(event, shared);
            self.ordinals.insert(event, first_ordinal.saturating_add(len32(&replay.deliveries)));
            ledger.position += replay.deliveries.len() as u64;
            if kind == DeliveryKind::Acknowledgement {
                self.acknowledged.insert(event);
            }
            self.push(&record, 0, Work::Replay { replay, promise: Some(promise) });
        } else {
            shared.table.lock().unpin(event);
        }
        None
    }

    /// An event that memory had forgotten: a start must find it before what follows from here.
    fn live<D: Disk>(&mut self, event: EventId, shared: &Shared<D>) {
        let record = shared.table.lock().recalled(event).map(|meta| encode_live(&meta));
        if let Some(record) = record {
            self.push(&record, 0, Work::Live);
        }
    }

    /// An event as it stands, out of the segment that it holds. What this batch says about it already would be read
    /// before it by a start, and lost: then it stays.
    fn move_event<D: Disk>(&mut self, asked: Box<Move>, shared: &Shared<D>) -> Option<Entry> {
        let Move { id, from, head, body, .. } = &*asked;
        let mut stood = shared.table.lock().waiting_at(*id, *from)?;
        let is_settled = |ordinal: u32| self.settled.contains_key(&DeliveryId::new(*id, ordinal));
        if self.ordinals.contains_key(id) || (0..len32(&stood.deliveries)).any(is_settled) {
            return None;
        }
        let oldest = shared.shelf.lock().keys().next().copied().unwrap_or(0);
        stood.attempts.retain(|attempt| attempt.place.segment >= oldest);
        let record = encode_moved(&stood, head, len32(body));
        let bytes = record.len().saturating_add(body.len());
        if bytes > shared.sizes.segment - 3 * PAGE {
            // It fits no segment along with what became of it: it stays.
            return None;
        }
        if !self.fits(bytes) {
            return Some(Entry::Move(asked));
        }
        let Move { body, moving, .. } = *asked;
        self.push(&record, body.len(), Work::Move { stood, moving });
        self.image.extend_from_slice(&body);
        None
    }

    fn move_state<D: Disk>(&mut self, name: String, segment: u64, shared: &Shared<D>) -> Option<Entry> {
        let value = shared.table.lock().states.get(&name).filter(|named| named.segment == segment).map(|named| named.value.clone())?;
        // A newer value in this very batch is the one that counts: moving the old one behind it would undo it.
        let is_newer = |taken: &Taken| matches!(&taken.work, Work::State { name: other, .. } if *other == name);
        if self.taken.iter().any(is_newer) {
            return None;
        }
        let record = encode_state(&name, Some(&value));
        if !self.fits(record.len()) {
            return Some(Entry::MoveState(name, segment));
        }
        self.push(&record, 0, Work::State { name, value: Some(value), promise: None });
        None
    }

    /// Keys out of the segment that they hold, as many as fit. They are one piece: nothing points to one of them.
    fn move_keys<D: Disk>(&mut self, asked: MoveKeys, ledger: &mut Ledger, shared: &Shared<D>) -> Option<Entry> {
        let MoveKeys { from, mut keys, moving } = asked;
        let offset = self.image.len();
        let mut moved = MovedKeys { from, through: 0, until: Timestamp::default(), bytes: 0, moving: None };
        // Beyond this limit they are asked to move again, once a segment was sealed.
        while let Some((at, asked)) = keys.pop_front().filter(|_| !ledger.keys.is_full()) {
            if let Some(mut key) = ledger.keys.as_moved(&asked) {
                key.repeats = key.repeats.max(shared.table.lock().repeats_of(key.event).unwrap_or(0));
                let mut record = encode_key(&key);
                if key.repeats > 0 {
                    // For the event, if it is still there.
                    record.extend(encode_repeat(&Repeated { event: key.event, key: key.hash, count: key.repeats }));
                }
                if !self.fits(record.len()) {
                    keys.push_front((at, asked));
                    break;
                }
                self.image.extend_from_slice(&record);
                moved.until = moved.until.max(key.expires_at);
                moved.bytes = moved.bytes.saturating_add(record.len() as u64);
                ledger.keys.hold(&key);
            }
            moved.through = at;
        }
        let is_left = !keys.is_empty() && !ledger.keys.is_full();
        let left = if is_left {
            Some(Entry::MoveKeys(MoveKeys { from, keys, moving }))
        } else {
            moved.moving = Some(moving);
            None
        };
        if moved.through > 0 {
            let length = self.image.len() - offset;
            self.taken.push(Taken { work: Work::Keys(moved), offset, length, tail: 0 });
        }
        left
    }

    /// Fills in header and checksums, and whole pages behind.
    pub(super) fn finish(&mut self, nonce: u128, sequence: u64) {
        self.length = self.image.len() - self.start;
        batch::finish(&mut self.image[self.start..], nonce, sequence, self.flags, self.at);
        self.image.resize(self.image.len().next_multiple_of(PAGE), 0);
    }

    /// What is left of it once it is durable.
    pub(super) fn split(self) -> Durable {
        let Self { image, base, start, length, taken, .. } = self;
        Durable { image, base, start, length, taken }
    }
}
