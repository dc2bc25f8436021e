//! `kill -9` under load and at the worst moment, on real sockets and a real disk.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{DVELOP, GITHUB, SIGNING, home, routes};
use crate::harness::{Sink, dvelop_signature, free_address, github_signature, request, standard_signature, try_request};

/// Rounds of `kill -9` in `make test`; `KURIER_CRASH_ROUNDS` asks for more.
const ROUNDS: u64 = 5;
const CLIENTS: u64 = 8;

#[test]
fn an_event_answered_202_survives_kill_9_before_its_delivery() {
    // Nobody listens at the destination until Kurier has been killed and is back.
    let address = free_address();
    let down = Sink::start();
    let home = home(&down);
    home.write("routes.yaml", &routes(&down).replace(&down.address.to_string(), &address.to_string()));
    let kurier = home.serve();
    let body = br#"{"event_type":"integration.export","workflow":{"id":"1"}}"#;
    let answer =
        request(kurier.public, "POST", "/callbacks/dvelop", &[("x-smart-invoice-signature", &dvelop_signature(DVELOP, body))], body);
    assert_eq!(answer.status(), 202);
    kurier.kill();

    let up = Sink::on(address);
    let kurier = home.serve();
    let delivery = up.wait_for(1).remove(0);
    assert_eq!(delivery.body, body);
    let (id, timestamp) = (delivery.header("webhook-id").unwrap(), delivery.header("webhook-timestamp").unwrap());
    assert_eq!(delivery.header("webhook-signature"), Some(standard_signature(SIGNING, id, timestamp, body).as_str()));
    assert!(kurier.terminate().success());
}

/// What the senders were told about each of their numbered bodies.
#[derive(Default)]
struct Told {
    accepted: BTreeSet<u64>,
    refused: BTreeSet<u64>,
}

#[test]
fn rounds_of_kill_9_under_load_lose_nothing_and_deliver_nothing_that_was_refused() {
    let rounds = std::env::var("KURIER_CRASH_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS);
    let sink = Sink::start();
    let home = home(&sink);
    let told = Arc::new(Mutex::new(Told::default()));
    let next = Arc::new(AtomicU64::new(1));
    for round in 0..rounds {
        let kurier = home.serve();
        let stop = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> = (0..CLIENTS).map(|_| load(kurier.public, next.clone(), told.clone(), stop.clone())).collect();
        std::thread::sleep(Duration::from_millis(150 + 97 * (round % 7)));
        kurier.kill();
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().unwrap();
        }
    }
    let kurier = home.serve();
    let accepted = told.lock().unwrap().accepted.clone();
    assert!(accepted.len() as u64 > rounds * 10, "the load was no load: {}", accepted.len());
    crate::harness::wait_until("everything accepted is delivered", || {
        let delivered: BTreeSet<u64> = sink.received().iter().filter_map(|delivery| delivery.text().parse().ok()).collect();
        accepted.is_subset(&delivered)
    });
    let delivered: BTreeMap<u64, String> = sink
        .received()
        .iter()
        .map(|delivery| (delivery.text().parse().unwrap(), delivery.header("webhook-id").unwrap().to_owned()))
        .collect();
    let refused = &told.lock().unwrap().refused;
    assert!(!refused.is_empty(), "nothing was refused, so nothing was shown");
    assert!(delivered.keys().all(|number| !refused.contains(number)), "something refused was delivered");
    eprintln!("soak: {rounds} rounds of kill -9 under load: {} accepted, all delivered; {} refused, none", accepted.len(), refused.len());
    assert!(kurier.terminate().success());
}

/// One sender: a numbered body at a time, every seventh one forged, until the server is gone.
fn load(address: SocketAddr, next: Arc<AtomicU64>, told: Arc<Mutex<Told>>, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let body = number.to_string();
            let secret = if number.is_multiple_of(7) { "forged" } else { GITHUB };
            let signature = github_signature(secret, body.as_bytes());
            let answer = try_request(address, "POST", "/callbacks/github", &[("x-hub-signature-256", &signature)], body.as_bytes());
            // No answer: the sender does not know, and either is right.
            let Ok(Some(answer)) = answer else { continue };
            let mut told = told.lock().unwrap();
            match answer.status() {
                200 => told.accepted.insert(number),
                _ => told.refused.insert(number),
            };
        }
    })
}
