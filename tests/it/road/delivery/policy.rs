//! What each answer, and each kind of silence, comes to (Q1, Q6, Q8, E4, E5, E6).

use super::downstream::Downstream;
use super::{deliveries, home, post, routes, wait_for_state};
use crate::harness::{Home, Sink, wait_until};
use crate::relay::transport::{authority, tls_server};

#[test]
fn every_answer_and_every_kind_of_silence_has_its_row_in_the_policy_table() {
    let downstream = Downstream::start();
    let raw = |bytes: &[u8]| format!("/raw/{}", hex::encode(bytes));
    // Name, path, what it comes to, and what the record of its first attempt must hold.
    let mut rows: Vec<(String, String, &str, String)> = Vec::new();
    for status in [200, 202, 204, 299] {
        rows.push((format!("s{status}"), format!("/status/{status}"), "delivered", format!("\"status\":{status}")));
    }
    for status in [400, 413, 422] {
        rows.push((format!("s{status}"), format!("/status/{status}"), "dead", format!("\"status\":{status}")));
    }
    for status in [301, 304, 307, 401, 403, 404, 408, 425, 429, 500, 501, 502, 503, 504] {
        rows.push((format!("s{status}"), format!("/status/{status}"), "retried", format!("\"status\":{status}")));
    }
    for (name, value) in [("zero", "0"), ("minus", "-1"), ("words", "soon"), ("past", "Tue,%2014%20Nov%202000%2022:14:20%20GMT")] {
        rows.push((format!("after-{name}"), format!("/status/503?retry-after={value}"), "retried", "\"status\":503".to_owned()));
    }
    // Both are clamped to `max`, which is short here.
    for (name, value) in [("aeons", "1000000000000"), ("future", "Tue,%2014%20Nov%202090%2022:14:20%20GMT")] {
        rows.push((format!("after-{name}"), format!("/status/429?retry-after={value}"), "retried", "\"status\":429".to_owned()));
    }
    for (name, path, outcome, record) in [
        ("hang", "/hang".to_owned(), "retried", "timeout"),
        ("trickle", "/trickle".to_owned(), "retried", "timeout"),
        ("reset", "/reset".to_owned(), "retried", ""),
        ("continue", "/continue".to_owned(), "delivered", "\"status\":200"),
        ("garbage", raw(b"\x00\x01\x02 not HTTP at all\r\n\r\n"), "retried", "protocol"),
        (
            "odd-reason",
            raw(b"HTTP/1.1 200 Gr\xfc\xdfe\r\nx-odd: \xe9\xff\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"),
            "delivered",
            "200",
        ),
        // Its status is an answer, whatever becomes of the rest.
        ("odd-chunks", raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nhello\r\n"), "delivered", "\"status\":200"),
        ("odd-error", raw(b"HTTP/1.1 500 No\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nhello\r\n"), "retried", ""),
    ] {
        rows.push((name.to_owned(), path, outcome, record.to_owned()));
    }
    let list: String = rows.iter().map(|(name, ..)| format!("      - {name}\n")).collect();
    let destinations: String = rows.iter().map(|(name, path, ..)| downstream.destination(name, path, "")).collect();
    let home = home(&list, &destinations);
    let kurier = home.serve();
    post(&kurier, "{}");
    let as_said = |delivery: &serde_json::Value, outcome: &str| match outcome {
        "retried" => delivery["attempts_made"].as_u64() >= Some(2),
        state => delivery["state"] == state,
    };
    wait_until("everything is as the table says", || {
        let found = deliveries(&kurier);
        rows.iter().all(|(name, _, outcome, _)| as_said(&found[name], outcome))
    });
    let found = deliveries(&kurier);
    for (name, _, outcome, record) in &rows {
        let text = found[name].to_string();
        assert!(text.contains(record.as_str()), "{name}: {record} is not in {text}");
        assert_eq!(*outcome == "retried", found[name]["state"] == "pending", "{name}: {text}");
    }
    assert_eq!(downstream.count("/status/413"), 1, "rejected is rejected");
}

#[test]
fn a_410_ends_its_delivery_and_pauses_the_destination_until_somebody_resumes_it() {
    let sink = Sink::start();
    sink.script(&["410 Gone"]);
    let home = home("      - erp\n", &format!("  erp: {{ url: '{}', limits: {{ concurrency: 1 }} }}\n", sink.url("/in")));
    let kurier = home.serve();
    let admin = kurier.admin_url();
    post(&kurier, "{\"n\":1}");
    let dead = wait_for_state(&kurier, "erp", "dead");
    assert!(dead.to_string().contains("gone"), "{dead}");
    wait_until("it is paused", || home.run(&["destinations", "--admin-url", &admin]).stdout.contains("answered 410 Gone"));
    post(&kurier, "{\"n\":2}");
    kurier.kill();
    let kurier = home.serve();
    let admin = kurier.admin_url();
    let listed = home.run(&["destinations", "--json", "--admin-url", &admin]).stdout;
    assert!(listed.contains("\"paused\""), "the pause outlives a kill: {listed}");
    assert_eq!(sink.received().len(), 1);
    let resumed = home.run(&["destinations", "resume", "erp", "--admin-url", &admin]);
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    assert_eq!(sink.wait_for(2)[1].body, b"{\"n\":2}");
    let paused = home.run(&["destinations", "pause", "erp", "--admin-url", &admin]);
    assert_eq!(paused.code, Some(0), "{paused:?}");
    let unknown = home.run(&["destinations", "pause", "nowhere", "--admin-url", &admin]);
    assert_ne!(unknown.code, Some(0), "{unknown:?}");
}

