//! An admin service over the fake store and a relay that only remembers what it was told.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use kurier::accept::{Acceptor, IdSource};
use kurier::admin::{Admin, DestinationView, Destinations, Parts, PauseError};
use kurier::clock::{Clock, TokioClock};
use kurier::config::{
    self, AdminToken, Breaker, Config, DeliverTo, Destination, Format, PathPattern, Retry, Route, RouteIndex, Scope, Segment, Server,
    ServerLimits, StoreSettings,
};
use kurier::document::Node;
use kurier::model::{
    Answer, Attempt, AttemptResult, DeadCode, DeadReason, DeliveryId, DeliveryState, Event, EventId, Name, OutcomeKind, Secret, Timestamp,
};
use kurier::quarantine::{Releases, Tools};
use kurier::replays::Replays;
use kurier::signature::{KeyMaterial, NoKeys, SecretSource, Verifier};
use kurier::store::memory::MemoryStore;
use kurier::store::{CommitError, NewDelivery, NewEvent, Settlement, Store as _};
use kurier::telemetry::Metrics;
use parking_lot::Mutex;
use serde_json::Value;
use tower::ServiceExt as _;

/// The time at which every world begins: 2023-11-14T22:13:20Z.
pub(super) const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);

pub(super) struct World {
    pub(super) store: Arc<MemoryStore>,
    pub(super) relay: Arc<FakeRelay>,
    pub(super) stopping: Arc<AtomicBool>,
    pub(super) config: config::Live,
    pub(super) admin: Admin,
}

#[derive(Default)]
pub(super) struct FakeRelay {
    pub(super) paused: Mutex<BTreeMap<Name, Box<str>>>,
    pub(super) cancelled: Mutex<Vec<DeliveryId>>,
    pub(super) refuses: AtomicBool,
    pub(super) ended: AtomicBool,
}

#[async_trait]
impl Destinations for FakeRelay {
    fn is_running(&self) -> bool {
        !self.ended.load(std::sync::atomic::Ordering::Acquire)
    }

    fn list(&self) -> Vec<DestinationView> {
        let paused = self.paused.lock();
        let view = |name: &Name| DestinationView {
            name: name.clone(),
            paused: paused.get(name).cloned(),
            breaker_open_until: None,
            in_flight: 2,
            drains_in: None,
        };
        paused.keys().map(view).collect()
    }

    async fn pause(&self, name: &str, reason: &str) -> Result<(), PauseError> {
        if self.refuses.load(std::sync::atomic::Ordering::Acquire) {
            return Err(CommitError::Refused("disk full").into());
        }
        self.paused.lock().insert(name.into(), reason.into());
        Ok(())
    }

    async fn resume(&self, name: &str) -> Result<(), PauseError> {
        self.paused.lock().remove(name);
        Ok(())
    }

    fn cancelled(&self, delivery: DeliveryId) {
        self.cancelled.lock().push(delivery);
    }
}

/// What came back.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Reply {
    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(super) fn json(&self) -> Value {
        assert_eq!(self.headers["content-type"], "application/json", "{}", self.text());
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The code of a problem document, which must be one with this status.
    pub(super) fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.headers["content-type"], "application/problem+json");
        let document: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(document["status"], status);
        assert!(!document["detail"].as_str().unwrap().is_empty());
        document["code"].as_str().unwrap().to_owned()
    }
}

impl World {
    /// A world without tokens, with the route `invoices` to `erp` and `bookkeeping`.
    pub(super) fn open() -> Self {
        Self::with_tokens(Vec::new())
    }

    pub(super) fn with_tokens(tokens: Vec<AdminToken>) -> Self {
        let mut config = config();
        config.admin.tokens = tokens;
        let config = Arc::new(ArcSwap::from_pointee(config));
        let (store, relay) = (Arc::new(MemoryStore::new()), Arc::new(FakeRelay::default()));
        let stopping = Arc::new(AtomicBool::new(false));
        let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(START));
        let admin = Admin::new(Parts {
            config: config.clone(),
            store: store.clone(),
            destinations: relay.clone(),
            orders: crate::ingress::orders(store.clone()),
            tokens: crate::ingress::tokens(store.clone()),
            releases: Releases::new(Tools {
                quarantine: crate::ingress::quarantine(),
                acceptor: Acceptor::new(store.clone(), clock.clone(), IdSource::seeded(4)),
                orders: crate::ingress::orders(store.clone()),
                keys: Arc::new(NoKeys),
                store: store.clone(),
                clock: clock.clone(),
                metrics: Arc::new(Metrics::new()),
            }),
            replays: Replays::start(store.clone(), clock.clone()),
            clock,
            metrics: Arc::new(Metrics::new()),
            stopping: stopping.clone(),
        });
        Self { store, relay, stopping, config, admin }
    }

    pub(super) async fn send<B>(&self, request: Request<B>) -> Reply
    where
        B: http_body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let response = self.admin.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        Reply { status: head.status, headers: head.headers, body: body.collect().await.unwrap().to_bytes() }
    }

    pub(super) async fn get(&self, target: &str) -> Reply {
        self.call(Method::GET, target, &[("host", "localhost:9090")], "").await
    }

    pub(super) async fn post(&self, target: &str, body: &str) -> Reply {
        self.call(Method::POST, target, &[("host", "localhost:9090")], body).await
    }

    pub(super) async fn call(&self, method: Method, target: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Full::new(Bytes::from(body.to_owned()))).unwrap()).await
    }

    /// Stores an event of a route for these destinations; `number` makes its id, and its time in seconds after the start.
    pub(super) async fn event(&self, number: u32, route: &str, destinations: &[&str]) -> EventId {
        self.store.accept(new_event(number, route, destinations)).await.unwrap().event()
    }

    /// Settles an event's delivery as a dead letter after one rejected attempt.
    pub(super) async fn kill(&self, delivery: DeliveryId) {
        let excerpt = Bytes::from_static(b"no such invoice");
        let attempt = Attempt {
            number: 1,
            started_at: START.saturating_add(Duration::from_secs(1)),
            duration_ms: 80,
            result: AttemptResult::Response { status: 400, excerpt },
            outcome: OutcomeKind::Rejected,
        };
        let reason = DeadReason { code: DeadCode::Rejected, detail: "status 400".into() };
        let settlement = Settlement {
            delivery,
            version: 0,
            attempt: Some(attempt),
            attempts: 1,
            state: DeliveryState::Dead(reason),
            acknowledgement: None,
        };
        self.store.settle(settlement).await.unwrap();
    }
}

