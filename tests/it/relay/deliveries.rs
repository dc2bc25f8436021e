//! Who gets what, when, in which order, and how often.

use std::time::Duration;

use kurier::clock::Clock;
use kurier::config::{Breaker, Destination, Retry};
use kurier::model::{AttemptResult, DeadCode, DeliveryState, FaultKind, OutcomeKind};
use kurier::relay::{BreakerStatus, ControlError};
use kurier::store::Store;

use super::world::{START, World, answer, answer_with, destination, fault, rate};

const QUICK: Duration = Duration::ZERO;

#[tokio::test(start_paused = true)]
async fn an_event_is_delivered_to_every_destination_of_its_route() {
    let mut world = World::new(vec![destination("erp"), destination("shop")]);
    let id = world.send(&["erp", "shop"], None).await;
    world.settle().await;
    let record = world.store.record(id).await.unwrap().unwrap();
    assert!(record.deliveries.iter().all(|delivery| delivery.state == DeliveryState::Delivered && delivery.attempts == 1));
    assert_eq!((world.count("erp"), world.count("shop")), (1, 1));
    let attempt = &record.attempts[0].1;
    assert_eq!((attempt.number, attempt.outcome, attempt.started_at), (1, OutcomeKind::Delivered, START));
    assert_eq!(attempt.result, AttemptResult::Response { status: 200, excerpt: "said".into() });
}

