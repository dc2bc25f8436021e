//! The store: where ingress and relay meet, and the only maker of receipts.
//!
//! A [`Receipt`] says that a commit is durable; nothing else can become a 2xx. Engines: `local` (journal and
//! sled), and `memory`, the fake that tests and simulations use. One contract suite (`tests/store`) runs
//! against each of them.
//!
//! It never parses a body, never looks at a configuration and never makes a request.

mod lease;
pub mod local;
pub mod memory;
mod sealed;
mod settled;
mod ticket;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

use crate::model::{
    Answer, Attempt, Delivery, DeliveryId, DeliveryKind, DeliveryState, DestinationCounts, Event, EventId, Lane, Name, StoreStats,
    Timestamp,
};

pub use lease::Lease;
pub use sealed::{SEALED_BYTES_MAX, Sealed, SealedError, SealedStates};
pub use settled::{Settled, WAITED_FOR_MAX, Waiting};
pub use ticket::{CommitError, Promise, Ticket};

/// A delivery to commit with its event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDelivery {
    /// Where to.
    pub destination: Name,
    /// Its lane, where the route has an `order_by`.
    pub lane: Option<Lane>,
    /// The earliest time of the first attempt.
    pub due: Timestamp,
}

/// What makes two requests the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DedupeKey {
    /// Hash over route and key.
    pub hash: [u8; 16],
    /// The end of the window.
    pub expires_at: Timestamp,
}

/// An event to commit, with everything that must stand in the same commit (I4).
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// The event.
    pub event: Event,
    /// The key under which a repeat is recognised; none: never.
    pub dedupe: Option<DedupeKey>,
    /// What the sender is told, now and at every repeat.
    pub answer: Answer,
    /// One delivery for each destination of the route.
    pub deliveries: Vec<NewDelivery>,
}

/// Proof that an event is durable, and the answer that its sender has earned. Only an engine can make one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    event: EventId,
    answer: Answer,
    repeat: bool,
}

impl Receipt {
    fn new(event: EventId, answer: Answer, repeat: bool) -> Self {
        Self { event, answer, repeat }
    }

    /// The event that is durable: for a repeat, the first one.
    pub fn event(&self) -> EventId {
        self.event
    }

    /// What to tell the sender.
    pub fn answer(&self) -> &Answer {
        &self.answer
    }

    /// The same, to keep.
    pub fn into_answer(self) -> Answer {
        self.answer
    }

    /// Whether the request repeated an event that is already stored.
    pub fn is_repeat(&self) -> bool {
        self.repeat
    }
}

/// What became of a delivery, to be committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// Which delivery.
    pub delivery: DeliveryId,
    /// The version it was read at; a settlement of another version is refused as [`CommitError::Stale`].
    pub version: u32,
    /// The attempt that was made, if one was.
    pub attempt: Option<Attempt>,
    /// How many attempts there are now.
    pub attempts: u32,
    /// Where the delivery stands now.
    pub state: DeliveryState,
    /// The event's acknowledgement, which is due once everything else of the event is final: the settlement after which
    /// that is so commits it too, as [`DeliveryKind::Acknowledgement`]. An event has one at most, ever.
    pub acknowledgement: Option<NewDelivery>,
}

/// A delivery that waits, as the relay needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingDelivery {
    /// Grows from commit to commit; [`Store::pending_after`] pages by it. Lanes go in its order.
    pub position: u64,
    /// Which delivery.
    pub id: DeliveryId,
    /// The event's route.
    pub route: Name,
    /// Where to.
    pub destination: Name,
    /// Its lane.
    pub lane: Option<Lane>,
    /// Why it exists.
    pub kind: DeliveryKind,
    /// When its event was received, or the replay committed: age counts from here.
    pub created_at: Timestamp,
    /// The earliest time of the next attempt.
    pub due: Timestamp,
    /// How many attempts were made.
    pub attempts: u32,
    /// The version that a settlement must name.
    pub version: u32,
    /// Bytes that are stored of its event: an attempt holds at least these in memory.
    pub bytes: u64,
}

impl PendingDelivery {
    /// The delivery of this event, if it waits.
    pub fn of(delivery: &Delivery, event: &Event, position: u64) -> Option<Self> {
        let DeliveryState::Pending { due } = delivery.state else { return None };
        Some(Self {
            position,
            id: delivery.id,
            route: event.route.clone(),
            destination: delivery.destination.clone(),
            lane: delivery.lane,
            kind: delivery.kind,
            created_at: delivery.created_at,
            due,
            attempts: delivery.attempts,
            version: delivery.version,
            bytes: u64::try_from(event.body.len()).unwrap_or(u64::MAX),
        })
    }
}

/// An event in a list.
#[derive(Debug, Clone, PartialEq)]
pub struct EventSummary {
    /// Its place in the order of acceptance; lists page by it.
    pub sequence: u64,
    /// The event, its body left empty.
    pub event: Event,
    /// The body's length.
    pub body_bytes: u64,
    /// Its deliveries.
    pub deliveries: Vec<Delivery>,
    /// How often it was sent again within the dedupe window, as far as known.
    pub repeats: u64,
}

/// An event with everything known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct EventRecord {
    /// The event, whole.
    pub event: Event,
    /// Its deliveries, by ordinal.
    pub deliveries: Vec<Delivery>,
    /// Every attempt in the order they were settled.
    pub attempts: Vec<(DeliveryId, Attempt)>,
    /// How often it was sent again within the dedupe window, as far as known.
    pub repeats: u64,
}

