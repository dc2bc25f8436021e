//! What is kept of one event besides its bytes, and how the index stores it.

use bytes::BufMut;

use super::{DeliveryId, DeliveryKind, DeliveryState, EventId, Lane, Name, NewDelivery, PendingDelivery, Timestamp};
use crate::model::Delivery;
use crate::store::local::codec::{Cursor, Malformed, len32, put_long};
use crate::store::local::names::Names;
use crate::store::local::record::{put_state, state_of};

/// Where a record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store::local) struct Place {
    pub(in crate::store::local) segment: u64,
    pub(in crate::store::local) offset: u32,
    /// Bytes of its head.
    pub(in crate::store::local) length: u32,
    /// Bytes of its tail.
    pub(in crate::store::local) tail: u32,
}

impl Place {
    /// Segments are smaller than 4 GiB.
    pub(in crate::store::local) fn new(segment: u64, offset: usize, length: usize, tail: usize) -> Self {
        let small = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        Self { segment, offset: small(offset), length: small(length), tail: small(tail) }
    }

    /// Bytes of the whole record.
    pub(in crate::store::local) fn bytes(&self) -> u64 {
        u64::from(self.length) + u64::from(self.tail)
    }
}

/// Where an attempt's settlement lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store::local) struct AttemptPlace {
    pub(in crate::store::local) ordinal: u32,
    pub(in crate::store::local) place: Place,
}

/// A delivery of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store::local) struct DeliveryMeta {
    pub(in crate::store::local) position: u64,
    pub(in crate::store::local) destination: Name,
    pub(in crate::store::local) lane: Option<Lane>,
    pub(in crate::store::local) kind: DeliveryKind,
    pub(in crate::store::local) created_at: Timestamp,
    pub(in crate::store::local) state: DeliveryState,
    pub(in crate::store::local) attempts: u32,
    pub(in crate::store::local) version: u32,
    /// Attempts in a row, up to the last one, that the end of the process cut off.
    pub(in crate::store::local) interrupted: u8,
}

impl DeliveryMeta {
    pub(super) fn new(position: u64, new: &NewDelivery, kind: DeliveryKind, created_at: Timestamp) -> Self {
        let state = DeliveryState::Pending { due: new.due };
        Self {
            position,
            destination: new.destination.clone(),
            lane: new.lane,
            kind,
            created_at,
            state,
            attempts: 0,
            version: 0,
            interrupted: 0,
        }
    }
}

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store::local) struct Meta {
    pub(in crate::store::local) id: EventId,
    pub(in crate::store::local) sequence: u64,
    pub(in crate::store::local) place: Place,
    pub(in crate::store::local) route: Name,
    pub(in crate::store::local) received_at: Timestamp,
    /// By ordinal.
    pub(in crate::store::local) deliveries: Vec<DeliveryMeta>,
    /// In the order they were settled.
    pub(in crate::store::local) attempts: Vec<AttemptPlace>,
}

impl Meta {
    pub(super) fn new(id: EventId, sequence: u64, place: Place, route: Name, received_at: Timestamp) -> Self {
        Self { id, sequence, place, route, received_at, deliveries: Vec::new(), attempts: Vec::new() }
    }

    /// Whether it stands as the other one does.
    pub(in crate::store::local) fn is_same(&self, other: &Self) -> bool {
        self.place == other.place && self.deliveries == other.deliveries && self.attempts == other.attempts
    }

    pub(in crate::store::local) fn is_pending(&self) -> bool {
        self.deliveries.iter().any(|delivery| !delivery.state.is_final())
    }

    pub(in crate::store::local) fn delivery(&self, ordinal: u32) -> Option<&DeliveryMeta> {
        self.deliveries.get(usize::try_from(ordinal).ok()?)
    }

    pub(super) fn delivery_mut(&mut self, ordinal: u32) -> Option<&mut DeliveryMeta> {
        self.deliveries.get_mut(usize::try_from(ordinal).ok()?)
    }

    /// The delivery at this position, if it waits.
    pub(in crate::store::local) fn pending(&self, position: u64) -> Option<PendingDelivery> {
        let (ordinal, delivery) = (0..).zip(&self.deliveries).find(|(_, delivery)| delivery.position == position)?;
        let DeliveryState::Pending { due } = delivery.state else { return None };
        Some(PendingDelivery {
            position,
            id: DeliveryId::new(self.id, ordinal),
            route: self.route.clone(),
            destination: delivery.destination.clone(),
            lane: delivery.lane,
            kind: delivery.kind,
            created_at: delivery.created_at,
            due,
            attempts: delivery.attempts,
            version: delivery.version,
            bytes: self.place.bytes(),
        })
    }

