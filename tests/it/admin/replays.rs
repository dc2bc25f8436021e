//! Replays of many events as jobs.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use kurier::clock::{Clock, TokioClock};
use kurier::model::{DeliveryId, DeliveryKind, EventId};
use kurier::replays::{Filter, Replays, Status, WAITING_MAX};
use kurier::store::Store as _;
use kurier::store::memory::{MemoryStore, Mood};
use serde_json::{Value, json};

use super::world::{START, World, new_event};

/// Events with a dead delivery to `erp`, as many as asked for.
async fn dead(world: &World, count: u32) -> Vec<EventId> {
    let mut events = Vec::new();
    for number in 1..=count {
        let id = world.event(number, "invoices", &["erp"]).await;
        world.kill(DeliveryId::new(id, 0)).await;
        events.push(id);
    }
    events
}

/// The job once it is over, on paused time.
async fn over(world: &World, id: &str) -> Value {
    loop {
        let job = world.get(&format!("/api/v1/replays/{id}")).await.json();
        if job["status"] != "running" {
            return job;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// What waits, in the order in which it will go.
async fn pending(world: &World) -> Vec<EventId> {
    world.store.pending_after(0, 10_000).await.unwrap().iter().map(|delivery| delivery.id.event).collect()
}

#[tokio::test(start_paused = true)]
async fn a_job_replays_what_its_filter_means_oldest_first_and_only_once() {
    let world = World::open();
    // What comes in while the jobs work has a later time than any of these.
    tokio::time::advance(Duration::from_secs(1000)).await;
    let events = dead(&world, 200).await;
    let other = world.event(201, "orders", &["erp"]).await;
    world.kill(DeliveryId::new(other, 0)).await;

    let dry = world.post("/api/v1/replays", r#"{"filter":{"route":"invoices"},"dry_run":true}"#).await;
    assert_eq!((dry.status.as_u16(), &dry.json()["matched"], &dry.json()["more"]), (200, &json!(200), &json!(false)));
    assert!(pending(&world).await.is_empty());

    let begun = world.post("/api/v1/replays", r#"{"filter":{"route":"invoices"}}"#).await;
    assert_eq!(begun.status, 202);
    let id = begun.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(begun.headers["location"], format!("/api/v1/replays/{id}"));
    let job = over(&world, &id).await;
    assert_eq!(
        (&job["status"], &job["matched"], &job["replayed"], &job["deliveries"]),
        (&json!("done"), &json!(200), &json!(200), &json!(200))
    );
    assert_eq!(pending(&world).await, events);

    let again = world.post("/api/v1/replays", r#"{"filter":{"route":"invoices"}}"#).await.json();
    let job = over(&world, again["id"].as_str().unwrap()).await;
    assert_eq!((&job["status"], &job["matched"]), (&json!("done"), &json!(0)), "what waits already is not replayed again");
    let listed = world.get("/api/v1/replays").await.json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_job_waits_while_too_much_waits_for_the_destination_and_can_be_stopped() {
    let world = World::open();
    tokio::time::advance(Duration::from_secs(100_000)).await;
    let ids = dead(&world, 3).await;
    for number in 4..10_004 {
        world.store.accept(new_event(number, "orders", &["erp"])).await.unwrap();
    }
    let id = world.post("/api/v1/replays", r#"{"filter":{"route":"invoices"}}"#).await.json()["id"].as_str().unwrap().to_owned();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let path = format!("/api/v1/replays/{id}");
    let job = world.get(&path).await.json();
    assert_eq!((&job["status"], &job["replayed"]), (&json!("running"), &json!(0)));
    assert!(job["waits_for"].as_str().unwrap().contains("erp"), "{job}");

    let stopped = world.call(Method::DELETE, &path, &[("host", "localhost:9090")], "").await.json();
    assert_eq!((&stopped["status"], &stopped["waits_for"]), (&json!("stopped"), &Value::Null));
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(world.store.record(ids[0]).await.unwrap().unwrap().deliveries.len(), 1, "nothing was replayed");
    assert_eq!(world.get(&path).await.json(), stopped, "and it stays stopped");
}

#[tokio::test(start_paused = true)]
async fn a_job_goes_on_after_a_restart_where_it_stood() {
    let store = Arc::new(MemoryStore::new());
    let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(START));
    tokio::time::advance(Duration::from_secs(1000)).await;
    for number in 1..=300 {
        store.accept(new_event(number, "invoices", &["erp"])).await.unwrap();
    }
    for delivery in store.pending_after(0, 1000).await.unwrap() {
        let settlement = kurier::store::Settlement {
            delivery: delivery.id,
            version: 0,
            attempt: None,
            attempts: 1,
            state: kurier::model::DeliveryState::Cancelled,
            acknowledgement: None,
        };
        store.settle(settlement).await.unwrap();
    }
    let replays = Replays::start(store.clone(), clock.clone());
    let filter = Filter { state: "cancelled".into(), ..Filter::default() };
    // To another destination: what was replayed does not change what the filter means.
    let job = replays.begin(filter, Some(vec!["bookkeeping".into()]), "ops").await.unwrap();
    while replays.get(&job.id).unwrap().replayed == 0 {
        tokio::task::yield_now().await;
    }
    drop(replays);
    let half = replayed(&store).await;
    assert!((64..300).contains(&half), "it was cut off in the middle: {half}");

    let replays = Replays::start(store.clone(), clock);
    while replays.get(&job.id).is_none_or(|job| job.status == Status::Running) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let done = replays.get(&job.id).unwrap();
    assert_eq!((done.status, done.matched), (Status::Done, Some(300)));
    let all = replayed(&store).await;
    assert!((300..=364).contains(&all), "none is skipped, and at most the last few are replayed twice: {all}");
}

async fn replayed(store: &MemoryStore) -> usize {
    let waiting = store.pending_after(0, 10_000).await.unwrap();
    waiting.iter().filter(|delivery| delivery.kind == DeliveryKind::Replay && &*delivery.destination == "bookkeeping").count()
}

#[tokio::test(start_paused = true)]
async fn a_request_that_means_nothing_sensible_is_refused_with_what_to_write() {
    let world = World::open();
    for (body, status, code) in [
        ("", 400, "body"),
        ("{}", 400, "body"),
        (r#"{"filter":{"rout":"invoices"}}"#, 400, "body"),
        (r#"{"filter":{"state":"pending"}}"#, 422, "filter"),
        (r#"{"filter":{"since":"yesterday"}}"#, 400, "time"),
        (r#"{"filter":{},"destinations":["erq"]}"#, 422, "unknown_destination"),
    ] {
        assert_eq!(world.post("/api/v1/replays", body).await.problem(status), code, "{body}");
    }
    assert_eq!(world.get("/api/v1/replays/rpl_none").await.problem(404), "unknown_replay");
    world.store.set_mood(Mood::Refusing);
    assert_eq!(world.post("/api/v1/replays", r#"{"filter":{}}"#).await.problem(503), "store_refused");
    assert_eq!(world.get("/api/v1/replays").await.json()["items"], json!([]), "what was not committed does not exist");
}

#[tokio::test(start_paused = true)]
async fn who_asks_second_is_told_of_a_job_once_it_is_durable_and_no_sooner() {
    let store = Arc::new(MemoryStore::new());
    let replays = Replays::start(store.clone(), Arc::new(TokioClock::starting_at(START)));
    store.set_mood(Mood::Stalled);
    let ask = || {
        let replays = replays.clone();
        tokio::spawn(async move { replays.begin(Filter { state: "dead".into(), ..Filter::default() }, None, "ops").await })
    };
    let (one, other) = (ask(), ask());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!one.is_finished() && !other.is_finished());
    store.set_mood(Mood::Willing);
    assert!(one.await.unwrap().is_ok() && other.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn asked_twice_at_once_it_is_one_job_and_one_delivery() {
    let world = World::open();
    tokio::time::advance(Duration::from_secs(100_000)).await;
    let events = dead(&world, 3).await;
    let body = r#"{"filter":{"route":"invoices","since":"48h"}}"#;
    let (one, other) = tokio::join!(world.post("/api/v1/replays", body), world.post("/api/v1/replays", body));
    assert_eq!((one.status.as_u16(), one.json()["id"].as_str()), (202, other.json()["id"].as_str()));
    assert_eq!(world.get("/api/v1/replays").await.json()["items"].as_array().unwrap().len(), 1);
    let narrower = world.post("/api/v1/replays", r#"{"filter":{"route":"invoices","since":"1h"}}"#).await.json();
    assert_ne!(narrower["id"], one.json()["id"]);
    over(&world, one.json()["id"].as_str().unwrap()).await;
    let later = world.post("/api/v1/replays", body).await.json();
    assert_ne!(later["id"], one.json()["id"], "what is done is done anew");

    let path = format!("/api/v1/events/{}/replay", events[0]);
    let before = world.store.record(events[0]).await.unwrap().unwrap().deliveries.len();
    let (one, other) = tokio::join!(
        world.post(&path, r#"{"destinations":["bookkeeping"]}"#),
        world.post(&path, r#"{"destinations":["bookkeeping","erp"]}"#)
    );
    assert_eq!(one.json()["deliveries"][0], other.json()["deliveries"][0]);
    let after = world.store.record(events[0]).await.unwrap().unwrap().deliveries.len();
    assert_eq!(after, before + 1, "the replay to erp waits since the job, the other is made once");
}

#[tokio::test(start_paused = true)]
async fn no_more_jobs_wait_than_the_limit() {
    let world = World::open();
    tokio::time::advance(Duration::from_secs(100_000)).await;
    dead(&world, 1).await;
    for number in 4..10_004 {
        world.store.accept(new_event(number, "orders", &["erp"])).await.unwrap();
    }
    for number in 0..WAITING_MAX {
        assert_eq!(world.post("/api/v1/replays", &format!(r#"{{"filter":{{"route":"invoices","q":"{number}"}}}}"#)).await.status, 202);
    }
    assert_eq!(world.post("/api/v1/replays", r#"{"filter":{"route":"invoices"}}"#).await.problem(409), "too_many_replays");
}
