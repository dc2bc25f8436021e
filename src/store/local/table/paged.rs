//! Events that left memory while they wait (rule 15): beyond a limit, those that stand exactly as the footer of
//! their segment tells them are known from there alone, and nothing is written for it.
//!
//! Of each segment memory keeps which of its events are paged out, and what is counted of them. Whatever is to become
//! of such an event, it comes back first, together with the others of its segment.

use std::collections::{BTreeMap, BTreeSet};

use bytes::BufMut;

use super::meta::Meta;
use super::{DeliveryKind, DeliveryState, DestinationCounts, EventId, Name, Table, Timestamp};
use crate::store::local::codec::{Cursor, Malformed, len32, put_long};
use crate::store::local::names::Names;

/// Segments that came back last leave last: whoever asked for one event of them asks for the next one soon.
const SPARED: usize = 8;

/// What waits for one destination.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Waiting {
    count: u64,
    /// The first of them.
    position: u64,
    created_at: Timestamp,
    /// Deliveries of the same events that ended dead.
    dead: u64,
}

/// What is paged out of one segment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::store::local) struct Paged {
    pub(in crate::store::local) segment: u64,
    /// The accept sequence of the first bit.
    first: u64,
    /// One for each event of the segment, in the order of acceptance.
    bits: Vec<u64>,
    events: u64,
    /// Bytes of their records.
    bytes: u64,
    /// The first and the last position that ever was among them.
    positions: (u64, u64),
    /// The least and the greatest id that ever was among them.
    ids: (u128, u128),
    waiting: BTreeMap<Name, Waiting>,
}

impl Paged {
    fn bit(&self, sequence: u64) -> Option<(usize, u64)> {
        let at = sequence.checked_sub(self.first)?;
        Some((usize::try_from(at / 64).ok()?, 1 << (at % 64)))
    }

    fn has(&self, sequence: u64) -> bool {
        self.bit(sequence).is_some_and(|(word, bit)| self.bits.get(word).is_some_and(|word| word & bit != 0))
    }

    fn add(&mut self, meta: &Meta) {
        let Some((word, bit)) = self.bit(meta.sequence) else { return };
        if self.bits.len() <= word {
            self.bits.resize(word + 1, 0);
        }
        self.bits[word] |= bit;
        let id = meta.id.to_bits();
        self.ids = if self.events == 0 { (id, id) } else { (self.ids.0.min(id), self.ids.1.max(id)) };
        if self.events == 0 {
            self.positions = (u64::MAX, 0);
        }
        self.events += 1;
        self.bytes = self.bytes.saturating_add(meta.place.bytes());
        for delivery in &meta.deliveries {
            let position = delivery.position;
            match &delivery.state {
                DeliveryState::Pending { .. } => {
                    self.positions = (self.positions.0.min(position), self.positions.1.max(position));
                    let waiting = self.waiting.entry(delivery.destination.clone()).or_default();
                    if waiting.count == 0 || position < waiting.position {
                        (waiting.position, waiting.created_at) = (position, delivery.created_at);
                    }
                    waiting.count += 1;
                }
                DeliveryState::Dead(_) => self.waiting.entry(delivery.destination.clone()).or_default().dead += 1,
                DeliveryState::Delivered | DeliveryState::Skipped | DeliveryState::Cancelled => {}
            }
        }
    }

    /// The first of what is left for a destination may have been among those taken: it stands in memory then, until
    /// the last of the segment has come back.
    fn take(&mut self, meta: &Meta) -> bool {
        let Some((word, bit)) = self.bit(meta.sequence).filter(|_| self.has(meta.sequence)) else { return false };
        self.bits[word] &= !bit;
        self.events -= 1;
        self.bytes = self.bytes.saturating_sub(meta.place.bytes());
        for delivery in &meta.deliveries {
            let Some(waiting) = self.waiting.get_mut(&delivery.destination) else { continue };
            match &delivery.state {
                DeliveryState::Pending { .. } => waiting.count = waiting.count.saturating_sub(1),
                DeliveryState::Dead(_) => waiting.dead = waiting.dead.saturating_sub(1),
                DeliveryState::Delivered | DeliveryState::Skipped | DeliveryState::Cancelled => {}
            }
        }
        true
    }

