//! `when` and `transform` on the way of a delivery, in real child processes.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use kurier::clock::Clock;
use kurier::model::{DeadCode, DeliveryState, Event, EventId};
use kurier::store::Store;

use super::world::{World, answer, event};

/// A route to one destination, with these settings of its delivery and of the destination.
fn world(deliver: &str, destination: &str) -> World {
    World::with_routes(&format!(
        "routes:\n  invoices:\n    path: /in\n    verify: none\n    deliver:\n      - to: erp\n{deliver}\n      - shop\n\
         destinations:\n  erp: {{ url: 'http://erp/hook', {destination} }}\n  shop: {{ url: 'http://shop/hook' }}\n"
    ))
}

/// Accepts a JSON event for these destinations.
async fn send(world: &World, number: u128, body: &'static str, destinations: &[&str]) -> EventId {
    let mut event = Event { received_at: world.clock.now(), body: Bytes::from_static(body.as_bytes()), ..event(number) };
    for (name, value) in
        [("content-type", "application/json; charset=utf-8"), ("content-encoding", "x"), ("content-md5", "y"), ("x-tenant", "z")]
    {
        event.headers.insert(name, HeaderValue::from_static(value));
    }
    world.accept(event, destinations, None).await
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_transform_makes_the_body_and_leaves_no_lie_in_the_headers() {
    let world = world("        transform: '{id: .body.n, route, path, lang: .headers[\"x-tenant\"]}'", "");
    let id = send(&world, 1, r#"{"n":1.10}"#, &["erp", "shop"]).await;
    world.settle().await;
    assert_eq!(world.got("erp", |got| text(&got.body)), [r#"{"id":1.10,"route":"invoices","path":"/in","lang":"z"}"#]);
    let seen =
        world.got("erp", |got| ["content-type", "content-encoding", "content-md5", "x-tenant"].map(|name| got.header(name).to_owned()));
    assert_eq!(seen, [["application/json", "", "", "z"].map(str::to_owned)]);
    assert_eq!(world.got("shop", |got| text(&got.body)), [r#"{"n":1.10}"#], "the other destination gets the event's own bytes");
    assert_eq!(world.store.event(id).await.unwrap().unwrap().body, r#"{"n":1.10}"#, "and the event stays what it was");
}

#[tokio::test(start_paused = true)]
async fn a_transform_goes_before_the_shape_in_which_it_is_sent() {
    let world = world("        transform: .body.n", "as: cloudevents");
    send(&world, 1, r#"{"n":[1]}"#, &["erp"]).await;
    world.settle().await;
    let sent: serde_json::Value = serde_json::from_slice(&world.got("erp", |got| got.body.clone())[0]).unwrap();
    assert_eq!((&sent["data"], sent["datacontenttype"].as_str()), (&serde_json::json!([1]), Some("application/json")));
}

#[tokio::test(start_paused = true)]
async fn what_when_excludes_ends_skipped_without_an_attempt_and_holds_nothing_up() {
    let world = world("        when: .body.amount > 0", "");
    let no = send(&world, 1, r#"{"amount":0}"#, &["erp"]).await;
    let yes = send(&world, 2, r#"{"amount":5}"#, &["erp"]).await;
    world.settle().await;
    assert_eq!((world.state(no).await, world.state(yes).await), (DeliveryState::Skipped, DeliveryState::Delivered));
    assert_eq!(world.delivery(no).await.attempts, 0);
    assert_eq!(world.got("erp", |got| text(&got.body)), [r#"{"amount":5}"#]);
}

#[tokio::test(start_paused = true)]
async fn what_when_excludes_takes_nothing_of_the_rate_and_what_goes_keeps_it() {
    let world = world("        when: .body.amount > 0", "limits: { rate: 1/min }");
    for number in 0..60 {
        send(&world, number, if number % 20 == 0 { r#"{"amount":1}"# } else { r#"{"amount":0}"# }, &["erp"]).await;
    }
    world.settle().await;
    let gaps: Vec<i64> = world.got("erp", |got| got.millis()).windows(2).map(|two| two[1] - two[0]).collect();
    assert!(gaps.len() == 2 && gaps.iter().all(|gap| (60_000..61_000).contains(gap)), "three of sixty go, a minute apart: {gaps:?}");
    assert_eq!(world.got("erp", |got| got.header("kurier-attempt").to_owned()), ["1", "1", "1"], "waiting for the rate is no attempt");
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_the_rate_is_not_judged_again_and_again() {
    let world = world("        when: .body.amount > 0", "limits: { rate: 1/min, concurrency: 8 }");
    for number in 0..30 {
        send(&world, number, r#"{"amount":1}"#, &["erp"]).await;
    }
    world.settle().await;
    let gaps: Vec<i64> = world.got("erp", |got| got.millis()).windows(2).map(|two| two[1] - two[0]).collect();
    assert!(gaps.len() == 29 && gaps.iter().all(|gap| (60_000..61_000).contains(gap)), "{gaps:?}");
    assert!(world.program_runs() <= 2 * 30, "{} runs", world.program_runs());
}

#[tokio::test(start_paused = true)]
async fn a_program_that_fails_ends_its_own_delivery_with_the_reason_and_its_line() {
    for (program, reason) in [
        ("def f: 1 + f; f", "`transform` in line 7 recurses too deep"),
        (".body.n.x", "`transform` in line 7 failed: cannot index 1 with \"x\""),
        ("empty", "`transform` in line 7 made nothing: it must make one value"),
    ] {
        let world = world(&format!("        transform: '{program}'"), "");
        let bad = send(&world, 1, r#"{"n":1}"#, &["erp"]).await;
        let other = send(&world, 2, r#"{"n":1}"#, &["shop"]).await;
        world.settle().await;
        let dead = world.dead(bad).await;
        assert_eq!(dead.code, DeadCode::Unsendable);
        assert!(dead.detail.starts_with(reason), "{program}: {dead}");
        assert_eq!((world.state(other).await, world.count("erp")), (DeliveryState::Delivered, 0));
        assert_eq!(world.store.event(bad).await.unwrap().unwrap().body, r#"{"n":1}"#, "the event keeps its bytes");
    }
}

#[tokio::test(start_paused = true)]
async fn a_poison_event_does_not_take_the_others_with_it() {
    let world = world("        transform: 'if .body.poison then def f: 1 + f; f else .body end'", "limits: { concurrency: 4 }");
    let mut ids = Vec::new();
    for number in 0..12 {
        ids.push(send(&world, number, if number == 5 { r#"{"poison":true}"# } else { r#"{"a":1}"# }, &["erp"]).await);
    }
    world.settle().await;
    for (number, id) in ids.into_iter().enumerate() {
        assert_eq!(matches!(world.state(id).await, DeliveryState::Dead(_)), number == 5, "{number}");
    }
    assert_eq!(world.count("erp"), 11);
}

#[tokio::test(start_paused = true)]
async fn a_program_does_not_wait_in_virtual_time_for_its_real_process() {
    let mut world = world("        when: .body.n == 1", "");
    world.behave("erp", |nth| (Duration::ZERO, answer(if nth == 0 { 503 } else { 200 })));
    let id = send(&world, 1, r#"{"n":1}"#, &["erp"]).await;
    world.settle().await;
    assert_eq!(world.state(id).await, DeliveryState::Delivered);
    world.crash();
    world.start();
    assert_eq!(world.count("erp"), 2, "it is asked again at each attempt");
}
