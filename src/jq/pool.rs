//! The jq processes of one relay: few, started when first needed, replaced when one dies.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use super::worker::Worker;
use super::{Engine, Failure, Made, Programs, Task};

/// Most processes at a time: programs are short, and more than the machine has processors gain nothing. Two at
/// least, so that a program that takes all its time leaves the others one.
const PROCESSES: std::ops::RangeInclusive<usize> = 2..=8;

/// Most programs that are remembered as suspect.
const SUSPECTS_MAX: usize = 1024;

/// Where the binary of this very process is found, also after it was replaced on disk.
const THIS_BINARY: &str = "/proc/self/exe";

/// Runs tasks in child processes.
pub struct Children {
    shared: Arc<Shared>,
    places: Arc<Semaphore>,
    /// Programs that went beyond their limits last time run one at a time, so that they never take all places.
    suspects_place: Arc<Semaphore>,
}

struct Shared {
    executable: PathBuf,
    idle: Mutex<Vec<Worker>>,
    suspects: Mutex<BTreeSet<String>>,
}

impl Children {
    /// Children that are this same binary. It must hand over to [`super::run_as_child`] when it is called with
    /// [`super::CHILD_ARGUMENT`].
    pub fn of_this_binary() -> Self {
        Self::of(PathBuf::from(THIS_BINARY))
    }

    /// Children that are another `kurier` binary.
    pub fn of(executable: PathBuf) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let places = processors.clamp(*PROCESSES.start(), *PROCESSES.end());
        let shared = Shared { executable, idle: Mutex::default(), suspects: Mutex::default() };
        Self { shared: Arc::new(shared), places: Arc::new(Semaphore::new(places)), suspects_place: Arc::new(Semaphore::new(1)) }
    }

    async fn place(&self, suspect: bool) -> Result<(OwnedSemaphorePermit, Option<OwnedSemaphorePermit>), AcquireError> {
        let suspects = if suspect { Some(self.suspects_place.clone().acquire_owned().await?) } else { None };
        Ok((self.places.clone().acquire_owned().await?, suspects))
    }
}

/// The programs of a task as one text, by which they are remembered over reloads.
fn name(programs: &Programs, task: Task) -> String {
    [task.when, task.transform].into_iter().flatten().map(|id| programs.source(id)).collect::<Vec<_>>().join("\n")
}

impl Shared {
    fn run(&self, programs: &Arc<Programs>, task: Task, input: &[u8]) -> Result<Made, Failure> {
        let idle = self.idle.lock().pop();
        let worker = match idle.map_or_else(|| Worker::start(&self.executable), Ok) {
            Ok(worker) => worker,
            Err(error) => return Err(Failure::Unavailable(format!("starting one: {error}"))),
        };
        let (worker, made) = worker.run(programs, task, input);
        let mut suspects = self.suspects.lock();
        match worker {
            Some(worker) => {
                if !suspects.is_empty() {
                    suspects.remove(&name(programs, task));
                }
                self.idle.lock().push(worker);
            }
            None if suspects.len() < SUSPECTS_MAX && matches!(made, Err(Failure::Program { .. })) => {
                suspects.insert(name(programs, task));
            }
            None => {}
        }
        made
    }

    fn is_suspect(&self, programs: &Programs, task: Task) -> bool {
        let suspects = self.suspects.lock();
        !suspects.is_empty() && suspects.contains(&name(programs, task))
    }
}

#[async_trait]
impl Engine for Children {
    async fn run(&self, programs: &Arc<Programs>, task: Task, input: Bytes) -> Result<Made, Failure> {
        let closed = |_closed| Failure::Unavailable("the relay is stopping".to_owned());
        let places = self.place(self.shared.is_suspect(programs, task)).await.map_err(closed)?;
        let (shared, programs) = (self.shared.clone(), programs.clone());
        let run = tokio::task::spawn_blocking(move || {
            let made = shared.run(&programs, task, &input);
            drop(places);
            made
        });
        run.await.unwrap_or_else(|error| Err(Failure::Unavailable(error.to_string())))
    }
}
