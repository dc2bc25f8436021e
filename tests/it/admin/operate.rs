//! Acting: replay, cancel, pause and resume.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, StreamBody};
use kurier::admin::{REQUEST_BODY_BYTES_MAX, REQUEST_BODY_TIME_MAX};
use kurier::model::{DeliveryId, DeliveryKind, DeliveryState, EventId};
use kurier::store::Store as _;
use kurier::store::memory::Mood;
use serde_json::json;

use super::world::{World, config};

async fn destinations_of(world: &World, id: EventId) -> Vec<(String, DeliveryKind)> {
    let record = world.store.record(id).await.unwrap().unwrap();
    record.deliveries.iter().map(|delivery| (delivery.destination.to_string(), delivery.kind)).collect()
}

#[tokio::test]
async fn a_replay_goes_where_the_route_delivers_now() {
    let world = World::open();
    let id = world.event(1, "invoices", &["legacy"]).await;
    let reply = world.post(&format!("/api/v1/events/{id}/replay"), "").await;
    assert_eq!(reply.status, 202);
    let delivery = |ordinal| DeliveryId::new(id, ordinal).to_string();
    let expected = json!([
        { "id": delivery(1), "destination": "erp" },
        { "id": delivery(2), "destination": "bookkeeping" },
    ]);
    assert_eq!(reply.json(), json!({ "event": id.to_string(), "dry_run": false, "deliveries": expected }));
    let deliveries = destinations_of(&world, id).await;
    assert_eq!(deliveries[1..], [("erp".to_owned(), DeliveryKind::Replay), ("bookkeeping".to_owned(), DeliveryKind::Replay)]);
}

#[tokio::test]
async fn a_replay_of_a_route_that_is_gone_goes_to_its_deliveries_that_still_exist() {
    let world = World::open();
    let id = world.event(1, "retired", &["legacy", "erp"]).await;
    let path = format!("/api/v1/events/{id}/replay");
    assert_eq!(world.post(&path, "{}").await.status, 202);
    // A second time the replayed delivery is there as well; its destination still counts once.
    assert_eq!(world.post(&path, "").await.json()["deliveries"].as_array().unwrap().len(), 1);

    let id = world.event(2, "retired", &["legacy"]).await;
    assert_eq!(world.post(&format!("/api/v1/events/{id}/replay"), "").await.problem(409), "no_destination");
}

