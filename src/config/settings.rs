//! The configuration as the running program uses it: checked, linked, with every default filled in.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::path::RouteIndex;
use super::systems::{Pull, Target};
use crate::connectors::{dvelop, inpasy, oauth};
use crate::jq::{ProgramId, Programs};
use crate::model::{Answer, ClientTls, Name, Rate, Secret};
use crate::signature::{Signer, Template, Verifier};
use arc_swap::ArcSwap;
use http::{HeaderMap, Method};
use ipnet::IpNet;

/// The configuration in force; a reload swaps the pointer.
pub type Live = Arc<ArcSwap<Config>>;

/// A whole configuration.
pub struct Config {
    /// The public side.
    pub server: Server,
    /// The operator's side.
    pub admin: Admin,
    /// Where events are kept.
    pub store: StoreSettings,
    /// Routes in the order of the file.
    pub routes: Vec<Arc<Route>>,
    /// Destinations by name.
    pub destinations: BTreeMap<Name, Arc<Destination>>,
    /// The programs of every `when` and `transform`.
    pub programs: Arc<Programs>,
    /// The destination that is told what a person should know.
    pub notify: Option<Name>,
    /// Paths of the public port at which a browser ends an authorization, and for whom.
    pub redirects: BTreeMap<Box<str>, Vec<Name>>,
    /// Where keys are fetched, by name.
    pub key_sources: BTreeMap<Name, KeySource>,
    /// Every file that was read: the configuration itself, secrets, TLS. A change of one asks for a reload.
    pub files: Vec<PathBuf>,
    /// Finds the route of a path; made of `routes`.
    pub index: RouteIndex,
}

impl Config {
    /// The route whose path this raw path is, whatever the method. Nothing is normalised: `%2e`, `//`, case and
    /// a slash at the end all make another path. A literal path goes before a pattern that it would fit.
    pub fn route_for(&self, raw_path: &[u8]) -> Option<&Arc<Route>> {
        self.index.find(raw_path).and_then(|at| self.routes.get(at))
    }

    /// The route of this name.
    pub fn route(&self, name: &str) -> Option<&Arc<Route>> {
        self.routes.iter().find(|route| *route.name == *name)
    }

    /// How events of a route are delivered to a destination; none where they are not, or no longer.
    pub fn delivery(&self, route: &str, destination: &str) -> Option<&DeliverTo> {
        self.route(route)?.deliver.iter().find(|deliver| *deliver.to == *destination)
    }
}

/// `server`.
pub struct Server {
    /// Where senders connect.
    pub listen: SocketAddr,
    /// Scheme and authority (and path prefix) that senders call, without a slash at the end.
    pub public_url: Option<Arc<str>>,
    /// Peers whose `X-Forwarded-*` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Certificate and key, when TLS ends here.
    pub tls: Option<ServerTls>,
    /// Limits.
    pub limits: ServerLimits,
    /// How long a stop may take.
    pub grace: Duration,
}

/// `server.tls`.
pub struct ServerTls {
    /// PEM certificate chain.
    pub cert: PathBuf,
    /// PEM private key.
    pub key: PathBuf,
    /// PEM certificates of the authorities whose clients are let in; none: no client certificate is asked for.
    pub client_ca: Option<PathBuf>,
    /// The three files' bytes as read when the configuration was, checked to belong together.
    pub config: Arc<rustls::ServerConfig>,
}

/// `server.limits`.
pub struct ServerLimits {
    /// Longest body in bytes, unless the route says otherwise.
    pub body: usize,
    /// Longest request head in bytes.
    pub headers: usize,
    /// The longest time from a connection's (or the next request's) first byte to its complete head, and
    /// between two reads of a body.
    pub read_timeout: Duration,
    /// Most connections at a time.
    pub connections: usize,
    /// Most body bytes held at a time, by all requests together.
    pub in_flight: usize,
    /// Requests per sender address, counted before verification.
    pub per_address: Option<Rate>,
}

/// `admin`.
pub struct Admin {
    /// Where operators connect.
    pub listen: SocketAddr,
    /// Who may do what.
    pub tokens: Vec<AdminToken>,
}

