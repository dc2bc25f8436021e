//! The contract: what every engine promises, as functions over "make a store".

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kurier::model::{DeliveryId, DeliveryKind, DeliveryState, EventId, Name, OutcomeKind};
use kurier::store::memory::MemoryStore;
use kurier::store::{CommitError, EventFilter, NewEvent, Settlement, Store};

use super::make::{self, at, event, keyed, new, settlement, to};
use super::model;

/// A store that can be closed and opened again with what it holds.
pub(crate) trait Engine {
    type Store: Store;
    fn open(&mut self) -> impl Future<Output = Arc<Self::Store>>;
}

struct Memory(Arc<MemoryStore>);

impl Engine for Memory {
    type Store = MemoryStore;

    async fn open(&mut self) -> Arc<MemoryStore> {
        self.0.reopen();
        self.0.clone()
    }
}

struct Local(tempfile::TempDir);

impl Engine for Local {
    type Store = kurier::store::local::LocalStore;

    async fn open(&mut self) -> Arc<Self::Store> {
        Arc::new(make::real(self.0.path()).await.unwrap())
    }
}

macro_rules! contract {
    ($($claim:ident,)+) => {
        mod memory {
            $(#[tokio::test]
            async fn $claim() {
                super::$claim(super::Memory(std::sync::Arc::default())).await;
            })+
        }

        mod local {
            $(#[tokio::test]
            async fn $claim() {
                super::$claim(super::Local(tempfile::tempdir().unwrap())).await;
            })+
        }


        mod simulated {
            $(#[test]
            fn $claim() {
                super::super::sim::run(async {
                    super::$claim(super::super::sim::Engine::new()).await;
                });
            })+
        }
    };
}

contract! {
    an_accepted_event_reads_back_byte_for_byte,
    a_repeat_within_the_window_gets_the_first_ones_answer,
    a_repeat_in_the_same_breath_is_stored_once,
    pending_deliveries_are_paged_in_the_order_of_commits,
    a_settlement_of_an_old_version_is_stale,
    a_settled_delivery_is_not_pending_and_its_attempts_are_kept,
    what_does_not_exist_is_not_found,
    a_replay_makes_new_deliveries_of_the_same_event,
    the_last_settlement_brings_the_acknowledgement_along_and_no_other_ever_does,
    an_event_is_acknowledged_once,
    a_lease_is_one_holders_until_its_term_ends_or_it_is_given_back,
    the_newest_state_of_a_name_wins,
    the_newest_position_tells_of_new_deliveries,
    lists_are_newest_first_filtered_and_paged,
    counts_are_kept_by_destination,
    a_closed_store_refuses,
    a_store_opened_again_holds_what_it_held,
    any_sequence_of_commits_agrees_with_a_plain_map,
}

async fn accept(store: &impl Store, new: NewEvent) -> EventId {
    let id = new.event.id;
    let receipt = store.accept(new).await.unwrap();
    assert!(!receipt.is_repeat());
    assert_eq!(receipt.event(), id);
    id
}

async fn an_accepted_event_reads_back_byte_for_byte(mut engine: impl Engine) {
    let store = engine.open().await;
    for n in 0..30 {
        accept(&*store, new(n)).await;
    }
    for n in 0..30 {
        assert_eq!(store.event(event(n).id).await.unwrap(), Some(event(n)));
        let record = store.record(event(n).id).await.unwrap().unwrap();
        assert_eq!(record.event, event(n));
        assert_eq!(record.deliveries.len(), 1);
    }
    store.close().await;
}

async fn a_repeat_within_the_window_gets_the_first_ones_answer(mut engine: impl Engine) {
    let store = engine.open().await;
    let first = store.accept(keyed(1, 7, 100)).await.unwrap();
    for n in 2..5 {
        let repeat = store.accept(keyed(n, 7, 100)).await.unwrap();
        assert!(repeat.is_repeat());
        assert_eq!((repeat.event(), repeat.answer()), (event(1).id, first.answer()));
        assert_eq!(store.event(event(n).id).await.unwrap(), None, "a repeat stores nothing");
    }
    assert_eq!(store.record(event(1).id).await.unwrap().unwrap().repeats, 3);
    let other_key = store.accept(keyed(6, 8, 100)).await.unwrap();
    assert!(!other_key.is_repeat());
    let after_window = store.accept(keyed(101, 7, 100)).await.unwrap();
    assert!(!after_window.is_repeat(), "the first one's window has ended");
    assert_eq!(store.accept(keyed(102, 7, 100)).await.unwrap().event(), event(101).id);
    store.close().await;
}