#[test]
fn a_redirect_is_never_followed_and_takes_no_credentials_along() {
    let downstream = Downstream::start();
    let destination = downstream.destination("erp", "/status/302", ", auth: { bearer: { env: TOKEN } }");
    let home = home("      - erp\n", &destination).with_env("TOKEN", "a-token-of-the-tests");
    let kurier = home.serve();
    post(&kurier, "{}");
    wait_until("it is tried again", || downstream.count("/status/302") >= 3);
    assert_eq!(downstream.count("/status/200"), 0);
}

#[test]
fn a_proxy_in_the_environment_is_not_asked() {
    let (sink, proxy) = (Sink::start(), Sink::start());
    let mut home = home("      - erp\n", &format!("  erp: {{ url: '{}' }}\n", sink.url("/in")));
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"] {
        home = home.with_env(name, &proxy.url(""));
    }
    let kurier = home.serve();
    post(&kurier, "{}");
    sink.wait_for(1);
    assert!(proxy.received().is_empty());
}

#[test]
fn no_setting_can_break_the_framing_or_take_a_url_from_an_event() {
    for (setting, problem) in [
        ("headers: { Host: x }", "can't be set"),
        ("headers: { Content-Length: '7' }", "can't be set"),
        ("headers: { Transfer-Encoding: chunked }", "can't be set"),
        ("headers: { Connection: close }", "can't be set"),
        ("headers: { X-A: \"a\\r\\nx-b: c\" }", "headers.X-A"),
        ("headers: { \"X A\": b }", "headers"),
        ("headers: { webhook-id: b }", "set by Kurier"),
    ] {
        let home = Home::new(&routes("      - erp\n", &format!("  erp: {{ url: 'https://erp.example.ch', {setting} }}\n")));
        let checked = home.run(&["check"]);
        assert_eq!(checked.code, Some(3), "{setting}: {checked:?}");
        assert!(checked.stderr.contains(problem) || checked.stdout.contains(problem), "{setting}: {checked:?}");
    }
    // A url is the operator's word, not a template: braces in it stand for themselves.
    let sink = Sink::start();
    let home = home("      - erp\n", &format!("  erp: {{ url: '{}' }}\n", sink.url("/{{body.host}}?x={json:/host}")));
    let kurier = home.serve();
    post(&kurier, "{\"host\":\"evil.example\"}");
    let start = sink.wait_for(1).remove(0).start;
    assert!(!start.contains("evil.example"), "{start}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_not_right_is_named_as_the_reason_and_never_delivered_to() {
    let (ours, theirs) = (authority(), authority());
    let destination = |name: &str, address: std::net::SocketAddr, ca: &str| {
        format!(
            "  {name}: {{ url: 'https://localhost:{}/', tls: {{ ca: {ca} }}, retry: {{ first: 50ms, min: 50ms, max: 100ms }} }}\n",
            address.port()
        )
    };
    let destinations = [
        destination("good", tls_server(&ours, "localhost", false, None).await, "ours.pem"),
        destination("expired", tls_server(&ours, "localhost", true, None).await, "ours.pem"),
        destination("misnamed", tls_server(&ours, "other.test", false, None).await, "ours.pem"),
        destination("untrusted", tls_server(&theirs, "localhost", false, None).await, "ours.pem"),
    ];
    let list: String = ["good", "expired", "misnamed", "untrusted"].iter().map(|name| format!("      - {name}\n")).collect();
    let home = home(&list, &destinations.concat());
    home.write("ours.pem", &ours.pem);
    let kurier = home.serve();
    post(&kurier, "{}");
    wait_for_state(&kurier, "good", "delivered");
    for name in ["expired", "misnamed", "untrusted"] {
        wait_until("it is tried again", || deliveries(&kurier)[name]["attempts_made"].as_u64() >= Some(2));
        let delivery = &deliveries(&kurier)[name];
        assert_eq!((&delivery["state"], &delivery["attempts"][0]["fault"]["kind"]), (&"pending".into(), &"tls".into()), "{delivery}");
        assert_ne!(delivery["attempts"][0]["fault"]["detail"], "", "{name}: {delivery}");
    }
}
