//! How long to wait for the next attempt: full jitter under a bound that grows.
//!
//! Full jitter, because deliveries that failed together must not come back together.

use std::time::Duration;

use rand::{Rng, RngExt};

use crate::config;

/// A schedule whose every gap lies between `min` and `max`, whatever the settings were.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Backoff {
    first: Duration,
    factor: f64,
    min: Duration,
    max: Duration,
}

impl Backoff {
    /// The schedule of these settings. A factor that would shrink the bound counts as 1, a maximum below the
    /// minimum as the minimum.
    pub(super) fn new(retry: &config::Retry) -> Self {
        let factor = if retry.factor.is_finite() { retry.factor.max(1.0) } else { 1.0 };
        let min = retry.min;
        Self { first: retry.first, factor, min, max: retry.max.max(min) }
    }

    /// The upper bound of the gap after this many attempts; 1 for the first gap.
    fn bound(self, attempts: u32) -> Duration {
        let exponent = i32::try_from(attempts.saturating_sub(1)).unwrap_or(i32::MAX);
        let seconds = self.first.as_secs_f64() * self.factor.powi(exponent);
        Duration::try_from_secs_f64(seconds).unwrap_or(self.max).clamp(self.min, self.max)
    }

    /// The gap after this many attempts.
    pub(super) fn gap(self, attempts: u32, rng: &mut impl Rng) -> Duration {
        let (min, bound) = (self.min.as_secs_f64(), self.bound(attempts).as_secs_f64());
        let seconds = rng.random_range(min..=bound);
        Duration::try_from_secs_f64(seconds).unwrap_or(self.max).clamp(self.min, self.max)
    }

    /// The gap that a destination asked for, kept within the bounds: it can neither hurry us below the floor
    /// nor put us off for ever. A tenth more of it is chance: all that it put off for a minute must not come back in
    /// the same instant.
    pub(super) fn asked_for(self, gap: Duration, rng: &mut impl Rng) -> Duration {
        let gap = gap.clamp(self.min, self.max);
        rng.random_range(gap..=gap.saturating_add(gap / 10)).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn millis(range: std::ops::Range<u64>) -> impl Strategy<Value = Duration> {
        range.prop_map(Duration::from_millis)
    }

    proptest! {
        #[test]
        fn every_gap_lies_between_the_minimum_and_the_maximum(
            first in millis(0..100_000), min in millis(0..100_000), max in millis(0..10_000_000),
            factor in prop::num::f64::ANY, attempts in 0..u32::MAX, seed: u64,
        ) {
            let retry = config::Retry { first, factor, min, max, ..config::Retry::default() };
            let gap = Backoff::new(&retry).gap(attempts, &mut StdRng::seed_from_u64(seed));
            prop_assert!(gap >= min && gap <= max.max(min), "{gap:?}");
        }

        #[test]
        fn the_first_gap_is_at_most_first(first in millis(1000..100_000), seed: u64) {
            let retry = config::Retry { first, ..config::Retry::default() };
            prop_assert!(Backoff::new(&retry).gap(1, &mut StdRng::seed_from_u64(seed)) <= first);
        }

        #[test]
        fn the_bound_never_shrinks(attempts in 1..1000_u32, factor in 1.0..10.0_f64) {
            let backoff = Backoff::new(&config::Retry { factor, ..config::Retry::default() });
            prop_assert!(backoff.bound(attempts) <= backoff.bound(attempts + 1));
        }
    }

    #[test]
    fn gaps_are_spread_over_the_whole_range() {
        let backoff = Backoff::new(&config::Retry::default());
        let mut rng = StdRng::seed_from_u64(7);
        let gaps: Vec<Duration> = (0..1000).map(|_| backoff.gap(4, &mut rng)).collect();
        assert!(gaps.iter().min().unwrap() < &Duration::from_secs(2));
        assert!(gaps.iter().max().unwrap() > &Duration::from_secs(38), "the bound is 40 s");
    }
}
