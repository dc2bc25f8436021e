//! An event as memory holds it: the fields of [`Meta`] in some 50 bytes instead of 300, since a million of them may
//! wait for one destination.
//!
//! Numbers are written as their difference to one that stands before them, in as few bytes as they need; names as
//! numbers of the [`Roster`]. Nothing of this is ever stored.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::{AttemptPlace, DeliveryKind, DeliveryMeta, DeliveryState, EventId, Lane, Meta, Name, Place, Timestamp};
use crate::model::{DeadCode, DeadReason};
use crate::store::local::record::EventHead;

/// Numbers for names. There are as many as the routes and destinations that this process has heard of.
#[derive(Debug, Clone, Default)]
pub(super) struct Roster {
    names: Vec<Name>,
    numbers: HashMap<Name, u64, RandomState>,
}

impl Roster {
    fn number(&mut self, name: &Name) -> u64 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = self.names.len() as u64;
        self.names.push(name.clone());
        self.numbers.insert(name.clone(), number);
        number
    }

    /// Whether it has the other's names under the same numbers.
    pub(super) fn begins_with(&self, other: &Self) -> bool {
        self.names.starts_with(&other.names)
    }

    fn name(&self, number: u64) -> Name {
        let name = usize::try_from(number).ok().and_then(|number| self.names.get(number));
        name.cloned().unwrap_or_else(|| Name::from(""))
    }
}

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Packed<'a>(pub(super) &'a [u8]);

const IS_PENDING: u8 = 1;
/// It stands as the footer of its segment tells it.
const IS_TOLD: u8 = 2;

/// Notes it in a packed event.
pub(super) fn mark_told(packed: &mut [u8]) {
    if let Some(flags) = packed.first_mut() {
        *flags |= IS_TOLD;
    }
}

const HAS_LANE: u64 = 1;
/// The kind stands above the flag, and the state above the kind.
const KIND_SHIFT: u32 = 1;
const STATE_SHIFT: u32 = 3;
const PENDING: u64 = 0;

impl<'a> Packed<'a> {
    /// `scratch` is room to write in.
    pub(super) fn new(meta: &Meta, roster: &mut Roster, scratch: &'a mut Vec<u8>) -> Self {
        scratch.clear();
        scratch.push(if meta.is_pending() { IS_PENDING } else { 0 });
        put_place(scratch, &meta.place);
        put_source(scratch, meta.id, roster.number(&meta.route), meta.received_at);
        put(scratch, meta.deliveries.len() as u64);
        let mut position = meta.sequence;
        for delivery in &meta.deliveries {
            put_signed(scratch, delivery.position.wrapping_sub(position).cast_signed());
            position = delivery.position;
            put_delivery(scratch, delivery, meta.received_at, roster);
        }
        put(scratch, meta.attempts.len() as u64);
        for attempt in &meta.attempts {
            put(scratch, u64::from(attempt.ordinal));
            put_place(scratch, &attempt.place);
        }
        Self(scratch)
    }

    /// An event that was just accepted, all of whose deliveries wait: the same as if it were made a [`Meta`] first.
    pub(super) fn accepted(head: &EventHead, place: &Place, roster: &mut Roster, scratch: &'a mut Vec<u8>) -> Self {
        scratch.clear();
        scratch.push(if head.deliveries.is_empty() { 0 } else { IS_PENDING });
        put_place(scratch, place);
        put_source(scratch, head.id, roster.number(&head.route), head.received_at);
        put(scratch, head.deliveries.len() as u64);
        let mut before = head.sequence;
        for (position, delivery) in (head.first_position..).zip(&head.deliveries) {
            put_signed(scratch, position.wrapping_sub(before).cast_signed());
            before = position;
            put_way(scratch, delivery.lane, DeliveryKind::Original, PENDING, roster.number(&delivery.destination));
            put_signed(scratch, 0);
            put_signed(scratch, delivery.due.millis().wrapping_sub(head.received_at.millis()));
            // No attempt, the first version, nothing interrupted.
            scratch.extend([0; 3]);
        }
        put(scratch, 0);
        Self(scratch)
    }

    /// Whether something of it is pending.
    pub(super) fn is_pending(self) -> bool {
        self.0.first().is_some_and(|flags| flags & IS_PENDING != 0)
    }

    /// Whether it stands as the footer of its segment tells it.
    pub(super) fn is_told(self) -> bool {
        self.0.first().is_some_and(|flags| flags & IS_TOLD != 0)
    }

