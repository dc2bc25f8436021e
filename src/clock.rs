//! The only place that asks the operating system what time it is, and that judges whether the answer is believed.

mod calendar;

use std::sync::Arc;
use std::time::Duration;

use crate::model::Timestamp;

pub use calendar::Calendar;

/// What time it is. Sleeping is tokio's business, so that simulation can pause it.
pub trait Clock: Send + Sync + 'static {
    /// The wall clock; it may jump.
    fn now(&self) -> Timestamp;

    /// Time since some fixed moment of this boot, sleep of the machine included; never goes back.
    fn boot(&self) -> Duration;

    /// The wall clock, where dates can be believed just now: whatever ends by its date (retention, a dedupe window, the
    /// age of a delivery, an order's time, a deadline) ends by this one. Only a [`Calendar`] ever doubts.
    fn date(&self) -> Option<Timestamp> {
        Some(self.now())
    }

    /// What a reading of the wall clock is written down as, where its age will be asked for: while dates are doubted, never
    /// earlier than time must have come since it was last known. A date that is years back would make it old at once as
    /// soon as the clock is right.
    fn stamp(&self, reading: Timestamp) -> Timestamp {
        reading
    }

    /// What a commit is dated, whose date the next start takes for a witness: a reading of the wall clock, and while dates are
    /// doubted the time that it must be since it was last known. Else a start would believe a wrong date because the start
    /// before it had written it.
    fn reckon(&self, reading: Timestamp) -> Timestamp {
        reading
    }

    /// At a start: something was written at `last`, and time doesn't go back or pass by years.
    fn witness(&self, _last: Timestamp) {}

    /// At a start: a request was received at `last`, by a wall clock that may have been wrong then. It may make dates doubted as
    /// [`witness`](Self::witness) does, but commits are never dated by it.
    fn overhear(&self, _last: Timestamp) {}

    /// An operator says that the wall clock is right, however far it jumped.
    fn vouch(&self) {}
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> Timestamp {
        (**self).now()
    }

    fn boot(&self) -> Duration {
        (**self).boot()
    }

    fn date(&self) -> Option<Timestamp> {
        (**self).date()
    }

    fn stamp(&self, reading: Timestamp) -> Timestamp {
        (**self).stamp(reading)
    }

    fn reckon(&self, reading: Timestamp) -> Timestamp {
        (**self).reckon(reading)
    }

    fn witness(&self, last: Timestamp) {
        (**self).witness(last);
    }

    fn overhear(&self, last: Timestamp) {
        (**self).overhear(last);
    }

    fn vouch(&self) {
        (**self).vouch();
    }
}

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
