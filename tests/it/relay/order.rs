//! Lanes, replays beside live traffic, restarts and clocks that jump.

use std::time::Duration;

use kurier::clock::Clock;
use kurier::model::{DeadCode, DeliveryState, EventId};

use super::world::{World, answer, destination};

const QUICK: Duration = Duration::ZERO;

/// One route with lanes; `failing` says what a failing delivery does to its lane.
fn lanes(failing: &str) -> String {
    format!(
        "routes:\n  invoices:\n    path: /in\n    verify: none\n    order_by: {{ key: '{{header:x-lane}}', failing: {failing} }}\n    \
         deliver: [erp]\ndestinations:\n  erp: {{ url: 'http://erp/hook', breaker: {{ failures: 1000 }} }}\n"
    )
}

/// A world in which the first event of a lane fails this often.
fn world(failing: &str, failures: usize) -> World {
    let world = World::with_routes(&lanes(failing));
    let bad = parking_lot::Mutex::new(0);
    world.judge("erp", move |got| {
        let mut failed = bad.lock();
        let fails = got.body == "event 1" && *failed < failures;
        *failed += usize::from(fails);
        (Duration::from_millis(10), answer(if fails { 500 } else { 200 }))
    });
    world
}

async fn three_of_a_lane(world: &mut World) -> Vec<EventId> {
    let mut sent = Vec::new();
    for _ in 0..3 {
        sent.push(world.send(&["erp"], Some(7)).await);
    }
    world.settle().await;
    sent
}

fn bodies(world: &World) -> Vec<String> {
    world.got("erp", |got| String::from_utf8(got.body.to_vec()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_lane_is_held_up_by_its_first_unless_the_route_says_otherwise() {
    let mut world = world("block", 4);
    three_of_a_lane(&mut world).await;
    assert_eq!(bodies(&world), ["event 1", "event 1", "event 1", "event 1", "event 1", "event 2", "event 3"]);
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_skips_goes_on_at_once_and_tells_the_destination_of_the_gap() {
    let mut world = world("skip", 4);
    three_of_a_lane(&mut world).await;
    assert_eq!(bodies(&world)[..3], ["event 1", "event 2", "event 3"]);
    assert_eq!(world.got("erp", |got| got.header("kurier-lane-gap").to_owned())[..3], ["", "1", "1"]);
    assert_eq!(bodies(&world)[3..], ["event 1", "event 1", "event 1", "event 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_parks_goes_on_after_so_many_failures_also_after_a_restart() {
    let mut world = world("{ park: { after: 3 } }", 6);
    let sent = three_of_a_lane(&mut world).await;
    assert_eq!(bodies(&world)[..5], ["event 1", "event 1", "event 1", "event 2", "event 3"]);
    assert_eq!(world.state(sent[0]).await, DeliveryState::Delivered, "it was tried on by itself");
    let mut world = self::world("{ park: { after: 1 } }", 1000);
    world.send(&["erp"], Some(7)).await;
    world.until(|| world.count("erp") == 1).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    world.crash();
    world.start();
    world.send(&["erp"], Some(7)).await;
    world.until(|| bodies(&world).contains(&"event 2".to_owned())).await;
}

#[tokio::test(start_paused = true)]
async fn a_mass_replay_leaves_live_events_their_place() {
    let mut world = World::new(vec![destination("erp")]);
    world.behave("erp", |_| (Duration::from_secs(1), answer(200)));
    // More than are held in memory at a time.
    for _ in 0..100 {
        let id = world.send(&["erp"], None).await;
        for _ in 0..300 {
            world.replay(id, "erp").await;
        }
    }
    world.until(|| world.got("erp", |got| got.header("kurier-replay").is_empty()).iter().filter(|live| **live).count() == 100).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    let replayed = world.got("erp", |got| (got.header("kurier-replay") == "true").then_some(got.at)).into_iter().flatten();
    let mut at_a_time = std::collections::BTreeMap::<_, usize>::new();
    // Each takes a second, and all of a second begin together.
    replayed.for_each(|at| *at_a_time.entry(at).or_default() += 1);
    assert!(at_a_time.len() >= 28 && at_a_time.values().all(|count| *count == 8), "half of its concurrency: {at_a_time:?}");
    for _ in 0..8 {
        let before = world.clock.now();
        let live = world.send(&["erp"], None).await.to_string();
        world.until(|| world.got("erp", |got| got.header("webhook-id") == live).contains(&true)).await;
        let at = world.got("erp", |got| (got.header("webhook-id") == live).then_some(got.at)).into_iter().flatten().next();
        assert!(at.unwrap().since(before) < Duration::from_millis(50));
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_after_a_long_stop_is_no_storm() {
    let mut world = World::new(vec![kurier::config::Destination { concurrency: 1000, ..destination("erp") }]);
    world.behave("erp", |nth| (QUICK, answer(if nth < 400 { 503 } else { 200 })));
    for _ in 0..400 {
        world.send(&["erp"], None).await;
    }
    world.until(|| world.count("erp") == 400).await;
    world.crash();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let fresh = world.send(&["erp"], None).await.to_string();
    let before = world.clock.now();
    world.start();
    world.settle().await;
    let times = world.got("erp", |got| (got.header("webhook-id").to_owned(), got.at.since(before)));
    let (id, first) = &times[400];
    assert_eq!((id, *first), (&fresh, Duration::ZERO), "what was never tried goes at once");
    for second in 0..30 {
        let within = times[401..].iter().filter(|(_, at)| at.as_secs() == second).count();
        assert!(within <= 40, "{within} retries in the second {second}");
    }
    assert!(times.last().unwrap().1 <= Duration::from_secs(31));
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_jumps_makes_nothing_due_holds_nothing_up_and_kills_nothing() {
    let ten_days = 10 * 86_400;
    for jump in [3600, ten_days, -3600, -ten_days] {
        let mut world = World::new(vec![destination("erp")]);
        world.behave("erp", |nth| (QUICK, answer(if nth < 9 { 500 } else { 200 })));
        let id = world.send(&["erp"], None).await;
        world.until(|| world.count("erp") == 4).await;
        let began = world.clock_boot();
        world.clock.set_by(jump);
        while world.count("erp") < 5 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let gap = world.clock_boot() - began;
        assert!(gap <= Duration::from_secs(41), "{jump}: {gap:?}");
        if jump > 0 {
            assert!(matches!(world.state(id).await, DeliveryState::Pending { .. }), "{jump}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_stays_set_is_believed_after_a_while() {
    let mut world = World::new(vec![destination("erp")]);
    world.behave("erp", |_| (QUICK, answer(500)));
    let id = world.send(&["erp"], None).await;
    world.until(|| world.count("erp") == 2).await;
    world.clock.set_by(10 * 86_400);
    while world.pending() > 0 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(world.dead_code(id).await, DeadCode::MaxAge);
    assert!(world.clock_boot() > Duration::from_secs(600), "not before the clocks had gone together for ten minutes");
}