#[tokio::test]
async fn a_replay_can_name_its_destinations() {
    let world = World::open();
    let id = world.event(1, "invoices", &["erp"]).await;
    let path = format!("/api/v1/events/{id}/replay");
    let reply = world.post(&path, r#"{"destinations":["bookkeeping"]}"#).await;
    assert_eq!(reply.json()["deliveries"][0]["destination"], "bookkeeping");
    for (body, status, code) in [
        (r#"{"destinations":["erq"]}"#, 422, "unknown_destination"),
        (r#"{"destinations":[]}"#, 422, "destinations"),
        (r#"{"destinations":["erp","erp"]}"#, 422, "destinations"),
        (r#"{"destination":["erp"]}"#, 400, "body"),
        (r#"{"destinations":"erp"}"#, 400, "body"),
        ("erp", 400, "body"),
        ("[", 400, "body"),
    ] {
        assert_eq!(world.post(&path, body).await.problem(status), code, "{body}");
    }
    assert_eq!(destinations_of(&world, id).await.len(), 2);
}

#[tokio::test]
async fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    let world = World::open();
    let id = world.event(1, "invoices", &["erp"]).await;
    let reply = world.post(&format!("/api/v1/events/{id}/replay"), r#"{"dry_run":true}"#).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.json()["deliveries"], json!([{ "id": null, "destination": "erp" }, { "id": null, "destination": "bookkeeping" }]));
    assert_eq!(destinations_of(&world, id).await.len(), 1);
}

#[tokio::test]
async fn a_replay_of_nothing_is_not_found() {
    let world = World::open();
    let reply = world.post("/api/v1/events/evt_01hf7yat1v0000000000000000/replay", "").await;
    assert_eq!(reply.problem(404), "unknown_event");
}

#[tokio::test]
async fn a_commit_that_is_refused_or_unknown_is_told_apart() {
    let world = World::open();
    let id = world.event(1, "invoices", &["erp"]).await;
    world.store.set_mood(Mood::Refusing);
    let reply = world.post(&format!("/api/v1/events/{id}/replay"), "").await;
    assert_eq!(reply.problem(503), "store_refused");
    assert!(reply.headers.contains_key("retry-after"));
    world.store.set_mood(Mood::Unknowing);
    let reply = world.post(&format!("/api/v1/events/{id}/replay"), "").await;
    assert_eq!(reply.problem(500), "outcome_unknown");
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let world = World::open();
    let id = world.event(1, "invoices", &["erp"]).await;
    let path = format!("/api/v1/events/{id}/replay");
    let long = format!("{{}}{}", " ".repeat(REQUEST_BODY_BYTES_MAX));
    assert_eq!(world.post(&path, &long).await.problem(413), "body_too_large");
    assert_eq!(world.post(&path, &long[..REQUEST_BODY_BYTES_MAX]).await.status, 202);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_ends_is_given_up() {
    let world = World::open();
    let id = world.event(1, "invoices", &["erp"]).await;
    let silence = StreamBody::new(futures_util::stream::pending::<Result<http_body::Frame<Bytes>, std::io::Error>>()).boxed();
    let request = Request::post(format!("/api/v1/events/{id}/replay")).header("host", "localhost").body(silence).unwrap();
    let began = tokio::time::Instant::now();
    assert_eq!(world.send(request).await.problem(408), "body_too_slow");
    assert_eq!(began.elapsed(), REQUEST_BODY_TIME_MAX);
}

#[tokio::test]
async fn a_pending_delivery_can_be_cancelled_once_and_the_relay_is_told() {
    let world = World::open();
    let id = world.event(1, "invoices", &["erp", "bookkeeping"]).await;
    let delivery = DeliveryId::new(id, 1);
    let path = format!("/api/v1/deliveries/{delivery}/cancel");
    let reply = world.post(&path, "").await;
    assert_eq!(reply.json(), json!({ "id": delivery.to_string(), "state": "cancelled" }));
    assert_eq!(*world.relay.cancelled.lock(), [delivery]);
    let states: Vec<DeliveryState> =
        world.store.record(id).await.unwrap().unwrap().deliveries.into_iter().map(|delivery| delivery.state).collect();
    assert!(matches!(states[..], [DeliveryState::Pending { .. }, DeliveryState::Cancelled]), "{states:?}");
    assert_eq!(world.post(&path, "").await.problem(409), "not_pending");
    assert_eq!(world.relay.cancelled.lock().len(), 1);
}

#[tokio::test]
async fn what_is_not_pending_or_not_there_cannot_be_cancelled() {
    let world = World::open();
    let id = world.event(1, "invoices", &["erp"]).await;
    world.kill(DeliveryId::new(id, 0)).await;
    assert_eq!(world.post(&format!("/api/v1/deliveries/{}/cancel", DeliveryId::new(id, 0)), "").await.problem(409), "not_pending");
    for missing in [DeliveryId::new(id, 9).to_string(), "dlv_01hf7yat1v0000000000000000_0".to_owned(), "dlv_x".to_owned()] {
        assert_eq!(world.post(&format!("/api/v1/deliveries/{missing}/cancel"), "").await.problem(404), "unknown_delivery", "{missing}");
    }
    assert!(world.relay.cancelled.lock().is_empty());
}

#[tokio::test]
async fn a_cancellation_that_the_store_refuses_is_not_told_to_the_relay() {
    let world = World::open();
    let id = world.event(1, "invoices", &["erp"]).await;
    world.store.set_mood(Mood::Refusing);
    let reply = world.post(&format!("/api/v1/deliveries/{}/cancel", DeliveryId::new(id, 0)), "").await;
    assert_eq!(reply.problem(503), "store_refused");
    assert!(world.relay.cancelled.lock().is_empty());
}

#[tokio::test]
async fn a_destination_is_paused_and_resumed() {
    let world = World::open();
    assert_eq!(world.post("/api/v1/destinations/erp/pause", "").await.json(), json!({ "name": "erp", "state": "paused" }));
    assert!(world.relay.paused.lock().contains_key("erp"));
    assert_eq!(world.post("/api/v1/destinations/erp/resume", "").await.json(), json!({ "name": "erp", "state": "active" }));
    assert!(world.relay.paused.lock().is_empty());
    assert_eq!(world.post("/api/v1/destinations/erq/pause", "").await.problem(404), "unknown_destination");
    world.relay.refuses.store(true, Ordering::Release);
    assert_eq!(world.post("/api/v1/destinations/erp/pause", "").await.problem(503), "store_refused");
}

#[tokio::test]
async fn a_name_with_any_characters_can_be_steered() {
    let world = World::open();
    let mut config = config();
    config.destinations.extend([super::world::destination("büro 1/2")]);
    world.config.store(Arc::new(config));
    assert_eq!(world.post("/api/v1/destinations/b%C3%BCro%201%2F2/pause", "").await.status, 200);
    assert!(world.relay.paused.lock().contains_key("büro 1/2"));
}
