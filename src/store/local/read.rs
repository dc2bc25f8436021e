//! Reads: what is durable, from memory, else from the index or a footer, and the bytes from the journal by place.
//!
//! Before a byte leaves, the segment's nonce, the checksum and the event's id are checked: a wrong place or a
//! flipped bit is an error, never another event's bytes.

mod waiting;

use std::collections::BTreeMap;

use bytes::Bytes;
use tokio::time::Instant;

use super::batch;
use super::disk::{Disk, DiskFile};
use super::footer::{self, Columns, FooterEvent};
use super::index::IndexError;
use super::librarian::{Found, entries, footing, paging};
use super::record::{self, Frame, KeyRecord, Kind};
use super::shared::{INDEX_LOOK, INDEX_WAIT, Shared};
use super::table::{Meta, Place, Usage};
use crate::model::{Attempt, DeliveryId, Event, EventId};
use crate::store::{EventFilter, EventRecord, EventSummary, ReadError};

pub(super) use waiting::pending_after;

/// How many events a list looks at between two chances for others to run.
const CHUNK: usize = 64;

/// How many events one call looks at: a filter that nearly nothing passes gets a short page and where to go on.
const LOOKED_MAX: usize = 50_000;

/// What is known of an event.
async fn meta<D: Disk>(shared: &Shared<D>, id: EventId) -> Result<Option<Meta>, ReadError> {
    loop {
        let turn = {
            let table = shared.table.lock();
            if let Some(meta) = table.get(id) {
                return Ok(Some(meta));
            }
            table.paging_turn()
        };
        if let Some(meta) = forgotten(shared, id).await? {
            return Ok(Some(meta));
        }
        // It may have come back, or gone into the index, between the two looks.
        let table = shared.table.lock();
        if let Some(meta) = table.get(id) {
            return Ok(Some(meta));
        }
        if table.paging_turn() == turn || table.paged_around(id).is_empty() {
            return Ok(None);
        }
    }
}

/// The index failed: nobody asks it again, and the librarian makes it anew.
fn broken<D: Disk>(shared: &Shared<D>, error: &IndexError) -> ReadError {
    tracing::error!(%error, "the index failed; it is made anew from the journal");
    *shared.index.write() = None;
    shared.index_wanted.notify_one();
    ReadError::Io(error.to_string())
}

fn unreadable_footer<D: Disk>(shared: &Shared<D>, segment: u64, error: &std::io::Error) -> ReadError {
    if error.kind() == std::io::ErrorKind::InvalidData {
        shared.suspect(segment);
    }
    ReadError::Io(error.to_string())
}

/// A sealed segment's footer. One that is missing is being made anew, and waited for a little; none: the segment goes.
async fn footing_soon<D: Disk>(shared: &Shared<D>, number: u64) -> Result<Found<D>, ReadError> {
    let deadline = Instant::now() + INDEX_WAIT;
    loop {
        let found = footing(shared, number).await.map_err(|error| unreadable_footer(shared, number, &error))?;
        let is_kept = || shared.table.lock().usage.get(&number).is_some_and(|usage| !usage.forgotten);
        if found.is_some() || !is_kept() {
            return Ok(found);
        }
        shared.suspect(number);
        if Instant::now() >= deadline {
            return Err(ReadError::Io("a segment's footer is being made anew".to_owned()));
        }
        tokio::time::sleep(INDEX_LOOK).await;
    }
}

fn no_index() -> ReadError {
    ReadError::Io("the index is being made anew".to_owned())
}

/// Whether a segment's footer counts. Of one that goes, memory and index may have forgotten already what became of its
/// events since.
fn is_told(usage: &Usage) -> bool {
    usage.sealed && !usage.leaving
}

/// What is known of an event that is not in memory: the index says it of those that outlived their segment, the
/// segment's footer of the rest.
pub(super) async fn forgotten<D: Disk>(shared: &Shared<D>, id: EventId) -> Result<Option<Meta>, ReadError> {
    if let Some(meta) = paging::find(shared, id).await.map_err(|error| ReadError::Io(error.to_string()))? {
        return Ok(Some(meta));
    }
    let index = shared.index_soon().await;
    if let Some(index) = &index
        && let Some(meta) = entries::meta_of(&**index, id, &mut shared.names.lock()).map_err(|error| broken(shared, &error))?
    {
        return Ok(Some(meta));
    }
    let sealed: Vec<u64> = {
        let table = shared.table.lock();
        table.usage.iter().rev().filter(|(_, usage)| is_told(usage)).map(|(number, _)| *number).collect()
    };
    for number in sealed {
        let Some(footing) = footing_soon(shared, number).await? else { continue };
        let found = footer::event_by_id(&footing, id, &shared.names).await.map_err(|error| unreadable_footer(shared, number, &error))?;
        if let Some(found) = found {
            // A carried event that neither memory nor the index knows.
            return match (found.meta.is_pending(), &index) {
                (false, _) => Ok(Some(found.meta)),
                // The index is not whole yet.
                (true, None) => Err(no_index()),
                // It is just being let go.
                (true, Some(_)) => Ok(None),
            };
        }
    }
    Ok(None)
}

