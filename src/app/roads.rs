//! What goes on by itself once there is a store: deliveries, polls, and telling a person.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use super::wire;
use crate::accept::IdSource;
use crate::clock::Clock;
use crate::config::Live;
use crate::egress::{FETCHED_BODY_BYTES_MAX, HttpTransport, Transport, TransportError};
use crate::jq::{Children, Engine};
use crate::notify;
use crate::pull;
use crate::relay::{self, Relay, RelayHandle};
use crate::store::{SealedStates, Settled, Store};
use crate::telemetry::Metrics;
use crate::tokens::Tokens;

/// What all of them work with.
#[derive(Clone)]
pub struct Common {
    /// The configuration in force.
    pub config: Live,
    /// Says that it was swapped.
    pub changes: watch::Receiver<()>,
    /// Where everything is kept.
    pub store: Arc<dyn Store>,
    /// Told of every settlement.
    pub settled: Settled,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Where ids come from.
    pub ids: IdSource,
}

/// What lies outside of the process; a simulation brings its own.
pub struct Outside {
    /// Makes requests.
    pub transport: Arc<dyn Transport>,
    /// Makes requests whose answers may be long.
    pub fetching: Arc<dyn Transport>,
    /// Runs the programs of `when` and `transform`.
    pub jq: Arc<dyn Engine>,
    /// The seed of the jitter.
    pub seed: u64,
}

impl Outside {
    /// The network, and this binary called again.
    pub(super) fn real() -> Result<Self, TransportError> {
        let transport = Arc::new(HttpTransport::new()?);
        let fetching = Arc::new(HttpTransport::new()?.reading(FETCHED_BODY_BYTES_MAX));
        Ok(Self { transport, fetching, jq: Arc::new(Children::of_this_binary()), seed: rand::random() })
    }
}

/// All of them, running. Dropped, they end at once, as in a crash.
pub struct Roads {
    relay: Relay,
    fetching: Arc<dyn Transport>,
    tokens: Tokens,
    polls: AbortHandle,
    /// Polls and notices; dropped, they end.
    background: JoinSet<()>,
}

impl Roads {
    /// Starts all of them.
    pub fn start(common: Common, outside: Outside) -> Self {
        let Common { config, changes, store, settled, clock, metrics, ids } = common;
        let Outside { transport, fetching, jq, seed } = outside;
        let key = config.load().store.key.clone();
        let sealed = Arc::new(SealedStates::new(store.clone(), key.as_ref()));
        let tokens = Tokens::new(transport.clone(), clock.clone(), sealed);
        let (notices, inbox) = mpsc::channel(notify::WAITING_MAX);
        let notices = relay::Notices::to(notices);
        let told = notify::Parts { config: config.clone(), store: store.clone(), clock: clock.clone(), ids: ids.clone(), inbox };
        let relay = relay::start(relay::Parts {
            config: config.clone(),
            changes: changes.clone(),
            store: store.clone(),
            settled,
            transport,
            jq,
            clock: clock.clone(),
            metrics: metrics.clone(),
            notices: notices.clone(),
            tokens: tokens.clone(),
            seed,
        });
        let gate = Arc::new(wire::PullGate { relay: relay.handle(), notices });
        let polls =
            pull::Parts { config, changes, store, transport: fetching.clone(), tokens: tokens.clone(), clock, metrics, ids, gate, seed };
        let mut background = JoinSet::new();
        background.spawn(notify::run(told));
        let polls = background.spawn(pull::run(polls));
        Self { relay, fetching, tokens, polls, background }
    }

    /// The operators' side of the relay.
    pub fn relay(&self) -> RelayHandle {
        self.relay.handle()
    }

    /// Makes requests whose answers may be long.
    pub fn fetching(&self) -> Arc<dyn Transport> {
        self.fetching.clone()
    }

    /// Access tokens, and how they are authorized.
    pub fn tokens(&self) -> Tokens {
        self.tokens.clone()
    }

    /// Goes on until the end.
    pub fn follow(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.background.spawn(task);
    }

    /// Begins no further poll; one under way is given up, which loses nothing.
    pub(super) fn stop_polls(&self) {
        self.polls.abort();
    }

    /// Lets attempts finish and settles them; then nobody is told anything any more.
    pub async fn stop(self, grace: Duration) {
        self.polls.abort();
        self.relay.stop(grace).await;
        drop(self.background);
    }
}
