//! What is stored, held against what the world was told: at the start of every life and at the end.

use std::collections::BTreeMap;

use kurier::model::{DeadCode, Delivery, DeliveryKind, DeliveryState, Event};
use kurier::store::{EventFilter, Store};

use super::ledger::{Item, Ledger};
use super::life::World;
use super::plan::{ATTEMPTS_MAX, Variant};
use crate::store::sim::patiently;

/// Looks at everything that is stored; `is_end`: nothing waits any more.
pub(super) async fn check(world: &World, store: &dyn Store, is_end: bool) {
    let mut stored: BTreeMap<u64, (Event, Vec<Delivery>)> = BTreeMap::new();
    let mut before = None;
    loop {
        let (items, next) = patiently(async || store.list(&EventFilter::default(), before, 100).await).await;
        for summary in items {
            let event = patiently(async || store.event(summary.event.id).await).await.expect("a listed event is there, whole");
            if &*event.route == "orders" {
                // What came of them is held against what the shop was told.
                continue;
            }
            let number = Item::number(&event.body);
            let twice = stored.insert(number, (event, summary.deliveries));
            assert!(twice.is_none(), "I3: item {number} is stored twice");
        }
        before = next;
        if before.is_none() {
            break;
        }
    }
    let ledger = world.ledger.lock();
    for (number, item) in &ledger.items {
        match stored.get(number) {
            None => assert!(
                !(item.kept || is_end && item.route == "fetched") || ledger.may_be_gone(*number),
                "I1: item {number} was answered 2xx or listed, and is lost (disk once full: {})",
                ledger.was_full
            ),
            Some(_) if item.is_void() => panic!("I2: item {number} was refused, and is stored"),
            Some((event, deliveries)) => {
                check_event(&ledger, *number, item, event, deliveries);
                let reports = deliveries.iter().filter(|delivery| delivery.kind == DeliveryKind::Acknowledgement).count();
                let due = usize::from(["reported", "fetched"].contains(&item.route));
                assert!(reports <= due && (reports == due || !is_end), "item {number} is reported {reports} times: {deliveries:?}");
            }
        }
    }
    assert!(stored.keys().all(|number| ledger.items.contains_key(number)), "nobody sent some of this");
}

fn check_event(ledger: &Ledger, number: u64, item: &Item, event: &Event, deliveries: &[Delivery]) {
    assert_eq!((&*event.route, &event.body[..]), (item.route, Item::body(number).as_bytes()), "I11: item {number}");
    let originals: Vec<&str> =
        deliveries.iter().filter(|delivery| delivery.kind == DeliveryKind::Original).map(|delivery| &*delivery.destination).collect();
    let fits = Variant::ALL.iter().any(|variant| variant.delivers(item.route) == originals);
    assert!(fits, "I4: item {number} of `{}` has deliveries to {originals:?}", item.route);
    for delivery in deliveries {
        check_delivery(ledger, number, item, delivery);
    }
}

fn check_delivery(ledger: &Ledger, number: u64, item: &Item, delivery: &Delivery) {
    let destination = &*delivery.destination;
    let told = |is: fn(u16) -> bool| ledger.has_told(destination, number, is);
    assert!(delivery.attempts <= ATTEMPTS_MAX, "I7: {delivery:?}");
    if delivery.kind == DeliveryKind::Acknowledgement {
        let is_true = match &delivery.state {
            DeliveryState::Pending { .. } | DeliveryState::Cancelled => true,
            // A source that says of an open transfer that it is gone, after an answer that came too late, is believed.
            DeliveryState::Delivered => ledger.taken.contains_key(&number) || ledger.refused.contains(&number),
            DeliveryState::Dead(reason) if reason.code == DeadCode::Rejected => {
                ledger.refused.contains(&number) || ledger.taken.contains_key(&number)
            }
            DeliveryState::Dead(reason) => reason.code == DeadCode::Interrupted,
            DeliveryState::Skipped => false,
        };
        assert!(is_true, "item {number}, {delivery:?}, taken {:?}", ledger.taken.get(&number));
        return;
    }
    let is_true = match &delivery.state {
        DeliveryState::Pending { .. } | DeliveryState::Cancelled => true,
        DeliveryState::Delivered => told(|status| (200..300).contains(&status)),
        DeliveryState::Skipped => item.route == "free" && destination == "d1" && !number.is_multiple_of(2),
        DeliveryState::Dead(reason) => match reason.code {
            DeadCode::Rejected => told(|status| status == 422),
            DeadCode::Gone => told(|status| status == 410),
            DeadCode::MaxAttempts => delivery.attempts == ATTEMPTS_MAX,
            DeadCode::DestinationRemoved => ledger.was_removed && destination == "d2",
            DeadCode::Interrupted => true,
            DeadCode::MaxAge | DeadCode::Damaged | DeadCode::Unsendable | DeadCode::Deadline => false,
        },
    };
    assert!(is_true, "I5: item {number}, {delivery:?}, and the destination told {:?}", ledger.told.get(&(destination.to_owned(), number)));
}
