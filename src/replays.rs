//! Replays: of one event at once; of many by a job, which finds what an operator's filter means and replays it, oldest
//! first. Asked twice for the same, nothing is replayed twice.
//!
//! A job is a durable piece of state: it goes on after a restart, may then replay its last few events once more, and
//! never skips one. It keeps pace with the destinations, so that a job of a million events neither fills the store nor
//! stands in the way of what comes in.

mod job;
mod run;

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::model::{DeliveryId, DeliveryKind, EventId, Name};
use crate::store::{CommitError, NewDelivery, ReadError, Store};

pub use job::{Filter, Job, Status};

/// Jobs that may wait or run at a time.
pub const WAITING_MAX: usize = 16;

/// Jobs that have ended and are still shown.
pub const ENDED_MAX: usize = 100;

/// The most events that one job takes; a filter that means more wants a narrower time.
pub const EVENTS_MAX: usize = 1_000_000;

/// What begins a job's state in the store.
const PREFIX: &str = "replay/";

/// Why a job could not be begun.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BeginError {
    /// [`WAITING_MAX`] jobs are not done yet.
    #[error("{WAITING_MAX} replays wait or run already")]
    TooMany,
    /// The store did not commit it.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// Why one event was not replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// It can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store did not commit its deliveries.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// The jobs; clones share them. The last one to go ends what runs; it goes on at the next start.
#[derive(Clone)]
pub struct Replays {
    inner: Arc<Inner>,
    _runner: Arc<Runner>,
}

struct Inner {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    jobs: Mutex<BTreeMap<String, Job>>,
    wanted: Notify,
    /// Whoever asks for something; two at once would not see what the other did, or see it before it is durable.
    asking: tokio::sync::Mutex<()>,
}

struct Runner(JoinHandle<()>);

impl Drop for Runner {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Replays {
    /// Goes on with the jobs that the store knows and that are not done.
    pub fn start(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        let inner = Arc::new(Inner { store, clock, jobs: Mutex::default(), wanted: Notify::new(), asking: tokio::sync::Mutex::default() });
        let runner = Arc::new(Runner(tokio::spawn(run::run(inner.clone()))));
        Self { inner, _runner: runner }
    }

    /// Replays one event to each of these destinations, durably; their deliveries, in that order. Where a replay of it
    /// still waits, it is that one.
    ///
    /// # Errors
    /// The event is not there, or the store refused.
    pub async fn event(&self, id: EventId, destinations: &[Name]) -> Result<Vec<DeliveryId>, ReplayError> {
        let _asking = self.inner.asking.lock().await;
        let record = self.inner.store.record(id).await?.ok_or(CommitError::NotFound)?;
        let waits = |to: &Name| {
            let mut replays =
                record.deliveries.iter().filter(|delivery| delivery.kind == DeliveryKind::Replay && delivery.destination == *to);
            replays.find(|delivery| !delivery.state.is_final()).map(|delivery| delivery.id)
        };
        let waiting: Vec<Option<DeliveryId>> = destinations.iter().map(waits).collect();
        let (due, lane) = (self.inner.clock.now(), record.deliveries.iter().find_map(|delivery| delivery.lane));
        let missing = destinations.iter().zip(&waiting).filter(|(_, waiting)| waiting.is_none());
        let new: Vec<NewDelivery> = missing.map(|(to, _)| NewDelivery { destination: to.clone(), lane, due }).collect();
        let mut made = if new.is_empty() { Vec::new() } else { self.inner.store.replay(id, new).await? }.into_iter();
        Ok(waiting.into_iter().filter_map(|waiting| waiting.or_else(|| made.next())).collect())
    }

    /// Begins a job, durably. `destinations`: instead of those whose newest delivery the filter means. While a job of the
    /// same words that began just now is not done, it is that one.
    ///
    /// # Errors
    /// There are too many, or the store refused.
    pub async fn begin(&self, filter: Filter, destinations: Option<Vec<String>>, by: &str) -> Result<Job, BeginError> {
        let _asking = self.inner.asking.lock().await;
        let now = self.inner.clock.now();
        let text = EventId::new(now, rand::random()).to_string();
        let job = Job::new(format!("rpl_{}", text.trim_start_matches("evt_")), filter, destinations, by, now);
        {
            let mut jobs = self.inner.jobs.lock();
            if let Some(same) = jobs.values().find(|other| other.is_asked_again_by(&job)) {
                return Ok(same.clone());
            }
            if jobs.values().filter(|job| !job.status.is_final()).count() >= WAITING_MAX {
                return Err(BeginError::TooMany);
            }
            jobs.insert(job.id.clone(), job.clone());
        }
        if let Err(error) = self.inner.save(&job).await {
            self.inner.jobs.lock().remove(&job.id);
            return Err(error.into());
        }
        self.inner.wanted.notify_one();
        Ok(job)
    }

    /// How many events the filter means now; at most one more than [`EVENTS_MAX`].
    ///
    /// # Errors
    /// The store can't be read.
    pub async fn count(&self, filter: &Filter) -> Result<usize, ReadError> {
        Ok(run::find(&*self.inner.store, filter, None, || false).await?.len())
    }

    /// A job.
    pub fn get(&self, id: &str) -> Option<Job> {
        self.inner.jobs.lock().get(id).cloned()
    }

    /// All jobs, by id: the oldest first.
    pub fn list(&self) -> Vec<Job> {
        self.inner.jobs.lock().values().cloned().collect()
    }

    /// Stops a job; what it has replayed stays. One that is done stays as it is.
    ///
    /// # Errors
    /// The store refused: it may go on after a restart.
    pub async fn stop(&self, id: &str) -> Result<Option<Job>, CommitError> {
        let stopped = self.inner.change(id, |job| {
            if !job.status.is_final() {
                job.end(Status::Stopped, self.inner.clock.now());
            }
        });
        if let Some(job) = &stopped {
            self.inner.save(job).await?;
        }
        Ok(stopped)
    }
}

impl Inner {
    async fn save(&self, job: &Job) -> Result<(), CommitError> {
        let bytes = serde_json::to_vec(job).map_err(|_error| CommitError::Refused("the replay can't be written down"))?;
        self.store.set_state(format!("{PREFIX}{}", job.id), Some(bytes.into())).await
    }

    /// Changes a job; one that has ended is not changed by what is still on its way.
    fn change(&self, id: &str, change: impl FnOnce(&mut Job)) -> Option<Job> {
        let mut jobs = self.jobs.lock();
        let job = jobs.get_mut(id)?;
        if !job.status.is_final() {
            change(job);
        }
        Some(job.clone())
    }
}