/// One of `admin.tokens`.
pub struct AdminToken {
    /// Its name, for the audit.
    pub name: Name,
    /// What it allows.
    pub scopes: Vec<Scope>,
    /// The token itself.
    pub secret: Secret,
}

/// What a token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Look at everything.
    Read,
    /// Replay, pause, cancel.
    Operate,
    /// Place InPaSy orders and look at them.
    Orders,
}

/// `store`.
pub struct StoreSettings {
    /// The folder of the embedded store.
    pub path: PathBuf,
    /// How long settled events are kept.
    pub retention: Duration,
    /// Most bytes on disk.
    pub max_size: u64,
    /// Seals the tokens that Kurier obtains; none can be kept without it.
    pub key: Option<Secret>,
    /// File systems by name that the store may lie on, although their syncs or locks are in doubt.
    pub allow_file_systems: Vec<Box<str>>,
}

/// One of `routes`.
pub struct Route {
    /// Its name.
    pub name: Name,
    /// Which paths are its own; none where its events are fetched.
    pub path: Option<PathPattern>,
    /// Which methods it takes.
    pub methods: Vec<Method>,
    /// How a request is trusted.
    pub verifier: Verifier,
    /// What makes two requests the same: this template's text, else the body's hash.
    pub dedupe_key: Option<Template>,
    /// For how long a key is remembered; zero: no deduplication.
    pub dedupe_window: Duration,
    /// Its lanes, if it has any.
    pub order_by: Option<OrderBy>,
    /// Longest body in bytes.
    pub body_limit: usize,
    /// Requests per time, counted after verification.
    pub rate: Option<Rate>,
    /// What an accepted request is answered; none: the preset's answer, else 200 without a body.
    pub respond: Option<Answer>,
    /// Whether the answer waits for what becomes of the event.
    pub wait: Option<Wait>,
    /// Where its events go.
    pub deliver: Vec<DeliverTo>,
    /// Whether requests that are not authenticated are kept, to be looked at and released.
    pub quarantine: Option<Quarantine>,
    /// How orders of InPaSy are started and completed.
    pub inpasy: Option<Arc<inpasy::Settings>>,
    /// What it fetches.
    pub pull: Option<Arc<Pull>>,
    /// How d.velop is told of its events' results.
    pub acknowledge: Option<Arc<dvelop::Acknowledge>>,
    /// The destination that stands for confirmations of its subscription at Amazon SNS, where those are made.
    pub confirm: Option<Name>,
}

/// `quarantine` of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quarantine {
    /// Most requests that are kept; a new one takes the oldest one's place.
    pub keep: usize,
    /// For how long one is kept.
    pub max_age: Duration,
}

/// `respond.wait` of a route, and the answers to what came of it; where one is not said, it is the usual one.
pub struct Wait {
    /// How long to wait, from the commit on.
    pub time: Duration,
    /// Every delivery ended in time, at least one of them delivered and none dead.
    pub delivered: Option<Answer>,
    /// A delivery ended dead in time.
    pub dead: Option<Answer>,
    /// Time ran out, or nothing was delivered because all were skipped or cancelled.
    pub otherwise: Option<Answer>,
}

/// `order_by` of a route.
pub struct OrderBy {
    /// The lane: deliveries of the same text go one after the other.
    pub key: Template,
    /// What a failing delivery does to those behind it.
    pub failing: Failing,
}

/// What a failing delivery does to those behind it in its lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Failing {
    /// They wait until it is delivered or dead.
    #[default]
    Block,
    /// They go on while it waits for its next attempt.
    Skip,
    /// They go on once it has failed so often.
    Park {
        /// After so many failed attempts.
        after: u32,
    },
}

impl Failing {
    /// After how many failed attempts a delivery steps out of its lane; none: never.
    pub fn steps_out_after(self) -> Option<u32> {
        match self {
            Self::Block => None,
            Self::Skip => Some(1),
            Self::Park { after } => Some(after),
        }
    }
}

/// One of a route's `deliver`.
pub struct DeliverTo {
    /// The destination's name; it exists.
    pub to: Name,
    /// Decides whether an event is delivered there.
    pub when: Option<Jq>,
    /// Makes the body that is delivered.
    pub transform: Option<Jq>,
}

