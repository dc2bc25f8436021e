//! Refused requests that are kept: untrusted, never delivered, until somebody releases or time removes them.
//!
//! A quarantine lies beside the store and not in it: a flood of forgeries must not compete with events for the journal's
//! space or its syncs, and whatever happens to a quarantine, the store does not notice. So the way in never waits for it:
//! what is to be kept goes into a short queue, and where that is full, or a disk says no, the refusal is only counted.
//!
//! What is kept is a ring per route, in a [`Shelf`]; the one there is keeps a file for each ([`Files`]).
//!
//! A release is the retry that the sender did not make, except that its time is judged as of then: what was too old when
//! it came stays refused (R5). It goes the way of every request from there on.

mod entry;
mod files;
mod limits;
mod release;
mod rings;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

use crate::accept::IdSource;
use crate::clock::Clock;
use crate::config::{Live, Route};
use crate::model::{Name, RefusalId, Timestamp};
use crate::signature::{Refusal, Unverified};
use crate::telemetry::Metrics;

pub use entry::{Head, Kept};
pub use files::Files;
pub use limits::{ENTRY_BYTES_MAX, RELEASE_MAX, ROUTE_BYTES_MAX};
pub use release::{Page, Releases, Tools, Wanted};

use limits::{QUEUE_BYTES_MAX, QUEUE_MAX};
use rings::Rings;

/// One request on its way to the shelf.
pub struct Item {
    /// Its route.
    pub route: Name,
    /// Its id.
    pub id: RefusalId,
    /// The request, written down.
    pub bytes: Vec<u8>,
}

/// What there is to read: the whole of it, or what stands before the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Without the body.
    Head,
    /// All of it.
    Whole,
}

/// Where refused requests lie. It knows neither limits nor configuration.
#[async_trait]
pub trait Shelf: Send + Sync + 'static {
    /// Everything that is there, with its size in bytes.
    async fn list(&self) -> std::io::Result<Vec<(Name, RefusalId, u64)>>;

    /// Puts these there, durably: all, or with an error none.
    async fn put(&self, items: Vec<Item>) -> std::io::Result<()>;

    /// What was put there under this id.
    async fn get(&self, route: &Name, id: RefusalId, part: Part) -> std::io::Result<Option<Bytes>>;

    /// Removes these; what is not there is no error.
    async fn remove(&self, items: Vec<(Name, RefusalId)>) -> std::io::Result<()>;
}

/// Why a kept request can't be shown.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// The shelf said no.
    #[error("reading the quarantine: {0}")]
    Io(#[from] std::io::Error),
    /// Its bytes are not what was written.
    #[error("the request is damaged in the quarantine")]
    Damaged,
}

/// What a quarantine is made of.
pub struct Parts {
    /// Where requests lie.
    pub shelf: Arc<dyn Shelf>,
    /// The configuration in force.
    pub config: Live,
    /// Told after every reload.
    pub changes: watch::Receiver<()>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where is counted what is kept and what could not be.
    pub metrics: Arc<Metrics>,
    /// Where ids come from.
    pub ids: IdSource,
}

/// The quarantine. Clones share it.
#[derive(Clone)]
pub struct Quarantine(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    intake: Mutex<Option<Intake>>,
    waiting_bytes: Arc<AtomicUsize>,
    ids: IdSource,
    phases: watch::Receiver<Phase>,
}

/// Where the worker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// It reads what lies there.
    Reading,
    /// It writes and tidies up.
    Working,
    /// It has ended.
    Ended,
}

/// What the worker and those who look have in common.
struct Shared {
    shelf: Arc<dyn Shelf>,
    config: Live,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    rings: Mutex<Rings>,
}

/// A refused request in the queue.
struct Waiting {
    kept: Kept,
    _room: Room,
}

/// The way into the queue, as long as the quarantine takes anything.
struct Intake {
    queue: mpsc::Sender<Waiting>,
    /// Dropped with it, so that nobody rests while others wait for the end.
    _open: watch::Sender<()>,
}

/// Bytes of the queue, given back when dropped.
struct Room {
    bytes: usize,
    of: Arc<AtomicUsize>,
}

