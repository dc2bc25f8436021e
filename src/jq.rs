//! `when` and `transform`: jq programs that an operator wrote, run over what a sender sent.
//!
//! Neither is trusted with this process. A program is compiled once per configuration and runs in a child,
//! the same binary called again, that has no environment, no files, little memory and little time. A child that
//! goes beyond is killed and another takes its place: one delivery ends for it, and never another. Programs
//! see one event and nothing else: no `env`, no `input`, no modules, no `halt`.
//!
//! Here: `program` (compile and run; what the child does with the engine), `child` (its life and its limits),
//! `frame` (what both say to each other), `worker` (one child, seen from outside), `pool` (all of them).

mod child;
mod frame;
mod pool;
mod program;
mod worker;

use async_trait::async_trait;
use bytes::Bytes;

pub use child::{CHILD_ARGUMENT, run_as_child};
pub use pool::Children;
pub use program::{Compiled, Mistake, PROGRAM_BYTES_MAX, check};

/// The longest body that a transform may make.
pub const OUTPUT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The distinct programs of one configuration, which are compiled together.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Programs(Vec<String>);

/// One of [`Programs`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProgramId(u32);

impl Programs {
    /// Adds a program that [`check`] has passed; the same one twice is kept once.
    pub fn add(&mut self, source: &str) -> ProgramId {
        let at = self.0.iter().position(|known| known == source).unwrap_or_else(|| {
            self.0.push(source.to_owned());
            self.0.len() - 1
        });
        ProgramId(u32::try_from(at).unwrap_or(u32::MAX))
    }

    fn source(&self, id: ProgramId) -> &str {
        self.0.get(id.0 as usize).map_or("", String::as_str)
    }
}

/// What to do with one event for one destination; at least one of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Task {
    /// Decides whether it is delivered.
    pub when: Option<ProgramId>,
    /// Makes the body.
    pub transform: Option<ProgramId>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Made {
    /// `when` said no: its first value is `false` or `null`, or there is none.
    Skipped,
    /// `when` said yes, and there is no `transform`.
    Unchanged,
    /// The body, JSON in one line.
    Body(Bytes),
}

/// Which of a task's programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The condition.
    When,
    /// The body's maker.
    Transform,
}

impl Step {
    /// Its key in routes.yaml.
    pub fn word(self) -> &'static str {
        match self {
            Self::When => "when",
            Self::Transform => "transform",
        }
    }
}

/// Why nothing came of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The program failed, or went beyond its limits; for this event it would again.
    #[error("`{}` {text}", step.word())]
    Program {
        /// Which one.
        step: Step,
        /// What it did, in the operator's words: it may hold values of the event.
        text: String,
    },
    /// No child could be had or heard just now; says nothing about the program.
    #[error("no jq process: {0}")]
    Unavailable(String),
}

/// Runs tasks. The seam at which a simulation puts an engine without processes.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// Runs a task of these programs over an event, given as JSON text.
    ///
    /// # Errors
    /// The program's failure, or that there is nobody to run it.
    async fn run(&self, programs: &std::sync::Arc<Programs>, task: Task, input: Bytes) -> Result<Made, Failure>;
}
