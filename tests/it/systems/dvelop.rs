//! d.velop smart invoice: results are reported once, whatever happens in between.

use serde_json::json;

use super::{SOON, home, look, pulled, types, wait_for_calls, wait_for_states};
use crate::harness::{Home, Serving, Sink, dvelop_signature, request, wait_until};
use kurier::demo::simulators::dvelop::{API_KEY, Dvelop, INTEGRATION_KEY};
use kurier::demo::simulators::{Answer, Trouble};

const SECRET: &str = "a-secret-of-the-tests";

fn invoices(sink: &Sink, more: &str) -> Home {
    home(&format!(
        r#"
routes:
  invoices:
    path: /callbacks/dvelop
    verify: {{ preset: dvelop-smart-invoice, secrets: [{{ env: DVELOP_SECRET }}] }}
    deliver: [erp]
    acknowledge:
      dvelop:
        auth: {{ bearer: {{ env: DVELOP_API_KEY }} }}
        allowed_hosts: [127.0.0.1]
        allow_private: [127.0.0.0/8]
        retry: {SOON}
        error: {{ de: "Übergabe fehlgeschlagen: {{reason}}", en: "Transfer failed: {{reason}}" }}
destinations:
  erp: {{ url: "{}", retry: {SOON} }}
{more}"#,
        sink.url("/hooks")
    ))
    .with_env("DVELOP_SECRET", SECRET)
    .with_env("DVELOP_API_KEY", API_KEY)
}

