//! The jq processes of one relay: few, started when first needed, replaced when one dies.
//!
//! What waits is taken by threads that may block, several tasks in one message, since waking each other costs both sides
//! more than a short program does. What a message leaves unanswered is run again, each task alone, so that a failure is
//! always told of its own program.

use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::worker::Worker;
use super::{Engine, Failure, Made, Programs, Task};

/// Most processes at a time: programs are short, and more than the machine has processors gain nothing. Two at
/// least, so that a program that takes all its time leaves the others one. One more is for suspects.
const PROCESSES: std::ops::RangeInclusive<usize> = 2..=8;

/// Most programs that are remembered as suspect.
const SUSPECTS_MAX: usize = 1024;

/// Most tasks of one message.
const TOGETHER_MAX: usize = 32;

/// Most bytes of events in a message of several tasks. A socket takes so many without anybody reading: were both sides
/// writing, neither would end.
const TOGETHER_BYTES_MAX: usize = 48 * 1024;

/// Where the binary of this very process is found, also after it was replaced on disk.
const THIS_BINARY: &str = "/proc/self/exe";

/// Runs tasks in child processes.
pub struct Children(Arc<Shared>);

struct Shared {
    executable: PathBuf,
    idle: Mutex<Vec<Worker>>,
    suspects: Mutex<BTreeSet<String>>,
    usual: Line,
    /// Programs that went beyond their limits last time run one at a time, so that they never take all processes.
    suspect: Line,
}

/// Tasks that wait, and threads that take them. Each is an attempt of the relay, which bounds how many there are.
struct Line {
    queue: Mutex<Queue>,
    threads_max: usize,
    together_max: usize,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Asked>,
    threads: usize,
}

struct Asked {
    programs: Arc<Programs>,
    task: Task,
    input: Bytes,
    answer: oneshot::Sender<Result<Made, Failure>>,
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
        let usual = Line::new(processors.clamp(*PROCESSES.start(), *PROCESSES.end()), TOGETHER_MAX);
        let shared = Shared { executable, idle: Mutex::default(), suspects: Mutex::default(), usual, suspect: Line::new(1, 1) };
        Self(Arc::new(shared))
    }
}

#[async_trait]
impl Engine for Children {
    async fn run(&self, programs: &Arc<Programs>, task: Task, input: Bytes) -> Result<Made, Failure> {
        let (answer, answered) = oneshot::channel();
        let asked = Asked { programs: programs.clone(), task, input, answer };
        let is_suspect = self.0.is_suspect(&asked);
        self.0.wait_in_line(is_suspect, asked);
        answered.await.unwrap_or_else(|_closed| Err(Failure::Unavailable("the relay is stopping".to_owned())))
    }
}

impl Line {
    fn new(threads_max: usize, together_max: usize) -> Self {
        Self { queue: Mutex::default(), threads_max, together_max }
    }

    /// Whether a thread is to be called to take what waits.
    fn push(&self, asked: Asked) -> bool {
        let mut queue = self.queue.lock();
        queue.waiting.push_back(asked);
        let is_short_of_threads = queue.threads < self.threads_max;
        queue.threads += usize::from(is_short_of_threads);
        is_short_of_threads
    }
}

/// A thread that takes what waits in a line, until nothing does.
struct Thread<'a> {
    line: &'a Line,
    is_over: bool,
}

impl Thread<'_> {
    /// The next tasks, all of the same programs: a thread's share of what waits.
    fn take(&mut self) -> Option<Vec<Asked>> {
        let mut queue = self.line.queue.lock();
        queue.waiting.retain(|asked| !asked.answer.is_closed());
        let share = queue.waiting.len().div_ceil(self.line.threads_max).min(self.line.together_max);
        let Some(first) = queue.waiting.pop_front() else {
            // Together with the look that found nothing: whoever comes next calls a thread.
            queue.threads = queue.threads.saturating_sub(1);
            self.is_over = true;
            return None;
        };
        let (programs, mut bytes) = (first.programs.clone(), first.input.len());
        let mut taken = vec![first];
        while taken.len() < share
            && let Some(next) = queue.waiting.front()
            && Arc::ptr_eq(&next.programs, &programs)
            && bytes.saturating_add(next.input.len()) <= TOGETHER_BYTES_MAX
        {
            bytes = bytes.saturating_add(next.input.len());
            taken.extend(queue.waiting.pop_front());
        }
        Some(taken)
    }
}

impl Drop for Thread<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            // A panic: others may take its place.
            let mut queue = self.line.queue.lock();
            queue.threads = queue.threads.saturating_sub(1);
        }
    }
}

/// The programs of a task as one text, by which they are remembered over reloads.
fn name(asked: &Asked) -> String {
    let programs = [asked.task.when, asked.task.transform].into_iter().flatten();
    programs.map(|id| asked.programs.source(id)).collect::<Vec<_>>().join("\n")
}

impl Shared {
    fn line(&self, is_suspect: bool) -> &Line {
        if is_suspect { &self.suspect } else { &self.usual }
    }

    fn wait_in_line(self: &Arc<Self>, is_suspect: bool, asked: Asked) {
        if self.line(is_suspect).push(asked) {
            let shared = self.clone();
            tokio::task::spawn_blocking(move || shared.work(is_suspect));
        }
    }

    fn work(self: &Arc<Self>, is_suspect: bool) {
        let mut thread = Thread { line: self.line(is_suspect), is_over: false };
        while let Some(asked) = thread.take() {
            for asked in self.run_together(asked) {
                if !is_suspect && self.is_suspect(&asked) {
                    self.wait_in_line(true, asked);
                } else {
                    let made = self.run_alone(&asked);
                    // Nobody waits any more for what was given up.
                    drop(asked.answer.send(made));
                }
            }
        }
    }

    fn worker(&self) -> Result<Worker, Failure> {
        let idle = self.idle.lock().pop();
        let worker = idle.map_or_else(|| Worker::start(&self.executable), Ok);
        worker.map_err(|error| Failure::Unavailable(format!("starting one: {error}")))
    }

    /// Runs several tasks; gives back those that must be run alone.
    fn run_together(&self, mut asked: Vec<Asked>) -> Vec<Asked> {
        let Some(first) = asked.first().filter(|_| asked.len() > 1) else { return asked };
        let Ok(worker) = self.worker() else { return asked };
        let tasks: Vec<(Task, &[u8])> = asked.iter().map(|asked| (asked.task, &*asked.input)).collect();
        let (worker, answers) = worker.run_together(&first.programs, &tasks);
        self.idle.lock().extend(worker);
        let unanswered = asked.split_off(answers.len().min(asked.len()));
        for (asked, answer) in asked.into_iter().zip(answers) {
            drop(asked.answer.send(answer));
        }
        unanswered
    }

    fn run_alone(&self, asked: &Asked) -> Result<Made, Failure> {
        let (worker, made) = self.worker()?.run(&asked.programs, asked.task, &asked.input);
        let mut suspects = self.suspects.lock();
        match worker {
            Some(worker) => {
                if !suspects.is_empty() {
                    suspects.remove(&name(asked));
                }
                self.idle.lock().push(worker);
            }
            None if suspects.len() < SUSPECTS_MAX && matches!(made, Err(Failure::Program { .. })) => {
                suspects.insert(name(asked));
            }
            None => {}
        }
        made
    }

    fn is_suspect(&self, asked: &Asked) -> bool {
        let suspects = self.suspects.lock();
        !suspects.is_empty() && suspects.contains(&name(asked))
    }
}