/// Which events to list. Everything that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Of this route.
    pub route: Option<String>,
    /// Of this type.
    pub event_type: Option<String>,
    /// With a delivery in the state of this word.
    pub state: Option<String>,
    /// With a delivery to this destination; with `state`, that very delivery.
    pub destination: Option<String>,
    /// Received at or after.
    pub since: Option<Timestamp>,
    /// Received before.
    pub until: Option<Timestamp>,
    /// Whose event id or source id contains this text.
    pub text: Option<String>,
}

impl EventFilter {
    /// Whether an event with these deliveries passes.
    pub fn matches(&self, event: &Event, deliveries: &[Delivery]) -> bool {
        let text = |text: &String| {
            event.id.to_string().contains(text.as_str()) || event.source_id.as_ref().is_some_and(|id| id.contains(text.as_str()))
        };
        let delivery = |delivery: &Delivery| {
            self.state.as_ref().is_none_or(|word| delivery.state.word() == word)
                && self.destination.as_ref().is_none_or(|name| *delivery.destination == **name)
        };
        self.route.as_ref().is_none_or(|route| *event.route == **route)
            && self.event_type.as_ref().is_none_or(|kind| event.event_type.as_deref() == Some(kind))
            && self.since.is_none_or(|since| event.received_at >= since)
            && self.until.is_none_or(|until| event.received_at < until)
            && self.text.as_ref().is_none_or(text)
            && ((self.state.is_none() && self.destination.is_none()) || deliveries.iter().any(delivery))
    }
}

/// Why something could not be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// The bytes don't match their checksum any more.
    #[error("damaged in store")]
    Damaged,
    /// The disk said no.
    #[error("reading the store: {0}")]
    Io(String),
}

/// An engine.
///
/// Commits are asked for with `accept`, `settle`, `replay`, `acknowledge` and `set_state`; each returns a
/// [`Ticket`] that resolves when the commit is durable, and does so at once; only an accept that comes alone may have been
/// committed by then, within the call. Reads show only what is durable.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// What tells this store from all others; a backup of it has the same.
    fn id(&self) -> u128;

    /// Commits an event with its deliveries, or recognises a repeat: (route, key) is stored once within its
    /// window (I3), and the receipt of a repeat comes from a commit at or after the first one's.
    fn accept(&self, event: NewEvent) -> Ticket<Receipt>;

    /// Commits what became of a delivery. Repeating a settlement can't happen: the version has moved on.
    fn settle(&self, settlement: Settlement) -> Ticket<()>;

    /// Commits new deliveries of a stored event, as `DeliveryKind::Replay`, and names them.
    fn replay(&self, event: EventId, deliveries: Vec<NewDelivery>) -> Ticket<Vec<DeliveryId>>;

    /// Commits the event's acknowledgement although no settlement brings it along, and names it. Nothing is committed
    /// and nothing named when the event has one already.
    fn acknowledge(&self, event: EventId, delivery: NewDelivery) -> Ticket<Vec<DeliveryId>>;

    /// Commits a named piece of state (a pause, a cursor); `None` removes it. The newest wins.
    fn set_state(&self, name: String, value: Option<Bytes>) -> Ticket<()>;

    /// Takes the lease of this name for a term, or prolongs it: of all who ask, in whatever process, one holds it at a
    /// time. `None`: another holds it. A term of zero gives it back.
    async fn lease(&self, name: &str, holder: u128, term: Duration) -> Result<Option<Lease>, CommitError>;

    /// Notes that an attempt begins, unsynced: after a crash it counts as an interrupted attempt.
    fn attempt_begins(&self, delivery: DeliveryId);

    /// Makes the notes of attempts under way durable, for those whose answers mean something else after one that may have
    /// arrived: a power cut forgets what was only noted.
    async fn keep_attempts(&self) -> Result<(), CommitError>;

    /// Notes that an attempt is over (settled or given up).
    fn attempt_ends(&self, delivery: DeliveryId);

    /// The named states whose names start so.
    async fn states(&self, prefix: &str) -> Result<BTreeMap<String, Bytes>, ReadError>;

    /// Changes whenever deliveries were committed; its value is the highest position. Look at it *before*
    /// paging, so that no wake-up is lost.
    fn newest_position(&self) -> watch::Receiver<u64>;

    /// Pending deliveries after this position, in order, at most `limit`.
    async fn pending_after(&self, position: u64, limit: usize) -> Result<Vec<PendingDelivery>, ReadError>;

    /// An event's bytes, checked.
    async fn event(&self, id: EventId) -> Result<Option<Event>, ReadError>;

    /// An event with its deliveries and attempts.
    async fn record(&self, id: EventId) -> Result<Option<EventRecord>, ReadError>;

    /// Events that pass the filter, newest first, those below sequence `before` only, at most `limit`; and
    /// where to go on.
    async fn list(&self, filter: &EventFilter, before: Option<u64>, limit: usize) -> Result<(Vec<EventSummary>, Option<u64>), ReadError>;

    /// What is pending and dead, by destination.
    fn counts(&self) -> BTreeMap<Name, DestinationCounts>;

    /// Figures of the whole.
    fn stats(&self) -> StoreStats;

    /// Stops taking commits, finishes those that were taken and closes the files. Idempotent.
    async fn close(&self);
}
