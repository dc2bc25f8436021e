//! A process: the real composition above a simulated disk, network and clock.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use kurier::accept::{Acceptor, IdSource};
use kurier::app::{Common, Outside, Roads};
use kurier::clock::{Calendar, Clock};
use kurier::config::{self, Config, Live, LoadOptions};
use kurier::demo::simulators;
use kurier::ingress::{self, Ingress};
use kurier::model::Timestamp;
use kurier::orders::Orders;
use kurier::relay::RelayHandle;
use kurier::store::local::{LocalOptions, LocalStore, Run, Seams};
use kurier::store::{EventFilter, EventSummary, Settled, Store};
use kurier::telemetry::Metrics;
use kurier::tokens::Tokens;
use tokio::sync::watch;
use tokio::time::sleep;
use tower::ServiceExt;

use super::dvelop;
use super::fuse::{Fuse, FusedDisk};
use super::net::{Net, World};
use crate::sim::InProcess;
use crate::store::sim::{SEGMENT, SimClock, patiently};
use crate::store::sim_disk::SimDisk;

/// How soon a sender repeats what was not answered 2xx.
const AGAIN: Duration = Duration::from_secs(1);

/// A route or destination tries again soon.
pub(super) const SOON: &str = "{ first: 100ms, min: 50ms, max: 500ms, max_age: 3d }";

/// What a process is made of.
pub(super) struct Plan<'a> {
    pub(super) routes: &'a str,
    pub(super) world: &'a World,
    pub(super) disk: &'a SimDisk,
    pub(super) fuse: &'a Fuse,
    pub(super) now: Timestamp,
    pub(super) seed: u64,
    pub(super) at: Arc<dyn Fn(Timestamp) + Send + Sync>,
}

/// A running process; dropped with its runtime it is dead.
pub(super) struct Life {
    pub(super) config: Live,
    pub(super) ingress: Ingress,
    pub(super) orders: Orders,
    pub(super) tokens: Tokens,
    pub(super) relay: RelayHandle,
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) fuse: Fuse,
    roads: Roads,
    _changed: watch::Sender<()>,
}

/// The secrets of all of these configurations.
fn environment(name: &str) -> Option<String> {
    let value = match name {
        "STORE_KEY" => "0123456789abcdef0123456789abcdef",
        "WEBHOOK_SECRET" => dvelop::SECRET,
        "DVELOP" => simulators::dvelop::API_KEY,
        "PAYJOE" => simulators::payjoe::API_KEY,
        "BANK" => simulators::bankintegration::API_KEY,
        "BANK_CODE" => simulators::bankintegration::CODE,
        "INPASY" => "geheim",
        "SMARTBUSINESS" => simulators::smartbusiness::CLIENT_SECRET,
        _ => return None,
    };
    Some(value.to_owned())
}

pub(super) fn configured(routes: &str) -> Config {
    let text =
        format!("server: {{ public_url: https://hooks.example.ch }}\nstore: {{ path: /store, key: {{ env: STORE_KEY }} }}\n{routes}");
    match config::parse(&text, Path::new("routes.yaml"), Path::new("."), &environment, &LoadOptions::default()) {
        Ok(loaded) => loaded.config,
        Err(error) => panic!("{error}\n{text}"),
    }
}

