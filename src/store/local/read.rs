//! Reads: what is durable, from memory, else from the index, and the bytes from the journal by place.
//!
//! Before a byte leaves, the segment's nonce, the checksum and the event's id are checked: a wrong place or a
//! flipped bit is an error, never another event's bytes.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::batch;
use super::disk::{Disk, DiskFile};
use super::librarian::{self, unreadable};
use super::record::{self, Frame, Kind};
use super::shared::Shared;
use super::table::{Meta, Place};
use crate::model::{Attempt, DeliveryId, Event, EventId};
use crate::store::{CommitError, EventFilter, EventRecord, EventSummary, ReadError};

/// How many events a list looks at between two chances for others to run.
const CHUNK: usize = 64;

/// What is known of an event.
fn meta<D: Disk>(shared: &Shared<D>, id: EventId) -> Result<Option<Meta>, ReadError> {
    if let Some(meta) = shared.table.lock().get(id) {
        return Ok(Some(meta.clone()));
    }
    let index = shared.index().ok_or_else(|| ReadError::Io("the index is being made anew".to_owned()))?;
    librarian::meta_of(&*index, id, &mut shared.names.lock()).map_err(|error| unreadable(&error))
}

/// How often an event was repeated.
fn repeats<D: Disk>(shared: &Shared<D>, id: EventId) -> u64 {
    let known = shared.table.lock().repeats_of(id);
    known.unwrap_or_else(|| shared.index().map_or(0, |index| librarian::repeats(&*index, id).unwrap_or(0)))
}

/// Whether there may be something to settle.
pub(super) fn settleable<D: Disk>(shared: &Shared<D>, id: DeliveryId) -> Result<(), CommitError> {
    if let Some(meta) = shared.table.lock().get(id.event) {
        return meta.delivery(id.ordinal).map(|_| ()).ok_or(CommitError::NotFound);
    }
    // What is not in memory has nothing pending.
    match meta(shared, id.event) {
        Ok(Some(meta)) if meta.delivery(id.ordinal).is_some() => Err(CommitError::Stale),
        Ok(_) => Err(CommitError::NotFound),
        Err(_) => Err(CommitError::Stale),
    }
}

/// The bytes at a place, head and as much of the tail as asked; none if the segment has gone.
async fn at<D: Disk>(shared: &Shared<D>, place: &Place, with_tail: bool) -> Result<Option<(Bytes, Frame, u64)>, ReadError> {
    let Some((file, nonce)) = shared.shelf.lock().get(&place.segment).map(|shelved| (shelved.file.clone(), shelved.nonce)) else {
        return Ok(None);
    };
    let tail = if with_tail { place.tail } else { 0 };
    let mut bytes = vec![0; usize::try_from(place.length.saturating_add(tail)).unwrap_or(usize::MAX)];
    file.read_at(u64::from(place.offset), &mut bytes).await.map_err(|error| ReadError::Io(error.to_string()))?;
    let seed = batch::seed(nonce);
    let length = usize::try_from(place.length).unwrap_or(usize::MAX);
    let frame = Frame::parse_head(&bytes).map_err(|_malformed| ReadError::Damaged)?;
    let is_sound = frame.length == length && frame.head_is_sound(&bytes, seed);
    if !is_sound || (with_tail && !frame.tail_is_sound(&bytes[length..], seed)) {
        return Err(ReadError::Damaged);
    }
    Ok(Some((Bytes::from(bytes), frame, seed)))
}

/// The event that a meta describes; its body only if asked.
async fn event_at<D: Disk>(shared: &Shared<D>, meta: &Meta, with_body: bool) -> Result<Option<Event>, ReadError> {
    let Some((bytes, frame, _)) = at(shared, &meta.place, with_body).await? else { return Ok(None) };
    let is_ours = frame.kind == Kind::Event && record::event_id(&bytes) == Ok(meta.id);
    if !is_ours {
        return Err(ReadError::Damaged);
    }
    let body = if with_body { bytes.slice(frame.length..) } else { Bytes::new() };
    let event = record::event(&bytes, &frame, body, &mut shared.names.lock()).map_err(|_malformed| ReadError::Damaged)?;
    Ok(Some(event))
}

/// An event, whole.
pub(super) async fn event<D: Disk>(shared: &Shared<D>, id: EventId) -> Result<Option<Event>, ReadError> {
    match meta(shared, id)? {
        Some(meta) => event_at(shared, &meta, true).await,
        None => Ok(None),
    }
}

