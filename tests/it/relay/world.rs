//! A relay with a store in memory, scripted destinations and paused time.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use kurier::clock::{Calendar, Clock, TokioClock};
use kurier::config::{self, Config, Destination, Format, Live, LoadOptions, ProcessEnvironment, RouteIndex};
use kurier::egress::{Fault, Outbound, Reply, Transport};
use kurier::jq::{self, Children, Engine};
use kurier::model::{
    Answer, DeadCode, DeadReason, Delivery, DeliveryId, DeliveryState, Event, EventId, FaultKind, Lane, Name, Rate, Timestamp,
};
use kurier::relay::{self, Parts, Relay, RelayHandle};
use kurier::store::memory::MemoryStore;
use kurier::store::{NewDelivery, NewEvent, Settled, Store};
use kurier::telemetry::Metrics;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::sleep;

/// When every world begins.
pub(super) const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// A request that a scripted destination got.
#[derive(Clone)]
pub(super) struct Got {
    pub(super) at: Timestamp,
    pub(super) destination: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Got {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Milliseconds since the world began.
    pub(super) fn millis(&self) -> i64 {
        self.at.millis() - START.millis()
    }
}

/// What a destination does with a request: how long it takes, and how it answers.
type Behaviour = Box<dyn Fn(&Got) -> (Duration, Result<Reply, Fault>) + Send + Sync>;

/// Scripted destinations, by the host of their url.
pub(super) struct Script {
    clock: Arc<WorldClock>,
    behaviours: Mutex<BTreeMap<String, Behaviour>>,
    got: Mutex<Vec<Got>>,
    busy: Mutex<BTreeMap<String, (usize, usize)>>,
}

/// Tokio's clock, with a wall clock that can be set.
pub(super) struct WorldClock {
    tokio: TokioClock,
    set_by_ms: AtomicI64,
}

impl WorldClock {
    /// Sets the wall clock forward, or back.
    pub(super) fn set_by(&self, seconds: i64) {
        self.set_by_ms.fetch_add(seconds * 1000, Ordering::Relaxed);
    }
}

impl Clock for WorldClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.tokio.now().millis() + self.set_by_ms.load(Ordering::Relaxed))
    }

    fn boot(&self) -> Duration {
        self.tokio.boot()
    }
}

/// Counts a request as over, also when it is given up.
struct Busy<'a>(&'a Script, String);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.busy.lock().get_mut(&self.1).unwrap().0 -= 1;
    }
}

#[async_trait]
impl Transport for Script {
    async fn send(&self, request: Outbound) -> Result<Reply, Fault> {
        let destination = request.url.host_str().unwrap().to_owned();
        {
            let mut busy = self.busy.lock();
            let (now, most) = busy.entry(destination.clone()).or_default();
            *now += 1;
            *most = (*now).max(*most);
        }
        let _busy = Busy(self, destination.clone());
        assert_eq!(request.method, Method::POST);
        let got = Got { at: self.clock.now(), destination: destination.clone(), headers: request.headers, body: request.body };
        self.got.lock().push(got.clone());
        let (takes, answer) = match self.behaviours.lock().get(&destination) {
            Some(behaviour) => behaviour(&got),
            None => (Duration::ZERO, answer(200)),
        };
        match tokio::time::timeout(request.timeout, sleep(takes)).await {
            Ok(()) => answer,
            Err(_) => Err(fault(FaultKind::Timeout)),
        }
    }
}

pub(super) fn answer(status: u16) -> Result<Reply, Fault> {
    Ok(Reply { status: StatusCode::from_u16(status).unwrap(), headers: HeaderMap::new(), body: Bytes::from("said"), truncated: false })
}

pub(super) fn answer_with(status: u16, name: &'static str, value: &str) -> Result<Reply, Fault> {
    answer(status).map(|mut reply| {
        reply.headers.insert(name, value.parse().unwrap());
        reply
    })
}

pub(super) fn fault(kind: FaultKind) -> Fault {
    Fault { kind, detail: "scripted".to_owned() }
}

pub(super) fn rate(count: u32) -> Rate {
    Rate { count: NonZeroU32::new(count).unwrap(), per: Duration::from_secs(1) }
}

pub(super) fn destination(name: &str) -> Destination {
    Destination {
        name: name.into(),
        target: config::Target::Http(format!("http://user:pw@{name}/hook?token=x").parse().unwrap()),
        format: Format::Original,
        signer: None,
        auth: None,
        headers: HeaderMap::new(),
        timeout: Duration::from_secs(15),
        retry: config::Retry::default(),
        concurrency: 16,
        rate: None,
        breaker: config::Breaker { failures: 1000, cool_down: Duration::from_secs(30) },
        tls: None,
    }
}