    /// As a checkpoint keeps it.
    pub(in crate::store::local) fn encode(&self, bytes: &mut Vec<u8>) {
        for number in [self.segment, self.first, self.events, self.bytes, self.positions.0, self.positions.1] {
            bytes.put_u64_le(number);
        }
        bytes.put_u128_le(self.ids.0);
        bytes.put_u128_le(self.ids.1);
        bytes.put_u32_le(len32(&self.bits));
        self.bits.iter().for_each(|word| bytes.put_u64_le(*word));
        bytes.put_u32_le(u32::try_from(self.waiting.len()).unwrap_or(u32::MAX));
        for (name, waiting) in &self.waiting {
            put_long(bytes, name.as_bytes());
            for number in [waiting.count, waiting.position, waiting.dead] {
                bytes.put_u64_le(number);
            }
            bytes.put_i64_le(waiting.created_at.millis());
        }
    }

    /// The inverse of [`Paged::encode`].
    pub(in crate::store::local) fn decode(cursor: &mut Cursor<'_>, names: &mut Names) -> Result<Self, Malformed> {
        let mut paged =
            Self { segment: cursor.u64()?, first: cursor.u64()?, events: cursor.u64()?, bytes: cursor.u64()?, ..Self::default() };
        paged.positions = (cursor.u64()?, cursor.u64()?);
        paged.ids = (cursor.u128()?, cursor.u128()?);
        for _ in 0..cursor.count(8)? {
            paged.bits.push(cursor.u64()?);
        }
        for _ in 0..cursor.count(36)? {
            let name = names.get(cursor.text()?);
            let (count, position, dead) = (cursor.u64()?, cursor.u64()?, cursor.u64()?);
            let created_at = Timestamp::from_millis(cursor.i64()?);
            paged.waiting.insert(name, Waiting { count, position, created_at, dead });
        }
        Ok(paged)
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Pages {
    /// By the first accept sequence of the segment.
    paged: BTreeMap<u64, Paged>,
    /// Segments that may have something to page out.
    candidates: BTreeSet<u64>,
    /// Segments that came back, the last one last.
    back: Vec<u64>,
    /// Events that something is about to become of, by accept sequence: they stay until it has.
    wanted: BTreeSet<u64>,
    /// Whose waiting events move on: it stays until they have.
    moving: Option<u64>,
    /// Grows whenever something leaves or comes back.
    turn: u64,
}

impl Pages {
    fn holding(&self, sequence: u64) -> Option<&Paged> {
        self.paged.range(..=sequence).next_back().map(|(_, paged)| paged).filter(|paged| paged.has(sequence))
    }

    /// The segment that is least likely to be asked for: the newest one, of those that did not just come back.
    fn next(&self) -> Option<u64> {
        let may_leave = |segment: &&u64| Some(**segment) != self.moving;
        let newest = self.candidates.iter().rev().filter(may_leave).find(|segment| !self.back.contains(segment));
        newest.or_else(|| self.back.iter().filter(may_leave).find(|segment| self.candidates.contains(segment))).copied()
    }
}

/// Whether an event may be known from its footer alone, which tells it as it stands: what waits was never tried, and
/// stands in the order of acceptance.
fn may_leave(meta: &Meta) -> bool {
    meta.is_pending()
        && meta
            .deliveries
            .iter()
            .filter(|delivery| !delivery.state.is_final())
            .all(|delivery| delivery.kind == DeliveryKind::Original && delivery.version == 0)
}

impl Table {
    /// Deliveries that wait and are in memory.
    pub(in crate::store::local) fn waiting(&self) -> usize {
        self.pending.len()
    }

    /// Everything of a sealed segment is in memory as its footer tells it, or has moved on since.
    pub(in crate::store::local) fn told(&mut self, segment: u64) {
        self.pages.candidates.insert(segment);
    }

    /// Deliveries that wait and are not.
    pub(in crate::store::local) fn paged_out(&self) -> u64 {
        self.pages.paged.values().flat_map(|paged| paged.waiting.values()).map(|waiting| waiting.count).sum()
    }

    /// An event as the footer of its segment tells it.
    pub(in crate::store::local) fn put_told(&mut self, meta: Meta) {
        let sequence = meta.sequence;
        if !self.holds(sequence) {
            self.put(meta);
            self.live.mark_told(sequence);
        }
    }

    /// Lets some events leave memory, if more than `most` deliveries wait in it; at most so many events at a time.
    /// Whether there were any.
    pub(in crate::store::local) fn page_out(&mut self, most: usize, events: usize) -> bool {
        if self.pending.len() <= most {
            return false;
        }
        let Some(segment) = self.pages.next() else { return false };
        let Some((first, _)) = self.usage.get(&segment).and_then(|usage| usage.events) else {
            self.pages.candidates.remove(&segment);
            return true;
        };
        let is_wanted = |sequence: &u64| self.pages.wanted.contains(sequence) || self.pins.contains_key(sequence);
        let told = self.inside(segment).filter(|sequence| *sequence >= first && self.live.is_told(*sequence) && !is_wanted(sequence));
        let leaving: Vec<Meta> = told.filter_map(|sequence| self.live.get(sequence)).filter(may_leave).take(events).collect();
        if leaving.len() < events {
            self.pages.candidates.remove(&segment);
        }
        let paged = self.pages.paged.entry(first).or_insert_with(|| Paged { segment, first, ..Paged::default() });
        self.pages.turn += u64::from(!leaving.is_empty());
        for meta in &leaving {
            paged.add(meta);
            self.live.remove(meta.sequence);
            for delivery in meta.deliveries.iter().filter(|delivery| !delivery.state.is_final()) {
                self.pending.remove(delivery.position);
                if let Some(count) = self.counts.get_mut(&delivery.destination) {
                    count.pending.remove(delivery.position);
                }
            }
        }
        if paged.events == 0 {
            self.pages.paged.remove(&first);
        }
        true
    }

    /// Takes events back that a segment's footer tells; those that are not paged out are left alone.
    pub(in crate::store::local) fn page_in(&mut self, segment: u64, told: Vec<Meta>) {
        self.pages.turn += 1;
        for meta in told {
            let Some((&first, paged)) = self.pages.paged.range_mut(..=meta.sequence).next_back() else { continue };
            if paged.segment != segment || !paged.take(&meta) {
                continue;
            }
            if paged.events == 0 {
                self.pages.paged.remove(&first);
            }
            for delivery in meta.deliveries.iter().filter(|delivery| !delivery.state.is_final()) {
                self.pending.insert(delivery.position, meta.sequence);
                self.counts.entry(delivery.destination.clone()).or_default().pending.insert(delivery.position, ());
            }
            self.live.put(&meta);
            self.live.mark_told(meta.sequence);
        }
        self.pages.candidates.insert(segment);
        self.pages.back.retain(|back| *back != segment);
        self.pages.back.push(segment);
        if self.pages.back.len() > SPARED {
            self.pages.back.remove(0);
        }
    }

    /// Something is about to become of the event of this accept sequence: it does not leave memory before it has.
    pub(in crate::store::local) fn want(&mut self, sequence: u64) {
        self.pages.wanted.insert(sequence);
    }

    /// It has become of it, or won't.
    pub(in crate::store::local) fn served(&mut self, sequence: u64) {
        self.pages.wanted.remove(&sequence);
    }

    /// The segment's events are to move on: they don't leave memory any more. Whether some of them have left.
    pub(in crate::store::local) fn keep_for_moving(&mut self, segment: u64) -> bool {
        self.pages.moving = Some(segment);
        self.is_paged_segment(segment)
    }

    /// Whether something of this segment is paged out.
    pub(in crate::store::local) fn is_paged_segment(&self, segment: u64) -> bool {
        self.pages.paged.values().any(|paged| paged.segment == segment)
    }

    /// Grows whenever something leaves memory or comes back: a look at both places that saw the same one before and after
    /// missed nothing.
    pub(in crate::store::local) fn paging_turn(&self) -> u64 {
        self.pages.turn
    }

    /// Whether anything is paged out at all.
    pub(in crate::store::local) fn has_paged(&self) -> bool {
        !self.pages.paged.is_empty()
    }

    /// The segment that this event is paged out of.
    pub(in crate::store::local) fn paged_of(&self, sequence: u64) -> Option<u64> {
        self.pages.holding(sequence).map(|paged| paged.segment)
    }

    /// Segments out of which an event with this id may be paged.
    pub(in crate::store::local) fn paged_around(&self, id: EventId) -> Vec<u64> {
        let is_around = |paged: &&Paged| (paged.ids.0..=paged.ids.1).contains(&id.to_bits());
        self.pages.paged.values().filter(is_around).map(|paged| paged.segment).collect()
    }

    /// The first segment with something paged out behind this position, of those behind `after`; and where that
    /// begins.
    pub(in crate::store::local) fn paged_behind(&self, position: u64, after: u64) -> Option<(u64, u64)> {
        let is_behind = |paged: &&Paged| paged.positions.1 > position && paged.segment > after;
        self.pages.paged.values().find(is_behind).map(|paged| (paged.segment, paged.positions.0))
    }

    /// For a checkpoint: what is paged out of segments below this one.
    pub(in crate::store::local) fn paged_below(&self, segment: u64) -> Vec<Paged> {
        self.pages.paged.values().filter(|paged| paged.segment < segment).cloned().collect()
    }

    /// What a checkpoint tells of a segment, which is known already.
    pub(in crate::store::local) fn know_paged(&mut self, paged: Paged) {
        let usage = self.usage.entry(paged.segment).or_default();
        usage.live = usage.live.saturating_add(paged.bytes);
        for (name, waiting) in &paged.waiting {
            usage.pending += waiting.count;
            self.counts.entry(name.clone()).or_default().dead += waiting.dead;
        }
        self.position = self.position.max(paged.positions.1);
        self.pages.paged.insert(paged.first, paged);
    }

    /// A segment goes.
    pub(super) fn lose_paged(&mut self, segment: u64) {
        self.pages.candidates.remove(&segment);
        let Some(first) = self.pages.paged.values().find(|paged| paged.segment == segment).map(|paged| paged.first) else { return };
        for (name, waiting) in self.pages.paged.remove(&first).into_iter().flat_map(|paged| paged.waiting) {
            if let Some(count) = self.counts.get_mut(&name) {
                count.dead = count.dead.saturating_sub(waiting.dead);
            }
        }
    }

    /// Adds what is paged out to what is pending by destination; `first` is the first position of each in memory.
    pub(super) fn count_paged(&self, counts: &mut BTreeMap<Name, DestinationCounts>, first: &mut BTreeMap<Name, u64>) {
        for (name, waiting) in self.pages.paged.values().flat_map(|paged| &paged.waiting).filter(|(_, waiting)| waiting.count > 0) {
            let count = counts.entry(name.clone()).or_default();
            count.pending += waiting.count;
            let first = first.entry(name.clone()).or_insert(u64::MAX);
            if waiting.position < *first {
                *first = waiting.position;
                count.oldest_pending = Some(waiting.created_at);
            }
        }
    }
}