pub(super) fn token(name: &str, scopes: &[Scope], secret: &str) -> AdminToken {
    AdminToken { name: name.into(), scopes: scopes.to_vec(), secret: Secret::new(secret.into()) }
}

pub(super) fn new_event(number: u32, route: &str, destinations: &[&str]) -> NewEvent {
    let received_at = START.saturating_add(Duration::from_secs(number.into()));
    let mut headers = HeaderMap::new();
    headers.insert("content-type", "application/json".parse().unwrap());
    let event = Event {
        id: EventId::new(received_at, number.into()),
        route: route.into(),
        received_at,
        peer: Some("192.0.2.1".parse().unwrap()),
        source_id: Some(format!("source-{number}").into()),
        event_type: number.is_multiple_of(2).then(|| "invoice.paid".into()),
        method: Method::POST,
        target: Bytes::from_static(b"/callbacks/invoices?tenant=acme"),
        base: "https://hooks.example.ch".into(),
        headers,
        body: Bytes::from(format!("{{\"number\":{number}}}")),
    };
    let deliveries = destinations.iter().map(|name| NewDelivery { destination: (*name).into(), lane: None, due: received_at }).collect();
    NewEvent { event, dedupe: None, answer: Answer::ok(), deliveries }
}

/// The same secret whatever is asked for.
pub(super) struct OneSecret;

impl SecretSource for OneSecret {
    fn secret(&mut self, _node: &Node, _path: &str) -> Option<KeyMaterial> {
        Some(KeyMaterial { secret: Secret::new(b"secret".to_vec()), not_after: None })
    }
}

pub(super) fn route(name: &str, deliver: &[&str]) -> Arc<Route> {
    let verifier = Verifier::compile(&Node::text("none"), "verify", &mut OneSecret, &mut Vec::new()).expect("`none` compiles");
    Arc::new(Route {
        name: name.into(),
        path: Some(PathPattern { text: "/callbacks/invoices".into(), segments: vec![Segment::Literal("callbacks".into())] }),
        methods: vec![Method::POST],
        verifier,
        dedupe_key: None,
        dedupe_window: Duration::from_secs(3600),
        order_by: None,
        body_limit: 1024,
        rate: None,
        respond: None,
        wait: None,
        deliver: deliver.iter().map(|name| DeliverTo::everything((*name).into())).collect(),
        quarantine: None,
        inpasy: None,
        pull: None,
        acknowledge: None,
        confirm: None,
    })
}

pub(super) fn destination(name: &str) -> (Name, Arc<Destination>) {
    let destination = Destination {
        name: name.into(),
        target: config::Target::Http("https://user:canary-password@erp.example.ch/canary-path?token=canary-query".parse().unwrap()),
        format: Format::Original,
        signer: None,
        auth: None,
        headers: HeaderMap::new(),
        timeout: Duration::from_secs(15),
        retry: Retry::default(),
        concurrency: 16,
        rate: None,
        breaker: Breaker::default(),
        tls: None,
    };
    (name.into(), Arc::new(destination))
}

pub(super) fn config() -> Config {
    let routes = vec![route("invoices", &["erp", "bookkeeping"])];
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    Config {
        server: Server {
            listen: any,
            public_url: None,
            trusted_proxies: Vec::new(),
            tls: None,
            limits: ServerLimits {
                body: 1024,
                headers: 1024,
                read_timeout: Duration::from_secs(10),
                connections: 10,
                in_flight: 1024,
                per_address: None,
            },
            grace: Duration::from_secs(25),
        },
        admin: config::Admin { listen: "127.0.0.1:9090".parse().unwrap(), tokens: Vec::new() },
        store: StoreSettings {
            key: None,
            path: "data".into(),
            retention: Duration::from_secs(3600),
            max_size: 1 << 30,
            allow_file_systems: Vec::new(),
        },
        index: RouteIndex::new(&routes),
        routes,
        notify: None,
        redirects: BTreeMap::new(),
        key_sources: BTreeMap::new(),
        destinations: [destination("erp"), destination("bookkeeping")].into(),
        programs: Arc::default(),
        files: Vec::new(),
    }
}
