//! A running public port over the store's fake.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use http::Method;
use kurier::accept::{Acceptor, IdSource};
use kurier::clock::{Clock, SystemClock, TokioClock};
use kurier::config::{Admin, Config, DeliverTo, Live, PathPattern, Route, Segment, Server, ServerLimits, StoreSettings};
use kurier::egress::HttpTransport;
use kurier::ingress::{Ingress, Parts, serve_options};
use kurier::model::{Answer, Event, Name, RefusalId, StoreStats, Timestamp};
use kurier::orders::Orders;
use kurier::quarantine::{self, Quarantine, Shelf};
use kurier::server::{LiveOptions, ServeOptions, Stopped, serve};
use kurier::signature::Verifier;
use kurier::store::memory::MemoryStore;
use kurier::store::{EventFilter, SealedStates, Settled, Store};
use kurier::telemetry::Metrics;
use kurier::tokens::Tokens;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::client::Client;

/// What a test may change before it starts.
pub(super) struct Setup {
    pub(super) options: ServeOptions,
    pub(super) server: Server,
    pub(super) routes: Vec<Route>,
    pub(super) keys: Arc<dyn kurier::signature::KeyKeeper>,
}

/// A route at `/in` that takes POST, up to 1 KiB, from anybody.
pub(super) fn route() -> Route {
    Route {
        name: Name::from("orders"),
        path: Some(path("/in")),
        methods: vec![Method::POST],
        verifier: Verifier::none(),
        dedupe_key: None,
        dedupe_window: Duration::from_secs(3600),
        order_by: None,
        body_limit: 1024,
        rate: None,
        respond: Some(Answer { status: 202, content_type: Some("application/json".into()), body: Bytes::from_static(br#"{"ok":true}"#) }),
        wait: None,
        deliver: vec![DeliverTo::everything(Name::from("erp"))],
        quarantine: None,
        inpasy: None,
        pull: None,
        acknowledge: None,
        confirm: None,
    }
}

/// A path pattern.
pub(super) fn path(text: &str) -> PathPattern {
    let segments = text.split('/').skip(1).map(|segment| match segment.strip_prefix('{') {
        Some(name) => Segment::Any(name.trim_end_matches('}').into()),
        None => Segment::Literal(segment.into()),
    });
    PathPattern { text: text.into(), segments: segments.collect() }
}

/// The public side that tests start from.
pub(super) fn server() -> Server {
    Server {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        public_url: None,
        trusted_proxies: Vec::new(),
        tls: None,
        limits: ServerLimits {
            body: 1024 * 1024,
            headers: 64 * 1024,
            read_timeout: Duration::from_secs(5),
            connections: 1000,
            in_flight: 1024 * 1024,
            per_address: None,
        },
        grace: Duration::from_secs(5),
    }
}

/// The configuration with this public side.
pub(super) fn config(server: Server, routes: Vec<Route>) -> Config {
    let routes: Vec<_> = routes.into_iter().map(Arc::new).collect();
    Config {
        server,
        admin: Admin { listen: SocketAddr::from(([127, 0, 0, 1], 0)), tokens: Vec::new() },
        store: StoreSettings { key: None, path: PathBuf::new(), retention: Duration::ZERO, max_size: 0, allow_file_systems: Vec::new() },
        index: kurier::config::RouteIndex::new(&routes),
        routes,
        destinations: BTreeMap::new(),
        programs: Arc::default(),
        notify: None,
        redirects: BTreeMap::new(),
        key_sources: BTreeMap::new(),
        files: Vec::new(),
    }
}

/// The service alone, for tests that bring their own stream and clock.
pub(super) fn ingress(config: Config) -> (Arc<MemoryStore>, Ingress) {
    ingress_with(config, Settled::default())
}

/// Nobody's access tokens.
pub(crate) fn tokens(store: Arc<dyn Store>) -> Tokens {
    Tokens::new(Arc::new(HttpTransport::new().unwrap()), Arc::new(SystemClock), Arc::new(SealedStates::new(store, None)))
}

/// Nobody's orders.
pub(crate) fn orders(store: Arc<dyn Store>) -> Orders {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let acceptor = Acceptor::new(store.clone(), clock.clone(), IdSource::seeded(2));
    Orders::new(store, Arc::new(HttpTransport::new().unwrap()), clock, acceptor)
}

/// A shelf that has no room.
struct NoRoom;

#[async_trait]
impl Shelf for NoRoom {
    async fn list(&self) -> std::io::Result<Vec<(Name, RefusalId, u64)>> {
        Ok(Vec::new())
    }

    async fn put(&self, _items: Vec<quarantine::Item>) -> std::io::Result<()> {
        Err(std::io::ErrorKind::StorageFull.into())
    }

    async fn get(&self, _route: &Name, _id: RefusalId, _part: quarantine::Part) -> std::io::Result<Option<Bytes>> {
        Ok(None)
    }

    async fn remove(&self, _items: Vec<(Name, RefusalId)>) -> std::io::Result<()> {
        Ok(())
    }
}

/// A quarantine without anything in it.
pub(crate) fn quarantine() -> Quarantine {
    Quarantine::start(quarantine::Parts {
        shelf: Arc::new(NoRoom),
        config: Arc::new(ArcSwap::from_pointee(config(server(), Vec::new()))),
        changes: tokio::sync::watch::channel(()).1,
        clock: Arc::new(SystemClock),
        metrics: Arc::new(Metrics::new()),
        ids: IdSource::seeded(3),
    })
}

/// The same, with somebody who tells of settlements.
pub(super) fn ingress_with(config: Config, settled: Settled) -> (Arc<MemoryStore>, Ingress) {
    let store = Arc::new(MemoryStore::new());
    let ingress = Ingress::new(Parts {
        config: Arc::new(ArcSwap::from_pointee(config)),
        store: store.clone(),
        settled,
        clock: Arc::new(TokioClock::starting_at(Timestamp::from_millis(1_700_000_000_000))),
        metrics: Arc::new(Metrics::new()),
        keys: Arc::new(kurier::signature::NoKeys),
        orders: orders(store.clone()),
        quarantine: quarantine(),
        tokens: tokens(store.clone()),
        ids: IdSource::seeded(1),
        stopping: Arc::default(),
    });
    (store, ingress)
}

/// The running port and everything behind it.
pub(super) struct World {
    pub(super) address: SocketAddr,
    pub(super) store: Arc<MemoryStore>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) config: Live,
    pub(super) options: LiveOptions,
    pub(super) stopping: Arc<AtomicBool>,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<Stopped>,
}

impl World {
    /// The default port with one route.
    pub(super) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// A port that a test has changed.
    pub(super) async fn with(change: impl FnOnce(&mut Setup)) -> Self {
        let mut setup =
            Setup { options: serve_options(&server()), server: server(), routes: vec![route()], keys: Arc::new(kurier::signature::NoKeys) };
        change(&mut setup);
        let config: Live = Arc::new(ArcSwap::from_pointee(config(setup.server, setup.routes)));
        let options: LiveOptions = Arc::new(ArcSwap::from_pointee(setup.options));
        let store = Arc::new(MemoryStore::new());
        let metrics = Arc::new(Metrics::new());
        let stopping = Arc::new(AtomicBool::new(false));
        let ingress = Ingress::new(Parts {
            config: config.clone(),
            store: store.clone(),
            settled: Settled::default(),
            clock: Arc::new(SystemClock),
            metrics: metrics.clone(),
            keys: setup.keys,
            orders: orders(store.clone()),
            quarantine: quarantine(),
            tokens: tokens(store.clone()),
            ids: IdSource::seeded(1),
            stopping: stopping.clone(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let server = tokio::spawn(serve(listener, ingress.service(), options.clone(), async { drop(stopped.await) }));
        Self { address, store, metrics, config, options, stopping, stop: Some(stop), server }
    }

    /// A new connection.
    pub(super) async fn client(&self) -> Client {
        Client::connect(self.address).await
    }

    /// Asks the server to stop.
    pub(super) fn begin_stop(&mut self) {
        drop(self.stop.take());
    }

    /// Stops the server and waits for its end.
    pub(super) async fn stop(mut self) -> (Arc<MemoryStore>, Stopped) {
        self.begin_stop();
        (self.store, self.server.await.unwrap())
    }

    /// Everything that is stored, oldest first.
    pub(super) async fn events(&self) -> Vec<Event> {
        events(&self.store).await
    }

    /// The value of the refusals' counter.
    pub(super) fn refused(&self, route: &str, reason: &str) -> u64 {
        self.metric(&format!("kurier_requests_refused_total{{route=\"{route}\",reason=\"{reason}\"}}"))
    }

    /// The value of a metric.
    pub(super) fn metric(&self, series: &str) -> u64 {
        let text = self.metrics.encode(&BTreeMap::new(), &StoreStats::default());
        let line = text.lines().find_map(|line| line.strip_prefix(series));
        line.map_or(0, |value| value.trim().parse().unwrap())
    }
}

/// Everything that is stored, oldest first.
pub(super) async fn events(store: &MemoryStore) -> Vec<Event> {
    let (items, _) = store.list(&EventFilter::default(), None, 1000).await.unwrap();
    let mut events = Vec::new();
    for item in items.iter().rev() {
        events.push(store.event(item.event.id).await.unwrap().unwrap());
    }
    events
}
