//! From the store to the destinations: who may go now, one attempt, what came of it, and back into the store.
//!
//! One loop (`dispatcher`) asks a pure `scheduler`, starts attempts as tasks, and settles what they came to. A
//! delivery is forgotten or waits again only once its settlement is durable: it may be repeated, never skipped
//! (I1, I5, I6). "In flight" is a fact of this process alone: after a crash everything unfinished is due again.
//!
//! It never imports ingress; they meet in the store. It never sleeps on a rate, never waits for one
//! destination while another is due (I8), and never logs a body, a header or a url (I9).

mod attempt;
mod backlog;
mod backoff;
mod breaker;
mod classify;
mod commit;
mod deadlines;
mod dispatcher;
mod journey;
mod moment;
mod notices;
mod pause;
mod pausing;
mod scheduler;
mod settle;
mod throughput;
mod unread;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::config::Live;
use crate::egress::Transport;
use crate::jq;
use crate::model::{DeliveryId, Name, Timestamp};
use crate::store::{CommitError, Settled, Store};
use crate::telemetry::Metrics;
use crate::tokens::Tokens;
use breaker::Breaker;
use deadlines::Deadlines;
use dispatcher::Dispatcher;
use moment::Moment;
pub use notices::Notices;
pub use pause::Paused;
use pause::Pauses;
use pausing::Change;
use scheduler::Scheduler;
use throughput::Throughput;

/// The target of the log lines that tell what happens to each delivery; their field `step` is `attempt`,
/// `delivered`, `retry`, `dead` or `ended`.
pub const JOURNEY_TARGET: &str = "kurier::journey";

/// Most operators' commands that wait for the loop.
const COMMANDS_MAX: usize = 16;

/// What a relay is made of.
pub struct Parts {
    /// The configuration in force.
    pub config: Live,
    /// Says that it was swapped.
    pub changes: watch::Receiver<()>,
    /// Where deliveries come from and settlements go.
    pub store: Arc<dyn Store>,
    /// Told of every settlement.
    pub settled: Settled,
    /// Makes the requests.
    pub transport: Arc<dyn Transport>,
    /// Runs the programs of `when` and `transform`.
    pub jq: Arc<dyn jq::Engine>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Counts attempts.
    pub metrics: Arc<Metrics>,
    /// Who is told what a person should know.
    pub notices: Notices,
    /// Access tokens of those destinations that want one.
    pub tokens: Tokens,
    /// The seed of the jitter; a simulation repeats it.
    pub seed: u64,
}

/// A running relay. Dropped without [`Relay::stop`] it ends at once, as in a crash: nothing is lost by that.
pub struct Relay {
    handle: RelayHandle,
    stop: Option<oneshot::Sender<Duration>>,
    task: JoinHandle<()>,
    deadlines: JoinHandle<()>,
}

/// What operators do with a running relay.
#[derive(Clone)]
pub struct RelayHandle {
    config: Live,
    store: Arc<dyn Store>,
    settled: Settled,
    clock: Arc<dyn Clock>,
    board: Arc<Mutex<Board>>,
    commands: mpsc::Sender<Change>,
}

/// What the loop and the operators look at. The lock is held for moments only, never over an await.
#[derive(Default)]
struct Board {
    scheduler: Scheduler,
    /// The pauses that are durable.
    pauses: BTreeMap<Name, Pauses>,
    /// How fast configured destinations go.
    throughput: BTreeMap<Name, Throughput>,
}

/// How a destination stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestinationStatus {
    /// Its name.
    pub name: Name,
    /// Where it is, without user, password, query and fragment.
    pub target: String,
    /// Why it is paused, if it is.
    pub paused: Option<Paused>,
    /// Its breaker.
    pub breaker: BreakerStatus,
    /// Attempts under way.
    pub in_flight: usize,
    /// Deliveries that wait, those under way included.
    pub pending: u64,
    /// When these will have ended at the pace of the last minute; none while there is no pace, as in a pause.
    pub drains_in: Option<Duration>,
}

/// How a destination's breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerStatus {
    /// Attempts go.
    Closed,
    /// No attempt before this time.
    Open {
        /// When a probe may go.
        until: Timestamp,
    },
    /// One attempt is under way to see whether it works again.
    Probing,
}

impl BreakerStatus {
    /// Its one word in the API and on the dashboard.
    pub fn word(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open { .. } => "open",
            Self::Probing => "probing",
        }
    }
}

/// Why an operator's command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// No destination of this name is configured.
    #[error("unknown destination `{0}`")]
    UnknownDestination(Name),
    /// It could not be made durable, or may or may not be.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The relay has stopped.
    #[error("the relay is stopping")]
    Stopping,
}

