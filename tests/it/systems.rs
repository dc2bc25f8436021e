//! The five systems on the built binary: routes.yaml is all there is, and the simulators stand for the vendors.

mod bankintegration;
mod dvelop;
mod inpasy;
mod payjoe;
mod smartbusiness;
mod sns;

use crate::harness::{Home, PATIENCE, Serving, request, wait_until};

/// The server's part of a configuration.
const HERE: &str =
    "server: { listen: 127.0.0.1:0 }\nadmin: { listen: 127.0.0.1:0 }\nstore: { path: ./data, allow_file_systems: [overlay] }\n";

/// Soon again, so that a test need not wait.
const SOON: &str = "{ first: 100ms, min: 50ms, max: 500ms, max_age: 1h }";

fn home(routes_and_destinations: &str) -> Home {
    Home::new(&format!("{HERE}{routes_and_destinations}"))
}

/// What the admin API says.
fn look(kurier: &Serving, path: &str) -> serde_json::Value {
    serde_json::from_slice(&request(kurier.admin, "GET", path, &[], b"").body).unwrap()
}

/// Waits until the events of a route have only these states, in the order of their deliveries.
fn wait_for_states(kurier: &Serving, route: &str, states: &[&str]) {
    let path = format!("/api/v1/events?route={route}");
    let mut seen = serde_json::Value::Null;
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        seen.clone_from(&look(kurier, &path));
        let items = seen["items"].as_array().unwrap();
        let found: Vec<&str> = items
            .iter()
            .flat_map(|item| item["deliveries"].as_array().unwrap())
            .map(|delivery| delivery["state"].as_str().unwrap())
            .collect();
        if found == states {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "waited in vain for {states:?}:\n{seen:#}\n{}", kurier.log());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// The types of a route's events, oldest first.
fn types(kurier: &Serving, route: &str) -> Vec<String> {
    let events = look(kurier, &format!("/api/v1/events?route={route}&limit=500"));
    let mut types: Vec<String> =
        events["items"].as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap_or_default().to_owned()).collect();
    types.reverse();
    types
}

/// How a route's polls stand.
fn pulled(kurier: &Serving, route: &str) -> serde_json::Value {
    let routes = look(kurier, "/api/v1/routes");
    routes["items"].as_array().unwrap().iter().find(|item| item["name"] == route).unwrap()["pull"].clone()
}

/// Sends a JSON body to the route at `/in`.
fn post(kurier: &Serving, body: &serde_json::Value) {
    let answer = request(kurier.public, "POST", "/in", &[("content-type", "application/json")], body.to_string().as_bytes());
    assert_eq!(answer.status(), 200, "{}", answer.text());
}

/// Waits until so many deliveries of a destination are pending, and so many dead.
fn wait_for_counts(kurier: &Serving, destination: &str, pending: u64, dead: u64) {
    let counts = || {
        let items = look(kurier, "/api/v1/destinations");
        let found = items["items"].as_array().unwrap().iter().find(|item| item["name"] == destination).cloned().unwrap();
        (found["pending"].as_u64().unwrap(), found["dead"].as_u64().unwrap())
    };
    let deadline = std::time::Instant::now() + PATIENCE;
    while counts() != (pending, dead) {
        assert!(
            std::time::Instant::now() < deadline,
            "waited in vain for {:?}, there are {:?}:\n{}",
            (pending, dead),
            counts(),
            kurier.log()
        );
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// Waits until a simulator has been called so often.
fn wait_for_calls(simulator: &kurier::demo::simulators::Simulator, count: usize) {
    wait_until(&format!("{count} calls"), || simulator.calls().len() >= count);
}
