//! The store says no, an attempt panics, the configuration changes, the process stops.

use std::sync::Arc;
use std::time::Duration;

use kurier::config::{Breaker, Destination, Retry};
use kurier::model::{DeadCode, DeliveryState};
use kurier::store::memory::Mood;
use kurier::store::{DedupeKey, NewDelivery, NewEvent, Store};

use super::world::{World, answer, destination, event, rate};

const QUICK: Duration = Duration::ZERO;

#[tokio::test(start_paused = true)]
async fn a_settlement_that_is_refused_is_asked_for_until_it_is_durable() {
    let mut world = World::new(vec![destination("erp")]);
    let id = world.send(&["erp"], None).await;
    world.store.set_mood(Mood::Refusing);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(world.count("erp"), 1, "it is not delivered again meanwhile");
    assert!(matches!(world.state(id).await, DeliveryState::Pending { .. }));
    world.store.set_mood(Mood::Willing);
    world.settle().await;
    assert_eq!((world.state(id).await, world.count("erp")), (DeliveryState::Delivered, 1));
}

#[tokio::test(start_paused = true)]
async fn a_crash_before_the_settlement_repeats_the_delivery() {
    let mut world = World::new(vec![destination("erp")]);
    world.send(&["erp"], None).await;
    world.store.set_mood(Mood::Refusing);
    world.until(|| world.count("erp") == 1).await;
    world.crash();
    world.store.set_mood(Mood::Willing);
    world.start();
    world.settle().await;
    assert_eq!(world.count("erp"), 2);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_is_read_again_and_skips_nothing() {
    let mut world = World::new(vec![destination("erp"), destination("shop")]);
    world.behave("erp", |nth| (QUICK, answer(if nth == 0 { 500 } else { 200 })));
    let retried = world.send(&["erp"], Some(1)).await;
    let delivered = world.send(&["shop"], None).await;
    world.store.set_mood(Mood::Unknowing);
    tokio::time::sleep(Duration::from_millis(500)).await;
    world.store.set_mood(Mood::Willing);
    let next = world.send(&["erp"], Some(1)).await;
    world.settle().await;
    for id in [retried, delivered, next] {
        assert_eq!(world.state(id).await, DeliveryState::Delivered);
    }
    assert_eq!((world.count("erp"), world.count("shop")), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn an_event_that_the_disk_does_not_give_back_ends_dead_once_others_can_be_read() {
    let mut world = World::new(vec![destination("erp")]);
    let lost = world.send(&["erp"], Some(1)).await;
    let behind = world.send(&["erp"], Some(1)).await;
    world.store.set_unreadable(Some(lost));
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(matches!(world.state(lost).await, DeliveryState::Pending { .. }), "it may be the whole disk");
    for _ in 0..20 {
        world.send(&["erp"], None).await;
        tokio::time::sleep(Duration::from_secs(61)).await;
    }
    world.settle().await;
    assert_eq!(world.dead_code(lost).await, DeadCode::Damaged);
    assert_eq!(world.state(behind).await, DeliveryState::Delivered, "its lane goes on");
    world.store.set_unreadable(None);
    world.replay(lost, "erp").await;
    world.settle().await;
    assert_eq!(world.got("erp", |got| got.header("kurier-replay") == "true").iter().filter(|replayed| **replayed).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_settle_stops_the_deliveries_too() {
    let mut world = World::new(vec![destination("erp")]);
    world.crash();
    for _ in 0..3000 {
        world.send(&["erp"], None).await;
    }
    world.store.set_mood(Mood::Refusing);
    world.start();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!((1024..1024 + 16).contains(&world.count("erp")), "and what was under way when there were so many");
    world.store.set_mood(Mood::Willing);
    world.settle().await;
    assert_eq!(world.count("erp"), 3000);
}

#[tokio::test(start_paused = true)]
async fn somebody_elses_settlement_wins() {
    let mut world = World::new(vec![destination("erp")]);
    world.behave("erp", |_| (Duration::from_secs(5), answer(500)));
    let id = world.send(&["erp"], None).await;
    world.until(|| world.count("erp") == 1).await;
    let delivery = world.delivery(id).await;
    let cancelled = kurier::store::Settlement {
        delivery: delivery.id,
        version: delivery.version,
        attempt: None,
        attempts: 0,
        state: DeliveryState::Cancelled,
        acknowledgement: None,
    };
    world.store.settle(cancelled).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!((world.state(id).await, world.count("erp")), (DeliveryState::Cancelled, 1));
}

#[tokio::test(start_paused = true)]
async fn a_410_pauses_for_everybody_to_see_even_if_its_delivery_was_cancelled_meanwhile() {
    let mut world = World::new(vec![destination("erp")]);
    world.behave("erp", |nth| (Duration::from_secs(5), answer(if nth == 0 { 410 } else { 200 })));
    let id = world.send(&["erp"], None).await;
    world.until(|| world.count("erp") == 1).await;
    let delivery = world.delivery(id).await;
    let state = DeliveryState::Cancelled;
    let cancelled = kurier::store::Settlement {
        delivery: delivery.id,
        version: delivery.version,
        attempt: None,
        attempts: 0,
        state,
        acknowledgement: None,
    };
    world.store.settle(cancelled).await.unwrap();
    world.until(|| world.handle().destinations()[0].paused.is_some()).await;
    let next = world.send(&["erp"], None).await;
    world.handle().resume("erp").await.unwrap();
    world.settle().await;
    assert_eq!(world.state(next).await, DeliveryState::Delivered, "what can be seen can be resumed");
}

#[tokio::test(start_paused = true)]
async fn a_maximum_that_was_lowered_below_the_attempts_made_allows_no_further_one() {
    let retry = |most| Retry { max_attempts: Some(most), ..Retry::default() };
    let mut world = World::new(vec![Destination { retry: retry(9), ..destination("erp") }]);
    world.behave("erp", |_| (QUICK, answer(500)));
    let id = world.send(&["erp"], None).await;
    world.until(|| world.count("erp") == 2).await;
    tokio::time::sleep(QUICK).await;
    world.reload(vec![Destination { retry: retry(1), ..destination("erp") }]);
    world.settle().await;
    assert_eq!((world.dead_code(id).await, world.count("erp")), (DeadCode::MaxAttempts, 2));
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_an_attempt_is_a_fault_of_that_attempt() {
    let mut world = World::new(vec![destination("erp"), destination("shop")]);
    world.behave("erp", |nth| if nth == 0 { panic!("scripted") } else { (QUICK, answer(200)) });
    let id = world.send(&["erp", "shop"], None).await;
    world.settle().await;
    assert_eq!((world.state(id).await, world.count("erp"), world.count("shop")), (DeliveryState::Delivered, 2, 1));
    assert!(world.handle().is_running());
}

#[tokio::test(start_paused = true)]
async fn deliveries_of_a_removed_destination_end_dead() {
    let mut world = World::new(vec![destination("erp"), destination("shop")]);
    world.behave("erp", |_| (Duration::from_secs(5), answer(500)));
    let mut ids = Vec::new();
    for _ in 0..2000 {
        ids.push(world.send(&["erp"], Some(1)).await);
    }
    world.until(|| world.count("erp") == 1).await;
    world.reload(vec![destination("shop")]);
    let never_there = world.send(&["nowhere"], None).await;
    let well = world.send(&["shop"], None).await;
    world.settle().await;
    ids.push(never_there);
    for id in ids {
        assert_eq!(world.dead_code(id).await, DeadCode::DestinationRemoved);
    }
    assert_eq!((world.state(well).await, world.count("erp")), (DeliveryState::Delivered, 1));
}

#[tokio::test(start_paused = true)]
async fn a_reload_takes_effect_and_hands_out_no_fresh_burst() {
    let limited = || Destination { rate: Some(rate(10)), ..destination("erp") };
    let mut world = World::new(vec![limited()]);
    for _ in 0..40 {
        world.send(&["erp"], None).await;
    }
    for _ in 0..20 {
        world.reload(vec![limited()]);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let after_a_second = world.count("erp");
    assert!((19..=21).contains(&after_a_second), "{after_a_second}");
    world.reload(vec![destination("erp"), destination("shop")]);
    world.send(&["shop"], None).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!((world.count("erp"), world.count("shop")), (40, 1));
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_stays_open_over_reloads() {
    let breaker = Breaker { failures: 1, cool_down: Duration::from_secs(3600) };
    let guarded = || Destination { breaker, ..destination("erp") };
    let mut world = World::new(vec![guarded()]);
    world.behave("erp", |nth| (Duration::ZERO, answer(if nth == 0 { 503 } else { 200 })));
    world.send(&["erp"], None).await;
    world.until(|| world.count("erp") == 1).await;
    for number in 0..60 {
        // Also where the breaker's own settings change.
        world.reload(vec![Destination { breaker: Breaker { failures: 1 + number % 2, ..breaker }, ..destination("erp") }]);
        world.send(&["erp"], None).await;
        tokio::time::sleep(Duration::from_secs(30)).await;
    }
    assert_eq!(world.count("erp"), 1, "a reload is no reason to call again");
    world.settle().await;
    assert!(world.got("erp", |got| got.millis())[1] >= 3_600_000);
}

#[tokio::test(start_paused = true)]
async fn a_pause_survives_a_reload_and_its_destinations_absence() {
    let mut world = World::new(vec![destination("erp")]);
    world.handle().pause("erp", "x").await.unwrap();
    world.reload(Vec::new());
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.reload(vec![destination("erp")]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.send(&["erp"], None).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.count("erp"), 0);
    world.handle().resume("erp").await.unwrap();
    world.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_is_not_durable_is_not_in_force() {
    let mut world = World::new(vec![destination("erp")]);
    world.store.set_mood(Mood::Refusing);
    assert!(world.handle().pause("erp", "x").await.is_err());
    world.store.set_mood(Mood::Willing);
    world.send(&["erp"], None).await;
    world.settle().await;
    assert!(world.handle().destinations()[0].paused.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_410_pauses_even_if_the_store_refuses_at_first() {
    let mut world = World::new(vec![Destination { concurrency: 1, ..destination("erp") }]);
    world.behave("erp", |_| (Duration::from_secs(1), answer(410)));
    let gone = world.send(&["erp"], None).await;
    world.send(&["erp"], None).await;
    world.until(|| world.count("erp") == 1).await;
    world.store.set_mood(Mood::Refusing);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(world.handle().destinations()[0].paused.is_none(), "not before its settlement is durable");
    assert_eq!(world.count("erp"), 1, "yet nothing more is sent");
    world.store.set_mood(Mood::Willing);
    world.until(|| world.handle().destinations()[0].paused.is_some()).await;
    assert_eq!(world.dead_code(gone).await, DeadCode::Gone);
}

#[tokio::test(start_paused = true)]
async fn a_stop_lets_attempts_finish_and_settles_them() {
    let mut world = World::new(vec![Destination { concurrency: 2, ..destination("erp") }]);
    world.behave("erp", |_| (Duration::from_secs(5), answer(200)));
    for _ in 0..5 {
        world.send(&["erp"], None).await;
    }
    world.until(|| world.count("erp") == 2).await;
    let handle = world.handle();
    let begun = world.clock_boot();
    world.stop(Duration::from_secs(25)).await;
    assert!(world.clock_boot() - begun <= Duration::from_secs(5));
    assert_eq!((world.count("erp"), world.pending()), (2, 3));
    assert!(!handle.is_running());
    assert!(handle.resume("erp").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_within_its_grace_whatever_hangs() {
    let mut world = World::new(vec![destination("slow"), destination("erp")]);
    world.behave("slow", |_| (Duration::from_secs(3600), answer(200)));
    world.reload(vec![Destination { timeout: Duration::from_secs(3600), ..destination("slow") }, destination("erp")]);
    world.send(&["slow"], None).await;
    world.until(|| world.count("slow") == 1).await;
    world.store.set_mood(Mood::Refusing);
    let begun = world.clock_boot();
    world.stop(Duration::from_secs(10)).await;
    assert!(world.clock_boot() - begun <= Duration::from_secs(10));
    world.store.set_mood(Mood::Willing);
    world.behave("slow", |_| (QUICK, answer(200)));
    world.start();
    world.settle().await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_relay_sleeps() {
    let world = World::new(vec![destination("erp")]);
    tokio::time::sleep(Duration::from_secs(86_400)).await;
    assert_eq!(world.count("erp"), 0);
}

#[tokio::test(start_paused = true)]
async fn what_was_pending_before_the_start_is_read_in_pages() {
    let mut world = World::new(vec![destination("erp")]);
    world.crash();
    for _ in 0..5000 {
        world.send(&["erp"], None).await;
    }
    world.start();
    world.settle().await;
    let order = world.got("erp", |got| got.header("webhook-id").to_owned());
    assert_eq!(order.len(), 5000);
}

#[tokio::test(start_paused = true)]
async fn a_repeat_within_the_window_is_not_delivered_again() {
    let world = World::new(vec![destination("erp")]);
    let store: Arc<dyn Store> = world.store.clone();
    for number in 0..2 {
        let event = event(number);
        let dedupe = Some(DedupeKey { hash: [7; 16], expires_at: event.received_at.saturating_add(Duration::from_secs(60)) });
        let deliveries = vec![NewDelivery { destination: "erp".into(), lane: None, due: event.received_at }];
        store.accept(NewEvent { event, dedupe, answer: kurier::model::Answer::ok(), deliveries }).await.unwrap();
    }
    world.settle().await;
    assert_eq!(world.count("erp"), 1);
}

#[tokio::test(start_paused = true)]
async fn what_comes_while_the_only_breaker_is_open_and_nothing_else_waits_goes_once_it_closes() {
    let once = Retry { max_attempts: Some(1), ..destination("erp").retry };
    let breaker = Breaker { failures: 1, cool_down: Duration::from_secs(20) };
    let mut world = World::new(vec![Destination { retry: once, breaker, ..destination("erp") }]);
    world.behave("erp", |nth| (QUICK, answer(if nth == 0 { 503 } else { 200 })));
    world.send(&["erp"], None).await;
    world.settle().await;
    let begun = world.clock_boot();
    world.send(&["erp"], None).await;
    world.settle().await;
    let took = world.clock_boot() - begun;
    assert!(took > Duration::from_secs(15) && took < Duration::from_secs(22), "{took:?}");
    assert_eq!(world.count("erp"), 2);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_removed_destination_ends_also_while_all_others_are_paused() {
    let mut world = World::new(vec![destination("erp"), destination("old")]);
    world.handle().pause("erp", "by hand").await.unwrap();
    world.handle().pause("old", "by hand").await.unwrap();
    let ids = [world.send(&["old"], None).await, world.send(&["erp"], None).await];
    tokio::time::sleep(Duration::from_secs(5)).await;
    world.reload(vec![destination("erp")]);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(world.dead(ids[0]).await.code, DeadCode::DestinationRemoved);
    assert!(matches!(world.state(ids[1]).await, DeliveryState::Pending { .. }));
}
