//! Whether the wall clock can be believed (rule 17).
//!
//! Due times run on the boot clock; only ends that are written as dates (retention, a dedupe window, the age of a
//! delivery, an order's time, a deadline) need the wall clock, and a wrong date there throws away what was promised. A
//! wall clock that jumps by more than an hour against the boot clock, or against the last commit at a start, is doubted
//! until both have agreed for ten minutes or the operator says that it is right.

use std::time::Duration;

use parking_lot::Mutex;

use super::Clock;
use crate::model::Timestamp;

/// A disagreement up to this is a clock that was set.
const JUMP_MAX: Duration = Duration::from_secs(3600);

/// How far the clocks may drift apart while they are said to agree.
const DRIFT_MAX: Duration = Duration::from_secs(10);

/// For how long they must agree.
const AGREE_FOR: Duration = Duration::from_secs(600);

#[derive(Debug, Clone, Copy)]
struct Seen {
    wall: Timestamp,
    boot: Duration,
}

#[derive(Debug, Default)]
struct Watched {
    seen: Option<Seen>,
    /// Since when both have agreed, where the wall clock is doubted.
    doubted: Option<Seen>,
    /// [`Clock::vouched`] as it was last.
    vouched: u64,
}

/// Watches the wall clock.
#[derive(Debug, Default)]
pub struct Calendar(Mutex<Watched>);

/// How far the wall clock moved away from the boot clock since then.
fn drift(since: Seen, now: Seen) -> Duration {
    let should = since.wall.saturating_add(now.boot.saturating_sub(since.boot));
    should.since(now.wall).max(now.wall.since(should))
}

impl Calendar {
    /// Believes the clocks as they stand now.
    pub fn new(clock: &dyn Clock) -> Self {
        let calendar = Self::default();
        *calendar.0.lock() = Watched::at(Seen { wall: clock.now(), boot: clock.boot() }, clock);
        calendar
    }

    /// At a start: the last batch was committed at `last`.
    pub fn begin(&self, clock: &dyn Clock, last: Timestamp) {
        let now = Seen { wall: clock.now(), boot: clock.boot() };
        let mut watched = self.0.lock();
        *watched = Watched::at(now, clock);
        if last.since(now.wall).max(now.wall.since(last)) > JUMP_MAX {
            tracing::info!(
                last = %last, now = %now.wall,
                "the clock is far from what was written last: nothing ends by its date for ten minutes, or until `kurier clock believe`"
            );
            watched.doubted = Some(now);
        }
    }

    /// Whether dates can be believed now.
    pub fn is_believed(&self, clock: &dyn Clock) -> bool {
        let now = Seen { wall: clock.now(), boot: clock.boot() };
        let mut watched = self.0.lock();
        if watched.vouched != clock.vouched() {
            *watched = Watched::at(now, clock);
            return true;
        }
        let jumped = watched.seen.replace(now).is_some_and(|seen| drift(seen, now) > JUMP_MAX);
        if jumped {
            tracing::error!(
                now = %now.wall,
                "the clock jumped by more than an hour: nothing ends by its date until it has been steady for ten minutes, or `kurier \
                 clock believe` says that it is right"
            );
            watched.doubted = Some(now);
        }
        let Some(since) = watched.doubted else { return true };
        if drift(since, now) > DRIFT_MAX {
            watched.doubted = Some(now);
        } else if now.boot.saturating_sub(since.boot) >= AGREE_FOR {
            tracing::info!(now = %now.wall, "the clock has been steady: dates count again");
            watched.doubted = None;
        }
        watched.doubted.is_none()
    }
}

impl Watched {
    /// Believes the clocks as they stand.
    fn at(now: Seen, clock: &dyn Clock) -> Self {
        Self { seen: Some(now), doubted: None, vouched: clock.vouched() }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    struct Hands(Mutex<Seen>, AtomicU64);

    impl Hands {
        fn at(wall_s: i64) -> Self {
            Self(Mutex::new(Seen { wall: Timestamp::from_millis(wall_s * 1000), boot: Duration::from_secs(50) }), AtomicU64::new(0))
        }

        fn pass(&self, seconds: u64, jump_s: i64) {
            let mut hands = self.0.lock();
            hands.boot += Duration::from_secs(seconds);
            hands.wall = Timestamp::from_millis(hands.wall.millis() + i64::try_from(seconds).unwrap() * 1000 + jump_s * 1000);
        }
    }

    impl Clock for Hands {
        fn now(&self) -> Timestamp {
            self.0.lock().wall
        }

        fn boot(&self) -> Duration {
            self.0.lock().boot
        }

        fn vouched(&self) -> u64 {
            self.1.load(Ordering::Relaxed)
        }

        fn vouch(&self) {
            self.1.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_jump_is_doubted_for_ten_minutes_and_a_small_step_is_not() {
        for jump in [86_400, -86_400] {
            let (hands, calendar) = (Hands::at(1_000_000), Calendar::default());
            calendar.begin(&hands, hands.now());
            hands.pass(30, 1800);
            assert!(calendar.is_believed(&hands), "half an hour is a clock that was set");
            hands.pass(30, jump);
            assert!(!calendar.is_believed(&hands));
            hands.pass(500, 0);
            assert!(!calendar.is_believed(&hands));
            hands.pass(10, 60);
            assert!(!calendar.is_believed(&hands), "it was set again: ten minutes from here");
            hands.pass(590, 0);
            assert!(!calendar.is_believed(&hands));
            hands.pass(10, 0);
            assert!(calendar.is_believed(&hands));
        }
    }

    #[test]
    fn drift_is_followed() {
        let hands = Hands::at(1_000_000);
        let calendar = Calendar::new(&hands);
        for _ in 0..100 {
            hands.pass(3600, 300);
            assert!(calendar.is_believed(&hands), "five minutes an hour");
        }
    }

    #[test]
    fn at_a_start_the_last_commit_is_the_witness_and_the_operator_has_the_last_word() {
        let (hands, calendar) = (Hands::at(1_000_000), Calendar::default());
        calendar.begin(&hands, Timestamp::from_millis(0));
        assert!(!calendar.is_believed(&hands));
        hands.vouch();
        assert!(calendar.is_believed(&hands));
        hands.pass(30, 86_400);
        assert!(!calendar.is_believed(&hands), "a word counts for the jumps before it");
        let calendar = Calendar::default();
        calendar.begin(&hands, hands.now().saturating_sub(Duration::from_secs(1000)));
        assert!(calendar.is_believed(&hands));
    }
}