    /// Whether the other one, packed under the same numbers, stands alike; whether a footer tells it is no part of that.
    pub(super) fn is_same(self, other: Self) -> bool {
        self.0.get(1..) == other.0.get(1..)
    }

    /// Where it lies.
    pub(super) fn place(self) -> Place {
        let mut reader = Reader(self.0.get(1..).unwrap_or_default());
        reader.place()
    }

    /// Its id.
    pub(super) fn id(self) -> EventId {
        let mut reader = Reader(self.0.get(1..).unwrap_or_default());
        reader.place();
        reader.id()
    }

    /// The version of a delivery, and whether it is final; nothing else is unpacked for it.
    pub(super) fn standing(self, ordinal: u32) -> Option<(u32, bool)> {
        let mut reader = Reader(self.0.get(1..)?);
        reader.place();
        reader.id();
        reader.number();
        reader.signed();
        let count = reader.count();
        let before = usize::try_from(ordinal).ok().filter(|before| *before < count)?;
        for _ in 0..before {
            reader.signed();
            reader.standing();
        }
        reader.signed();
        Some(reader.standing())
    }

    /// The inverse of [`Packed::new`].
    pub(super) fn unpack(self, sequence: u64, roster: &Roster) -> Meta {
        let mut reader = Reader(self.0.get(1..).unwrap_or_default());
        let place = reader.place();
        let id = reader.id();
        let route = roster.name(reader.number());
        let id_ms = i64::try_from(id.to_bits() >> 80).unwrap_or(0);
        let received_at = Timestamp::from_millis(id_ms.wrapping_add(reader.signed()));
        let mut meta = Meta::new(id, sequence, place, route, received_at);
        let count = reader.count();
        meta.deliveries.reserve_exact(count);
        let mut position = sequence;
        for _ in 0..count {
            position = position.wrapping_add(reader.signed().cast_unsigned());
            meta.deliveries.push(reader.delivery(position, received_at, roster));
        }
        let count = reader.count();
        meta.attempts.reserve_exact(count);
        for _ in 0..count {
            meta.attempts.push(AttemptPlace { ordinal: reader.small(), place: reader.place() });
        }
        meta
    }
}

/// Where an event comes from: its id, the number of its route, and when it was received.
fn put_source(bytes: &mut Vec<u8>, id: EventId, route: u64, received_at: Timestamp) {
    bytes.extend(id.to_bits().to_le_bytes());
    put(bytes, route);
    let id_ms = i64::try_from(id.to_bits() >> 80).unwrap_or(0);
    put_signed(bytes, received_at.millis().wrapping_sub(id_ms));
}

/// Where a delivery goes, why, and in what state it is.
fn put_way(bytes: &mut Vec<u8>, lane: Option<Lane>, kind: DeliveryKind, state: u64, destination: u64) {
    let flag = if lane.is_some() { HAS_LANE } else { 0 };
    let kind = match kind {
        DeliveryKind::Original => 0,
        DeliveryKind::Replay => 1,
        DeliveryKind::Acknowledgement => 2,
    };
    put(bytes, flag | kind << KIND_SHIFT | state << STATE_SHIFT);
    put(bytes, destination);
    if let Some(Lane(lane)) = lane {
        bytes.extend(lane.to_le_bytes());
    }
}

fn put_delivery(bytes: &mut Vec<u8>, delivery: &DeliveryMeta, received_at: Timestamp, roster: &mut Roster) {
    let state = match delivery.state {
        DeliveryState::Pending { .. } => PENDING,
        DeliveryState::Delivered => 1,
        DeliveryState::Dead(_) => 2,
        DeliveryState::Skipped => 3,
        DeliveryState::Cancelled => 4,
    };
    put_way(bytes, delivery.lane, delivery.kind, state, roster.number(&delivery.destination));
    put_signed(bytes, delivery.created_at.millis().wrapping_sub(received_at.millis()));
    match &delivery.state {
        DeliveryState::Pending { due } => put_signed(bytes, due.millis().wrapping_sub(delivery.created_at.millis())),
        DeliveryState::Dead(reason) => {
            bytes.push(reason.code.code());
            put(bytes, reason.detail.len() as u64);
            bytes.extend(reason.detail.as_bytes());
        }
        DeliveryState::Delivered | DeliveryState::Skipped | DeliveryState::Cancelled => {}
    }
    put(bytes, u64::from(delivery.attempts));
    put(bytes, u64::from(delivery.version));
    put(bytes, u64::from(delivery.interrupted));
}

