//! A lane in order through failures, kills and reloads; an answer that waits for the outcome.

use super::{home, post, routes};
use crate::harness::{Home, Sink, request, wait_until};

/// A route with lanes by the body's `lane`, bound for this sink.
fn lanes(sink: &Sink, concurrency: usize) -> String {
    let destination = format!(
        "  erp: {{ url: '{}', limits: {{ concurrency: {concurrency} }}, retry: {{ first: 20ms, min: 10ms, max: 50ms }} }}",
        sink.url("/in")
    );
    routes("      - erp", &destination).replace("    verify: none\n", "    verify: none\n    order_by: '{json:/lane}'\n")
}

#[test]
fn a_lane_stays_in_order_through_failures_kills_and_reloads() {
    const EACH: usize = 25;
    let sink = Sink::start();
    // Of eight requests three fail.
    sink.script(&["200 OK", "503 No", "200 OK", "500 No", "200 OK", "200 OK", "404 No", "200 OK"].repeat(40));
    let home = Home::new(&lanes(&sink, 8));
    let mut kurier = home.serve();
    for n in 0..EACH {
        for lane in ["a", "b", "c"] {
            post(&kurier, &format!("{{\"lane\":\"{lane}\",\"n\":{n}}}"));
        }
        match n {
            8 | 16 => {
                kurier.kill();
                kurier = home.serve();
            }
            4 | 12 | 20 => {
                home.write("routes.yaml", &lanes(&sink, n));
                kurier.signal("HUP");
            }
            _ => {}
        }
    }
    let seen = |lane: &str| -> Vec<u64> {
        let bodies = sink.received().into_iter().map(|got| serde_json::from_slice::<serde_json::Value>(&got.body).unwrap());
        bodies.filter(|body| body["lane"] == lane).map(|body| body["n"].as_u64().unwrap()).collect()
    };
    for lane in ["a", "b", "c"] {
        wait_until("the lane has arrived", || seen(lane).contains(&(EACH as u64 - 1)));
        let seen = seen(lane);
        // One may come again, never after another has begun.
        assert!(seen.is_sorted(), "lane {lane}: {seen:?}");
        let mut distinct = seen.clone();
        distinct.dedup();
        assert_eq!(distinct, (0..EACH as u64).collect::<Vec<_>>(), "lane {lane}: {seen:?}");
    }
}

#[test]
fn an_answer_that_waits_tells_what_became_of_the_event() {
    let sink = Sink::start();
    sink.script(&["200 OK", "422 Wrong", "503 Not now"]);
    let respond = "    verify: none\n    respond: { status: 202, wait: 1s, delivered: { status: 200, body: arrived }, dead: { body: refused }, \
                   otherwise: { body: later } }\n";
    let destination = format!("  erp: {{ url: '{}', retry: {{ first: 30s, min: 30s, max: 30s }} }}", sink.url("/in"));
    let home = home("      - erp", &destination);
    home.write("routes.yaml", &routes("      - erp", &destination).replace("    verify: none\n", respond));
    let kurier = home.serve();
    for (body, answer) in [("1", "arrived"), ("2", "refused"), ("3", "later")] {
        let got = request(kurier.public, "POST", "/in", &[], body.as_bytes());
        assert_eq!((got.status(), got.text().as_str()), (200, answer));
    }
    let repeat = request(kurier.public, "POST", "/in", &[], b"1");
    assert_eq!((repeat.text().as_str(), sink.received().len()), ("arrived", 3), "a repeat hears the same and is not delivered");
}