/// Starts a relay on the current runtime.
pub fn start(parts: Parts) -> Relay {
    let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
    let (stop, stopped) = oneshot::channel();
    let board = Arc::new(Mutex::new(Board::default()));
    let handle = RelayHandle {
        config: parts.config.clone(),
        store: parts.store.clone(),
        settled: parts.settled.clone(),
        clock: parts.clock.clone(),
        board: board.clone(),
        commands,
    };
    let deadlines = tokio::spawn(Deadlines::new(&parts, handle.clone()).run());
    let task = tokio::spawn(Dispatcher::new(parts, board, inbox, stopped).run());
    Relay { handle, stop: Some(stop), task, deadlines }
}

impl Relay {
    /// The operators' side.
    pub fn handle(&self) -> RelayHandle {
        self.handle.clone()
    }

    /// Starts no more attempts, lets those under way finish and settles them. What is not done in time is
    /// given up: it is due again at the next start.
    pub async fn stop(mut self, grace: Duration) {
        self.deadlines.abort();
        if let Some(stop) = self.stop.take() {
            // When nobody listens the loop has ended already, which the next line tells.
            stop.send(grace).unwrap_or_default();
        }
        if let Err(error) = (&mut self.task).await {
            tracing::error!(%error, "the relay's loop ended before it was stopped");
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.deadlines.abort();
        self.task.abort();
    }
}

impl RelayHandle {
    /// Whether the loop runs: readiness depends on it.
    pub fn is_running(&self) -> bool {
        !self.commands.is_closed()
    }

    /// How each configured destination stands, by name.
    pub fn destinations(&self) -> Vec<DestinationStatus> {
        let (config, counts) = (self.config.load_full(), self.store.counts());
        let board = self.board.lock();
        let status = |(name, destination): (&Name, &Arc<crate::config::Destination>)| {
            let standing = board.scheduler.standing(name);
            let (pending, now) = (counts.get(name).map_or(0, |count| count.pending), Moment::now(&*self.clock));
            DestinationStatus {
                name: name.clone(),
                target: destination.target.to_string(),
                paused: board.pauses.get(name).and_then(|pauses| pauses.current.clone()),
                breaker: self.breaker(standing.breaker),
                in_flight: standing.in_flight,
                pending,
                drains_in: board.throughput.get(name).copied().unwrap_or_default().drains_in(pending, now),
            }
        };
        config.destinations.iter().map(status).collect()
    }

    fn breaker(&self, breaker: Breaker) -> BreakerStatus {
        match breaker {
            Breaker::Closed { .. } => BreakerStatus::Closed,
            Breaker::Open { until } => BreakerStatus::Open { until: Moment::on_the_wall(until, &*self.clock) },
            Breaker::Probing => BreakerStatus::Probing,
        }
    }

    /// Whether a destination is paused.
    pub fn is_paused(&self, destination: &Name) -> bool {
        self.board.lock().pauses.get(destination).is_some_and(|pauses| pauses.current.is_some())
    }

    /// Pauses a destination: attempts under way finish, no other starts, its events do not age. Done once it
    /// is durable. A destination that is paused already keeps its first reason.
    ///
    /// # Errors
    /// When there is no such destination or the pause is not durable.
    pub async fn pause(&self, destination: &str, reason: &str) -> Result<(), ControlError> {
        self.change(destination, Some(reason.to_owned())).await
    }

    /// Ends a pause, once that is durable. What waits is due at once.
    ///
    /// # Errors
    /// When there is no such destination or the end is not durable.
    pub async fn resume(&self, destination: &str) -> Result<(), ControlError> {
        self.change(destination, None).await
    }

    /// Tells that a delivery's cancellation is durable: no further attempt is begun for it. One under way goes
    /// on, and its settlement is refused.
    pub fn cancelled(&self, delivery: DeliveryId) {
        self.board.lock().scheduler.forget(delivery);
        self.settled.hint(delivery.event);
    }

    async fn change(&self, destination: &str, reason: Option<String>) -> Result<(), ControlError> {
        let destination = Name::from(destination);
        if !self.config.load().destinations.contains_key(&destination) {
            return Err(ControlError::UnknownDestination(destination));
        }
        let (reply, outcome) = oneshot::channel();
        let change = Change { destination, reason, reply: Some(reply) };
        self.commands.send(change).await.map_err(|_error| ControlError::Stopping)?;
        Ok(outcome.await.map_err(|_error| ControlError::Stopping)??)
    }
}
