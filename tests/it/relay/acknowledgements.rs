//! What an event's source is told of it, when, and that it is told once.

use std::time::Duration;

use bytes::Bytes;
use kurier::clock::{Calendar, Clock as _};
use kurier::model::{DeadCode, DeadReason, DeliveryState, Event, EventId, FaultKind};
use kurier::store::{Settlement, Store as _};
use serde_json::{Value, json};

use super::world::{Got, World, answer, event, fault};

const SOURCE: &str = "acme.d-velop.cloud";

const HOUR: Duration = Duration::from_secs(3600);

fn world(more: &str) -> World {
    let key = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key.path(), "the key").unwrap();
    World::with_routes(&format!(
        "routes:
  invoices:
    path: /in
    verify: none
    deliver: [erp, books]
    acknowledge: {{ dvelop: {{ auth: {{ bearer: {{ file: {} }} }}{more} }} }}
destinations:
  erp: {{ url: http://erp/hook, breaker: {{ failures: 100000 }} }}
  books: {{ url: http://books/hook, breaker: {{ failures: 100000 }} }}
",
        key.path().display()
    ))
}

async fn send(world: &World, number: u128) -> EventId {
    let link = format!("https://{SOURCE}/smartinvoice/api/v1/transfers/{number}");
    let body = json!({ "_links": { "report_results_async": { "href": link } }, "workflow": { "id": number.to_string() } });
    let event = Event { body: Bytes::from(body.to_string()), received_at: world.clock.now(), ..event(number) };
    world.accept(event, &["erp", "books"], None).await
}

fn reported(world: &World) -> Vec<Value> {
    world.got(SOURCE, |got: &Got| serde_json::from_slice(&got.body).unwrap())
}

/// The last deliveries' words.
async fn states(world: &World, id: EventId) -> Vec<&'static str> {
    world.store.record(id).await.unwrap().unwrap().deliveries.iter().map(|delivery| delivery.state.word()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_success_is_reported_once_everything_is_delivered_and_not_before() {
    let world = world("");
    world.behave("books", |n| (Duration::ZERO, answer(if n < 3 { 503 } else { 200 })));
    let id = send(&world, 1).await;
    world.until(|| world.count("books") == 3).await;
    assert_eq!(world.count(SOURCE), 0, "one of the two is still pending");
    world.settle().await;
    assert_eq!(reported(&world), [json!({ "successful": true })]);
    let sent = world.got(SOURCE, |got| got.headers.clone()).remove(0);
    assert_eq!(
        (sent["authorization"].to_str().unwrap(), sent["origin"].to_str().unwrap()),
        ("Bearer the key", "https://acme.d-velop.cloud")
    );
    assert!(!sent.contains_key("webhook-id") && !sent.contains_key("kurier-route"), "{sent:?}");
    assert_eq!(states(&world, id).await, ["delivered"; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_reported_in_both_languages_without_what_the_application_said() {
    let world = world(", error: { de: \"Abgelehnt: {reason}\", en: \"Refused: {reason}\" }");
    world.behave("erp", |_| (Duration::ZERO, answer(422)));
    let id = send(&world, 1).await;
    world.settle().await;
    let [report] = &reported(&world)[..] else { panic!("one report") };
    let said = |language: &str| report["error"][language].as_str().unwrap().to_owned();
    assert_eq!(report["successful"], false);
    assert_eq!(said("de"), "Abgelehnt: Das Zielsystem hat den Beleg abgelehnt.");
    assert_eq!(said("en"), "Refused: The receiving system refused the document.");
    assert_eq!(states(&world, id).await, ["dead", "delivered", "delivered"]);
}

#[tokio::test(start_paused = true)]
async fn a_report_is_retried_and_one_whose_answer_was_lost_counts_as_arrived() {
    let world = world("");
    world.behave(SOURCE, |n| {
        let answers = [answer(401), Err(fault(FaultKind::Timeout)), answer(503), answer(404)];
        (Duration::ZERO, answers[n.min(3)].clone())
    });
    let id = send(&world, 1).await;
    world.settle().await;
    assert_eq!(reported(&world), vec![json!({ "successful": true }); 4]);
    assert_eq!(states(&world, id).await, ["delivered"; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_report_that_is_refused_is_a_dead_letter_that_can_be_replayed() {
    let world = world("");
    world.behave(SOURCE, |n| (Duration::ZERO, answer(if n == 0 { 400 } else { 204 })));
    let id = send(&world, 1).await;
    world.settle().await;
    assert_eq!(states(&world, id).await, ["delivered", "delivered", "dead"]);
    world.replay(id, "invoices:acknowledge").await;
    world.settle().await;
    assert_eq!(reported(&world).len(), 2);
    assert_eq!(states(&world, id).await, ["delivered", "delivered", "dead", "delivered"]);
}

#[tokio::test(start_paused = true)]
async fn at_the_deadline_what_is_pending_is_dead_and_the_failure_is_reported_once() {
    let world = world(", deadline: 20h");
    world.behave("erp", |_| (Duration::ZERO, answer(503)));
    let id = send(&world, 1).await;
    world.until(|| world.clock_boot() >= HOUR * 20 - Duration::from_secs(60)).await;
    assert_eq!(world.count(SOURCE), 0);
    world.settle().await;
    let before = world.count("erp");
    assert!(world.clock_boot() < HOUR * 20 + Duration::from_secs(90));
    assert_eq!(reported(&world)[0]["error"]["de"], "Übergabe fehlgeschlagen. Das Zielsystem hat nicht rechtzeitig geantwortet.");
    assert_eq!(world.dead_code(id).await, DeadCode::Deadline);
    assert_eq!(states(&world, id).await, ["dead", "delivered", "delivered"]);

    world.behave("erp", |_| (Duration::ZERO, answer(200)));
    world.replay(id, "erp").await;
    world.settle().await;
    assert_eq!(world.count("erp"), before + 1);
    assert_eq!(reported(&world).len(), 1, "a success after that is not reported");
}

#[tokio::test(start_paused = true)]
async fn deliveries_may_go_on_after_the_deadline_and_the_failure_stays_reported() {
    let mut world = world(", deadline: 20h, after_deadline: continue");
    world.behave("erp", |_| (Duration::ZERO, answer(503)));
    world.behave(SOURCE, |n| (Duration::ZERO, if n < 3 { Err(fault(FaultKind::Reset)) } else { answer(204) }));
    let id = send(&world, 1).await;
    world.until(|| world.count(SOURCE) == 2).await;
    world.behave("erp", |_| (Duration::ZERO, answer(200)));
    world.crash();
    world.start();
    world.settle().await;
    assert_eq!(states(&world, id).await, ["delivered"; 3]);
    let reports = reported(&world);
    assert_eq!(reports.len(), 4);
    assert!(reports.iter().all(|report| report["successful"] == false), "{reports:?}");
}

/// More than are ended at one look: what is reported and goes on is found at every one of them, and comes first.
#[tokio::test(start_paused = true)]
async fn those_that_go_on_past_their_deadline_hide_nothing_that_comes_after_them() {
    const MANY: u128 = 11_400;
    let world = world(", deadline: 20h, after_deadline: continue");
    world.handle().pause("erp", "down").await.unwrap();
    for number in 1..=MANY {
        send(&world, number).await;
    }
    tokio::time::sleep(HOUR * 2).await;
    send(&world, MANY + 1).await;
    world.until(|| world.clock_boot() >= HOUR * 23).await;
    assert_eq!(world.count(SOURCE) as u128, MANY + 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_link_may_lead_to_is_the_operators_word() {
    let world = world("");
    let body = Bytes::from_static(br#"{"_links":{"report_results_async":{"href":"https://evil.example/x"}}}"#);
    let id = world.accept(Event { body, ..event(9) }, &["erp"], None).await;
    world.settle().await;
    assert_eq!(world.count("evil.example"), 0);
    let report = world.store.record(id).await.unwrap().unwrap().deliveries.remove(1);
    let DeliveryState::Dead(reason) = report.state else { panic!("{report:?}") };
    assert_eq!(reason.code, DeadCode::Unsendable);
    assert!(reason.detail.contains("allowed_hosts"), "{reason}");
}

/// An event that the store ended while it opened, as it does without knowing any configuration.
async fn interrupted(world: &mut World) -> EventId {
    world.crash();
    let id = send(world, 1).await;
    for pending in world.store.pending_after(0, 9).await.unwrap() {
        let reason = DeadReason { code: DeadCode::Interrupted, detail: "three attempts in a row".into() };
        let (delivery, version, attempts) = (pending.id, pending.version, pending.attempts);
        let state = DeliveryState::Dead(reason);
        world.store.settle(Settlement { delivery, version, attempt: None, attempts, state, acknowledgement: None }).await.unwrap();
    }
    id
}

#[tokio::test(start_paused = true)]
async fn an_event_that_the_end_of_the_process_ended_is_reported_also_at_a_start_by_a_wrong_clock() {
    // What was written last is older than the clock, or was written by one that was ahead.
    for (set_by, written_after) in [(10 * 86_400, 0), (0, 10 * 86_400)] {
        let mut world = world("");
        let written_at = world.clock.now().saturating_add(Duration::from_secs(written_after));
        interrupted(&mut world).await;
        world.clock.set_by(set_by);
        let calendar = Calendar::new(world.clock.clone());
        calendar.witness(written_at);
        world.start_by(calendar);
        world.until(|| world.count(SOURCE) == 1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_that_the_end_of_the_process_ended_is_reported_at_the_next_start() {
    let mut world = world("");
    let id = interrupted(&mut world).await;
    for _ in 0..2 {
        world.start();
        world.until(|| world.count(SOURCE) == 1).await;
        world.settle().await;
        world.crash();
    }
    assert_eq!(reported(&world)[0]["error"]["en"], "Transfer failed. The delivery was interrupted repeatedly.");
    assert_eq!(states(&world, id).await, ["dead", "dead", "delivered"]);
}