#[tokio::test(start_paused = true)]
async fn a_failing_destination_is_tried_again_after_growing_gaps() {
    let mut world = World::new(vec![destination("erp")]);
    world.behave("erp", |nth| (QUICK, if nth < 12 { answer([500, 404, 401, 302][nth % 4]) } else { answer(204) }));
    let id = world.send(&["erp"], None).await;
    world.settle().await;
    let times = world.got("erp", |got| got.millis());
    let gaps: Vec<i64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (n, gap) in gaps.iter().enumerate() {
        let bound = (5000_i64 << n).min(3_600_000);
        assert!((1000..=bound).contains(gap), "gap {n} is {gap} ms");
    }
    assert!(gaps.iter().max() > Some(&60_000), "they grow: {gaps:?}");
    let delivery = world.delivery(id).await;
    assert_eq!((delivery.state, delivery.attempts, delivery.version), (DeliveryState::Delivered, 13, 13));
    assert_eq!(world.got("erp", |got| got.header("kurier-attempt").to_owned())[12], "13");
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_honoured_within_the_bounds() {
    let mut world = World::new(vec![destination("erp")]);
    world.behave("erp", |nth| {
        let date = "Tue, 14 Nov 2023 23:15:00 GMT";
        (QUICK, answer_with([503, 429, 503, 503, 200][nth], "retry-after", ["120", "0", "1000000000000", date, "9"][nth]))
    });
    world.send(&["erp"], None).await;
    world.settle().await;
    let times = world.got("erp", |got| got.millis());
    let gaps: Vec<i64> = times.windows(2).map(|two| two[1] - two[0]).collect();
    // Never earlier than it was asked, and no more than a tenth later.
    assert!((120_000..=132_000).contains(&gaps[0]) && (1_000..=1_100).contains(&gaps[1]), "{gaps:?}");
    assert_eq!(gaps[2], 3_600_000, "the longest gap is the longest");
    // 23:15:00 is 3,700 s after the start: past already, so the shortest gap.
    assert!((1_000..=1_100).contains(&gaps[3]), "{gaps:?}");
}

#[tokio::test(start_paused = true)]
async fn what_was_put_off_together_does_not_come_back_together() {
    let mut world = World::new(vec![destination("erp")]);
    world.behave("erp", |nth| (QUICK, if nth < 16 { answer_with(429, "retry-after", "600") } else { answer(200) }));
    for _ in 0..16 {
        world.send(&["erp"], None).await;
    }
    world.settle().await;
    let mut times = world.got("erp", |got| got.millis()).split_off(16);
    times.sort_unstable();
    assert!(times[0] >= 600_000 && times[15] - times[0] > 10_000, "{times:?}");
}

#[tokio::test(start_paused = true)]
async fn a_status_of_never_is_dead_at_once() {
    let mut world = World::new(vec![destination("erp")]);
    world.behave("erp", |_| (QUICK, answer(422)));
    let id = world.send(&["erp"], None).await;
    world.settle().await;
    let reason = world.dead(id).await;
    assert_eq!((reason.code, &*reason.detail, world.count("erp")), (DeadCode::Rejected, "status 422", 1));
}

#[tokio::test(start_paused = true)]
async fn a_410_is_dead_and_pauses_the_destination_over_restarts() {
    let slow = Destination { concurrency: 1, ..destination("erp") };
    let mut world = World::new(vec![slow]);
    world.behave("erp", |nth| (Duration::from_secs(1), answer(if nth == 0 { 410 } else { 200 })));
    let gone = world.send(&["erp"], None).await;
    let waiting = world.send(&["erp"], None).await;
    world.until(|| world.handle().destinations()[0].paused.is_some()).await;
    assert_eq!(world.dead_code(gone).await, DeadCode::Gone);
    world.crash();
    world.start();
    tokio::time::sleep(Duration::from_secs(9 * 86_400)).await;
    assert_eq!(world.count("erp"), 1);
    let status = &world.handle().destinations()[0];
    assert_eq!(status.paused.as_ref().unwrap().reason, "answered 410 Gone");
    assert_eq!((status.target.as_str(), status.pending), ("http://erp/hook", 1));
    world.handle().resume("erp").await.unwrap();
    world.settle().await;
    assert_eq!(world.state(waiting).await, DeliveryState::Delivered);
    world.crash();
    world.start();
    world.send(&["erp"], None).await;
    world.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_pause_holds_and_its_time_does_not_age() {
    let mut world = World::new(vec![destination("erp")]);
    world.behave("erp", |nth| (QUICK, answer(if nth < 2 { 500 } else { 200 })));
    world.handle().pause("erp", "maintenance").await.unwrap();
    let id = world.send(&["erp"], None).await;
    tokio::time::sleep(Duration::from_secs(5 * 86_400)).await;
    assert_eq!(world.count("erp"), 0);
    world.handle().resume("erp").await.unwrap();
    world.settle().await;
    assert_eq!(world.state(id).await, DeliveryState::Delivered, "two failures after five paused days did not kill it");
    assert_eq!(world.handle().pause("nowhere", "").await, Err(ControlError::UnknownDestination("nowhere".into())));
}

#[tokio::test(start_paused = true)]
async fn age_kills_after_an_attempt_never_without_one() {
    let mut world = World::new(vec![destination("erp")]);
    world.crash();
    world.behave("erp", |nth| (QUICK, if nth == 0 { answer(200) } else { Err(fault(FaultKind::Connect)) }));
    let lucky = world.send(&["erp"], None).await;
    let unlucky = world.send(&["erp"], None).await;
    tokio::time::sleep(Duration::from_secs(30 * 86_400)).await;
    world.start();
    world.settle().await;
    assert_eq!(world.state(lucky).await, DeliveryState::Delivered);
    let reason = world.dead(unlucky).await;
    assert_eq!((reason.code, &*reason.detail), (DeadCode::MaxAge, "1 attempts, the last: connect: scripted"));
}

#[tokio::test(start_paused = true)]
async fn the_most_attempts_are_not_exceeded() {
    let retry = Retry { max_attempts: Some(3), ..Retry::default() };
    let mut world = World::new(vec![Destination { retry, ..destination("erp") }]);
    world.behave("erp", |_| (QUICK, answer(500)));
    let id = world.send(&["erp"], None).await;
    world.settle().await;
    assert_eq!((world.dead_code(id).await, world.count("erp")), (DeadCode::MaxAttempts, 3));
}

#[tokio::test(start_paused = true)]
async fn a_lane_goes_in_order_whatever_fails() {
    let mut world = World::new(vec![destination("erp")]);
    world.behave("erp", |nth| (Duration::from_millis(300), answer(if nth % 3 == 0 { 500 } else { 200 })));
    let mut expected = Vec::new();
    for _ in 0..20 {
        let lane = world.send(&["erp"], Some(7)).await;
        world.send(&["erp"], None).await;
        expected.push(lane.to_string());
    }
    world.settle().await;
    let mut order = world.got("erp", |got| got.header("webhook-id").to_owned());
    order.retain(|id| expected.contains(id));
    order.dedup();
    assert_eq!(order, expected);
}

#[tokio::test(start_paused = true)]
async fn concurrency_is_used_and_not_exceeded() {
    let mut world = World::new(vec![Destination { concurrency: 3, ..destination("erp") }]);
    world.behave("erp", |_| (Duration::from_secs(2), answer(200)));
    for _ in 0..12 {
        world.send(&["erp"], None).await;
    }
    world.settle().await;
    assert_eq!(world.most_at_a_time("erp"), 3);
    assert_eq!(world.got("erp", |got| got.millis()).last(), Some(&6000));
}

#[tokio::test(start_paused = true)]
async fn a_rate_is_kept() {
    let mut world = World::new(vec![Destination { rate: Some(rate(10)), ..destination("erp") }, destination("shop")]);
    for _ in 0..50 {
        world.send(&["erp", "shop"], None).await;
    }
    world.settle().await;
    let times = world.got("erp", |got| got.millis());
    for (start, _) in times.iter().enumerate() {
        let within = times[start..].iter().filter(|time| **time < times[start] + 1000).count();
        assert!(within <= 20, "a burst of one second and the pace of one");
    }
    assert!((3900..=4200).contains(times.last().unwrap()), "{times:?}");
    assert_eq!(world.got("shop", |got| got.millis()).last(), Some(&0));
}

#[tokio::test(start_paused = true)]
async fn a_slow_or_dead_destination_does_not_delay_another() {
    let mut world = World::new(vec![destination("dead"), destination("slow"), destination("well")]);
    world.behave("dead", |_| (Duration::from_secs(1), Err(fault(FaultKind::Connect))));
    world.behave("slow", |_| (Duration::from_secs(3600), answer(200)));
    for _ in 0..10_000 {
        world.send(&["dead"], None).await;
        world.send(&["slow"], None).await;
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    let before = world.clock.now();
    for _ in 0..100 {
        world.send(&["well"], None).await;
    }
    world.until(|| world.count("well") == 100).await;
    let late = world.got("well", |got| got.at).into_iter().max().unwrap();
    assert!(late.since(before) < Duration::from_millis(100), "{:?}", late.since(before));
}

#[tokio::test(start_paused = true)]
async fn the_breaker_spares_a_dead_destination_and_probes_it() {
    let breaker = Breaker { failures: 5, cool_down: Duration::from_secs(30) };
    let mut world = World::new(vec![Destination { breaker, ..destination("erp") }]);
    world.behave("erp", |nth| (Duration::from_millis(10), if nth < 7 { Err(fault(FaultKind::Connect)) } else { answer(200) }));
    for _ in 0..3 {
        world.send(&["erp"], None).await;
    }
    world.until(|| world.handle().destinations()[0].breaker != BreakerStatus::Closed).await;
    let opened = world.got("erp", |got| got.millis());
    assert!(opened.len() < 7, "{opened:?}");
    world.settle().await;
    let times = world.got("erp", |got| got.millis());
    let gaps: Vec<i64> = times[opened.len() - 1..8].windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.iter().all(|gap| *gap >= 30_000), "one probe after each cool-down: {times:?}");
    assert_eq!(world.handle().destinations()[0].breaker, BreakerStatus::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_replay_is_told_apart_and_bears_the_same_id() {
    let mut world = World::new(vec![destination("erp")]);
    let id = world.send(&["erp"], None).await;
    world.settle().await;
    world.replay(id, "erp").await;
    world.settle().await;
    let seen =
        world.got("erp", |got| [got.header("webhook-id"), got.header("kurier-replay"), got.header("kurier-attempt")].map(str::to_owned));
    assert_eq!(seen, [[&id.to_string(), "", "1"], [&id.to_string(), "true", "1"]].map(|row| row.map(str::to_owned)));
}
