//! Rate limits on our own clock: they say how long to wait and never sleep themselves.
//!
//! Each limiter outlives a reload as long as its rate stays the same, so reloading does not hand out a
//! fresh burst.

use std::hash::Hash;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock as GovernorClock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{NotUntil, Quota, RateLimiter};
use parking_lot::Mutex;

use crate::clock::Clock;
use crate::model::Rate;

/// The boot clock in governor's terms.
#[derive(Clone)]
struct BootClock(Arc<dyn Clock>);

impl GovernorClock for BootClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(self.0.boot())
    }
}

fn quota(rate: Rate) -> Quota {
    match Quota::with_period(rate.interval()) {
        Some(quota) => quota.allow_burst(rate.burst()),
        None => Quota::per_second(rate.burst()),
    }
}

fn wait(until: &NotUntil<Nanos>, now: Nanos) -> Duration {
    until.earliest_possible().duration_since(now).into()
}

/// One rate for everything that comes by.
pub struct Limiter {
    rate: Rate,
    clock: BootClock,
    inner: RateLimiter<NotKeyed, InMemoryState, BootClock, NoOpMiddleware<Nanos>>,
}

impl Limiter {
    /// A limiter whose first burst is full.
    pub fn new(rate: Rate, clock: Arc<dyn Clock>) -> Self {
        let clock = BootClock(clock);
        Self { rate, inner: RateLimiter::direct_with_clock(quota(rate), clock.clone()), clock }
    }

    /// The rate it keeps.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Takes one, or says how long to wait for the next.
    ///
    /// # Errors
    /// The time until one may go.
    pub fn check(&self) -> Result<(), Duration> {
        self.inner.check().map_err(|until| wait(&until, self.clock.now()))
    }
}

/// One rate for each of many keys, such as sender addresses. It remembers at most `keys_max` of them at a
/// time: when more than that are busy at once it forgets all, so that a flood of addresses can't fill the
/// memory (I10).
pub struct KeyedLimiter<K: Hash + Eq + Clone> {
    rate: Rate,
    keys_max: NonZeroUsize,
    clock: BootClock,
    inner: Mutex<Keyed<K>>,
}

type Keyed<K> = RateLimiter<K, governor::state::keyed::HashMapStateStore<K>, BootClock, NoOpMiddleware<Nanos>>;

impl<K: Hash + Eq + Clone> KeyedLimiter<K> {
    /// A limiter that remembers at most `keys_max` keys.
    pub fn new(rate: Rate, keys_max: NonZeroUsize, clock: Arc<dyn Clock>) -> Self {
        let clock = BootClock(clock);
        Self { rate, keys_max, inner: Mutex::new(Self::fresh(rate, &clock)), clock }
    }

    fn fresh(rate: Rate, clock: &BootClock) -> Keyed<K> {
        RateLimiter::new(quota(rate), governor::state::keyed::HashMapStateStore::default(), clock.clone())
    }

    /// The rate it keeps.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Takes one of this key's, or says how long to wait for the next.
    ///
    /// # Errors
    /// The time until one may go.
    pub fn check(&self, key: &K) -> Result<(), Duration> {
        let mut inner = self.inner.lock();
        let answer = inner.check_key(key).map_err(|until| wait(&until, self.clock.now()));
        if inner.len() > self.keys_max.get() {
            inner.retain_recent();
            if inner.len() > self.keys_max.get() {
                *inner = Self::fresh(self.rate, &self.clock);
            }
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::clock::TokioClock;
    use crate::model::Timestamp;

    fn rate(count: u32, per: u64) -> Rate {
        Rate { count: NonZeroU32::new(count).unwrap(), per: Duration::from_secs(per) }
    }

    fn clock() -> Arc<dyn Clock> {
        Arc::new(TokioClock::starting_at(Timestamp::from_millis(0)))
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_of_one_second_then_an_even_pace() {
        let limiter = Limiter::new(rate(10, 1), clock());
        for _ in 0..10 {
            limiter.check().unwrap();
        }
        let wait = limiter.check().unwrap_err();
        assert!(wait <= Duration::from_millis(100), "{wait:?}");
        tokio::time::advance(wait).await;
        limiter.check().unwrap();
        assert!(limiter.check().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_per_minute_has_a_burst_of_one() {
        let limiter = Limiter::new(rate(30, 60), clock());
        limiter.check().unwrap();
        assert_eq!(limiter.check().unwrap_err(), Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_independent_and_their_number_is_bounded() {
        let limiter = KeyedLimiter::new(rate(1, 1), NonZeroUsize::new(100).unwrap(), clock());
        for key in 0..10_000_u32 {
            limiter.check(&key).unwrap();
        }
        assert!(limiter.inner.lock().len() <= 101);
        limiter.check(&1_000_000).unwrap();
        assert!(limiter.check(&1_000_000).is_err());
    }
}
