//! Reloads under traffic, destinations that go and come back, stops in the middle, dead neighbours (C1, K7, K9, Q2).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::{get, home, post, routes, wait_for_state};
use crate::harness::{Home, Sink, github_signature, request, try_request, wait_until};

const SECRET: &str = "a secret of the reloads";

/// How many reloads there are under traffic.
const RELOADS: usize = 1000;

#[test]
fn a_thousand_reloads_under_traffic_let_nobody_in_and_lose_nothing() {
    let sink = Sink::start();
    let file = |rate: usize| {
        format!(
            "server: {{ listen: 127.0.0.1:0 }}\nadmin: {{ listen: 127.0.0.1:0 }}\nstore: {{ path: ./data, allow_file_systems: [overlay] }}\nroutes:\n  code:\n    path: /in\n    \
             verify: {{ preset: github, secrets: [{{ env: HUB }}] }}\n    dedupe: {{ window: 0s }}\n    deliver: [erp]\ndestinations:\n  \
             erp: {{ url: '{}', limits: {{ concurrency: {rate} }} }}\n",
            sink.url("/in")
        )
    };
    let home = Home::new(&file(1)).with_env("HUB", SECRET);
    let kurier = home.serve();
    let (over, accepted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let address = kurier.public;
    let senders: Vec<_> = [true, false]
        .into_iter()
        .map(|is_known| {
            let (over, accepted) = (over.clone(), accepted.clone());
            std::thread::spawn(move || {
                let signature = if is_known { github_signature(SECRET, b"{}") } else { github_signature("guessed", b"{}") };
                while !over.load(Ordering::Relaxed) {
                    let answer = request(address, "POST", "/in", &[("x-hub-signature-256", &signature)], b"{}").status();
                    assert_eq!(answer, if is_known { 200 } else { 401 });
                    accepted.fetch_add(usize::from(is_known), Ordering::Relaxed);
                }
            })
        })
        .collect();
    let reloads = || {
        let metrics = request(kurier.admin, "GET", "/metrics", &[], b"").text();
        let count = metrics.lines().find_map(|line| line.strip_prefix("kurier_config_reloads_total{result=\"ok\"} "));
        count.and_then(|count| count.trim().parse::<usize>().ok()).unwrap_or(0)
    };
    let mut done = 0;
    while done < RELOADS {
        home.write("routes.yaml", &file(1 + done % 7));
        kurier.signal("HUP");
        let before = done;
        wait_until("a reload is done", || {
            done = reloads();
            done > before
        });
    }
    over.store(true, Ordering::Relaxed);
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    sink.wait_for(accepted.load(Ordering::Relaxed));
    wait_until("nothing is pending", || get(&kurier, "/api/v1/destinations")["items"][0]["pending"] == 0);
    let dead = get(&kurier, "/api/v1/destinations")["items"][0]["dead"].clone();
    assert_eq!(dead, 0);
}

#[test]
fn what_waits_for_a_removed_destination_is_not_delivered_to_a_new_one_of_the_name() {
    let (old, new) = (Sink::start(), Sink::start());
    old.otherwise("503 Down");
    let with = |sink: &Sink| {
        routes(
            "      - erp\n      - log\n",
            &format!("  erp: {{ url: '{}' }}\n  log: {{ url: '{}' }}\n", sink.url("/in"), sink.url("/log")),
        )
    };
    let home = Home::new(&with(&old));
    let kurier = home.serve();
    post(&kurier, "{\"n\":1}");
    old.wait_for(1);
    home.write("routes.yaml", &routes("      - log\n", &format!("  log: {{ url: '{}' }}\n", old.url("/log"))));
    kurier.signal("HUP");
    let dead = wait_for_state(&kurier, "erp", "dead");
    assert!(dead.to_string().contains("destination_removed"), "{dead}");
    home.write("routes.yaml", &with(&new));
    kurier.signal("HUP");
    wait_until("the new one is in force", || {
        get(&kurier, "/api/v1/destinations")["items"]
            .as_array()
            .unwrap()
            .iter()
            .any(|item| item["name"] == "erp" && item["configured"] == true)
    });
    post(&kurier, "{\"n\":2}");
    wait_until("the new event arrives", || new.received().iter().any(|got| got.start.contains("/in") && got.body == b"{\"n\":2}"));
    assert!(!new.received().iter().any(|got| got.start.contains("/in ") && got.body == b"{\"n\":1}"));
}

#[test]
fn a_stop_in_the_middle_answers_or_refuses_everybody_and_the_next_start_delivers_what_was_accepted() {
    let sink = Sink::start();
    let home = home("      - erp\n", &format!("  erp: {{ url: '{}' }}\n", sink.url("/in")));
    let kurier = home.serve();
    let address = kurier.public;
    let senders: Vec<_> = (0..8)
        .map(|sender| {
            std::thread::spawn(move || {
                let mut accepted = Vec::new();
                for n in 0..10_000 {
                    let body = format!("{{\"n\":\"{sender}-{n}\"}}");
                    match try_request(address, "POST", "/in", &[], body.as_bytes()) {
                        Ok(Some(answer)) if answer.status() == 200 => accepted.push(body),
                        Ok(Some(answer)) => assert_eq!(answer.status(), 503),
                        // Closed without an answer, or nobody listens any more.
                        Ok(None) | Err(_) => break,
                    }
                }
                accepted
            })
        })
        .collect();
    sink.wait_for(50);
    assert_eq!(kurier.terminate().code(), Some(0));
    let accepted: Vec<String> = senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect();
    let _kurier = home.serve();
    wait_until("everything that was accepted has arrived", || {
        let got: std::collections::BTreeSet<Vec<u8>> = sink.received().into_iter().map(|got| got.body).collect();
        accepted.iter().all(|body| got.contains(body.as_bytes()))
    });
}

#[test]
fn a_dead_destination_with_a_long_backlog_holds_no_other_up() {
    let sink = Sink::start();
    let dead = crate::harness::free_address();
    let text = format!(
        "server: {{ listen: 127.0.0.1:0 }}\nadmin: {{ listen: 127.0.0.1:0 }}\nstore: {{ path: ./data, allow_file_systems: [overlay] }}\nroutes:\n  bad:\n    path: /bad\n    verify: \
         none\n    deliver: [bad]\n  events:\n    path: /in\n    verify: none\n    deliver: [well]\ndestinations:\n  bad: {{ url: 'http://{dead}/' }}\n  \
         well: {{ url: '{}' }}\n",
        sink.url("/in")
    );
    let home = Home::new(&text);
    let kurier = home.serve();
    let address = kurier.public;
    let fillers: Vec<_> = (0..16)
        .map(|filler| {
            std::thread::spawn(move || {
                for n in 0..125 {
                    assert_eq!(request(address, "POST", "/bad", &[], format!("{filler}-{n}").as_bytes()).status(), 200);
                }
            })
        })
        .collect();
    fillers.into_iter().for_each(|filler| filler.join().unwrap());
    let pending = || {
        let page = get(&kurier, "/api/v1/destinations");
        page["items"].as_array().unwrap().iter().find(|item| item["name"] == "bad").unwrap()["pending"].as_u64().unwrap()
    };
    assert_eq!(pending(), 2000);
    for n in 0..50 {
        post(&kurier, &format!("{{\"n\":{n}}}"));
        // One after the other: each has arrived before the next is sent.
        sink.wait_for(n + 1);
    }
    assert_eq!(pending(), 2000, "while all of the other still wait");
}
