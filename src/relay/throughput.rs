//! How many deliveries of a destination end per second, of late: what tells when its backlog will be gone.

use std::time::Duration;

use super::moment::Moment;

/// How far back "of late" reaches: what is older than this counts for a third, and ever less.
const WINDOW: Duration = Duration::from_secs(60);

/// Less than this is nothing: one in some hours says nothing about when a backlog ends.
const PER_SECOND_MIN: f64 = 1e-4;

/// Ends per second, fading.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Throughput {
    per_second: f64,
    at: Moment,
}

impl Throughput {
    fn faded(self, now: Moment) -> f64 {
        self.per_second * (-now.since(self.at).as_secs_f64() / WINDOW.as_secs_f64()).exp()
    }

    /// A delivery has ended.
    pub(super) fn ended(&mut self, now: Moment) {
        *self = Self { per_second: self.faded(now) + 1.0 / WINDOW.as_secs_f64(), at: now };
    }

    /// When so many will have ended at this pace; none: there is no pace.
    pub(super) fn drains_in(self, pending: u64, now: Moment) -> Option<Duration> {
        if pending == 0 {
            return Some(Duration::ZERO);
        }
        let pace = self.faded(now);
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let seconds = pending as f64 / pace;
        if pace < PER_SECOND_MIN { None } else { Duration::try_from_secs_f64(seconds).ok() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::at(Duration::from_millis(millis))
    }

    #[test]
    fn a_steady_pace_is_told_and_fades_without_one() {
        let mut throughput = Throughput::default();
        assert_eq!(throughput.drains_in(0, at(0)), Some(Duration::ZERO));
        assert_eq!(throughput.drains_in(9, at(0)), None, "nothing is known yet");
        for n in 0..6000 {
            throughput.ended(at(n * 100));
        }
        let estimate = throughput.drains_in(1000, at(600_000)).unwrap();
        assert!((95..=105).contains(&estimate.as_secs()), "ten a second: {estimate:?}");
        assert!(throughput.drains_in(1000, at(660_000)).unwrap() > estimate * 2);
        assert_eq!(throughput.drains_in(1000, at(4_000_000)), None);
    }
}
