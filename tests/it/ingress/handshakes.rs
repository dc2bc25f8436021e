//! Handshakes and trials on the wire: answered for a route that has them, never stored, never for another.

use std::sync::Arc;

use kurier::document::{self, Node};
use kurier::model::Secret;
use kurier::signature::{KeyMaterial, SecretSource, Verifier};

use super::world::{World, route};
use crate::ingress::client::Client;
use kurier::config::Route;

struct Env;

impl SecretSource for Env {
    fn secret(&mut self, node: &Node, _path: &str) -> Option<KeyMaterial> {
        Some(KeyMaterial { secret: Secret::new(node.get("env")?.as_str()?.as_bytes().to_vec()), not_after: None })
    }
}

fn verifier(yaml: &str) -> Verifier {
    let mut problems = Vec::new();
    Verifier::compile(&document::parse(yaml).unwrap(), "verify", &mut Env, &mut problems).unwrap_or_else(|| panic!("{problems:?}"))
}

async fn world(yaml: &str) -> World {
    let route = Route { verifier: verifier(yaml), ..route() };
    World::with(|setup| setup.routes = vec![route]).await
}

fn request(method: &str, target: &str, headers: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: 0\r\n\r\n")
}

const DROPBOX: &str = "{ preset: dropbox, secrets: [{ env: s }] }";

#[tokio::test]
async fn a_handshake_is_answered_where_the_route_has_it_and_nothing_is_stored() {
    let world = world(DROPBOX).await;
    let mut client = world.client().await;
    let answer = client.ask(request("GET", "/in?challenge=%3Cscript%3E", "")).await;
    assert_eq!((answer.status, answer.header("content-type"), &answer.body[..]), (200, Some("text/plain"), &b"<script>"[..]));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    for (target, status) in [("/in?challenge=%00", 401), ("/other?challenge=a", 404), ("/in/?challenge=a", 404)] {
        assert_eq!(world.client().await.ask(request("GET", target, "")).await.status, status, "{target}");
    }
    assert_eq!(world.refused("orders", "malformed"), 1);
    assert!(world.events().await.is_empty());
}

#[tokio::test]
async fn a_method_that_is_there_for_handshakes_takes_no_events() {
    let world = world(DROPBOX).await;
    let signed = verifier(DROPBOX).sample(
        kurier::model::Inbound {
            method: http::Method::GET,
            target: "/in".into(),
            base: "http://localhost".into(),
            headers: http::HeaderMap::new(),
            body: bytes::Bytes::new(),
            peer: [127, 0, 0, 1].into(),
            received_at: kurier::model::Timestamp::from_millis(0),
        },
        kurier::model::Timestamp::from_millis(0),
    );
    let signature = signed.unwrap().headers["x-dropbox-signature"].to_str().unwrap().to_owned();
    let answer = world.client().await.ask(request("GET", "/in", &format!("X-Dropbox-Signature: {signature}\r\n"))).await;
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
    for method in ["PUT", "OPTIONS", "HEAD"] {
        let mut client = world.client().await;
        client.send(request(method, "/in?challenge=a", "")).await;
        assert_eq!(client.answer_to(method == "HEAD").await.unwrap().status, 405, "{method}");
    }
    assert!(world.events().await.is_empty());
}

#[tokio::test]
async fn a_sender_may_try_the_address_with_head_where_its_preset_says_so() {
    let world = world("{ preset: trello, secrets: [{ env: s }] }").await;
    let mut client = world.client().await;
    client.send(request("HEAD", "/in", "")).await;
    assert_eq!(client.answer_to(true).await.unwrap().status, 200);
    let mut client = world.client().await;
    client.send(request("HEAD", "/elsewhere", "")).await;
    assert_eq!(client.answer_to(true).await.unwrap().status, 404);
    assert!(world.events().await.is_empty());
}

