//! The fake: the whole contract in maps, durable as long as the value lives.
//!
//! Tests and simulations of other rooms use it, and the contract suite holds it to the same promises as the
//! real engines. Its commits complete at once, unless a test holds them back.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::lease::{Lease, Leases};
use super::{
    CommitError, EventFilter, EventRecord, EventSummary, NewDelivery, NewEvent, PendingDelivery, Promise, ReadError, Receipt, Settlement,
    Store, Ticket,
};
use crate::model::{
    Answer, Attempt, Delivery, DeliveryId, DeliveryKind, DeliveryState, DestinationCounts, Event, EventId, Name, StoreStats, Timestamp,
};

/// What the fake does with commits, for tests that need them to go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mood {
    /// Commits complete at once.
    #[default]
    Willing,
    /// Commits stay queued until the mood changes; then they complete in their order.
    Stalled,
    /// Commits are refused, nothing is stored.
    Refusing,
    /// The event is stored but its outcome is reported as unknown.
    Unknowing,
    /// States are refused, everything else is stored.
    FullOfStates,
}

/// The fake engine.
pub struct MemoryStore {
    state: Mutex<State>,
    newest: watch::Sender<u64>,
    leases: Leases,
}

/// A commit that is held back.
type Stalled = Box<dyn FnOnce(&mut State) + Send>;

#[derive(Default)]
struct State {
    mood: Mood,
    unreadable: Option<EventId>,
    stalled: Vec<Stalled>,
    events: BTreeMap<u64, Stored>,
    sequences: HashMap<EventId, u64>,
    keys: HashMap<[u8; 16], Key>,
    pending: BTreeMap<u64, DeliveryId>,
    names: BTreeMap<String, Bytes>,
    position: u64,
    closed: bool,
}

struct Stored {
    event: Event,
    deliveries: Vec<(u64, Delivery)>,
    attempts: Vec<(DeliveryId, Attempt)>,
    repeats: u64,
}

struct Key {
    event: EventId,
    answer: Answer,
    expires_at: Timestamp,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self { state: Mutex::default(), newest: watch::Sender::new(0), leases: Leases::default() }
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Changes what becomes of commits; leaving `Stalled` completes what was held back.
    pub fn set_mood(&self, mood: Mood) {
        let mut state = self.state.lock();
        state.mood = mood;
        if mood != Mood::Stalled {
            for commit in std::mem::take(&mut state.stalled) {
                commit(&mut state);
            }
        }
        self.announce(state.position);
    }

    /// The disk no longer gives this event back; none: it gives back all.
    pub fn set_unreadable(&self, event: Option<EventId>) {
        self.state.lock().unreadable = event;
    }

    /// Takes commits again after it was closed, as a store that is opened again does.
    pub fn reopen(&self) {
        self.state.lock().closed = false;
    }

    /// How many events are stored.
    pub fn len(&self) -> usize {
        self.state.lock().events.len()
    }

    /// Whether no event is stored.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn announce(&self, position: u64) {
        self.newest.send_if_modified(|newest| std::mem::replace(newest, position) != position);
    }

    fn commit<T: Send + 'static>(&self, work: impl FnOnce(&mut State) -> Result<T, CommitError> + Send + 'static) -> Ticket<T> {
        let (promise, ticket) = Ticket::queued();
        let mut state = self.state.lock();
        if state.closed {
            return Ticket::refused(CommitError::Refused("stopping"));
        }
        let mood = state.mood;
        let complete = move |state: &mut State| {
            if promise.take() {
                settle(promise, mood, state, work);
            }
        };
        if mood == Mood::Stalled {
            state.stalled.push(Box::new(complete));
        } else {
            complete(&mut state);
        }
        self.announce(state.position);
        ticket
    }
}

fn settle<T>(promise: Promise<T>, mood: Mood, state: &mut State, work: impl FnOnce(&mut State) -> Result<T, CommitError>) {
    match mood {
        Mood::Willing | Mood::Stalled | Mood::FullOfStates => promise.settle(work(state)),
        Mood::Refusing => promise.settle(Err(CommitError::Refused("the fake refuses"))),
        Mood::Unknowing => {
            drop(work(state));
            promise.settle(Err(CommitError::Unknown));
        }
    }
}

impl State {
    fn stored(&mut self, id: EventId) -> Option<&mut Stored> {
        let sequence = self.sequences.get(&id)?;
        self.events.get_mut(sequence)
    }

