//! The only place that asks the operating system what time it is, and that judges whether the answer is believed.

mod calendar;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::model::Timestamp;

pub use calendar::Calendar;

/// What time it is. Sleeping is tokio's business, so that simulation can pause it.
pub trait Clock: Send + Sync + 'static {
    /// The wall clock; it may jump.
    fn now(&self) -> Timestamp;

    /// Time since some fixed moment of this boot, sleep of the machine included; never goes back.
    fn boot(&self) -> Duration;

    /// How often an operator has said that the wall clock is right.
    fn vouched(&self) -> u64 {
        0
    }

    /// An operator says that the wall clock is right, however far it jumped: every [`Calendar`] believes it again.
    fn vouch(&self) {}
}

/// The machine has one clock, whoever looks at it.
static VOUCHED: AtomicU64 = AtomicU64::new(0);

/// The machine's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        Timestamp::from_millis(time.tv_sec.saturating_mul(1000).saturating_add(time.tv_nsec / 1_000_000))
    }

    fn boot(&self) -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
    }

    fn vouched(&self) -> u64 {
        VOUCHED.load(Ordering::Relaxed)
    }

    fn vouch(&self) {
        VOUCHED.fetch_add(1, Ordering::Relaxed);
    }
}

/// A clock that follows tokio's, which tests can pause and advance.
#[derive(Debug, Clone, Copy)]
pub struct TokioClock {
    started_at: Timestamp,
    origin: tokio::time::Instant,
}

impl TokioClock {
    /// A clock that shows `started_at` now.
    pub fn starting_at(started_at: Timestamp) -> Self {
        Self { started_at, origin: tokio::time::Instant::now() }
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        self.started_at.saturating_add(self.origin.elapsed())
    }

    fn boot(&self) -> Duration {
        self.origin.elapsed()
    }
}