impl Room {
    fn take(of: &Arc<AtomicUsize>, bytes: usize) -> Option<Self> {
        let fits = |held: usize| held.checked_add(bytes).filter(|sum| *sum <= QUEUE_BYTES_MAX);
        of.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits).ok().map(|_| Self { bytes, of: of.clone() })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.of.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

impl Quarantine {
    /// A quarantine over this shelf, with what lies there already. Whatever is wrong with the shelf is told in the log and
    /// keeps nothing from starting.
    pub fn start(parts: Parts) -> Self {
        let Parts { shelf, config, changes, clock, metrics, ids } = parts;
        let shared = Arc::new(Shared { shelf, config, clock, metrics, rings: Mutex::default() });
        shared.count();
        let (queue, inbox) = mpsc::channel(QUEUE_MAX);
        let (open, closing) = watch::channel(());
        let (phase, phases) = watch::channel(Phase::Reading);
        tokio::spawn(worker::run(shared.clone(), inbox, worker::Told { changes, closing }, phase));
        let intake = Mutex::new(Some(Intake { queue, _open: open }));
        Self(Arc::new(Inner { shared, intake, waiting_bytes: Arc::default(), ids, phases }))
    }

    /// Keeps a request that this route has refused at this time, if the route keeps such; never waits.
    pub fn keep(&self, route: &Route, unverified: Unverified, judged_at: Timestamp) {
        if route.quarantine.is_none() || !is_kept(unverified.refusal) || route.verifier.is_handshake(&unverified.inbound) {
            return;
        }
        let Unverified { inbound, refusal } = unverified;
        let id = RefusalId::new(self.0.ids.mint(inbound.received_at));
        let kept = Kept { id, route: route.name.clone(), reason: refusal.as_str().into(), judged_at, inbound };
        let bytes = kept.bytes_about();
        let room = if bytes <= ENTRY_BYTES_MAX { Room::take(&self.0.waiting_bytes, bytes) } else { None };
        let sent = match (room, &*self.0.intake.lock()) {
            (Some(room), Some(intake)) => intake.queue.try_send(Waiting { kept, _room: room }).is_ok(),
            _ => false,
        };
        if !sent {
            self.0.shared.metrics.refusals_dropped(&route.name).inc();
        }
    }

    /// Requests that are kept, newest first: of this route, received in this time, below this id; at most so many.
    pub async fn list(&self, route: Option<&str>, received: Received, below: Option<RefusalId>, limit: usize) -> Vec<(Name, RefusalId)> {
        self.reached(Phase::Working).await;
        self.0.shared.rings.lock().newest(route, received, below, limit)
    }

    /// The route of a request that is kept.
    pub async fn route_of(&self, id: RefusalId) -> Option<Name> {
        self.reached(Phase::Working).await;
        self.0.shared.rings.lock().route_of(id)
    }

    /// What stands before the body of a kept request.
    ///
    /// # Errors
    /// It can't be read.
    pub async fn head(&self, route: &Name, id: RefusalId) -> Result<Option<Head>, GetError> {
        let Some(bytes) = self.0.shared.shelf.get(route, id, Part::Head).await? else { return Ok(None) };
        entry::head(&bytes).filter(|head| head.is_of(route, id)).map(Some).ok_or(GetError::Damaged)
    }

    /// A kept request.
    ///
    /// # Errors
    /// It can't be read.
    pub async fn get(&self, route: &Name, id: RefusalId) -> Result<Option<Kept>, GetError> {
        let Some(bytes) = self.0.shared.shelf.get(route, id, Part::Whole).await? else { return Ok(None) };
        entry::whole(bytes).filter(|kept| kept.id == id && kept.route == *route).map(Some).ok_or(GetError::Damaged)
    }

    /// Takes no more, and writes what is waiting. Idempotent.
    pub async fn close(&self) {
        drop(self.0.intake.lock().take());
        self.reached(Phase::Ended).await;
    }

    /// Until the worker is so far. An error means that it is gone, which is further than all.
    async fn reached(&self, wanted: Phase) {
        drop(self.0.phases.clone().wait_for(|phase| *phase >= wanted).await);
    }
}

/// Whether a refusal is of those that a corrected secret could undo. Where a key can't be fetched the sender is told to
/// come again.
fn is_kept(refusal: Refusal) -> bool {
    match refusal {
        Refusal::MissingHeader | Refusal::Malformed | Refusal::Mismatch | Refusal::Stale | Refusal::UnknownKey | Refusal::Address => true,
        Refusal::KeyFetch | Refusal::Handshake => false,
    }
}

/// A span of time, each end of which may be open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Received {
    /// At or after.
    pub since: Option<Timestamp>,
    /// Before.
    pub until: Option<Timestamp>,
}

impl Received {
    fn holds(self, id: RefusalId) -> bool {
        let at = id.received_at();
        self.since.is_none_or(|since| at >= since) && self.until.is_none_or(|until| at < until)
    }
}

#[cfg(test)]
mod tests;
