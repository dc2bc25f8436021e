//! Whether the wall clock can be believed (rule 17).
//!
//! Due times run on the boot clock; only ends that are written as dates (retention, a dedupe window, the age of a
//! delivery, an order's time, a deadline) need the wall clock, and a wrong date there throws away what was promised. A
//! wall clock that jumps by more than an hour against the boot clock, or against the last commit at a start, is doubted
//! until both have agreed for ten minutes or the operator says that it is right.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

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

#[derive(Debug)]
struct Watched {
    seen: Seen,
    doubted: Option<Doubt>,
}

#[derive(Debug, Clone, Copy)]
struct Doubt {
    /// Since when both clocks have agreed.
    since: Seen,
    /// The last time that was believed, or that something was written.
    known: Seen,
    /// The same, by what was committed only: nothing that a doubted clock dated.
    committed: Seen,
}

/// A clock that watches itself; one for the whole process, so that everything that ends by its date asks the same.
#[derive(Debug)]
pub struct Calendar<C> {
    clock: C,
    watched: Mutex<Watched>,
    /// How far the wall clock is ahead of the boot clock as of late, in milliseconds; [`DOUBTED`] while it is doubted. Lets
    /// [`Clock::stamp`] and [`Clock::reckon`] take no lock on the way of every event.
    ahead_ms: AtomicI64,
}

const DOUBTED: i64 = i64::MIN;

/// How far the wall clock moved away from the boot clock since then.
fn drift(since: Seen, now: Seen) -> Duration {
    let should = since.carried_to(now.boot);
    should.since(now.wall).max(now.wall.since(should))
}

impl<C: Clock> Calendar<C> {
    /// Believes this clock as it stands.
    pub fn new(clock: C) -> Self {
        let seen = Seen::by(&clock);
        Self { clock, watched: Mutex::new(Watched { seen, doubted: None }), ahead_ms: AtomicI64::new(seen.ahead_ms()) }
    }

    fn look(&self, now: Seen) -> MutexGuard<'_, Watched> {
        let mut watched = self.watched.lock();
        let seen = std::mem::replace(&mut watched.seen, now);
        if drift(seen, now) > JUMP_MAX {
            tracing::error!(
                now = %now.wall,
                "the clock jumped by more than an hour: nothing ends by its date until it has been steady for ten minutes, or `kurier \
                 clock believe` says that it is right"
            );
            let before = watched.doubted.unwrap_or(Doubt { since: now, known: seen, committed: seen });
            watched.doubted = Some(Doubt { since: now, ..before });
        }
        if let Some(doubt) = &mut watched.doubted {
            if drift(doubt.since, now) > DRIFT_MAX {
                doubt.since = now;
            } else if now.boot.saturating_sub(doubt.since.boot) >= AGREE_FOR {
                tracing::info!(now = %now.wall, "the clock has been steady: dates count again");
                watched.doubted = None;
            }
        }
        self.note(&watched);
        watched
    }

    /// While this reading is doubted: what it must be, as time was last known by `by` and has passed since.
    fn instead_of(&self, reading: Timestamp, by: fn(&Doubt) -> Seen) -> Option<Timestamp> {
        let now = Seen { wall: reading, boot: self.clock.boot() };
        let ahead_ms = self.ahead_ms.load(Ordering::Relaxed);
        let is_usual = ahead_ms != DOUBTED && Duration::from_millis(now.ahead_ms().abs_diff(ahead_ms)) <= JUMP_MAX;
        if is_usual {
            return None;
        }
        let watched = self.look(Seen::by(&self.clock));
        watched.doubted.map(|doubt| by(&doubt).carried_to(now.boot))
    }

    fn hear(&self, last: Timestamp, is_commit: bool) {
        let now = Seen::by(&self.clock);
        if last.since(now.wall).max(now.wall.since(last)) > JUMP_MAX {
            tracing::info!(
                last = %last, now = %now.wall,
                "the clock is far from what was written last: nothing ends by its date for ten minutes, or until `kurier clock believe`"
            );
            let heard = Seen { wall: last, boot: now.boot };
            let mut watched = self.watched.lock();
            let known = watched.doubted.map(|doubt| doubt.known).filter(|other| other.carried_to(now.boot) > last).unwrap_or(heard);
            let committed = if is_commit { heard } else { watched.doubted.map_or(now, |doubt| doubt.committed) };
            *watched = Watched { seen: now, doubted: Some(Doubt { since: now, known, committed }) };
            self.note(&watched);
        }
    }

    fn note(&self, watched: &Watched) {
        let ahead_ms = if watched.doubted.is_some() { DOUBTED } else { watched.seen.ahead_ms() };
        self.ahead_ms.store(ahead_ms, Ordering::Relaxed);
    }
}

impl<C: Clock> Clock for Calendar<C> {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn boot(&self) -> Duration {
        self.clock.boot()
    }

    fn date(&self) -> Option<Timestamp> {
        let now = Seen::by(&self.clock);
        self.look(now).doubted.is_none().then_some(now.wall)
    }

    fn stamp(&self, reading: Timestamp) -> Timestamp {
        self.instead_of(reading, |doubt| doubt.known).map_or(reading, |known| reading.max(known))
    }