async fn a_repeat_in_the_same_breath_is_stored_once(mut engine: impl Engine) {
    let store = engine.open().await;
    let tickets: Vec<_> = (0..50).map(|n| store.accept(keyed(n, 1, 1000))).collect();
    let mut firsts = 0;
    for ticket in tickets {
        let receipt = ticket.await.unwrap();
        assert_eq!(receipt.event(), event(0).id);
        firsts += usize::from(!receipt.is_repeat());
    }
    assert_eq!(firsts, 1);
    assert_eq!(store.stats().events, 1);
    assert_eq!(store.pending_after(0, 100).await.unwrap().len(), 1);
    assert_eq!(store.record(event(0).id).await.unwrap().unwrap().repeats, 49);
    store.close().await;
}

async fn pending_deliveries_are_paged_in_the_order_of_commits(mut engine: impl Engine) {
    let store = engine.open().await;
    for n in 0..10 {
        accept(&*store, NewEvent { deliveries: vec![to("erp"), to("books")], ..new(n) }).await;
    }
    let (mut position, mut seen) = (0, Vec::new());
    loop {
        let page = store.pending_after(position, 3).await.unwrap();
        assert!(page.len() <= 3);
        let Some(last) = page.last() else { break };
        assert!(page.iter().all(|pending| pending.position > position));
        position = last.position;
        seen.extend(page);
    }
    assert!(seen.is_sorted_by(|a, b| a.position < b.position));
    let expected: Vec<_> = (0..10).flat_map(|n| [(event(n).id, 0), (event(n).id, 1)]).collect();
    assert_eq!(seen.iter().map(|pending| (pending.id.event, pending.id.ordinal)).collect::<Vec<_>>(), expected);
    assert_eq!((&*seen[0].destination, &*seen[1].destination, &*seen[0].route), ("erp", "books", "even"));
    assert_eq!((seen[2].created_at, seen[2].version, seen[2].attempts), (at(1), 0, 0));
    store.close().await;
}

async fn a_settlement_of_an_old_version_is_stale(mut engine: impl Engine) {
    let store = engine.open().await;
    accept(&*store, new(1)).await;
    let pending = store.pending_after(0, 1).await.unwrap().remove(0);
    store.settle(settlement(&pending, OutcomeKind::Retry)).await.unwrap();
    assert_eq!(store.settle(settlement(&pending, OutcomeKind::Delivered)).await, Err(CommitError::Stale));
    let again = store.pending_after(0, 1).await.unwrap().remove(0);
    assert_eq!((again.version, again.attempts, again.due, again.position), (1, 1, at(60), pending.position));
    store.settle(settlement(&again, OutcomeKind::Delivered)).await.unwrap();
    assert_eq!(store.settle(settlement(&again, OutcomeKind::Delivered)).await, Err(CommitError::Stale), "it is final");
    store.close().await;
}

async fn a_settled_delivery_is_not_pending_and_its_attempts_are_kept(mut engine: impl Engine) {
    let store = engine.open().await;
    let id = accept(&*store, NewEvent { deliveries: vec![to("erp"), to("books")], ..new(3) }).await;
    let pending = store.pending_after(0, 9).await.unwrap();
    store.settle(settlement(&pending[0], OutcomeKind::Retry)).await.unwrap();
    store.settle(settlement(&pending[1], OutcomeKind::Rejected)).await.unwrap();
    let left = store.pending_after(0, 9).await.unwrap();
    assert_eq!(left.len(), 1);
    store.settle(settlement(&left[0], OutcomeKind::Delivered)).await.unwrap();
    assert_eq!(store.pending_after(0, 9).await.unwrap(), []);
    let record = store.record(id).await.unwrap().unwrap();
    assert_eq!(record.deliveries[0].state, DeliveryState::Delivered);
    assert_eq!(record.deliveries[1].state.word(), "dead");
    let made: Vec<_> = record.attempts.iter().map(|(id, attempt)| (id.ordinal, attempt.clone())).collect();
    let expected = [(0, OutcomeKind::Retry, 1), (1, OutcomeKind::Rejected, 1), (0, OutcomeKind::Delivered, 2)];
    assert_eq!(made, expected.map(|(ordinal, outcome, number)| (ordinal, make::attempt(number, outcome))));
    store.close().await;
}

