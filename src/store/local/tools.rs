//! What an operator does to a store's folder from outside: look, check, repair, copy. `kurier store` is the face.
//!
//! Checking decides with the very code that a start decides with (`chain`). Repairing changes only what that code
//! refuses, and says what is lost by it; everything else stays where it is. Copying reads, verifies, and writes
//! exactly the bytes that it verified.

mod copy;
mod findings;
mod mend;
mod stats;
mod survey;

pub use copy::{Copied, copy};
pub use findings::{Finding, Findings, Lost};
pub use stats::{SegmentStats, Stats, stats};
pub use survey::{check, repair};

/// How far a long piece of work is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes read.
    pub done: u64,
    /// Bytes to read altogether.
    pub total: u64,
}

/// Hears of progress, about once per segment.
pub type Watcher<'a> = &'a mut (dyn FnMut(Progress) + Send);
