//! Who may ask for what.

use std::io;
use std::sync::Arc;

use http::Method;
use kurier::config::Scope;
use kurier::telemetry::logs;
use parking_lot::Mutex;
use tracing::instrument::WithSubscriber as _;

use super::world::{World, token};

const READ: &str = "canary-read-token";
const OPERATE: &str = "canary-operate-token";

/// Every path that shows something.
const LOOKS: [&str; 7] = [
    "/metrics",
    "/api/v1/openapi.json",
    "/api/v1/events",
    "/api/v1/destinations",
    "/api/v1/routes",
    "/api/v1/events/evt_01hf7yat1v0000000000000000",
    "/api/v1/events/evt_01hf7yat1v0000000000000000/body",
];

/// Every path that changes something.
const ACTS: [&str; 5] = [
    "/api/v1/clock/believe",
    "/api/v1/events/evt_01hf7yat1v0000000000000000/replay",
    "/api/v1/deliveries/dlv_01hf7yat1v0000000000000000_0/cancel",
    "/api/v1/destinations/erp/pause",
    "/api/v1/destinations/erp/resume",
];

fn guarded() -> World {
    World::with_tokens(vec![
        token("viewer", &[Scope::Read], READ),
        token("ops", &[Scope::Operate], OPERATE),
        token("shop", &[Scope::Orders], "canary-orders-token"),
    ])
}

async fn with_bearer(world: &World, method: &Method, path: &str, secret: &str) -> super::world::Reply {
    world.call(method.clone(), path, &[("authorization", &format!("Bearer {secret}"))], "").await
}

#[tokio::test]
async fn without_a_token_nothing_is_shown_and_nothing_done() {
    let world = guarded();
    for (method, paths) in [(Method::GET, &LOOKS[..]), (Method::POST, &ACTS[..])] {
        for path in paths {
            for headers in [&[][..], &[("authorization", "Basic dXNlcjpwdw==")], &[("authorization", "Bearer ")], &[("authorization", "")]]
            {
                let reply = world.call(method.clone(), path, headers, "").await;
                assert_eq!(reply.problem(401), "token_missing", "{path} {headers:?}");
                assert_eq!(reply.headers["www-authenticate"], "Bearer realm=\"kurier\"");
            }
        }
    }
    assert!(world.relay.paused.lock().is_empty());
}

#[tokio::test]
async fn a_token_that_is_not_exactly_a_configured_one_is_unknown() {
    let world = guarded();
    for wrong in ["canary-read-toke", "canary-read-tokens", "CANARY-READ-TOKEN", "viewer"] {
        assert_eq!(with_bearer(&world, &Method::GET, "/api/v1/events", wrong).await.problem(401), "token_unknown", "{wrong:?}");
    }
    let bearer = format!("Bearer {READ}");
    let twice = [("authorization", bearer.as_str()), ("authorization", bearer.as_str())];
    assert_eq!(world.call(Method::GET, "/api/v1/events", &twice, "").await.problem(401), "token_missing");
    let lower = format!("bearer {READ}");
    assert_eq!(world.call(Method::GET, "/api/v1/events", &[("authorization", &lower)], "").await.status, 200);
}

#[tokio::test]
async fn a_token_allows_what_its_scopes_say_and_no_more() {
    let world = guarded();
    for path in LOOKS {
        let allowed = with_bearer(&world, &Method::GET, path, READ).await.status;
        assert!(allowed == 200 || (allowed == 404 && path.contains("evt_")), "{path}: {allowed}");
        for other in [OPERATE, "canary-orders-token"] {
            let reply = with_bearer(&world, &Method::GET, path, other).await;
            assert_eq!(reply.problem(403), "scope_missing", "{path}");
            assert!(reply.headers["www-authenticate"].to_str().unwrap().contains("scope=\"read\""));
        }
    }
    for path in ACTS {
        let allowed = with_bearer(&world, &Method::POST, path, OPERATE).await.status;
        assert!(allowed == 200 || (allowed == 404 && !path.contains("erp")), "{path}: {allowed}");
        for other in [READ, "canary-orders-token"] {
            assert_eq!(with_bearer(&world, &Method::POST, path, other).await.problem(403), "scope_missing", "{path}");
        }
    }
}