/// How often an event was repeated.
pub(super) fn repeats<D: Disk>(shared: &Shared<D>, id: EventId) -> u64 {
    let known = shared.table.lock().repeats_of(id);
    known.unwrap_or_else(|| shared.index().map_or(0, |index| entries::repeats(&*index, id).unwrap_or(0)))
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
    let (own, own_frame) = own(meta, &bytes, &frame)?;
    let body = if with_body { bytes.slice(frame.length..) } else { Bytes::new() };
    let event = record::event(own, &own_frame, body, &mut shared.names.lock()).map_err(|_malformed| ReadError::Damaged)?;
    Ok(Some(event))
}

/// The event's own record, which must be this one's.
fn own<'a>(meta: &Meta, bytes: &'a [u8], frame: &Frame) -> Result<(&'a [u8], Frame), ReadError> {
    let own = record::as_event(bytes, frame).ok().filter(|(own, _)| record::event_id(own) == Ok(meta.id));
    own.ok_or(ReadError::Damaged)
}

/// The head of the event's own record, and its body; none if its segment has gone.
pub(super) async fn whole<D: Disk>(shared: &Shared<D>, meta: &Meta) -> Result<Option<(Vec<u8>, Bytes)>, ReadError> {
    let Some((bytes, frame, _)) = at(shared, &meta.place, true).await? else { return Ok(None) };
    let (own, _) = own(meta, &bytes, &frame)?;
    Ok(Some((own.to_vec(), bytes.slice(frame.length..))))
}

/// An event, whole.
pub(super) async fn event<D: Disk>(shared: &Shared<D>, id: EventId) -> Result<Option<Event>, ReadError> {
    match meta(shared, id).await? {
        Some(meta) => Ok(located(shared, meta, true).await?.map(|(_, event)| event)),
        None => Ok(None),
    }
}

