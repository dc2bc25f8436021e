//! Leaves a destination alone for a while after too many failures in a row, then sends one probe.

use super::moment::Moment;
use crate::config;

/// What an attempt said about its destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    /// It answered as a working destination does, be it with a refusal of this event.
    Alive,
    /// A fault, or an answer that asks for another attempt.
    Failing,
    /// Nothing: the attempt ended on our side of the wire.
    Unclear,
}

/// The breaker of one destination. It survives a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Breaker {
    /// Attempts go; so many failed in a row.
    Closed { failures: u32 },
    /// No attempt before this moment; then one, the probe.
    Open { until: Moment },
    /// The probe is under way.
    Probing,
}

impl Default for Breaker {
    fn default() -> Self {
        Self::Closed { failures: 0 }
    }
}

impl Breaker {
    /// The moment from which an attempt may start; none while only the probe's end can tell.
    pub(super) fn opens_at(self) -> Option<Moment> {
        match self {
            Self::Closed { .. } => Some(Moment::default()),
            Self::Open { until } => Some(until),
            Self::Probing => None,
        }
    }

    /// An attempt starts.
    pub(super) fn started(&mut self) {
        if matches!(self, Self::Open { .. }) {
            *self = Self::Probing;
        }
    }

    /// An attempt is over.
    pub(super) fn ended(&mut self, health: Health, now: Moment, rule: config::Breaker) {
        let open = Self::Open { until: now.after(rule.cool_down) };
        *self = match (*self, health) {
            (_, Health::Alive) => Self::default(),
            (Self::Closed { failures }, Health::Failing) => {
                let failures = failures.saturating_add(1);
                if failures >= rule.failures.max(1) { open } else { Self::Closed { failures } }
            }
            (Self::Probing, Health::Failing) => open,
            // Attempts that began before it opened come in late; they say nothing new.
            (Self::Open { until }, Health::Failing | Health::Unclear) => Self::Open { until },
            (Self::Closed { failures }, Health::Unclear) => Self::Closed { failures },
            (Self::Probing, Health::Unclear) => Self::Open { until: now },
        };
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const RULE: config::Breaker = config::Breaker { failures: 3, cool_down: Duration::from_secs(30) };

    fn at(seconds: u64) -> Moment {
        Moment::at(Duration::from_secs(seconds))
    }

    #[test]
    fn opens_after_so_many_failures_in_a_row_and_probes_after_the_cool_down() {
        let mut breaker = Breaker::default();
        for health in [Health::Failing, Health::Failing, Health::Alive, Health::Failing, Health::Failing] {
            breaker.ended(health, at(1), RULE);
        }
        assert_eq!(breaker, Breaker::Closed { failures: 2 });
        breaker.ended(Health::Failing, at(1), RULE);
        assert_eq!(breaker.opens_at(), Some(at(31)));
        breaker.ended(Health::Failing, at(20), RULE);
        assert_eq!(breaker.opens_at(), Some(at(31)), "a late failure does not prolong it");
        breaker.started();
        assert_eq!(breaker.opens_at(), None, "one probe at a time");
        breaker.ended(Health::Failing, at(40), RULE);
        assert_eq!(breaker.opens_at(), Some(at(70)));
        breaker.started();
        breaker.ended(Health::Alive, at(71), RULE);
        assert_eq!(breaker, Breaker::default());
    }

    #[test]
    fn a_probe_that_never_reached_the_destination_is_repeated() {
        let mut breaker = Breaker::Probing;
        breaker.ended(Health::Unclear, at(5), RULE);
        assert_eq!(breaker.opens_at(), Some(at(5)));
    }
}
