//! The network of a simulated process: the systems' own simulators, asked without a socket.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderMap, StatusCode};
use kurier::clock::Clock;
use kurier::demo::simulators::{Answer, Call, Direct, Simulator};
use kurier::egress::{Fault, Outbound, Reply, Transport};
use kurier::model::FaultKind;
use parking_lot::Mutex;
use tokio::time::{sleep, timeout};

use super::fuse::Fuse;

/// How long a request is on its way, and how long its answer.
const LATENCY: Duration = Duration::from_millis(10);

/// How a remote system can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weather {
    Fair,
    /// Nobody takes its connections.
    Refuses,
    /// Its front answers 503.
    Unavailable,
    /// It takes requests and never answers.
    Hangs,
    /// It does what it is asked, and never answers.
    Mute,
}

/// Everything outside of the process; it outlives it.
#[derive(Clone, Default)]
pub(super) struct World(Arc<Inner>);

#[derive(Default)]
struct Inner {
    remotes: BTreeMap<String, Direct>,
    weather: Mutex<BTreeMap<String, Weather>>,
    /// The requests that were tried, whether or not anybody was there.
    tried: Mutex<BTreeMap<String, u64>>,
}

fn authority(url: &url::Url) -> String {
    format!("{}:{}", url.host_str().unwrap(), url.port_or_known_default().unwrap())
}

impl World {
    pub(super) fn of(remotes: &[&Simulator]) -> Self {
        let remotes = remotes.iter().map(|remote| (authority(&remote.url("/")), remote.direct())).collect();
        Self(Arc::new(Inner { remotes, ..Inner::default() }))
    }

    pub(super) fn set(&self, remote: &Simulator, weather: Weather) {
        self.0.weather.lock().insert(authority(&remote.url("/")), weather);
    }

    /// How often somebody has tried to reach it.
    pub(super) fn tried(&self, remote: &Simulator) -> u64 {
        self.0.tried.lock().get(&authority(&remote.url("/"))).copied().unwrap_or(0)
    }
}

/// The network as one process sees it.
pub(super) struct Net {
    pub(super) world: World,
    pub(super) fuse: Fuse,
    pub(super) clock: Arc<dyn Clock>,
    /// Told of each request's time before it is made.
    pub(super) at: Arc<dyn Fn(kurier::model::Timestamp) + Send + Sync>,
}

#[async_trait]
impl Transport for Net {
    async fn send(&self, request: Outbound) -> Result<Reply, Fault> {
        let given = request.timeout;
        timeout(given, self.exchange(request)).await.unwrap_or_else(|_elapsed| fault(FaultKind::Timeout))
    }
}

fn fault<T>(kind: FaultKind) -> Result<T, Fault> {
    Err(Fault { kind, detail: "simulated".to_owned() })
}

impl Net {
    async fn exchange(&self, request: Outbound) -> Result<Reply, Fault> {
        self.fuse.alive().await;
        let at = authority(&request.url);
        let mut headers = request.headers;
        headers.insert("host", at.parse().unwrap());
        let (path, query) = (request.url.path().to_owned(), request.url.query().unwrap_or_default().to_owned());
        let call = Call { method: request.method, path, query, headers, body: request.body };
        *self.world.0.tried.lock().entry(at.clone()).or_default() += 1;
        sleep(LATENCY).await;
        let weather = self.world.0.weather.lock().get(&at).copied().unwrap_or(Weather::Fair);
        match weather {
            Weather::Fair | Weather::Mute => {}
            Weather::Refuses => return fault(FaultKind::Connect),
            Weather::Unavailable => return Ok(reply(Answer::status(503))),
            Weather::Hangs => std::future::pending().await,
        }
        (self.at)(self.clock.now());
        let remote = self.world.0.remotes.get(&at).unwrap_or_else(|| panic!("nobody is at {at}"));
        let name = || format!("{} {at}{}", call.method, call.path);
        let answer = self.fuse.point(name, remote.ask(call.clone())).await;
        if weather == Weather::Mute {
            std::future::pending::<()>().await;
        }
        sleep(LATENCY).await;
        self.fuse.alive().await;
        answer.map_or_else(|| fault(FaultKind::Reset), |answer| Ok(reply(answer)))
    }
}

fn reply(answer: Answer) -> Reply {
    let mut headers = HeaderMap::new();
    for (name, value) in answer.headers {
        headers.insert(name, value.parse().unwrap());
    }
    Reply { status: StatusCode::from_u16(answer.status).unwrap(), headers, body: answer.body.into(), truncated: false }
}