async fn what_does_not_exist_is_not_found(mut engine: impl Engine) {
    let store = engine.open().await;
    accept(&*store, new(1)).await;
    let mut pending = store.pending_after(0, 1).await.unwrap().remove(0);
    pending.id.ordinal = 1;
    assert_eq!(store.settle(settlement(&pending, OutcomeKind::Retry)).await, Err(CommitError::NotFound));
    pending.id.event = event(2).id;
    assert_eq!(store.settle(settlement(&pending, OutcomeKind::Retry)).await, Err(CommitError::NotFound));
    assert_eq!(store.replay(event(2).id, vec![to("erp")]).await, Err(CommitError::NotFound));
    assert_eq!(store.event(event(2).id).await.unwrap(), None);
    assert_eq!(store.record(event(2).id).await.unwrap(), None);
    store.close().await;
}

async fn a_replay_makes_new_deliveries_of_the_same_event(mut engine: impl Engine) {
    let store = engine.open().await;
    let id = accept(&*store, new(1)).await;
    let pending = store.pending_after(0, 1).await.unwrap().remove(0);
    store.settle(settlement(&pending, OutcomeKind::Rejected)).await.unwrap();
    let ids = store.replay(id, vec![to("erp"), to("books")]).await.unwrap();
    assert_eq!(ids.iter().map(|id| id.ordinal).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(store.replay(id, vec![to("erp")]).await.unwrap()[0].ordinal, 3, "ordinals are never used again");
    let replayed = store.pending_after(pending.position, 9).await.unwrap();
    assert_eq!(replayed.iter().map(|pending| pending.id).collect::<Vec<_>>()[..2], ids[..]);
    assert!(replayed.iter().all(|pending| pending.kind == DeliveryKind::Replay));
    store.settle(settlement(&replayed[0], OutcomeKind::Delivered)).await.unwrap();
    let record = store.record(id).await.unwrap().unwrap();
    assert_eq!(
        record.deliveries.iter().map(|delivery| delivery.state.word()).collect::<Vec<_>>(),
        ["dead", "delivered", "pending", "pending"]
    );
    store.close().await;
}

fn acknowledged(settlement: Settlement) -> Settlement {
    Settlement { acknowledgement: Some(to("source")), ..settlement }
}

async fn the_last_settlement_brings_the_acknowledgement_along_and_no_other_ever_does(mut engine: impl Engine) {
    let mut store = engine.open().await;
    let id = accept(&*store, NewEvent { deliveries: vec![to("erp"), to("books"), to("shop")], ..new(1) }).await;
    let pending = store.pending_after(0, 9).await.unwrap();
    let [erp, books, shop] = &pending[..] else { panic!("{pending:?}") };
    store.settle(acknowledged(settlement(erp, OutcomeKind::Retry))).await.unwrap();
    let erp = store.pending_after(0, 1).await.unwrap().remove(0);
    store.settle(acknowledged(settlement(&erp, OutcomeKind::Delivered))).await.unwrap();
    assert_eq!(store.pending_after(0, 9).await.unwrap().len(), 2);

    // Both may be in the same commit: neither alone is the last.
    let tickets = [books, shop].map(|pending| store.settle(acknowledged(settlement(pending, OutcomeKind::Rejected))));
    for ticket in tickets {
        ticket.await.unwrap();
    }
    let waiting = store.pending_after(0, 9).await.unwrap();
    let [acknowledgement] = &waiting[..] else { panic!("{waiting:?}") };
    assert_eq!((acknowledgement.id, acknowledgement.kind), (DeliveryId::new(id, 3), DeliveryKind::Acknowledgement));
    assert_eq!((&*acknowledgement.destination, acknowledgement.attempts), ("source", 0));

    store.close().await;
    drop(store);
    store = engine.open().await;
    let waiting = store.pending_after(0, 9).await.unwrap();
    assert_eq!(
        waiting.iter().map(|pending| (pending.id, pending.kind)).collect::<Vec<_>>(),
        [(DeliveryId::new(id, 3), acknowledgement.kind)]
    );
    store.settle(acknowledged(settlement(&waiting[0], OutcomeKind::Delivered))).await.unwrap();
    store.replay(id, vec![to("erp")]).await.unwrap();
    let again = store.pending_after(0, 9).await.unwrap().remove(0);
    store.settle(acknowledged(settlement(&again, OutcomeKind::Delivered))).await.unwrap();
    assert_eq!(store.pending_after(0, 9).await.unwrap(), [], "its source has heard of it already");
    store.close().await;
}

async fn an_event_is_acknowledged_once(mut engine: impl Engine) {
    let store = engine.open().await;
    assert_eq!(store.acknowledge(event(1).id, to("source")).await, Err(CommitError::NotFound));
    let id = accept(&*store, new(1)).await;
    let tickets = [(); 3].map(|()| store.acknowledge(id, to("source")));
    let mut named = Vec::new();
    for ticket in tickets {
        named.extend(ticket.await.unwrap());
    }
    assert_eq!(named, [DeliveryId::new(id, 1)]);
    assert_eq!(store.acknowledge(id, to("source")).await, Ok(vec![]));
    let pending = store.pending_after(0, 9).await.unwrap();
    assert_eq!(pending.iter().map(|pending| pending.kind).collect::<Vec<_>>(), [DeliveryKind::Original, DeliveryKind::Acknowledgement]);
    store.settle(acknowledged(settlement(&pending[0], OutcomeKind::Delivered))).await.unwrap();
    assert_eq!(store.record(id).await.unwrap().unwrap().deliveries.len(), 2);
    store.close().await;
}

async fn a_lease_is_one_holders_until_its_term_ends_or_it_is_given_back(mut engine: impl Engine) {
    let store = engine.open().await;
    let (hour, moment) = (Duration::from_secs(3600), Duration::from_millis(20));
    let first = store.lease("a", 1, hour).await.unwrap().unwrap();
    assert_eq!(store.lease("a", 1, hour).await.unwrap(), Some(first), "its holder prolongs it");
    assert_eq!(store.lease("a", 2, hour).await.unwrap(), None);
    assert!(store.lease("b", 2, hour).await.unwrap().is_some());
    store.lease("a", 1, Duration::ZERO).await.unwrap();
    let second = store.lease("a", 2, moment).await.unwrap().unwrap();
    assert!(second.epoch > first.epoch);
    tokio::time::sleep(moment * 2).await;
    assert!(store.lease("a", 1, hour).await.unwrap().unwrap().epoch > second.epoch);
    store.close().await;
}

async fn the_newest_state_of_a_name_wins(mut engine: impl Engine) {
    let store = engine.open().await;
    let set =
        |name: &str, value: Option<&'static str>| store.set_state(name.to_owned(), value.map(|value| Bytes::from_static(value.as_bytes())));
    set("pause/erp", Some("1")).await.unwrap();
    set("pause/books", Some("2")).await.unwrap();
    set("cursor", Some("x")).await.unwrap();
    set("pause/erp", Some("3")).await.unwrap();
    set("pause/books", None).await.unwrap();
    let states = store.states("pause/").await.unwrap();
    assert_eq!(states.into_iter().collect::<Vec<_>>(), [("pause/erp".to_owned(), Bytes::from_static(b"3"))]);
    assert_eq!(store.states("").await.unwrap().len(), 2);
    store.close().await;
}

async fn the_newest_position_tells_of_new_deliveries(mut engine: impl Engine) {
    let store = engine.open().await;
    let mut newest = store.newest_position();
    let before = *newest.borrow_and_update();
    accept(&*store, new(1)).await;
    assert!(newest.has_changed().unwrap());
    let after = *newest.borrow_and_update();
    assert!(after > before);
    assert_eq!(store.pending_after(0, 9).await.unwrap()[0].position, after);
    store.set_state("x".to_owned(), None).await.unwrap();
    assert!(!newest.has_changed().unwrap(), "no delivery came");
    store.close().await;
}

async fn lists_are_newest_first_filtered_and_paged(mut engine: impl Engine) {
    let store = engine.open().await;
    for n in 0..200 {
        accept(&*store, new(n)).await;
    }
    for pending in store.pending_after(0, 100).await.unwrap() {
        store.settle(settlement(&pending, OutcomeKind::Delivered)).await.unwrap();
    }
    let (mut before, mut seen) = (None, Vec::new());
    loop {
        let (items, next) = store.list(&EventFilter::default(), before, 7).await.unwrap();
        assert!(items.iter().all(|item| item.event.body.is_empty()));
        seen.extend(items.into_iter().map(|item| (item.event.id, item.body_bytes)));
        before = next;
        if before.is_none() {
            break;
        }
    }
    let expected: Vec<_> = (0..200).rev().map(|n| (event(n).id, event(n).body.len() as u64)).collect();
    assert_eq!(seen, expected);

    let listed = async |filter: EventFilter| -> usize {
        let (items, next) = store.list(&filter, None, 500).await.unwrap();
        assert!(items.iter().all(|item| filter.matches(&item.event, &item.deliveries)));
        assert_eq!(next, None);
        items.len()
    };
    let any = EventFilter::default;
    assert_eq!(listed(EventFilter { route: Some("odd".to_owned()), ..any() }).await, 100);
    assert_eq!(listed(EventFilter { state: Some("delivered".to_owned()), ..any() }).await, 100);
    assert_eq!(listed(EventFilter { state: Some("pending".to_owned()), destination: Some("erp".to_owned()), ..any() }).await, 100);
    assert_eq!(listed(EventFilter { destination: Some("books".to_owned()), ..any() }).await, 0);
    assert_eq!(listed(EventFilter { since: Some(at(50)), until: Some(at(60)), ..any() }).await, 10);
    assert_eq!(listed(EventFilter { event_type: Some("thing.happened".to_owned()), ..any() }).await, 100);
    assert_eq!(listed(EventFilter { text: Some("source-15".to_owned()), ..any() }).await, 3);
    assert_eq!(listed(EventFilter { text: Some(event(9).id.to_string()), ..any() }).await, 1);
    store.close().await;
}

async fn counts_are_kept_by_destination(mut engine: impl Engine) {
    let store = engine.open().await;
    for n in 0..6 {
        accept(&*store, NewEvent { deliveries: vec![to("erp"), to("books")], ..new(n) }).await;
    }
    for (n, pending) in store.pending_after(0, 100).await.unwrap().iter().enumerate().filter(|(_, pending)| &*pending.destination == "erp")
    {
        let outcome = [OutcomeKind::Delivered, OutcomeKind::Rejected, OutcomeKind::Retry][n / 2 % 3];
        store.settle(settlement(pending, outcome)).await.unwrap();
    }
    let counts = store.counts();
    let erp = counts[&Name::from("erp")];
    assert_eq!((erp.pending, erp.dead, erp.oldest_pending), (2, 2, Some(at(2))));
    let books = counts[&Name::from("books")];
    assert_eq!((books.pending, books.dead, books.oldest_pending), (6, 0, Some(at(0))));
    assert_eq!(store.stats().events, 6);
    assert_eq!(store.stats().unwritable, None);
    store.close().await;
}

async fn a_closed_store_refuses(mut engine: impl Engine) {
    let store = engine.open().await;
    let ticket = store.accept(new(1));
    store.close().await;
    store.close().await;
    assert!(ticket.await.is_ok(), "what was queued before is committed");
    assert_eq!(store.accept(new(2)).await, Err(CommitError::Refused("stopping")));
    assert_eq!(store.set_state("x".to_owned(), None).await, Err(CommitError::Refused("stopping")));
    assert_eq!(store.replay(event(1).id, vec![to("erp")]).await, Err(CommitError::Refused("stopping")));
    drop(store);
    let store = engine.open().await;
    assert!(store.event(event(1).id).await.unwrap().is_some());
    store.close().await;
}

async fn a_store_opened_again_holds_what_it_held(mut engine: impl Engine) {
    let store = engine.open().await;
    for n in 0..20 {
        accept(&*store, NewEvent { deliveries: vec![to("erp"), to("books")], ..keyed(n, u8::try_from(n).unwrap(), 1_000_000_000) }).await;
    }
    for (n, pending) in store.pending_after(0, 20).await.unwrap().iter().enumerate() {
        let outcome = [OutcomeKind::Delivered, OutcomeKind::Retry, OutcomeKind::Rejected][n % 3];
        store.settle(settlement(pending, outcome)).await.unwrap();
    }
    store.accept(keyed(30, 3, 100)).await.unwrap();
    store.replay(event(0).id, vec![to("erp")]).await.unwrap();
    store.set_state("cursor".to_owned(), Some(Bytes::from_static(b"7"))).await.unwrap();
    let before = (store.pending_after(0, 100).await.unwrap(), store.counts(), store.stats().events);
    let list = store.list(&EventFilter::default(), None, 100).await.unwrap();
    let record = store.record(event(3).id).await.unwrap();
    store.close().await;
    drop(store);

    let store = engine.open().await;
    assert_eq!((store.pending_after(0, 100).await.unwrap(), store.counts(), store.stats().events), before);
    assert_eq!(store.list(&EventFilter::default(), None, 100).await.unwrap(), list);
    assert_eq!(store.record(event(3).id).await.unwrap(), record);
    assert_eq!(store.states("").await.unwrap()["cursor"], "7");
    let newest = *store.newest_position().borrow();
    assert!(before.0.iter().all(|pending| pending.position <= newest));
    store.close().await;
}

async fn any_sequence_of_commits_agrees_with_a_plain_map(mut engine: impl Engine) {
    for seed in 0..8 {
        model::play(&mut engine, seed, 300).await;
    }
}
