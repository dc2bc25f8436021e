//! The whole road, on the built binary: a signed callback is checked, kept safe and delivered.

mod alerts;
mod crash;
mod delivery;
#[cfg(feature = "demo")]
mod demo;
mod operator;
mod quarantine;
mod reload;
mod small_disk;

use crate::harness::{Home, Sink, dvelop_signature, github_signature, request, standard_signature, wait_until};

const DVELOP: &str = "a-secret-of-the-tests";
const GITHUB: &str = "another secret";
const BILLING: &str = "whsec_dGhlIHRlc3RzJyBvd24gc2VjcmV0LCAzMiBieXRlcyE=";
const SIGNING: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo=";

/// A configuration with the four callbacks of the mission, all bound for one downstream.
fn routes(sink: &Sink) -> String {
    format!(
        r#"
server: {{ listen: 127.0.0.1:0 }}
admin: {{ listen: 127.0.0.1:0 }}
store: {{ path: ./data, allow_file_systems: [overlay] }}
routes:
  invoices:
    path: /callbacks/dvelop
    verify: {{ preset: dvelop-smart-invoice, secrets: [{{ env: DVELOP_SECRET }}] }}
    deliver: [erp]
  payments:
    path: /callbacks/inpasy
    methods: [GET, POST]
    verify: {{ basic: {{ user: inpasy, password: {{ env: INPASY_PASSWORD }} }} }}
    respond: {{ status: 200, content_type: text/plain, body: OK }}
    deliver: [erp]
  billing:
    path: /callbacks/billing
    verify: {{ preset: standard-webhooks, secrets: [{{ env: BILLING_SECRET }}] }}
    deliver: [erp]
  code:
    path: /callbacks/github
    verify: {{ preset: github, secrets: [{{ env: GITHUB_SECRET }}] }}
    deliver: [erp]
destinations:
  erp:
    url: {}
    sign: {{ secrets: [{{ env: ERP_SIGNING_SECRET }}] }}
    retry: {{ first: 100ms, min: 50ms, max: 500ms, max_age: 1h, never: [400] }}
"#,
        sink.url("/hooks")
    )
}

fn home(sink: &Sink) -> Home {
    Home::new(&routes(sink))
        .with_env("DVELOP_SECRET", DVELOP)
        .with_env("INPASY_PASSWORD", "geheim")
        .with_env("BILLING_SECRET", BILLING)
        .with_env("GITHUB_SECRET", GITHUB)
        .with_env("ERP_SIGNING_SECRET", SIGNING)
}