/// The event and what is known of it, wherever it lies by now: it may have moved on since, and its segment gone.
async fn located<D: Disk>(shared: &Shared<D>, mut known: Meta, with_body: bool) -> Result<Option<(Meta, Event)>, ReadError> {
    loop {
        if let Some(event) = event_at(shared, &known, with_body).await? {
            return Ok(Some((known, event)));
        }
        match meta(shared, known.id).await?.filter(|now| now.place != known.place) {
            Some(now) => known = now,
            None => return Ok(None),
        }
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
    let Some(meta) = meta(shared, id).await? else { return Ok(None) };
    let Some((meta, event)) = located(shared, meta, true).await? else { return Ok(None) };
    let mut attempts = Vec::with_capacity(meta.attempts.len());
    for made in &meta.attempts {
        let delivery = DeliveryId::new(id, made.ordinal);
        attempts.extend(attempt(shared, delivery, &made.place).await?.map(|attempt| (delivery, attempt)));
    }
    Ok(Some(EventRecord { event, deliveries: meta.model_deliveries(), attempts, repeats: repeats(shared, id) }))
}

/// The dedupe key of the record at a place, and whether it had moved there; none if its segment has gone.
pub(super) async fn key<D: Disk>(shared: &Shared<D>, place: &Place) -> Result<Option<(KeyRecord, bool)>, ReadError> {
    let Some((bytes, frame, _)) = at(shared, place, false).await? else { return Ok(None) };
    let key = record::key_of(&bytes, &frame, &mut shared.names.lock()).map_err(|_malformed| ReadError::Damaged)?;
    Ok(key.map(|key| (key, frame.kind == Kind::Key)))
}

/// An event that a list looks at.
struct Candidate {
    meta: Meta,
    /// Where the footer told them.
    columns: Option<Columns>,
}

/// Events of sealed segments below `before`, newest first; and whether there may be more.
async fn sealed_below<D: Disk>(shared: &Shared<D>, before: u64) -> Result<(Vec<FooterEvent>, bool), ReadError> {
    let numbers: Vec<u64> = {
        let table = shared.table.lock();
        let told = table.usage.iter().rev().filter(|(_, usage)| is_told(usage) && usage.events.is_some_and(|(first, _)| first < before));
        told.map(|(number, _)| *number).collect()
    };
    let mut found = Vec::new();
    for number in numbers {
        if found.len() >= CHUNK {
            return Ok((found, true));
        }
        let Some(footing) = footing_soon(shared, number).await? else { continue };
        let some = footer::events_below(&footing, before, CHUNK, &shared.names).await;
        found.extend(some.map_err(|error| unreadable_footer(shared, number, &error))?);
    }
    Ok((found, false))
}

/// Some events below `before`, newest first, and the sequence below which to go on: 0 at the end.
async fn some_below<D: Disk>(shared: &Shared<D>, before: u64) -> Result<(Vec<Candidate>, u64), ReadError> {
    loop {
        let turn = shared.table.lock().paging_turn();
        let found = look_below(shared, before).await?;
        // What came back meanwhile may have ended and gone on, past all looks.
        if shared.table.lock().paging_turn() == turn {
            return Ok(found);
        }
    }
}

async fn look_below<D: Disk>(shared: &Shared<D>, before: u64) -> Result<(Vec<Candidate>, u64), ReadError> {
    // Memory first, footers last: what leaves memory between two looks is found by the later one.
    let index = shared.index_soon().await;
    let live = shared.table.lock().below(before, CHUNK);
    let indexed = match &index {
        Some(index) => entries::below(&**index, before, CHUNK).map_err(|error| broken(shared, &error))?,
        None => Vec::new(),
    };
    let (sealed, has_more) = sealed_below(shared, before).await?;
    let floor_of = |is_full: bool, last: Option<u64>| if is_full { last.unwrap_or(0) } else { 0 };
    let floor = floor_of(has_more || sealed.len() >= CHUNK, sealed.last().map(|event| event.meta.sequence))
        .max(floor_of(live.len() >= CHUNK, live.last().map(|meta| meta.sequence)))
        .max(indexed.last().copied().unwrap_or(0));
    let mut merged: BTreeMap<u64, Option<Candidate>> = BTreeMap::new();
    for FooterEvent { meta, columns } in sealed {
        if meta.is_pending() {
            // Memory or the index tells how it stands by now, unless it is paged out. Where neither does, it is just being
            // let go.
            let (held, is_paged) = {
                let table = shared.table.lock();
                (table.at(meta.sequence), table.paged_of(meta.sequence).is_some())
            };
            match (held, &index) {
                (Some(held), _) => {
                    merged.insert(held.sequence, Some(Candidate { meta: held, columns: Some(columns) }));
                    continue;
                }
                (None, _) if is_paged => {}
                (None, Some(_)) => continue,
                (None, None) => return Err(no_index()),
            }
        }
        merged.insert(meta.sequence, Some(Candidate { meta, columns: Some(columns) }));
    }
    merged.extend(indexed.into_iter().map(|sequence| (sequence, None)));
    merged.extend(live.into_iter().map(|meta| (meta.sequence, Some(Candidate { meta, columns: None }))));
    let mut candidates = Vec::new();
    for (sequence, candidate) in merged.into_iter().rev().take_while(|(sequence, _)| *sequence >= floor) {
        let found = match (candidate, &index) {
            (Some(candidate), _) => Some(candidate),
            (None, Some(index)) => {
                let meta = entries::meta(&**index, sequence, &mut shared.names.lock()).map_err(|error| broken(shared, &error))?;
                meta.map(|meta| Candidate { meta, columns: None })
            }
            (None, None) => None,
        };
        candidates.extend(found);
    }
    Ok((candidates, floor))
}

/// Whether an event may pass, before its bytes are read.
fn may_match(filter: &EventFilter, candidate: &Candidate) -> bool {
    let meta = &candidate.meta;
    let delivery = |delivery: &super::table::DeliveryMeta| {
        filter.state.as_ref().is_none_or(|word| delivery.state.word() == word)
            && filter.destination.as_ref().is_none_or(|name| *delivery.destination == **name)
    };
    filter.route.as_ref().is_none_or(|route| *meta.route == **route)
        && filter.since.is_none_or(|since| meta.received_at >= since)
        && filter.until.is_none_or(|until| meta.received_at < until)
        && ((filter.state.is_none() && filter.destination.is_none()) || meta.deliveries.iter().any(delivery))
        && candidate.columns.as_ref().is_none_or(|Columns { source_id, event_type }| {
            let text = |text: &String| meta.id.to_string().contains(text) || source_id.as_ref().is_some_and(|id| id.contains(text));
            filter.event_type.as_ref().is_none_or(|kind| event_type.as_deref() == Some(kind)) && filter.text.as_ref().is_none_or(text)
        })
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
    let mut looked = 0;
    while before > 0 {
        let (candidates, floor) = some_below(shared, before).await?;
        looked += candidates.len();
        for Candidate { meta, .. } in candidates.into_iter().filter(|candidate| may_match(filter, candidate)) {
            let Some((meta, event)) = located(shared, meta, false).await? else { continue };
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
        if looked >= LOOKED_MAX && before > 0 {
            return Ok((items, Some(before)));
        }
        tokio::task::yield_now().await;
    }
    Ok((items, None))
}