async fn attempt<D: Disk>(shared: &Shared<D>, id: DeliveryId, place: &Place) -> Result<Option<Attempt>, ReadError> {
    let Some((bytes, frame, _)) = at(shared, place, false).await? else { return Ok(None) };
    if frame.kind != Kind::Settlement {
        return Err(ReadError::Damaged);
    }
    let settled = record::decode_settlement(&bytes, &frame).map_err(|_malformed| ReadError::Damaged)?;
    if settled.delivery == id { Ok(settled.attempt) } else { Err(ReadError::Damaged) }
}

/// An event with everything known of it.
pub(super) async fn record<D: Disk>(shared: &Shared<D>, id: EventId) -> Result<Option<EventRecord>, ReadError> {
    let Some(meta) = meta(shared, id)? else { return Ok(None) };
    let Some(event) = event_at(shared, &meta, true).await? else { return Ok(None) };
    let mut attempts = Vec::with_capacity(meta.attempts.len());
    for made in &meta.attempts {
        let delivery = DeliveryId::new(id, made.ordinal);
        attempts.extend(attempt(shared, delivery, &made.place).await?.map(|attempt| (delivery, attempt)));
    }
    Ok(Some(EventRecord { event, deliveries: meta.model_deliveries(), attempts, repeats: repeats(shared, id) }))
}

/// Some events below `before`, newest first, and the sequence below which to go on: 0 at the end.
fn some_below<D: Disk>(shared: &Shared<D>, before: u64) -> Result<(Vec<Meta>, u64), ReadError> {
    let live = shared.table.lock().below(before, CHUNK);
    let index = shared.index().ok_or_else(|| ReadError::Io("the index is being made anew".to_owned()))?;
    let indexed = librarian::below(&*index, before, CHUNK).map_err(|error| unreadable(&error))?;
    let live_floor = if live.len() < CHUNK { 0 } else { live.last().map_or(0, |meta| meta.sequence) };
    let index_floor = indexed.last().copied().unwrap_or(0);
    let floor = live_floor.max(index_floor);
    let mut merged: BTreeMap<u64, Option<Meta>> = indexed.into_iter().map(|sequence| (sequence, None)).collect();
    merged.extend(live.into_iter().map(|meta| (meta.sequence, Some(meta))));
    let mut metas = Vec::new();
    for (sequence, meta) in merged.into_iter().rev().take_while(|(sequence, _)| *sequence >= floor) {
        let found = match meta {
            Some(meta) => Some(meta),
            None => librarian::meta(&*index, sequence, &mut shared.names.lock()).map_err(|error| unreadable(&error))?,
        };
        metas.extend(found);
    }
    Ok((metas, floor))
}

/// Whether an event may pass, before its bytes are read.
fn may_match(filter: &EventFilter, meta: &Meta) -> bool {
    let delivery = |delivery: &super::table::DeliveryMeta| {
        filter.state.as_ref().is_none_or(|word| delivery.state.word() == word)
            && filter.destination.as_ref().is_none_or(|name| *delivery.destination == **name)
    };
    filter.route.as_ref().is_none_or(|route| *meta.route == **route)
        && filter.since.is_none_or(|since| meta.received_at >= since)
        && filter.until.is_none_or(|until| meta.received_at < until)
        && ((filter.state.is_none() && filter.destination.is_none()) || meta.deliveries.iter().any(delivery))
}

/// Events that pass, newest first.
pub(super) async fn list<D: Disk>(
    shared: &Shared<D>,
    filter: &EventFilter,
    before: Option<u64>,
    limit: usize,
) -> Result<(Vec<EventSummary>, Option<u64>), ReadError> {
    let mut items: Vec<EventSummary> = Vec::new();
    let mut before = before.unwrap_or(u64::MAX);
    while before > 0 {
        let (metas, floor) = some_below(shared, before)?;
        for meta in metas.iter().filter(|meta| may_match(filter, meta)) {
            let Some(event) = event_at(shared, meta, false).await? else { continue };
            let deliveries = meta.model_deliveries();
            if !filter.matches(&event, &deliveries) {
                continue;
            }
            if items.len() == limit {
                let next = items.last().map(|item| item.sequence);
                return Ok((items, next));
            }
            let repeats = repeats(shared, meta.id);
            items.push(EventSummary { sequence: meta.sequence, event, body_bytes: u64::from(meta.place.tail), deliveries, repeats });
        }
        before = floor;
        tokio::task::yield_now().await;
    }
    Ok((items, None))
}
