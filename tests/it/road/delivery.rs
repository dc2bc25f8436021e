//! "It always arrives", on the built binary: what destinations do to us, programs that go too far, reloads under
//! traffic, stops in the middle. The cases are those of the abuse list: Q, E, C and K.

mod changes;
mod downstream;
mod order;
mod policy;
mod programs;

use std::collections::BTreeMap;

use crate::harness::{Home, Serving, request, wait_until};

/// A home whose routes take anybody's word; `destinations` are lines of YAML.
fn home(deliver: &str, destinations: &str) -> Home {
    Home::new(&routes(deliver, destinations))
}

fn routes(deliver: &str, destinations: &str) -> String {
    format!(
        "server: {{ listen: 127.0.0.1:0 }}\nadmin: {{ listen: 127.0.0.1:0 }}\nstore: {{ path: ./data, allow_file_systems: [overlay] }}\nroutes:\n  events:\n    path: /in\n    \
         verify: none\n    deliver:\n{deliver}\ndestinations:\n{destinations}\n"
    )
}

/// Sends an event.
fn post(kurier: &Serving, body: &str) {
    let answer = request(kurier.public, "POST", "/in", &[("content-type", "application/json")], body.as_bytes());
    assert_eq!(answer.status(), 200, "{}", answer.text());
}

fn get(kurier: &Serving, target: &str) -> serde_json::Value {
    serde_json::from_str(&request(kurier.admin, "GET", target, &[], b"").text()).unwrap()
}

/// The deliveries of the event that was sent last, by destination, with their attempts.
fn deliveries(kurier: &Serving) -> BTreeMap<String, serde_json::Value> {
    let newest = get(kurier, "/api/v1/events?limit=1");
    let id = newest["items"][0]["id"].as_str().unwrap().to_owned();
    let event = get(kurier, &format!("/api/v1/events/{id}"));
    let deliveries = event["deliveries"].as_array().unwrap();
    deliveries.iter().map(|delivery| (delivery["destination"].as_str().unwrap().to_owned(), delivery.clone())).collect()
}

/// Waits until the newest event's delivery to this destination is in this state, and returns it.
fn wait_for_state(kurier: &Serving, destination: &str, state: &str) -> serde_json::Value {
    let mut found = serde_json::Value::Null;
    wait_until(&format!("the delivery to {destination} is {state}"), || {
        found = deliveries(kurier)[destination].clone();
        found["state"] == state
    });
    found
}