    fn add_deliveries(&mut self, id: EventId, new: Vec<NewDelivery>, kind: DeliveryKind, created_at: Timestamp) -> Vec<DeliveryId> {
        let mut ids = Vec::new();
        for delivery in new {
            self.position += 1;
            let position = self.position;
            let Some(stored) = self.stored(id) else { break };
            let ordinal = u32::try_from(stored.deliveries.len()).unwrap_or(u32::MAX);
            let id = DeliveryId::new(id, ordinal);
            let delivery = Delivery {
                id,
                destination: delivery.destination,
                lane: delivery.lane,
                kind,
                created_at,
                state: DeliveryState::Pending { due: delivery.due },
                attempts: 0,
                version: 0,
            };
            stored.deliveries.push((position, delivery));
            self.pending.insert(position, id);
            ids.push(id);
        }
        ids
    }

    fn accept(&mut self, new: NewEvent) -> Receipt {
        let received_at = new.event.received_at;
        if let Some(dedupe) = new.dedupe {
            if let Some(key) = self.keys.get(&dedupe.hash).filter(|key| key.expires_at > received_at) {
                let receipt = Receipt::new(key.event, key.answer.clone(), true);
                if let Some(stored) = self.stored(receipt.event()) {
                    stored.repeats += 1;
                }
                return receipt;
            }
            let key = Key { event: new.event.id, answer: new.answer.clone(), expires_at: dedupe.expires_at };
            self.keys.insert(dedupe.hash, key);
        }
        let id = new.event.id;
        let sequence = self.events.last_key_value().map_or(1, |(sequence, _)| sequence + 1);
        self.events.insert(sequence, Stored { event: new.event, deliveries: Vec::new(), attempts: Vec::new(), repeats: 0 });
        self.sequences.insert(id, sequence);
        self.add_deliveries(id, new.deliveries, DeliveryKind::Original, received_at);
        Receipt::new(id, new.answer, false)
    }

    fn settle(&mut self, settlement: Settlement) -> Result<(), CommitError> {
        let stored = self.stored(settlement.delivery.event).ok_or(CommitError::NotFound)?;
        let found = stored.deliveries.iter_mut().find(|(_, delivery)| delivery.id == settlement.delivery);
        let (position, delivery) = found.ok_or(CommitError::NotFound)?;
        if delivery.version != settlement.version || delivery.state.is_final() {
            return Err(CommitError::Stale);
        }
        delivery.version += 1;
        delivery.attempts = settlement.attempts;
        delivery.state = settlement.state;
        let (position, is_final) = (*position, delivery.state.is_final());
        stored.attempts.extend(settlement.attempt.map(|attempt| (settlement.delivery, attempt)));
        let is_last = stored.deliveries.iter().all(|(_, delivery)| delivery.state.is_final());
        if is_final {
            self.pending.remove(&position);
        }
        if let Some(acknowledgement) = settlement.acknowledgement.filter(|_| is_last) {
            self.acknowledge(settlement.delivery.event, acknowledgement)?;
        }
        Ok(())
    }

    fn acknowledge(&mut self, event: EventId, delivery: NewDelivery) -> Result<Vec<DeliveryId>, CommitError> {
        let stored = self.stored(event).ok_or(CommitError::NotFound)?;
        if stored.deliveries.iter().any(|(_, delivery)| delivery.kind == DeliveryKind::Acknowledgement) {
            return Ok(Vec::new());
        }
        let created_at = delivery.due;
        Ok(self.add_deliveries(event, vec![delivery], DeliveryKind::Acknowledgement, created_at))
    }

