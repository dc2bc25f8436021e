//! The contract's table "What a sender gets", except for what has a module of its own.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::Method;
use kurier::config::{Route, Server, ServerLimits};
use kurier::store::memory::Mood;

use super::client::{get, post};
use super::world::{World, config, path, route};

#[tokio::test]
async fn an_accepted_event_gets_the_routes_answer_and_is_stored() {
    let world = World::new().await;
    let answer = world.client().await.ask(post("/in", "hello")).await;
    assert_eq!((answer.status, answer.body.as_slice()), (202, &br#"{"ok":true}"#[..]));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert!(answer.header("date").is_some());
    let events = world.events().await;
    assert_eq!((events.len(), &events[0].body[..]), (1, &b"hello"[..]));
    assert_eq!(world.metric("kurier_events_accepted_total{route=\"orders\"}"), 1);
}

#[tokio::test]
async fn without_a_configured_answer_it_is_an_empty_200() {
    let world = World::with(|setup| setup.routes = vec![Route { respond: None, ..route() }]).await;
    let answer = world.client().await.ask(post("/in", "hello")).await;
    assert_eq!((answer.status, answer.body.len(), answer.header("content-type")), (200, 0, None));
}

#[tokio::test]
async fn a_repeat_within_the_window_gets_the_first_answer_and_stores_nothing() {
    let world = World::new().await;
    let mut client = world.client().await;
    let first = client.ask(post("/in", "hello")).await;
    // A reload that changes the route's answer doesn't change what repeats get.
    let changed = config(same_server(&world.config.load().server), vec![Route { respond: None, ..route() }]);
    world.config.store(Arc::new(changed));
    let again = client.ask(post("/in", "hello")).await;
    assert_eq!((again.status, &again.body), (first.status, &first.body));
    assert_eq!(world.store.len(), 1);
    assert_eq!(world.metric("kurier_events_repeated_total{route=\"orders\"}"), 1);
}

/// The same public side, for a reload.
pub(super) fn same_server(server: &Server) -> Server {
    let limits = ServerLimits { ..server.limits };
    Server { listen: server.listen, public_url: None, trusted_proxies: Vec::new(), tls: None, limits, grace: server.grace }
}

#[tokio::test]
async fn an_unknown_path_gets_404_and_leaves_no_label_of_its_own() {
    let world = World::new().await;
    for target in ["/", "/in/", "//in", "/IN", "/in%2e", "/%69n", "/in.", "/in;x", "/in/x", "/./in", "/x/../in"] {
        let answer = world.client().await.ask(get(target)).await;
        assert_eq!(answer.status, 404, "{target}");
    }
    assert_eq!(world.refused("unknown", "unknown_path"), 11);
}

#[tokio::test]
async fn another_method_gets_405_with_allow() {
    let world = World::with(|setup| setup.routes = vec![Route { methods: vec![Method::GET, Method::POST], ..route() }]).await;
    for method in ["PUT", "DELETE", "HEAD", "OPTIONS", "BREW"] {
        let request = format!("{method} /in HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let mut client = world.client().await;
        client.send(request).await;
        let answer = client.answer_to(method == "HEAD").await.unwrap();
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, POST")), "{method}");
    }
    assert_eq!(world.refused("orders", "method"), 5);
}

#[tokio::test]
async fn a_wildcard_segment_fits_one_segment_that_is_not_empty() {
    let world = World::with(|setup| setup.routes = vec![Route { path: Some(path("/shops/{shop}/paid")), ..route() }]).await;
    for (target, status) in [("/shops/7/paid", 202), ("/shops/a%2Fb/paid?x", 202), ("/shops//paid", 404), ("/shops/7/8/paid", 404)] {
        assert_eq!(world.client().await.ask(post(target, target)).await.status, status, "{target}");
    }
}

#[tokio::test]
async fn a_store_that_cannot_commit_gets_503_with_retry_after_and_nothing_is_stored() {
    let world = World::new().await;
    world.store.set_mood(Mood::Refusing);
    let mut client = world.client().await;
    let answer = client.ask(post("/in", "hello")).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")));
    world.store.set_mood(Mood::Willing);
    assert!(world.store.is_empty());
    assert_eq!(client.ask(post("/in", "hello")).await.status, 202, "its retry is a first");
    assert_eq!(world.refused("orders", "store"), 1);
}

#[tokio::test]
async fn where_the_outcome_is_unknown_the_connection_is_closed_without_an_answer() {
    let world = World::new().await;
    world.store.set_mood(Mood::Unknowing);
    let mut client = world.client().await;
    client.send(post("/in", "hello")).await;
    client.ends_here().await;
    assert_eq!(world.refused("orders", "store"), 1);
}

#[tokio::test]
async fn health_is_told_on_the_public_port() {
    let world = World::new().await;
    let mut client = world.client().await;
    assert_eq!(client.ask(get("/livez")).await.status, 200);
    assert_eq!(client.ask(get("/readyz?verbose")).await.status, 200);
    assert_eq!(client.ask(post("/livez", "")).await.status, 405);
    world.store.set_mood(Mood::Refusing);
    assert_eq!(client.ask(get("/readyz")).await.status, 503);
    assert_eq!(client.ask(get("/livez")).await.status, 200);
    world.store.set_mood(Mood::Willing);
    world.stopping.store(true, Ordering::Release);
    assert_eq!(client.ask(get("/readyz")).await.status, 503);
}

#[tokio::test]
async fn a_route_may_have_a_health_path_to_itself() {
    let world = World::with(|setup| setup.routes = vec![Route { path: Some(path("/livez")), ..route() }]).await;
    assert_eq!(world.client().await.ask(post("/livez", "x")).await.status, 202);
    assert_eq!(world.client().await.ask(get("/livez")).await.status, 405);
}

#[tokio::test]
async fn a_stopping_process_answers_503_and_closes() {
    let world = World::new().await;
    world.stopping.store(true, Ordering::Release);
    let mut client = world.client().await;
    let answer = client.ask(post("/in", "hello")).await;
    assert_eq!((answer.status, answer.header("retry-after"), answer.header("connection")), (503, Some("5"), Some("close")));
    client.ends_here().await;
    assert!(world.store.is_empty());
}