#[tokio::test]
async fn probes_need_neither_token_nor_host() {
    for world in [guarded(), World::open()] {
        for path in ["/livez", "/readyz"] {
            assert_eq!(world.call(Method::GET, path, &[], "").await.status, 200);
            assert_eq!(world.call(Method::HEAD, path, &[("host", "10.1.2.3")], "").await.status, 200);
        }
    }
}

#[tokio::test]
async fn without_tokens_a_page_under_a_rebound_name_sees_nothing() {
    let world = World::open();
    for host in ["localhost:9090", "127.0.0.1:9090", "[::1]:9090", "localhost"] {
        assert_eq!(world.call(Method::GET, "/api/v1/events", &[("host", host)], "").await.status, 200, "{host}");
    }
    for headers in [&[("host", "evil.example:9090")][..], &[], &[("host", "localhost"), ("host", "evil.example")], &[("host", "a b")]] {
        for path in LOOKS {
            assert_eq!(world.call(Method::GET, path, headers, "").await.problem(403), "host", "{headers:?}");
        }
    }
    let absolute = world.call(Method::GET, "http://evil.example/api/v1/events", &[("host", "localhost")], "").await;
    assert_eq!(absolute.problem(403), "host");
}

#[tokio::test]
async fn without_tokens_a_page_of_another_origin_can_do_nothing() {
    let world = World::open();
    for path in ACTS {
        let headers = [("host", "localhost:9090"), ("origin", "https://evil.example")];
        assert_eq!(world.call(Method::POST, path, &headers, "").await.problem(403), "origin", "{path}");
    }
    assert!(world.relay.paused.lock().is_empty());
    let own = [("host", "localhost:9090"), ("origin", "http://localhost:9090")];
    assert_eq!(world.call(Method::POST, "/api/v1/destinations/erp/pause", &own, "").await.status, 200);
}

#[tokio::test]
async fn with_tokens_any_name_of_the_server_works() {
    let headers = [("host", "kurier.internal"), ("authorization", &format!("Bearer {READ}"))];
    assert_eq!(guarded().call(Method::GET, "/api/v1/events", &headers, "").await.status, 200);
}

#[tokio::test]
async fn an_address_that_is_not_loopback_is_closed_without_tokens() {
    let world = World::open();
    let mut config = super::world::config();
    config.admin.listen = "0.0.0.0:9090".parse().unwrap();
    world.config.store(Arc::new(config));
    assert_eq!(world.get("/api/v1/events").await.problem(403), "tokens_needed");
    assert_eq!(world.get("/livez").await.status, 200);
}

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_secret_is_shown_or_logged() {
    let world = guarded();
    let event = world.event(1, "invoices", &["erp"]).await;
    let captured = Captured::default();
    let writer = captured.clone();
    let subscriber = logs::subscriber(logs::Format::Json, "trace", move || writer.clone()).unwrap();
    let everything = async {
        let paths = [format!("/api/v1/events/{event}"), format!("/api/v1/events/{event}/body")];
        for path in LOOKS.into_iter().chain(paths.iter().map(String::as_str)) {
            let reply = with_bearer(&world, &Method::GET, path, READ).await;
            assert!(!String::from_utf8_lossy(&reply.body).contains("canary"), "{path}: {reply:?}");
            assert!(!format!("{:?}", reply.headers).contains("canary"), "{path}");
        }
        for path in ACTS.into_iter().chain([format!("/api/v1/events/{event}/replay").as_str()]) {
            let reply = with_bearer(&world, &Method::POST, path, OPERATE).await;
            assert!(!reply.text().contains("canary"), "{path}");
            assert_eq!(with_bearer(&world, &Method::POST, path, "canary-wrong").await.status, 401);
        }
    };
    everything.with_subscriber(subscriber).await;
    let log = String::from_utf8(captured.0.lock().clone()).unwrap();
    assert!(log.contains("is replayed") && log.contains("\"operator\":\"ops\""), "what operators do is logged: {log}");
    assert!(!log.contains("canary"), "{log}");
}