pub(super) fn configuration(destinations: Vec<Destination>) -> Config {
    let anywhere = "127.0.0.1:0".parse().unwrap();
    Config {
        server: config::Server {
            listen: anywhere,
            public_url: None,
            trusted_proxies: Vec::new(),
            tls: None,
            limits: config::ServerLimits {
                body: 1 << 20,
                headers: 1 << 16,
                read_timeout: Duration::from_secs(10),
                connections: 10,
                in_flight: 1 << 26,
                per_address: None,
            },
            grace: Duration::from_secs(25),
        },
        admin: config::Admin { listen: anywhere, tokens: Vec::new() },
        store: config::StoreSettings {
            key: None,
            path: "unused".into(),
            retention: Duration::from_secs(3600),
            max_size: 1 << 30,
            allow_file_systems: Vec::new(),
        },
        routes: Vec::new(),
        notify: None,
        redirects: BTreeMap::new(),
        key_sources: BTreeMap::new(),
        index: RouteIndex::new(&[]),
        destinations: destinations.into_iter().map(|destination| (destination.name.clone(), Arc::new(destination))).collect(),
        programs: Arc::default(),
        files: Vec::new(),
    }
}

/// The configuration of a text, checked as at a start.
fn parsed(text: &str) -> Config {
    let (file, folder) = (Path::new("routes.yaml"), Path::new("."));
    match config::parse(text, file, folder, &ProcessEnvironment, &LoadOptions::default()) {
        Ok(loaded) => loaded.config,
        Err(error) => panic!("{error}"),
    }
}

pub(super) fn event(number: u128) -> Event {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("text/plain"));
    Event {
        id: EventId::new(START, number),
        route: "invoices".into(),
        received_at: START,
        peer: None,
        source_id: None,
        event_type: None,
        method: Method::POST,
        target: Bytes::from_static(b"/in"),
        base: "http://hooks.test".into(),
        headers,
        body: Bytes::from(format!("event {number}")),
    }
}

/// Real children, whose work is counted.
struct Counted {
    children: Children,
    runs: AtomicUsize,
}

#[async_trait]
impl Engine for Counted {
    async fn run(&self, programs: &Arc<jq::Programs>, task: jq::Task, input: Bytes) -> Result<jq::Made, jq::Failure> {
        self.runs.fetch_add(1, Ordering::Relaxed);
        self.children.run(programs, task, input).await
    }
}

/// The whole of it.
pub(super) struct World {
    pub(super) store: Arc<MemoryStore>,
    pub(super) script: Arc<Script>,
    pub(super) clock: Arc<WorldClock>,
    /// Real children; a restart of the relay keeps them.
    jq: Arc<Counted>,
    live: Live,
    changes: watch::Sender<()>,
    relay: Option<Relay>,
    events: u128,
}

impl World {
    /// A world whose relay runs.
    pub(super) fn new(destinations: Vec<Destination>) -> Self {
        Self::of(configuration(destinations))
    }

    /// A world with the configuration of this text.
    pub(super) fn with_routes(text: &str) -> Self {
        Self::of(parsed(text))
    }

    fn of(config: Config) -> Self {
        let clock = Arc::new(WorldClock { tokio: TokioClock::starting_at(START), set_by_ms: AtomicI64::new(0) });
        let script = Arc::new(Script { clock: clock.clone(), behaviours: Mutex::default(), got: Mutex::default(), busy: Mutex::default() });
        let live = Arc::new(ArcSwap::from_pointee(config));
        let mut world = Self {
            jq: Arc::new(Counted { children: Children::of(env!("CARGO_BIN_EXE_kurier").into()), runs: AtomicUsize::new(0) }),
            store: Arc::new(MemoryStore::new()),
            script,
            clock,
            live,
            changes: watch::Sender::new(()),
            relay: None,
            events: 0,
        };
        world.start();
        world
    }

    /// Starts a relay over the same store.
    pub(super) fn start(&mut self) {
        self.start_by(Calendar::new(self.clock.clone()));
    }

    /// The same, by a calendar that may doubt already.
    pub(super) fn start_by(&mut self, calendar: Calendar<Arc<WorldClock>>) {
        let sealed = Arc::new(kurier::store::SealedStates::new(self.store.clone(), None));
        let tokens = kurier::tokens::Tokens::new(self.script.clone(), self.clock.clone(), sealed);
        self.relay = Some(relay::start(Parts {
            config: self.live.clone(),
            changes: self.changes.subscribe(),
            store: self.store.clone(),
            settled: Settled::default(),
            transport: self.script.clone(),
            jq: self.jq.clone(),
            clock: Arc::new(calendar),
            metrics: Arc::new(Metrics::new()),
            notices: relay::Notices::default(),
            tokens,
            seed: 1,
        }));
    }

