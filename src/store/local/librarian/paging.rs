//! Paging (rule 15): beyond a limit, deliveries that wait leave memory, and come back when something is to become of
//! them.
//!
//! What leaves stands in the footer of its segment, which was written before and can be made anew: nothing is written
//! for it, and losing the index loses nothing of it. Only the librarian pages, one thing after the other, so that a
//! checkpoint finds everything in one place or the other.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use super::seal::mend_footer;
use super::{Librarian, footing};
use crate::model::EventId;
use crate::store::Promise;
use crate::store::local::disk::Disk;
use crate::store::local::footer::{self, Op};
use crate::store::local::queue::Entry;
use crate::store::local::record::{self, Frame, Kind};
use crate::store::local::shared::{Recall, Shared};
use crate::store::local::table::{Meta, Pin};
use crate::store::{CommitError, Settlement};

/// Most deliveries that wait in memory beyond the limit, because they were tried, moved or replayed: accept refuses.
pub(in crate::store::local) const LASTING_MAX: usize = 2_000_000;

/// Events that leave or come back at a time, under the table's lock.
const EVENTS_MAX: usize = 1024;

/// An event that is paged out, as its footer tells it.
pub(in crate::store::local) async fn find<D: Disk>(shared: &Shared<D>, id: EventId) -> io::Result<Option<Meta>> {
    let around = shared.table.lock().paged_around(id);
    for number in around {
        let Some(footing) = footing(shared, number).await? else { return Err(missing(shared, number)) };
        let found = footer::event_by_id(&footing, id, &shared.names).await.map_err(|error| suspected(shared, number, error))?;
        if let Some(found) = found.filter(|found| shared.table.lock().paged_of(found.meta.sequence) == Some(number)) {
            return Ok(Some(found.meta));
        }
    }
    Ok(None)
}

fn missing<D: Disk>(shared: &Shared<D>, number: u64) -> io::Error {
    shared.suspect(number);
    io::Error::other("a segment's footer is being made anew")
}

fn suspected<D: Disk>(shared: &Shared<D>, number: u64, error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::InvalidData {
        shared.suspect(number);
    }
    error
}

/// Brings back everything of a segment that is paged out.
pub(in crate::store::local) async fn page_in<D: Disk>(shared: &Shared<D>, number: u64) -> io::Result<()> {
    if !shared.table.lock().is_paged_segment(number) {
        return Ok(());
    }
    let Some(footing) = footing(shared, number).await? else { return Err(missing(shared, number)) };
    let mut from = 0;
    loop {
        let metas = footer::carried_from(&footing, from, EVENTS_MAX, &shared.names).await;
        let metas = metas.map_err(|error| suspected(shared, number, error))?;
        let Some(last) = metas.last() else { break };
        from = last.sequence.saturating_add(1);
        shared.table.lock().page_in(number, metas);
        tokio::task::yield_now().await;
    }
    if shared.table.lock().is_paged_segment(number) {
        shared.suspect(number);
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a segment's footer does not tell what waits in it"));
    }
    Ok(())
}

/// The accept sequence of the event that a record is about, if it is about an earlier one.
pub(in crate::store::local) fn about<D: Disk>(shared: &Shared<D>, frame: &Frame, head: &[u8]) -> Option<u64> {
    let mut names = shared.names.lock();
    match frame.kind {
        Kind::Settlement => record::decode_settlement(head, frame).ok().map(|settled| settled.sequence),
        Kind::Replay | Kind::Acknowledgement => record::decode_replay(head, frame, &mut names).ok().map(|replay| replay.sequence),
        Kind::Live => record::decode_live(head, frame, &mut names).ok().map(|meta| meta.sequence),
        Kind::Moved => record::decode_moved(head, frame, &mut names).ok().map(|meta| meta.sequence),
        Kind::Event | Kind::Repeat | Kind::State | Kind::Key => None,
    }
}

/// Brings back what these records of later segments are about: a start, before it applies them.
pub(in crate::store::local) async fn page_in_for<D: Disk>(shared: &Arc<Shared<D>>, ops: &[Op]) -> io::Result<()> {
    if !shared.table.lock().has_paged() {
        return Ok(());
    }
    let sequences = ops.iter().filter_map(|op| about(shared, &op.frame().ok()?, &op.record));
    page_in_of(shared, sequences.collect()).await
}