fn push(kurier: &Serving, body: &[u8]) {
    let signature = dvelop_signature(SECRET, body);
    let answer = request(kurier.public, "POST", "/callbacks/dvelop", &[("x-smart-invoice-signature", &signature)], body);
    assert_eq!((answer.status(), answer.text().as_str()), (202, r#"{"successful":true}"#));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhooks_result_is_reported_to_the_link_that_it_names() {
    let (dvelop, sink) = (Dvelop::start(2, 10).await.unwrap(), Sink::start());
    sink.script(&["503 Soon", "200 OK", "422 No"]);
    let home = invoices(&sink, "");
    let kurier = home.serve();
    push(&kurier, &dvelop.listed()[0]);
    wait_for_states(&kurier, "invoices", &["delivered", "delivered"]);
    push(&kurier, &dvelop.listed()[1]);
    wait_for_states(&kurier, "invoices", &["dead", "delivered", "delivered", "delivered"]);
    let failure = json!({ "successful": false, "error": {
        "de": "Übergabe fehlgeschlagen: Das Zielsystem hat den Beleg abgelehnt.",
        "en": "Transfer failed: The receiving system refused the document."
    } });
    assert_eq!(dvelop.results(), [Some(json!({ "successful": true })), Some(failure)]);
    assert!(dvelop.server.calls().iter().all(|call| call.header("origin").starts_with("http://127.0.0.1:")));
    let metrics = request(kurier.admin, "GET", "/metrics", &[], b"").text();
    assert!(metrics.contains("kurier_attempts_total{destination=\"invoices:acknowledge\",outcome=\"delivered\"} 2"), "{metrics}");
    assert!(kurier.terminate().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_outlives_kill_9_before_and_after_it_arrives() {
    let (dvelop, sink) = (Dvelop::start(2, 10).await.unwrap(), Sink::start());
    let home = invoices(&sink, "");
    // Nothing of the first arrives, the answer to the second is lost.
    for (transfer, trouble) in [(0, Trouble::Hang), (1, Trouble::LoseAnswer)] {
        dvelop.server.trouble([trouble, Trouble::Hang]);
        let calls = dvelop.server.calls().len();
        let kurier = home.serve();
        push(&kurier, &dvelop.listed()[transfer]);
        wait_for_calls(&dvelop.server, calls + 1);
        kurier.kill();
        let kurier = home.serve();
        wait_for_states(&kurier, "invoices", &vec!["delivered"; 2 * (transfer + 1)]);
        assert!(kurier.terminate().success());
        dvelop.server.calm();
    }
    assert_eq!(dvelop.results(), vec![Some(json!({ "successful": true })); 2]);
    assert_eq!(sink.received().len(), 2, "what was delivered is not delivered again");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_is_told_of_dead_letters_and_a_refused_report_can_be_replayed() {
    let (dvelop, sink, ops) = (Dvelop::start(1, 10).await.unwrap(), Sink::start(), Sink::start());
    let home = invoices(&sink, &format!("  ops: {{ url: \"{}\", retry: {SOON} }}\nnotify: ops\n", ops.url("/alarm")));
    dvelop.server.trouble([Trouble::Instead(Answer::status(422))]);
    let kurier = home.serve();
    push(&kurier, &dvelop.listed()[0]);
    wait_for_states(&kurier, "invoices", &["delivered", "dead"]);
    let told = ops.wait_for(1).remove(0);
    assert_eq!(told.header("kurier-event-type"), Some("kurier.dead_letter"));
    let told: serde_json::Value = serde_json::from_slice(&told.body).unwrap();
    assert_eq!((&told["destination"], &told["route"], &told["count"]), (&json!("invoices:acknowledge"), &json!("invoices"), &json!(1)));

    let event = told["event"].as_str().unwrap();
    let replay = json!({ "destinations": ["invoices:acknowledge"] }).to_string();
    let answer = request(kurier.admin, "POST", &format!("/api/v1/events/{event}/replay"), &[], replay.as_bytes());
    assert_eq!(answer.status(), 202, "{}", answer.text());
    wait_for_states(&kurier, "invoices", &["delivered", "dead", "delivered"]);
    assert_eq!(dvelop.results(), [Some(json!({ "successful": true }))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_what_is_wrong_with_an_acknowledgement_and_where() {
    let sink = Sink::start();
    let home = invoices(&sink, "");
    assert_eq!(home.run(&["check"]).code, Some(0), "{:?}", home.run(&["check"]));
    let text = std::fs::read_to_string(home.path().join("routes.yaml")).unwrap();
    for (right, wrong, problem) in [
        (
            "[127.0.0.1]",
            "[\"*.ch\"]",
            "routes.invoices.acknowledge.dvelop.allowed_hosts: `allowed_hosts` `*.ch` allows a whole top-level domain",
        ),
        ("retry: {", "deadline: 49h\n        retry: {", "routes.invoices.acknowledge.dvelop.deadline: 49h is too large; at most 2d"),
        ("[127.0.0.0/8]", "[127.0.0.1/8]", "routes.invoices.acknowledge.dvelop.allow_private[0]: `127.0.0.1/8` has bits beyond its prefix"),
        ("auth:", "oauth:", "routes.invoices.acknowledge.dvelop.oauth: unknown key \"oauth\"; did you mean \"auth\"?"),
        ("error:", "origin: perhaps\n        error:", "routes.invoices.acknowledge.dvelop.origin: `perhaps` is neither true nor false"),
    ] {
        home.write("routes.yaml", &text.replacen(right, wrong, 1));
        let ran = home.run(&["check"]);
        assert_eq!(ran.code, Some(3), "{problem}");
        assert!(ran.stderr.contains(problem) || ran.stdout.contains(problem), "{problem}:\n{ran:?}");
    }
    assert!(sink.received().is_empty());
}

fn transfers(dvelop: &Dvelop, sink: &Sink) -> Home {
    home(&format!(
        r#"
routes:
  transfers:
    pull:
      dvelop:
        base_url: "{}"
        integration_key: {INTEGRATION_KEY}
        every: 1s
        auth: {{ bearer: {{ env: DVELOP_API_KEY }} }}
        retry: {SOON}
    deliver: [erp]
    acknowledge:
      dvelop:
        auth: {{ bearer: {{ env: DVELOP_API_KEY }} }}
        allowed_hosts: [127.0.0.1]
        allow_private: [127.0.0.0/8]
        retry: {SOON}
destinations:
  erp: {{ url: "{}", retry: {SOON} }}
"#,
        dvelop.server.url(""),
        sink.url("/hooks")
    ))
    .with_env("DVELOP_API_KEY", API_KEY)
}

#[tokio::test(flavor = "multi_thread")]
async fn transfers_are_fetched_delivered_byte_for_byte_and_reported_once_each() {
    let (dvelop, sink) = (Dvelop::start(7, 3).await.unwrap(), Sink::start());
    let home = transfers(&dvelop, &sink);
    // The second page is down at first: what the first one held is kept, and known at the next poll.
    dvelop.server.trouble([Trouble::Instead(Answer::status(503))]);
    let kurier = home.serve();
    wait_until("all are reported", || dvelop.results().iter().all(Option::is_some));
    wait_for_states(&kurier, "transfers", &["delivered"; 14]);
    let mut bodies: Vec<Vec<u8>> = sink.received().into_iter().map(|delivery| delivery.body).collect();
    bodies.sort();
    let mut listed = dvelop.listed();
    listed.sort();
    assert_eq!(bodies, listed);
    assert!(dvelop.results().iter().all(|result| *result == Some(json!({ "successful": true }))));
    wait_until("a poll has succeeded", || pulled(&kurier, "transfers")["last_success"].is_string());
    let metrics = request(kurier.admin, "GET", "/metrics", &[], b"").text();
    assert!(metrics.contains("kurier_attempts_total{destination=\"transfers:pull\",outcome=\"delivered\"}"), "{metrics}");
    assert!(kurier.terminate().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_between_polls_fetches_nothing_twice() {
    let (dvelop, sink) = (Dvelop::start(5, 2).await.unwrap(), Sink::start());
    sink.otherwise("503 Not yet");
    let home = transfers(&dvelop, &sink);
    for _ in 0..3 {
        let kurier = home.serve();
        wait_until("a poll has succeeded", || {
            pulled(&kurier, "transfers")["last_success"].is_string() && types(&kurier, "transfers").len() == 5
        });
        kurier.kill();
    }
    sink.otherwise("200 OK");
    let kurier = home.serve();
    wait_until("all are reported", || dvelop.results().iter().all(Option::is_some));
    assert_eq!(types(&kurier, "transfers").len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_that_is_refused_pauses_until_an_operator_resumes_it() {
    let (dvelop, sink) = (Dvelop::start(1, 10).await.unwrap(), Sink::start());
    let home = transfers(&dvelop, &sink);
    dvelop.server.trouble([Trouble::Instead(Answer::status(401))]);
    let kurier = home.serve();
    let polling = |kurier: &Serving| {
        let items = look(kurier, "/api/v1/destinations")["items"].as_array().unwrap().clone();
        items.into_iter().find(|item| item["name"] == "transfers:pull").unwrap()
    };
    wait_until("it is paused", || polling(&kurier)["state"] == "paused");
    assert!(polling(&kurier)["paused_because"].as_str().unwrap().contains("credentials"), "{}", polling(&kurier));
    assert_eq!(dvelop.server.calls().len(), 1);
    request(kurier.admin, "POST", "/api/v1/destinations/transfers:pull/resume", &[], b"");
    wait_until("all are reported", || dvelop.results().iter().all(Option::is_some));
    assert!(kurier.terminate().success());
}
