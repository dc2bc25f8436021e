//! Random commits against an engine and a plain map: whatever is asked, both answer the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use kurier::model::{DeliveryId, DeliveryState, EventId, OutcomeKind};
use kurier::store::{CommitError, EventFilter, NewEvent, Settlement, Store};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::contract::Engine;
use super::make::{event, keyed, settlement, to};

/// How far apart the seeds' events are, so that one store can hold all of them.
const APART: u64 = 1_000_000;

/// What the store must be.
#[derive(Default)]
struct Model {
    /// Deliveries by ordinal: state, attempts, version.
    events: BTreeMap<EventId, Vec<(DeliveryState, u32, u32)>>,
    keys: BTreeMap<u8, (EventId, u64, u64)>,
    states: BTreeMap<String, Bytes>,
    /// Deliveries in the order of their commits.
    order: Vec<DeliveryId>,
    acknowledged: BTreeSet<EventId>,
}

impl Model {
    fn is_pending(&self, id: DeliveryId) -> bool {
        !self.events[&id.event][usize::try_from(id.ordinal).unwrap()].0.is_final()
    }

    /// `false`: it was acknowledged before.
    fn acknowledge(&mut self, event: EventId) -> bool {
        let is_first = self.acknowledged.insert(event);
        if is_first {
            self.add(event, 1);
        }
        is_first
    }

    fn add(&mut self, event: EventId, count: usize) {
        let deliveries = self.events.entry(event).or_default();
        for _ in 0..count {
            self.order.push(DeliveryId::new(event, u32::try_from(deliveries.len()).unwrap()));
            deliveries.push((DeliveryState::Pending { due: super::make::NOW }, 0, 0));
        }
    }
}

/// Plays `steps` random commits, closing and opening now and then.
pub(crate) async fn play(engine: &mut impl Engine, seed: u64, steps: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut store = engine.open().await;
    let mut model = Model::default();
    let base = seed * APART;
    let from = *store.newest_position().borrow();
    for n in base..base + steps {
        match rng.random_range(0..20) {
            0..8 => accept(&*store, &mut model, n, u8::try_from(rng.random_range(0..30)).unwrap()).await,
            8..15 => settle(&*store, &mut model, from, &mut rng).await,
            15 => replay(&*store, &mut model, &mut rng).await,
            16 => acknowledge(&*store, &mut model, &mut rng).await,
            17..19 => {
                let name = format!("state-{seed}-{}", rng.random_range(0..4));
                let value = (rng.random_range(0..3) > 0).then(|| Bytes::from(n.to_string()));
                store.set_state(name.clone(), value.clone()).await.unwrap();
                match value {
                    Some(value) => model.states.insert(name, value),
                    None => model.states.remove(&name),
                };
            }
            _ => {
                if rng.random_range(0..5) == 0 {
                    store.close().await;
                    drop(store);
                    store = engine.open().await;
                }
                compare(&store, &model, seed, from).await;
            }
        }
    }
    compare(&store, &model, seed, from).await;
    store.close().await;
}

async fn accept(store: &impl Store, model: &mut Model, n: u64, key: u8) {
    let seed = u8::try_from(n / APART).unwrap();
    let mut new = NewEvent { deliveries: vec![to("erp"); usize::try_from(n % 3).unwrap()], ..keyed(n, key, 50) };
    if let Some(dedupe) = &mut new.dedupe {
        dedupe.hash[0] = seed;
    }
    let count = new.deliveries.len();
    let receipt = store.accept(new).await.unwrap();
    match model.keys.get_mut(&key).filter(|(_, until, _)| n < *until) {
        Some((first, _, repeats)) => {
            assert!(receipt.is_repeat());
            assert_eq!(receipt.event(), *first);
            *repeats += 1;
        }
        None => {
            assert!(!receipt.is_repeat());
            let id = event(n).id;
            model.keys.insert(key, (id, n + 50, 0));
            model.events.insert(id, Vec::new());
            model.add(id, count);
        }
    }
}

async fn settle(store: &impl Store, model: &mut Model, from: u64, rng: &mut StdRng) {
    let pending = store.pending_after(from, 1000).await.unwrap();
    if pending.is_empty() {
        return;
    }
    let mut pending = pending[rng.random_range(0..pending.len())].clone();
    if rng.random_range(0..6) == 0 {
        pending.version += 1;
        assert_eq!(store.settle(settlement(&pending, OutcomeKind::Delivered)).await, Err(CommitError::Stale));
        return;
    }
    let outcome = [OutcomeKind::Delivered, OutcomeKind::Retry, OutcomeKind::Rejected][rng.random_range(0..3)];
    let acknowledgement = rng.random_bool(0.5).then(|| to("source"));
    let is_asked = acknowledgement.is_some();
    let settlement = Settlement { acknowledgement, ..settlement(&pending, outcome) };
    let new = (settlement.state.clone(), settlement.attempts, settlement.version + 1);
    store.settle(settlement).await.unwrap();
    model.events.get_mut(&pending.id.event).unwrap()[usize::try_from(pending.id.ordinal).unwrap()] = new;
    if is_asked && model.events[&pending.id.event].iter().all(|(state, ..)| state.is_final()) {
        model.acknowledge(pending.id.event);
    }
}

async fn acknowledge(store: &impl Store, model: &mut Model, rng: &mut StdRng) {
    if model.events.is_empty() {
        return;
    }
    let id = *model.events.keys().nth(rng.random_range(0..model.events.len())).unwrap();
    let ordinal = u32::try_from(model.events[&id].len()).unwrap();
    let expected = if model.acknowledge(id) { vec![DeliveryId::new(id, ordinal)] } else { vec![] };
    assert_eq!(store.acknowledge(id, to("source")).await, Ok(expected));
}

async fn replay(store: &impl Store, model: &mut Model, rng: &mut StdRng) {
    if model.events.is_empty() {
        return;
    }
    let id = *model.events.keys().nth(rng.random_range(0..model.events.len())).unwrap();
    let count = rng.random_range(1..3);
    let ids = store.replay(id, vec![to("books"); count]).await.unwrap();
    let first = model.events[&id].len();
    assert_eq!(ids, (first..first + count).map(|ordinal| DeliveryId::new(id, u32::try_from(ordinal).unwrap())).collect::<Vec<_>>());
    model.add(id, count);
}

async fn compare(store: &Arc<impl Store>, model: &Model, seed: u64, from: u64) {
    let pending = store.pending_after(from, 10_000).await.unwrap();
    let expected: Vec<DeliveryId> = model.order.iter().copied().filter(|id| model.is_pending(*id)).collect();
    assert_eq!(pending.iter().map(|pending| pending.id).collect::<Vec<_>>(), expected);
    let (items, _) = store.list(&EventFilter::default(), None, model.events.len()).await.unwrap();
    assert_eq!(items.iter().map(|item| item.event.id).collect::<Vec<_>>(), model.events.keys().rev().copied().collect::<Vec<_>>());
    for item in &items {
        let found: Vec<_> = item.deliveries.iter().map(|delivery| (delivery.state.clone(), delivery.attempts, delivery.version)).collect();
        assert_eq!(found, model.events[&item.event.id]);
    }
    for (id, _, repeats) in model.keys.values() {
        let record = store.record(*id).await.unwrap().unwrap();
        assert_eq!(record.repeats, *repeats);
        let made: u32 = record.deliveries.iter().map(|delivery| delivery.attempts).sum();
        assert_eq!(record.attempts.len(), usize::try_from(made).unwrap());
    }
    assert_eq!(store.states(&format!("state-{seed}-")).await.unwrap(), model.states);
}