    fn pending(&self, position: u64, id: DeliveryId) -> Option<PendingDelivery> {
        let stored = self.events.get(self.sequences.get(&id.event)?)?;
        let (_, delivery) = stored.deliveries.iter().find(|(_, delivery)| delivery.id == id)?;
        PendingDelivery::of(delivery, &stored.event, position)
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn id(&self) -> u128 {
        0
    }

    fn accept(&self, event: NewEvent) -> Ticket<Receipt> {
        self.commit(move |state| Ok(state.accept(event)))
    }

    fn settle(&self, settlement: Settlement) -> Ticket<()> {
        self.commit(move |state| state.settle(settlement))
    }

    fn replay(&self, event: EventId, deliveries: Vec<NewDelivery>) -> Ticket<Vec<DeliveryId>> {
        self.commit(move |state| {
            state.stored(event).ok_or(CommitError::NotFound)?;
            let created_at = deliveries.iter().map(|delivery| delivery.due).min().unwrap_or_default();
            Ok(state.add_deliveries(event, deliveries, DeliveryKind::Replay, created_at))
        })
    }

    fn acknowledge(&self, event: EventId, delivery: NewDelivery) -> Ticket<Vec<DeliveryId>> {
        self.commit(move |state| state.acknowledge(event, delivery))
    }

    fn set_state(&self, name: String, value: Option<Bytes>) -> Ticket<()> {
        if self.state.lock().mood == Mood::FullOfStates {
            return Ticket::refused(CommitError::Refused("the fake has too many states"));
        }
        self.commit(move |state| {
            match value {
                Some(value) => state.names.insert(name, value),
                None => state.names.remove(&name),
            };
            Ok(())
        })
    }

    async fn lease(&self, name: &str, holder: u128, term: Duration) -> Result<Option<Lease>, CommitError> {
        Ok(self.leases.take(name, holder, term))
    }

    fn attempt_begins(&self, _delivery: DeliveryId) {}

    async fn keep_attempts(&self) -> Result<(), CommitError> {
        Ok(())
    }

    fn attempt_ends(&self, _delivery: DeliveryId) {}

    async fn states(&self, prefix: &str) -> Result<BTreeMap<String, Bytes>, ReadError> {
        let state = self.state.lock();
        let found = state.names.iter().filter(|(name, _)| name.starts_with(prefix));
        Ok(found.map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    fn newest_position(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    async fn pending_after(&self, position: u64, limit: usize) -> Result<Vec<PendingDelivery>, ReadError> {
        let state = self.state.lock();
        let waiting = state.pending.range(position.saturating_add(1)..);
        Ok(waiting.filter_map(|(position, id)| state.pending(*position, *id)).take(limit).collect())
    }

    async fn event(&self, id: EventId) -> Result<Option<Event>, ReadError> {
        let mut state = self.state.lock();
        if state.unreadable == Some(id) {
            return Err(ReadError::Io("the disk does not give it back".to_owned()));
        }
        Ok(state.stored(id).map(|stored| stored.event.clone()))
    }

    async fn record(&self, id: EventId) -> Result<Option<EventRecord>, ReadError> {
        Ok(self.state.lock().stored(id).map(|stored| EventRecord {
            event: stored.event.clone(),
            deliveries: stored.deliveries.iter().map(|(_, delivery)| delivery.clone()).collect(),
            attempts: stored.attempts.clone(),
            repeats: stored.repeats,
        }))
    }

    async fn list(&self, filter: &EventFilter, before: Option<u64>, limit: usize) -> Result<(Vec<EventSummary>, Option<u64>), ReadError> {
        let state = self.state.lock();
        let mut items = Vec::new();
        for (sequence, stored) in state.events.range(..before.unwrap_or(u64::MAX)).rev() {
            let deliveries: Vec<Delivery> = stored.deliveries.iter().map(|(_, delivery)| delivery.clone()).collect();
            if !filter.matches(&stored.event, &deliveries) {
                continue;
            }
            if items.len() == limit {
                let next = items.last().map(|item: &EventSummary| item.sequence);
                return Ok((items, next));
            }
            let body_bytes = stored.event.body.len() as u64;
            let event = Event { body: Bytes::new(), ..stored.event.clone() };
            items.push(EventSummary { sequence: *sequence, event, body_bytes, deliveries, repeats: stored.repeats });
        }
        Ok((items, None))
    }

    fn counts(&self) -> BTreeMap<Name, DestinationCounts> {
        let state = self.state.lock();
        let mut counts: BTreeMap<Name, DestinationCounts> = BTreeMap::new();
        for (_, delivery) in state.events.values().flat_map(|stored| &stored.deliveries) {
            let count = counts.entry(delivery.destination.clone()).or_default();
            match delivery.state {
                DeliveryState::Pending { .. } => {
                    count.pending += 1;
                    count.oldest_pending = Some(count.oldest_pending.map_or(delivery.created_at, |oldest| oldest.min(delivery.created_at)));
                }
                DeliveryState::Dead(_) => count.dead += 1,
                DeliveryState::Delivered | DeliveryState::Skipped | DeliveryState::Cancelled => {}
            }
        }
        counts
    }

    fn stats(&self) -> StoreStats {
        let state = self.state.lock();
        let unwritable = (state.mood == Mood::Refusing).then(|| "the fake refuses".to_owned());
        StoreStats { bytes: 0, events: state.events.len() as u64, unwritable, rebuilding: None }
    }

    async fn close(&self) {
        self.state.lock().closed = true;
    }
}