impl DeliverTo {
    /// Every event, as it is.
    pub fn everything(to: Name) -> Self {
        Self { to, when: None, transform: None }
    }
}

/// A jq program of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Jq {
    /// Which of [`Config::programs`] it is.
    pub id: ProgramId,
    /// The line of the file where it stands.
    pub line: u32,
}

/// One of `key_sources`.
pub struct KeySource {
    /// The url, with `{id}` where the key's id goes.
    pub url: Box<str>,
    /// Credentials.
    pub auth: Option<Auth>,
    /// The members of the JSON object that is posted; `{id}` stands for the key's id. None: a GET.
    pub body: Option<Vec<(Box<str>, Secret)>>,
    /// The JSON pointer to the key in the answer; none: the answer is the key.
    pub pointer: Option<Box<str>>,
}

/// A route's path: segments that match exactly or stand for any one segment.
#[derive(Debug, Clone)]
pub struct PathPattern {
    /// The text as written; a secret segment stands in it as `{secret}`.
    pub text: Box<str>,
    /// Its segments, split at `/` after the leading one.
    pub segments: Vec<Segment>,
}

/// One segment of a path pattern.
#[derive(Clone)]
pub enum Segment {
    /// Exactly these bytes, as they stand in the raw path.
    Literal(Box<str>),
    /// Any one non-empty segment.
    Any(Box<str>),
    /// Exactly these bytes, which nobody may learn from how long the comparison takes.
    Secret(Secret),
}

/// One of `destinations`.
pub struct Destination {
    /// Its name.
    pub name: Name,
    /// Who it is, and where.
    pub target: Target,
    /// In what shape events are sent.
    pub format: Format,
    /// Signs in Standard Webhooks form, when configured.
    pub signer: Option<Signer>,
    /// Credentials, added at send time.
    pub auth: Option<Auth>,
    /// Further headers.
    pub headers: HeaderMap,
    /// Longest time for one attempt.
    pub timeout: Duration,
    /// When to try again.
    pub retry: Retry,
    /// Most attempts at a time.
    pub concurrency: usize,
    /// Attempts per time.
    pub rate: Option<Rate>,
    /// When to leave it alone for a while.
    pub breaker: Breaker,
    /// Its own TLS settings.
    pub tls: Option<Arc<ClientTls>>,
}

/// `as`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The event's bytes, unchanged.
    Original,
    /// The object that jq sees.
    Json,
    /// CloudEvents 1.0, structured mode.
    CloudEvents,
}

/// `auth` of a destination.
pub enum Auth {
    /// `Authorization: Bearer …`.
    Bearer(Secret),
    /// `Authorization: Basic …`.
    Basic {
        /// User name.
        user: Secret,
        /// Password.
        password: Secret,
    },
    /// `Authorization: Bearer …` with a token that this client is given.
    OAuth2(Arc<oauth::Client>),
    /// Headers with secret values.
    Headers(Vec<(http::HeaderName, Secret)>),
}

/// `retry` of a destination.
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    /// Upper bound of the first gap.
    pub first: Duration,
    /// By how much the bound grows with each attempt.
    pub factor: f64,
    /// The shortest gap.
    pub min: Duration,
    /// The longest gap.
    pub max: Duration,
    /// Dead when older than this (and attempted at least once).
    pub max_age: Duration,
    /// Dead after so many attempts.
    pub max_attempts: Option<u32>,
    /// Statuses that mean "never try again".
    pub never: Vec<u16>,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(5),
            factor: 2.0,
            min: Duration::from_secs(1),
            max: Duration::from_secs(3600),
            max_age: Duration::from_secs(3 * 24 * 3600),
            max_attempts: None,
            never: vec![400, 413, 422],
        }
    }
}

/// `breaker` of a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breaker {
    /// Opens after so many failures in a row.
    pub failures: u32,
    /// Stays open for so long, then lets one attempt through.
    pub cool_down: Duration,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { failures: 10, cool_down: Duration::from_secs(30) }
    }
}