#[test]
fn a_signed_invoice_arrives_with_its_bytes_and_a_standard_webhooks_signature() {
    let sink = Sink::start();
    let home = home(&sink);
    let kurier = home.serve();
    let body = "{\"event_type\":\"integration.export\",\r\n \"workflow\":{\"id\":\"4711\"},\"note\":\"Prüfung \\/ ä\"}\n".as_bytes();
    let signature = dvelop_signature(DVELOP, body);
    let headers = [("content-type", "application/json"), ("x-smart-invoice-signature", signature.as_str()), ("x-dv-tenant-id", "a12be5")];
    let answer = request(kurier.public, "POST", "/callbacks/dvelop", &headers, body);
    assert_eq!((answer.status(), answer.text().as_str()), (202, r#"{"successful":true}"#));
    assert_eq!(answer.header("content-type"), Some("application/json"));

    let delivery = sink.wait_for(1).remove(0);
    assert_eq!(delivery.start, "POST /hooks HTTP/1.1");
    assert_eq!(delivery.body, body, "bytes in are bytes out");
    assert_eq!(delivery.header("content-type"), Some("application/json"));
    assert_eq!(delivery.header("x-dv-tenant-id"), Some("a12be5"));
    assert_eq!(delivery.header("kurier-route"), Some("invoices"));
    assert_eq!(delivery.header("kurier-event-type"), Some("integration.export"));
    assert_eq!(delivery.header("kurier-source-id"), Some("4711"));
    assert_eq!(delivery.header("kurier-attempt"), Some("1"));
    let (id, timestamp) = (delivery.header("webhook-id").unwrap(), delivery.header("webhook-timestamp").unwrap());
    assert_eq!(delivery.header("webhook-signature"), Some(standard_signature(SIGNING, id, timestamp, body).as_str()));
}

#[test]
fn an_inpasy_completion_arrives_by_get_and_by_form() {
    let sink = Sink::start();
    let home = home(&sink);
    let kurier = home.serve();
    let basic = ("authorization", "Basic aW5wYXN5OmdlaGVpbQ==");
    let answer = request(kurier.public, "GET", "/callbacks/inpasy?lid=123456789012&status=ok&n=%C3%A4", &[basic], b"");
    assert_eq!((answer.status(), answer.text().as_str()), (200, "OK"));
    let form = b"lid=123456789013&status=fehler&name=M%FCller";
    let content = ("content-type", "application/x-www-form-urlencoded; charset=ISO-8859-1");
    assert_eq!(request(kurier.public, "POST", "/callbacks/inpasy", &[basic, content], form).status(), 200);
    assert_eq!(
        request(kurier.public, "GET", "/callbacks/inpasy?lid=1", &[("authorization", "Basic aW5wYXN5OmZhbHNjaA==")], b"").status(),
        401
    );

    let mut deliveries = sink.wait_for(2);
    deliveries.sort_by_key(|delivery| delivery.header("kurier-method").map(str::to_owned));
    let (posted, got) = (&deliveries[0], &deliveries[1]);
    assert_eq!(got.header("kurier-method"), Some("GET"));
    assert_eq!(got.header("kurier-path"), Some("/callbacks/inpasy"));
    assert_eq!(got.header("kurier-query"), Some("lid=123456789012&status=ok&n=%C3%A4"));
    assert_eq!(posted.body, form);
    assert!(deliveries.iter().all(|delivery| delivery.header("authorization").is_none()), "credentials of the route are not passed on");
}

#[test]
fn standard_webhooks_and_github_are_taken_and_a_repeat_is_stored_once() {
    let sink = Sink::start();
    let home = home(&sink);
    let kurier = home.serve();
    let body = br#"{"type":"invoice.paid","data":{}}"#;
    let timestamp = crate::harness::unix_now();
    let signature = standard_signature(BILLING, "msg_1", &timestamp, body);
    let standard = [("webhook-id", "msg_1"), ("webhook-timestamp", timestamp.as_str()), ("webhook-signature", signature.as_str())];
    assert_eq!(request(kurier.public, "POST", "/callbacks/billing", &standard, body).status(), 200);

    let push = br#"{"ref":"refs/heads/main"}"#;
    let signature = github_signature(GITHUB, push);
    let github = [("x-hub-signature-256", signature.as_str()), ("x-github-delivery", "d-1"), ("x-github-event", "push")];
    for _ in 0..3 {
        assert_eq!(request(kurier.public, "POST", "/callbacks/github", &github, push).status(), 200);
    }
    let mut deliveries = sink.wait_for(2);
    deliveries.sort_by_key(|delivery| delivery.header("kurier-route").map(str::to_owned));
    let (billing, code) = (&deliveries[0], &deliveries[1]);
    assert_eq!(billing.header("kurier-original-webhook-id"), Some("msg_1"));
    assert_eq!(billing.header("kurier-event-type"), Some("invoice.paid"));
    assert_eq!((code.header("kurier-event-type"), code.header("kurier-source-id")), (Some("push"), Some("d-1")));
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(sink.received().len(), 2, "a repeat is not delivered");
    let metrics = request(kurier.admin, "GET", "/metrics", &[], b"").text();
    for line in ["kurier_events_repeated_total{route=\"code\"} 2", "kurier_commit_duration_seconds_count 4"] {
        assert!(metrics.lines().any(|counted| counted == line), "each commit is counted once: {line} is missing in\n{metrics}");
    }
}

#[test]
fn a_forged_callback_is_refused_and_never_delivered() {
    let sink = Sink::start();
    let home = home(&sink);
    let kurier = home.serve();
    let signature = dvelop_signature("not the secret", b"{}");
    let answer = request(kurier.public, "POST", "/callbacks/dvelop", &[("x-smart-invoice-signature", &signature)], b"{}");
    assert_eq!((answer.status(), answer.text().as_str()), (401, ""));
    let metrics = request(kurier.admin, "GET", "/metrics", &[], b"").text();
    assert!(metrics.contains("kurier_requests_refused_total{route=\"invoices\",reason=\"mismatch\"} 1"), "{metrics}");
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(sink.received().is_empty());
}

#[test]
fn an_attempt_that_fails_is_tried_again_under_the_same_id() {
    let sink = Sink::start();
    sink.script(&["503 Out of order", "429 Slow down\r\nretry-after: 0", "302 Elsewhere\r\nlocation: /other"]);
    let home = home(&sink);
    let kurier = home.serve();
    let signature = github_signature(GITHUB, b"{}");
    request(kurier.public, "POST", "/callbacks/github", &[("x-hub-signature-256", &signature)], b"{}");
    let deliveries = sink.wait_for(4);
    let attempts: Vec<_> = deliveries.iter().map(|delivery| delivery.header("kurier-attempt").unwrap().to_owned()).collect();
    assert_eq!(attempts, ["1", "2", "3", "4"]);
    assert!(deliveries.iter().all(|delivery| delivery.header("webhook-id") == deliveries[0].header("webhook-id")));
    wait_until("the delivery is settled", || {
        request(kurier.admin, "GET", "/metrics", &[], b"")
            .text()
            .contains("kurier_attempts_total{destination=\"erp\",outcome=\"delivered\"} 1")
    });
}

#[test]
fn the_demo_ends_well() {
    let home = Home::new("");
    let ran = home.run(&["demo", "--once"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for expected in [
        "d.velop smart invoice",
        "the result is reported: the ERP system has the invoice",
        "the customer goes on to https://kasse.example/",
        "the payment is started",
        "the payment is uploaded as a record",
        "the payment request arrives, signed for this minute",
        "the invoice is made",
        "recognised as a repeat",
        "refused: not authenticated",
        "to be tried again",
        "delivered, signature checked",
    ] {
        assert!(ran.stdout.contains(expected), "{expected} is missing in\n{}", ran.stdout);
    }
}