fn put_place(bytes: &mut Vec<u8>, place: &Place) {
    put(bytes, place.segment);
    put(bytes, u64::from(place.offset));
    put(bytes, u64::from(place.length));
    put(bytes, u64::from(place.tail));
}

/// Seven bits a byte, the lowest first; the eighth says that more follows.
fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

/// Small numbers stay small, also below zero: the sign goes into the lowest bit.
fn put_signed(bytes: &mut Vec<u8>, number: i64) {
    put(bytes, (number.cast_unsigned() << 1) ^ (number >> 63).cast_unsigned());
}

/// Reads what [`Packed::new`] wrote. It never fails: these bytes are its own, and nobody else's.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> u8 {
        let Some((byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *byte
    }

    fn number(&mut self) -> u64 {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte();
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        number
    }

    fn signed(&mut self) -> i64 {
        let number = self.number();
        (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
    }

    fn small(&mut self) -> u32 {
        u32::try_from(self.number()).unwrap_or(u32::MAX)
    }

    /// How many follow, each of at least a byte.
    fn count(&mut self) -> usize {
        usize::try_from(self.number()).unwrap_or(usize::MAX).min(self.0.len())
    }

    fn take<const N: usize>(&mut self) -> [u8; N] {
        let Some((taken, rest)) = self.0.split_first_chunk() else { return [0; N] };
        self.0 = rest;
        *taken
    }

    fn id(&mut self) -> EventId {
        EventId::from_bits(u128::from_le_bytes(self.take()))
    }

    fn place(&mut self) -> Place {
        Place { segment: self.number(), offset: self.small(), length: self.small(), tail: self.small() }
    }

    fn delivery(&mut self, position: u64, received_at: Timestamp, roster: &Roster) -> DeliveryMeta {
        let flags = self.number();
        let destination = roster.name(self.number());
        let lane = (flags & HAS_LANE != 0).then(|| Lane(u64::from_le_bytes(self.take())));
        let created_at = Timestamp::from_millis(received_at.millis().wrapping_add(self.signed()));
        let state = match flags >> STATE_SHIFT {
            PENDING => DeliveryState::Pending { due: Timestamp::from_millis(created_at.millis().wrapping_add(self.signed())) },
            1 => DeliveryState::Delivered,
            2 => DeliveryState::Dead(self.reason()),
            3 => DeliveryState::Skipped,
            _ => DeliveryState::Cancelled,
        };
        DeliveryMeta {
            position,
            destination,
            lane,
            kind: match (flags >> KIND_SHIFT) & 3 {
                0 => DeliveryKind::Original,
                1 => DeliveryKind::Replay,
                _ => DeliveryKind::Acknowledgement,
            },
            created_at,
            state,
            attempts: self.small(),
            version: self.small(),
            interrupted: u8::try_from(self.number()).unwrap_or(u8::MAX),
        }
    }

    /// Goes past a delivery: its version, and whether it is final.
    fn standing(&mut self) -> (u32, bool) {
        let flags = self.number();
        self.number();
        if flags & HAS_LANE != 0 {
            self.take::<8>();
        }
        self.signed();
        match flags >> STATE_SHIFT {
            PENDING => drop(self.signed()),
            2 => drop(self.reason()),
            _ => {}
        }
        self.number();
        let version = self.small();
        self.number();
        (version, flags >> STATE_SHIFT != PENDING)
    }

    fn reason(&mut self) -> DeadReason {
        let code = DeadCode::from_code(self.byte()).unwrap_or(DeadCode::Damaged);
        let count = self.count();
        let (detail, rest) = self.0.split_at(count);
        self.0 = rest;
        DeadReason { code, detail: String::from_utf8_lossy(detail).into() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;
    use crate::model::Answer;
    use crate::store::NewDelivery;

    fn place() -> impl Strategy<Value = Place> {
        (any::<u64>(), any::<u32>(), any::<u32>(), any::<u32>()).prop_map(|(segment, offset, length, tail)| Place {
            segment,
            offset,
            length,
            tail,
        })
    }

    fn time() -> impl Strategy<Value = Timestamp> {
        prop_oneof![any::<i64>(), 1_790_000_000_000..1_800_000_000_000_i64].prop_map(Timestamp::from_millis)
    }

    fn name() -> impl Strategy<Value = Name> {
        "[a-c]{1,2}".prop_map(|text| Name::from(text.as_str()))
    }

    fn state() -> impl Strategy<Value = DeliveryState> {
        let reason =
            (0..DeadCode::ALL.len(), ".{0,20}").prop_map(|(code, detail)| DeadReason { code: DeadCode::ALL[code], detail: detail.into() });
        prop_oneof![
            time().prop_map(|due| DeliveryState::Pending { due }),
            Just(DeliveryState::Delivered),
            reason.prop_map(DeliveryState::Dead),
            Just(DeliveryState::Skipped),
            Just(DeliveryState::Cancelled),
        ]
    }

    prop_compose! {
        fn delivery()(
            position in any::<u64>(), destination in name(), lane in option::of(any::<u64>().prop_map(Lane)), kind in 0..3_usize,
            created_at in time(), state in state(), attempts in any::<u32>(), version in any::<u32>(), interrupted in any::<u8>(),
        ) -> DeliveryMeta {
            let kind = [DeliveryKind::Original, DeliveryKind::Replay, DeliveryKind::Acknowledgement][kind];
            DeliveryMeta { position, destination, lane, kind, created_at, state, attempts, version, interrupted }
        }
    }

    prop_compose! {
        fn meta()(
            id in any::<u128>(), sequence in any::<u64>(), place in place(), route in name(), received_at in time(),
            deliveries in vec(delivery(), 0..4),
            attempts in vec((any::<u32>(), place()).prop_map(|(ordinal, place)| AttemptPlace { ordinal, place }), 0..4),
        ) -> Meta {
            Meta { deliveries, attempts, ..Meta::new(EventId::from_bits(id), sequence, place, route, received_at) }
        }
    }

    proptest! {
        #[test]
        fn an_event_that_was_just_accepted_is_packed_as_it_will_be_later(
            meta in meta(), first_position in 0..u64::MAX / 2, ways in vec((name(), option::of(any::<u64>().prop_map(Lane)), time()), 0..4),
        ) {
            let deliveries = ways.into_iter().map(|(destination, lane, due)| NewDelivery { destination, lane, due });
            let head = EventHead {
                sequence: meta.sequence, first_position, id: meta.id, received_at: meta.received_at, dedupe: None, answer: Answer::ok(),
                route: meta.route.clone(), deliveries: deliveries.collect(),
            };
            let mut later = Meta::new(meta.id, meta.sequence, meta.place, meta.route, meta.received_at);
            let standing = |(position, new)| DeliveryMeta::new(position, new, DeliveryKind::Original, meta.received_at);
            later.deliveries = (first_position..).zip(&head.deliveries).map(standing).collect();
            let (mut roster, mut scratch, mut other) = (Roster::default(), Vec::new(), Vec::new());
            let accepted = Packed::accepted(&head, &meta.place, &mut roster, &mut scratch);
            prop_assert_eq!(accepted, Packed::new(&later, &mut roster, &mut other));
        }

        #[test]
        fn an_event_comes_out_as_it_went_in(metas in vec(meta(), 1..5)) {
            let mut roster = Roster::default();
            let mut scratches = vec![Vec::new(); metas.len()];
            let packed = scratches.iter_mut().zip(&metas).map(|(scratch, meta)| Packed::new(meta, &mut roster, scratch));
            let packed: Vec<Packed<'_>> = packed.collect();
            for (packed, meta) in packed.iter().zip(&metas) {
                prop_assert_eq!(&packed.unpack(meta.sequence, &roster), meta);
                prop_assert_eq!(packed.is_pending(), meta.is_pending());
                prop_assert_eq!(packed.place(), meta.place);
                prop_assert_eq!(packed.id(), meta.id);
                for ordinal in 0..5 {
                    let standing = meta.delivery(ordinal).map(|delivery| (delivery.version, delivery.state.is_final()));
                    prop_assert_eq!(packed.standing(ordinal), standing);
                }
            }
        }
    }

    #[test]
    fn an_event_that_waits_for_one_destination_takes_no_more_than_fifty_bytes() {
        let received_at = Timestamp::from_millis(1_795_000_000_000);
        let id = EventId::new(received_at, u128::MAX);
        let mut meta = Meta::new(id, 12_345_678, Place::new(1_234, 60 << 20, 600, 1_024), "invoices".into(), received_at);
        let state = DeliveryState::Pending { due: received_at };
        meta.deliveries.push(DeliveryMeta {
            position: 13_000_000,
            destination: "erp".into(),
            lane: Some(Lane(u64::MAX)),
            kind: DeliveryKind::Original,
            created_at: received_at,
            state,
            attempts: 3,
            version: 4,
            interrupted: 0,
        });
        let mut scratch = Vec::new();
        let packed = Packed::new(&meta, &mut Roster::default(), &mut scratch);
        assert!(packed.0.len() <= 50, "{} bytes", packed.0.len());
    }
}