/// Brings these events back: a start.
pub(in crate::store::local) async fn page_in_of<D: Disk>(shared: &Arc<Shared<D>>, sequences: BTreeSet<u64>) -> io::Result<()> {
    let segments: BTreeSet<u64> = {
        let table = shared.table.lock();
        sequences.into_iter().filter_map(|sequence| table.paged_of(sequence)).collect()
    };
    for number in segments {
        if page_in(shared, number).await.is_err() {
            // Nobody else makes footers anew yet.
            mend_footer(shared, number).await?;
            page_in(shared, number).await?;
        }
    }
    Ok(())
}

/// Lets events leave memory while too many wait in it: a start.
pub(in crate::store::local) fn page_out<D: Disk>(shared: &Shared<D>) {
    while shared.table.lock().page_out(shared.sizes.waiting, EVENTS_MAX) {}
}

impl<D: Disk> Librarian<D> {
    /// Lets some events leave memory, if too many wait in it.
    pub(super) fn page_out(&self) -> bool {
        self.shared.table.lock().page_out(self.shared.sizes.waiting, EVENTS_MAX)
    }
}

/// Serves all that asks for events that are in memory or paged out; what asks for others stays in its place.
pub(super) async fn serve<D: Disk>(shared: &Arc<Shared<D>>) {
    let asked: Vec<Recall> = shared.recalls.lock().drain(..).collect();
    let mut others = Vec::new();
    for recall in asked {
        others.extend(serve_one(shared, recall).await);
    }
    let mut recalls = shared.recalls.lock();
    others.into_iter().rev().for_each(|recall| recalls.push_front(recall));
}

/// Serves what asks for an event that is in memory or paged out; gives back what asks for another one.
pub(super) async fn serve_one<D: Disk>(shared: &Arc<Shared<D>>, recall: Recall) -> Option<Recall> {
    match recall {
        Recall::Segment(number) => {
            if let Err(error) = page_in(shared, number).await {
                tracing::warn!(segment = number, %error, "what waits in a segment can't be read: it keeps its segment");
            }
            shared.supply_wanted.notify_one();
        }
        Recall::Settle(settlement, promise) => match come_back(shared, settlement.delivery.event).await {
            Ok(true) => settle(shared, settlement, promise),
            Ok(false) => return Some(Recall::Settle(settlement, promise)),
            Err(error) => refuse(promise, &error),
        },
        Recall::Add(event, kind, deliveries, promise) => match come_back(shared, event).await {
            Ok(true) => {
                let pin = shared.table.lock().pin(event);
                match pin {
                    Pin::Held => shared.add(event, kind, deliveries, promise),
                    Pin::Gone | Pin::Elsewhere => promise.settle(Err(CommitError::NotFound)),
                }
            }
            Ok(false) => return Some(Recall::Add(event, kind, deliveries, promise)),
            Err(error) => refuse(promise, &error),
        },
    }
    None
}

/// Whether an event is in memory now, after it came back if it was paged out.
async fn come_back<D: Disk>(shared: &Shared<D>, id: EventId) -> io::Result<bool> {
    let is_here = || shared.table.lock().get(id).is_some();
    if is_here() {
        return Ok(true);
    }
    let Some(meta) = find(shared, id).await? else { return Ok(false) };
    let segment = shared.table.lock().paged_of(meta.sequence);
    if let Some(segment) = segment {
        page_in(shared, segment).await?;
    }
    Ok(is_here())
}

fn settle<D: Disk>(shared: &Shared<D>, settlement: Settlement, promise: Promise<()>) {
    let sequence = {
        let mut table = shared.table.lock();
        let sequence = table.sequence_of(settlement.delivery.event).unwrap_or(0);
        table.want(sequence);
        sequence
    };
    if let Err(refused) = shared.queue.push(Entry::Settle(settlement, promise))
        && let (error, Entry::Settle(_, promise)) = *refused
    {
        shared.table.lock().served(sequence);
        promise.settle(Err(error));
    }
}

fn refuse<T>(promise: Promise<T>, error: &io::Error) {
    tracing::warn!(%error, "an event that waits can't be read just now");
    if promise.take() {
        promise.settle(Err(CommitError::Refused("the event can't be read just now")));
    }
}