impl Life {
    pub(super) async fn start(plan: Plan<'_>) -> Self {
        let Plan { routes, world, disk, fuse, now, seed, at } = plan;
        let clock: Arc<dyn Clock> = Arc::new(Calendar::new(SimClock::showing(now)));
        let config: Live = Arc::new(ArcSwap::from_pointee(configured(routes)));
        let random = {
            let disk = disk.clone();
            Arc::new(move || disk.nonce())
        };
        let fused = FusedDisk { disk: disk.clone(), fuse: fuse.clone() };
        let seams = Seams { disk: fused, indexes: Arc::new(disk.indexes.clone()), run: Run::Tasks, random };
        let retention = config.load().store.retention;
        let options = LocalOptions { segment_bytes: SEGMENT, retention, ..LocalOptions::new("/store") };
        let store: Arc<dyn Store> = match LocalStore::open_on(seams, options, clock.clone(), None).await {
            Ok(store) => Arc::new(store),
            Err(error) => panic!("{error}"),
        };
        let (changed, changes) = watch::channel(());
        let common = Common {
            config: config.clone(),
            changes,
            store: store.clone(),
            settled: Settled::default(),
            clock: clock.clone(),
            metrics: Arc::new(Metrics::new()),
            ids: IdSource::seeded(seed),
        };
        let net = Arc::new(Net { world: world.clone(), fuse: fuse.clone(), clock: clock.clone(), at });
        let outside = Outside { transport: net.clone(), fetching: net, jq: Arc::new(InProcess), seed };
        let mut roads = Roads::start(common.clone(), outside);
        let acceptor = Acceptor::new(store.clone(), clock.clone(), common.ids.clone());
        let orders = Orders::new(store.clone(), roads.fetching(), clock.clone(), acceptor);
        roads.follow(orders.clone().expire(config.clone()));
        let ingress = Ingress::new(ingress::Parts {
            config: config.clone(),
            store: store.clone(),
            settled: common.settled,
            clock: clock.clone(),
            metrics: common.metrics,
            keys: Arc::new(kurier::signature::NoKeys),
            orders: orders.clone(),
            quarantine: crate::ingress::quarantine(),
            tokens: roads.tokens(),
            ids: common.ids,
            stopping: Arc::new(AtomicBool::new(false)),
        });
        let (tokens, relay) = (roads.tokens(), roads.relay());
        Self { config, ingress, orders, tokens, relay, store, clock, fuse: fuse.clone(), roads, _changed: changed }
    }

    /// Stops in order, as the composition root does it.
    pub(super) async fn stop(self, grace: Duration) {
        self.roads.stop(grace).await;
        self.store.close().await;
    }

    /// One request; none: no answer. A process that is dead never returns.
    pub(super) async fn ask(&self, request: Request<Full<Bytes>>) -> Option<Response<Bytes>> {
        let answer = self.ingress.service().oneshot(request).await;
        self.fuse.alive().await;
        let (head, body) = answer.ok()?.into_parts();
        Some(Response::from_parts(head, body.collect().await.unwrap().to_bytes()))
    }

    /// A request that is repeated until it is answered 2xx.
    pub(super) async fn insist(&self, request: impl Fn() -> Request<Full<Bytes>>) -> Response<Bytes> {
        loop {
            if let Some(answer) = self.ask(request()).await.filter(|answer| answer.status().is_success()) {
                return answer;
            }
            sleep(AGAIN).await;
        }
    }

    /// Posts JSON to the route at `/in`.
    pub(super) async fn post(&self, body: &serde_json::Value) {
        let text = body.to_string();
        self.insist(|| {
            let request = Request::post("/in").header("host", "hooks.example.ch").header("content-type", "application/json");
            request.body(Full::new(text.clone().into())).unwrap()
        })
        .await;
    }

    pub(super) fn pending(&self) -> u64 {
        self.store.counts().values().map(|count| count.pending).sum()
    }

    /// Everything of a route, oldest first.
    pub(super) async fn events(&self, route: &str) -> Vec<EventSummary> {
        let filter = EventFilter { route: Some(route.to_owned()), ..EventFilter::default() };
        let (mut events, more) = patiently(async || self.store.list(&filter, None, 500).await).await;
        assert!(more.is_none());
        events.reverse();
        events
    }

    /// The states of a route's deliveries to a destination, oldest first.
    pub(super) async fn states(&self, route: &str, destination: &str) -> Vec<&'static str> {
        let events = self.events(route).await;
        let deliveries = events.iter().flat_map(|event| &event.deliveries);
        deliveries.filter(|delivery| &*delivery.destination == destination).map(|delivery| delivery.state.word()).collect()
    }
}