    /// The deliveries in the model's words.
    pub(in crate::store::local) fn model_deliveries(&self) -> Vec<Delivery> {
        let deliveries = (0..).zip(&self.deliveries).map(|(ordinal, delivery)| Delivery {
            id: DeliveryId::new(self.id, ordinal),
            destination: delivery.destination.clone(),
            lane: delivery.lane,
            kind: delivery.kind,
            created_at: delivery.created_at,
            state: delivery.state.clone(),
            attempts: delivery.attempts,
            version: delivery.version,
        });
        deliveries.collect()
    }

    /// As the index keeps it. The index is rebuilt from the journal, so this has no version of its own.
    pub(in crate::store::local) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(128);
        bytes.put_u128_le(self.id.to_bits());
        bytes.put_u64_le(self.sequence);
        put_place(&mut bytes, &self.place);
        put_long(&mut bytes, self.route.as_bytes());
        bytes.put_i64_le(self.received_at.millis());
        bytes.put_u32_le(len32(&self.deliveries));
        for delivery in &self.deliveries {
            bytes.put_u64_le(delivery.position);
            put_long(&mut bytes, delivery.destination.as_bytes());
            bytes.put_u8(u8::from(delivery.lane.is_some()) | flags_of(delivery.kind));
            bytes.put_u64_le(delivery.lane.map_or(0, |lane| lane.0));
            bytes.put_i64_le(delivery.created_at.millis());
            put_state(&mut bytes, &delivery.state);
            bytes.put_u32_le(delivery.attempts);
            bytes.put_u32_le(delivery.version);
            bytes.put_u8(delivery.interrupted);
        }
        bytes.put_u32_le(len32(&self.attempts));
        for attempt in &self.attempts {
            bytes.put_u32_le(attempt.ordinal);
            put_place(&mut bytes, &attempt.place);
        }
        bytes
    }

    /// The inverse of [`Meta::encode`].
    pub(in crate::store::local) fn decode(bytes: &[u8], names: &mut Names) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(bytes);
        let (id, sequence, place) = (EventId::from_bits(cursor.u128()?), cursor.u64()?, place(&mut cursor)?);
        let route = names.get(cursor.text()?);
        let received_at = Timestamp::from_millis(cursor.i64()?);
        let mut meta = Self::new(id, sequence, place, route, received_at);
        let count = cursor.count(39)?;
        meta.deliveries.reserve_exact(count);
        for _ in 0..count {
            let position = cursor.u64()?;
            let destination = names.get(cursor.text()?);
            let flags = cursor.u8()?;
            let lane = cursor.u64()?;
            meta.deliveries.push(DeliveryMeta {
                position,
                destination,
                lane: (flags & 1 != 0).then_some(Lane(lane)),
                kind: kind_of(flags),
                created_at: Timestamp::from_millis(cursor.i64()?),
                state: state_of(&mut cursor)?,
                attempts: cursor.u32()?,
                version: cursor.u32()?,
                interrupted: cursor.u8()?,
            });
        }
        let count = cursor.count(24)?;
        meta.attempts.reserve_exact(count);
        for _ in 0..count {
            meta.attempts.push(AttemptPlace { ordinal: cursor.u32()?, place: self::place(&mut cursor)? });
        }
        cursor.finish()?;
        Ok(meta)
    }
}

fn flags_of(kind: DeliveryKind) -> u8 {
    match kind {
        DeliveryKind::Original => 0,
        DeliveryKind::Replay => 2,
        DeliveryKind::Acknowledgement => 4,
    }
}

fn kind_of(flags: u8) -> DeliveryKind {
    match flags & 6 {
        0 => DeliveryKind::Original,
        2 => DeliveryKind::Replay,
        _ => DeliveryKind::Acknowledgement,
    }
}

fn put_place(bytes: &mut Vec<u8>, place: &Place) {
    bytes.put_u64_le(place.segment);
    bytes.put_u32_le(place.offset);
    bytes.put_u32_le(place.length);
    bytes.put_u32_le(place.tail);
}

fn place(cursor: &mut Cursor<'_>) -> Result<Place, Malformed> {
    Ok(Place { segment: cursor.u64()?, offset: cursor.u32()?, length: cursor.u32()?, tail: cursor.u32()? })
}
