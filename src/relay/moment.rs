//! The relay's own time: how long after the boot clock's origin.
//!
//! Due times are stored as wall time, for a restart to find. While the process runs they are kept on the boot
//! clock: a wall clock that is set an hour forward makes nothing due at once, one that is set back holds
//! nothing up.

use std::time::Duration;

use crate::clock::Clock;
use crate::model::Timestamp;

/// An instant on the boot clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Moment(Duration);

impl Moment {
    /// The instant this long after the clock's origin.
    #[cfg(test)]
    pub(super) const fn at(boot: Duration) -> Self {
        Self(boot)
    }

    /// Now.
    pub(super) fn now(clock: &dyn Clock) -> Self {
        Self(clock.boot())
    }

    /// This instant moved forward.
    pub(super) fn after(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by))
    }

    /// How long after `earlier` this is; zero when it is not after it.
    pub(super) fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// The moment of a stored due time, as seen from now. No gap of a delivery is longer than `gap_max`, so a
    /// due time beyond it was written under a wrong wall clock and is not waited for.
    pub(super) fn of_due(due: Timestamp, clock: &dyn Clock, gap_max: Duration) -> Self {
        Self::now(clock).after(due.since(clock.now()).min(gap_max))
    }

    /// This moment on the wall clock, as it is now.
    pub(super) fn on_the_wall(self, clock: &dyn Clock) -> Timestamp {
        let (now, wall) = (Self::now(clock), clock.now());
        if self >= now { wall.saturating_add(self.since(now)) } else { wall.saturating_sub(now.since(self)) }
    }
}