    fn reckon(&self, reading: Timestamp) -> Timestamp {
        self.instead_of(reading, |doubt| doubt.committed).unwrap_or(reading)
    }

    fn witness(&self, last: Timestamp) {
        self.hear(last, true);
    }

    fn overhear(&self, last: Timestamp) {
        self.hear(last, false);
    }

    fn vouch(&self) {
        let mut watched = self.watched.lock();
        *watched = Watched { seen: Seen::by(&self.clock), doubted: None };
        self.note(&watched);
    }
}

impl Seen {
    fn by(clock: &dyn Clock) -> Self {
        Self { wall: clock.now(), boot: clock.boot() }
    }

    /// What the wall clock should show at this time of the boot clock, if it goes on as it was.
    fn carried_to(self, boot: Duration) -> Timestamp {
        self.wall.saturating_add(boot.saturating_sub(self.boot))
    }

    fn ahead_ms(self) -> i64 {
        self.wall.millis().saturating_sub(i64::try_from(self.boot.as_millis()).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// A clock that is moved by hand.
    #[derive(Debug, Clone)]
    struct Hands(Arc<Mutex<Seen>>);

    impl Hands {
        fn at(wall_s: i64) -> Self {
            Self(Arc::new(Mutex::new(Seen { wall: Timestamp::from_millis(wall_s * 1000), boot: Duration::from_secs(50) })))
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
    }

    fn at(wall_s: i64) -> (Hands, Calendar<Hands>) {
        let hands = Hands::at(wall_s);
        (hands.clone(), Calendar::new(hands))
    }

    #[test]
    fn a_jump_is_doubted_for_ten_minutes_and_a_small_step_is_not() {
        for jump in [86_400, -86_400] {
            let (hands, calendar) = at(1_000_000);
            hands.pass(30, 1800);
            assert_eq!(calendar.date(), Some(hands.now()), "half an hour is a clock that was set");
            hands.pass(30, jump);
            assert_eq!(calendar.date(), None);
            hands.pass(500, 0);
            assert_eq!(calendar.date(), None);
            hands.pass(10, 60);
            assert_eq!(calendar.date(), None, "it was set again: ten minutes from here");
            hands.pass(590, 0);
            assert_eq!(calendar.date(), None);
            hands.pass(10, 0);
            assert_eq!(calendar.date(), Some(hands.now()));
        }
    }

    #[test]
    fn drift_is_followed() {
        let (hands, calendar) = at(1_000_000);
        for _ in 0..100 {
            hands.pass(3600, 300);
            assert!(calendar.date().is_some(), "five minutes an hour");
        }
    }

    #[test]
    fn at_a_start_what_was_written_last_is_the_witness_and_the_operator_has_the_last_word() {
        let (hands, calendar) = at(1_000_000);
        calendar.witness(Timestamp::from_millis(0));
        calendar.witness(hands.now());
        assert_eq!(calendar.date(), None, "a second witness that agrees takes no doubt away");
        calendar.vouch();
        assert_eq!(calendar.date(), Some(hands.now()));
        hands.pass(30, 86_400);
        assert_eq!(calendar.date(), None, "a word counts for the jumps before it");
        let (hands, calendar) = at(1_000_000);
        calendar.witness(hands.now().saturating_sub(Duration::from_secs(1000)));
        assert_eq!(calendar.date(), Some(hands.now()));
    }

    #[test]
    fn what_is_written_down_while_the_clock_is_doubted_is_never_too_early() {
        let (hands, calendar) = at(1_000_000);
        hands.pass(60, 1800);
        assert_eq!(calendar.stamp(hands.now()), hands.now());
        assert_eq!(calendar.date(), Some(hands.now()));
        let before = hands.now();
        hands.pass(60, -86_400);
        let minute = Duration::from_secs(60);
        assert_eq!(calendar.stamp(hands.now()), before.saturating_add(minute), "nobody has looked at the clock but us");
        hands.pass(60, 0);
        assert_eq!(calendar.stamp(hands.now()), before.saturating_add(minute * 2));
        hands.pass(60, 2 * 86_400);
        assert_eq!(calendar.stamp(hands.now()), hands.now(), "ahead: it may be right");
        assert_eq!(calendar.reckon(hands.now()), before.saturating_add(minute * 3), "a witness for the next start must not be wrong");
        hands.pass(600, 0);
        hands.pass(600, 0);
        assert_eq!((calendar.date(), calendar.reckon(hands.now())), (Some(hands.now()), hands.now()));
        let (hands, calendar) = at(1_000_000);
        let written = hands.now().saturating_add(Duration::from_secs(86_400));
        calendar.witness(written);
        hands.pass(60, 0);
        assert_eq!(calendar.stamp(hands.now()), written.saturating_add(minute), "a start with a date that was before");
        calendar.vouch();
        assert_eq!(calendar.stamp(hands.now()), hands.now());
        calendar.overhear(written.saturating_add(minute * 2));
        let (stamp, commit) = (calendar.stamp(hands.now()), calendar.reckon(hands.now()));
        assert_eq!(
            (stamp, commit),
            (written.saturating_add(minute * 2), hands.now()),
            "the clock may have been wrong when the request came"
        );
    }
}