#[tokio::test]
async fn consent_is_given_by_options() {
    let world = world("{ preset: cloudevents, secrets: [{ env: k }], config: { origin: eventgrid.azure.net, rate: '120' } }").await;
    let mut client = world.client().await;
    let answer = client.ask(request("OPTIONS", "/in", "WebHook-Request-Origin: eventgrid.azure.net\r\n")).await;
    assert_eq!((answer.status, answer.header("webhook-allowed-origin")), (200, Some("eventgrid.azure.net")));
    assert_eq!((answer.header("webhook-allowed-rate"), answer.header("allow")), (Some("120"), Some("POST")));
    let answer = client.ask(request("OPTIONS", "/in", "WebHook-Request-Origin: evil.example\r\n")).await;
    assert_eq!((answer.status, answer.header("webhook-allowed-origin")), (401, None));
    let answer = client.ask(request("OPTIONS", "/in", "")).await;
    assert_eq!(answer.status, 401);
}

/// Says of every key that it can't be had.
struct Never;

#[async_trait::async_trait]
impl kurier::signature::KeyKeeper for Never {
    fn look(&self, _wanted: &kurier::signature::WantedKey) -> kurier::signature::KeyState {
        kurier::signature::KeyState::Unavailable
    }

    async fn fetch(&self, _wanted: &kurier::signature::WantedKey) {}
}

#[tokio::test]
async fn a_key_that_can_not_be_fetched_is_a_503_and_a_foreign_place_for_it_a_401() {
    let route = Route { verifier: verifier("{ preset: paypal, config: { webhook_id: w } }"), ..route() };
    let world = World::with(|setup| {
        setup.routes = vec![route];
        setup.keys = Arc::new(Never);
    })
    .await;
    let headers = |url: &str| {
        format!(
            "Paypal-Cert-Url: {url}\r\nPaypal-Transmission-Sig: AAAA\r\nPaypal-Transmission-Id: 1\r\nPaypal-Transmission-Time: 2026-01-01T00:00:00Z\r\n"
        )
    };
    let mut client: Client = world.client().await;
    let answer = client.ask(request("POST", "/in", &headers("https://api.paypal.com/cert"))).await;
    assert_eq!((answer.status, answer.header("retry-after").is_some()), (503, true));
    let answer = client.ask(request("POST", "/in", &headers("https://evil.example/cert"))).await;
    assert_eq!(answer.status, 401);
    assert_eq!((world.refused("orders", "key_fetch"), world.refused("orders", "unknown_key")), (1, 1));
}

#[tokio::test]
async fn what_is_for_the_operator_is_stored_without_a_delivery() {
    let yaml = "{ preset: github, secrets: [{ env: s }], challenge: [{ when: { equals: { 'header:x-github-event': ping } }, verified: true, keep: true }] }";
    let world = world(yaml).await;
    let body = "{}";
    let signature = {
        use hmac::{Hmac, KeyInit, Mac};
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(b"s").unwrap();
        mac.update(body.as_bytes());
        hex::encode(mac.finalize().into_bytes())
    };
    let signed = |event: &str| {
        format!(
            "POST /in HTTP/1.1\r\nHost: localhost\r\nX-Hub-Signature-256: sha256={signature}\r\nX-Github-Event: {event}\r\nX-Github-Delivery: {event}\r\nContent-Length: 2\r\n\r\n{body}"
        )
    };
    let mut client = world.client().await;
    for event in ["ping", "push"] {
        assert_eq!(client.ask(signed(event)).await.status, 202);
    }
    let (items, _) = kurier::store::Store::list(&*world.store, &kurier::store::EventFilter::default(), None, 10).await.unwrap();
    let deliveries: Vec<_> = items.iter().map(|item| (item.event.event_type.as_deref().unwrap(), item.deliveries.len())).collect();
    assert_eq!(deliveries, [("push", 1), ("ping", 0)]);
}

#[tokio::test]
async fn a_secret_in_the_query_is_not_stored() {
    let world = world("{ algorithm: token, secrets: [{ env: s3cr3t }], signature: { from: 'query:code' } }").await;
    let mut client = world.client().await;
    assert_eq!(client.ask(request("POST", "/in?a=%2F&c%6fde=s3cr3t&b=1&code=s3cr3t", "")).await.status, 202);
    assert_eq!(client.ask(request("POST", "/in?code=wrong", "")).await.status, 401);
    let events = world.events().await;
    assert_eq!(events[0].target, "/in?a=%2F&c%6fde={secret}&b=1&code={secret}");
}
