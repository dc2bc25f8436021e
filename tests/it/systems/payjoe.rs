//! PayJoe: records travel together, and each is settled by itself.

use serde_json::{Value, json};

use super::{SOON, home, look, post, wait_for_calls, wait_for_counts};
use crate::harness::{Home, Serving};
use kurier::demo::simulators::payjoe::{ACCESS_ID, API_KEY, PayJoe, USER};
use kurier::demo::simulators::{Answer, Trouble};

fn bookkeeping(system: &PayJoe, batch: &str, more: &str) -> Home {
    home(&format!(
        r#"
routes:
  payments:
    path: /in
    verify: none
    deliver:
      - to: bookkeeping
        transform: |
          .body | {{ Buchungsdatum: .day, Valutadatum: .day, Waehrung: 978, BruttoBetrag: .amount, BruttoWaehrung: "EUR", Buchungstext: .text }}
          + if .id then {{ UniqueIdentifier: .id }} else {{}} end
destinations:
  bookkeeping:
    payjoe: {{ url: "{}", user: {USER}, api_key: {{ env: PAYJOE_KEY }}, access_id: {ACCESS_ID}, batch: {batch}{more} }}
    retry: {SOON}
"#,
        system.server.url("/zahlungsupload")
    ))
    .with_env("PAYJOE_KEY", API_KEY)
}

fn pay(kurier: &Serving, id: usize, text: &str) {
    post(kurier, &json!({ "id": format!("P-{id}"), "day": "2026-01-05", "amount": "20.00", "text": text }));
}

#[tokio::test(flavor = "multi_thread")]
async fn payments_travel_in_batches_and_a_bad_one_blocks_no_other() {
    let system = PayJoe::start().await.unwrap();
    let home = bookkeeping(&system, "{ max: 10, wait: 300ms }", "");
    let kurier = home.serve();
    for id in 0..25 {
        pay(&kurier, id, if id == 7 { "refuse" } else { "ok" });
    }
    // One that our own check refuses, and one that gets its identifier from us.
    post(&kurier, &json!({ "id": "P-99", "day": "soon", "amount": "20.00", "text": "ok" }));
    post(&kurier, &json!({ "day": "2026-01-05", "amount": 20.5, "text": "ok" }));
    wait_for_counts(&kurier, "bookkeeping", 0, 2);
    let payments = system.payments();
    assert_eq!(payments.len(), 25);
    assert!(!payments.contains_key("P-7") && payments.keys().any(|id| id.starts_with("evt_")), "{payments:?}");
    assert!(system.server.calls().len() < 20, "{} uploads of 26 records", system.server.calls().len());
    let dead: Vec<Value> = look(&kurier, "/api/v1/events?state=dead")["items"].as_array().unwrap().clone();
    let reasons: Vec<String> =
        dead.iter().map(|item| look(&kurier, &format!("/api/v1/events/{}", item["id"].as_str().unwrap())).to_string()).collect();
    assert!(reasons.iter().any(|reason| reason.contains("`Buchungsdatum`")), "{reasons:?}");
    assert!(reasons.iter().any(|reason| reason.contains("konnten nicht verarbeitet werden")), "{reasons:?}");
    assert!(kurier.terminate().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_in_the_middle_of_a_batch_loses_no_record_and_counts_none_twice() {
    let system = PayJoe::start().await.unwrap();
    let home = bookkeeping(&system, "{ max: 50, wait: 200ms }", "");
    system.server.trouble([Trouble::Hang]);
    let kurier = home.serve();
    for id in 0..12 {
        pay(&kurier, id, "ok");
    }
    wait_for_calls(&system.server, 1);
    kurier.kill();
    // What was uploaded is uploaded again where nobody could tell.
    system.server.trouble([Trouble::LoseAnswer, Trouble::Instead(Answer::status(503))]);
    let kurier = home.serve();
    wait_for_counts(&kurier, "bookkeeping", 0, 0);
    assert_eq!(system.payments().len(), 12);
    assert!(kurier.terminate().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_pause_the_destination_and_are_shown_nowhere() {
    let system = PayJoe::start().await.unwrap();
    let home = bookkeeping(&system, "{ max: 1, wait: 0s }", "").with_env("PAYJOE_KEY", "a-wrong-key");
    let kurier = home.serve();
    pay(&kurier, 1, "ok");
    crate::harness::wait_until("it is paused", || look(&kurier, "/api/v1/destinations")["items"][0]["state"] == "paused");
    let event = look(&kurier, "/api/v1/events")["items"][0]["id"].as_str().unwrap().to_owned();
    let shown = format!("{}{}", look(&kurier, "/api/v1/destinations"), look(&kurier, &format!("/api/v1/events/{event}")));
    assert!(shown.contains("check `user`, `api_key` and `access_id`"), "{shown}");
    assert!(!shown.contains("a-wrong-key") && !kurier.log().contains("a-wrong-key"));
    assert_eq!(system.server.calls().len(), 1);
}