    /// Ends the relay as a crash does.
    pub(super) fn crash(&mut self) {
        self.relay = None;
    }

    pub(super) async fn stop(&mut self, grace: Duration) {
        self.relay.take().unwrap().stop(grace).await;
    }

    pub(super) fn handle(&self) -> RelayHandle {
        self.relay.as_ref().unwrap().handle()
    }

    pub(super) fn reload(&self, destinations: Vec<Destination>) {
        self.live.store(Arc::new(configuration(destinations)));
        self.changes.send_replace(());
    }

    /// What a destination does with its n-th request, counted from 0.
    pub(super) fn behave(&self, destination: &str, behaviour: impl Fn(usize) -> (Duration, Result<Reply, Fault>) + Send + Sync + 'static) {
        let nth = AtomicUsize::new(0);
        self.judge(destination, move |_| behaviour(nth.fetch_add(1, Ordering::Relaxed)));
    }

    /// What a destination does with a request.
    pub(super) fn judge(&self, destination: &str, behaviour: impl Fn(&Got) -> (Duration, Result<Reply, Fault>) + Send + Sync + 'static) {
        self.script.behaviours.lock().insert(destination.to_owned(), Box::new(behaviour));
    }

    /// Accepts an event as it stands, for these destinations.
    pub(super) async fn accept(&self, event: Event, destinations: &[&str], lane: Option<u64>) -> EventId {
        let due = event.received_at;
        let delivery = |name: &&str| NewDelivery { destination: Name::from(*name), lane: lane.map(Lane), due };
        let deliveries = destinations.iter().map(delivery).collect();
        let id = event.id;
        self.store.accept(NewEvent { event, dedupe: None, answer: Answer::ok(), deliveries }).await.unwrap();
        id
    }

    /// Accepts a new event, received now.
    pub(super) async fn send(&mut self, destinations: &[&str], lane: Option<u64>) -> EventId {
        self.events += 1;
        let event = Event { received_at: self.clock.now(), ..event(self.events) };
        self.accept(event, destinations, lane).await
    }

    /// Lets time pass until this holds; at most ten days of it.
    pub(super) async fn until(&self, mut holds: impl FnMut() -> bool) {
        let end = self.clock.now().saturating_add(Duration::from_secs(10 * 86_400));
        while !holds() {
            assert!(self.clock.now() < end, "it never came to hold");
            sleep(Duration::from_millis(500)).await;
        }
    }

    /// Time since the world began.
    pub(super) fn clock_boot(&self) -> Duration {
        self.clock.boot()
    }

    /// How often a `when` or a `transform` has run.
    pub(super) fn program_runs(&self) -> usize {
        self.jq.runs.load(Ordering::Relaxed)
    }

    pub(super) fn pending(&self) -> u64 {
        self.store.counts().values().map(|count| count.pending).sum()
    }

    /// Lets time pass until nothing is pending.
    pub(super) async fn settle(&self) {
        self.until(|| self.pending() == 0).await;
    }

    /// Requests that this destination got so far, seen by `look`.
    pub(super) fn got<T>(&self, destination: &str, look: impl Fn(&Got) -> T) -> Vec<T> {
        self.script.got.lock().iter().filter(|got| got.destination == destination).map(look).collect()
    }

    pub(super) fn count(&self, destination: &str) -> usize {
        self.got(destination, |_| ()).len()
    }

    /// The most requests that a destination had at a time.
    pub(super) fn most_at_a_time(&self, destination: &str) -> usize {
        self.script.busy.lock().get(destination).map_or(0, |(_, most)| *most)
    }

    pub(super) async fn delivery(&self, id: EventId) -> Delivery {
        self.store.record(id).await.unwrap().unwrap().deliveries.remove(0)
    }

    pub(super) async fn state(&self, id: EventId) -> DeliveryState {
        self.delivery(id).await.state
    }

    /// The reason of a dead letter.
    pub(super) async fn dead(&self, id: EventId) -> DeadReason {
        match self.state(id).await {
            DeliveryState::Dead(reason) => reason,
            other @ (DeliveryState::Pending { .. } | DeliveryState::Delivered | DeliveryState::Skipped | DeliveryState::Cancelled) => {
                panic!("{other:?} is not dead")
            }
        }
    }

    pub(super) async fn dead_code(&self, id: EventId) -> DeadCode {
        self.dead(id).await.code
    }

    pub(super) async fn replay(&self, event: EventId, destination: &str) -> DeliveryId {
        let new = NewDelivery { destination: destination.into(), lane: None, due: self.clock.now() };
        self.store.replay(event, vec![new]).await.unwrap()[0]
    }
}
