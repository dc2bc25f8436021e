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
use crate::jq::Children;
use crate::notify;
use crate::pull;
use crate::relay::{self, Relay, RelayHandle};
use crate::store::{SealedStates, Settled, Store};
use crate::telemetry::Metrics;
use crate::tokens::Tokens;

/// What all of them work with.
#[derive(Clone)]
pub(super) struct Common {
    pub(super) config: Live,
    pub(super) changes: watch::Receiver<()>,
    pub(super) store: Arc<dyn Store>,
    pub(super) settled: Settled,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) ids: IdSource,
}

/// All of them, running.
pub(super) struct Roads {
    relay: Relay,
    fetching: Arc<dyn Transport>,
    tokens: Tokens,
    polls: AbortHandle,
    /// Polls and notices; dropped, they end.
    background: JoinSet<()>,
}

impl Roads {
    pub(super) fn start(common: Common) -> Result<Self, TransportError> {
        let Common { config, changes, store, settled, clock, metrics, ids } = common;
        let transport: Arc<dyn Transport> = Arc::new(HttpTransport::new()?);
        let fetching: Arc<dyn Transport> = Arc::new(HttpTransport::new()?.reading(FETCHED_BODY_BYTES_MAX));
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
            jq: Arc::new(Children::of_this_binary()),
            clock: clock.clone(),
            metrics: metrics.clone(),
            notices: notices.clone(),
            tokens: tokens.clone(),
            seed: rand::random(),
        });
        let gate = Arc::new(wire::PullGate { relay: relay.handle(), notices });
        let polls = pull::Parts { config, changes, store, transport: fetching.clone(), tokens: tokens.clone(), clock, metrics, ids, gate };
        let mut background = JoinSet::new();
        background.spawn(notify::run(told));
        let polls = background.spawn(pull::run(polls));
        Ok(Self { relay, fetching, tokens, polls, background })
    }

    /// The operators' side of the relay.
    pub(super) fn relay(&self) -> RelayHandle {
        self.relay.handle()
    }

    /// Makes requests whose answers may be long.
    pub(super) fn fetching(&self) -> Arc<dyn Transport> {
        self.fetching.clone()
    }

    /// Access tokens, and how they are authorized.
    pub(super) fn tokens(&self) -> Tokens {
        self.tokens.clone()
    }

    /// Goes on until the end.
    pub(super) fn follow(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.background.spawn(task);
    }

    /// Begins no further poll; one under way is given up, which loses nothing.
    pub(super) fn stop_polls(&self) {
        self.polls.abort();
    }

    /// Lets attempts finish and settles them; then nobody is told anything any more.
    pub(super) async fn stop(self, grace: Duration) {
        self.polls.abort();
        self.relay.stop(grace).await;
        drop(self.background);
    }
}
