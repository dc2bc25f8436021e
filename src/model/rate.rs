//! How many in how much time.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

/// A rate such as `50/s`. Bursts of one second's worth are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    /// How many.
    pub count: NonZeroU32,
    /// In how much time; a second, a minute or an hour.
    pub per: Duration,
}

impl Rate {
    /// The time between two at an even pace; at least a nanosecond.
    pub fn interval(self) -> Duration {
        (self.per / self.count.get()).max(Duration::from_nanos(1))
    }

    /// How many may come at once: one second's worth, at least one.
    pub fn burst(self) -> NonZeroU32 {
        let seconds = u32::try_from(self.per.as_secs()).unwrap_or(u32::MAX).max(1);
        NonZeroU32::new(self.count.get() / seconds).unwrap_or(NonZeroU32::MIN)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.per.as_secs() {
            1 => write!(f, "{}/s", self.count),
            60 => write!(f, "{}/min", self.count),
            3600 => write!(f, "{}/h", self.count),
            _ => write!(f, "{}/{:?}", self.count, self.per),
        }
    }
}
