//! From what an attempt came to, to where its delivery stands. Pure.
//!
//! A delivery dies by age or by count only here, after an attempt of it (I6).

use std::time::Duration;

use bytes::Bytes;
use rand::Rng;

use super::backoff::Backoff;
use super::classify::Verdict;
use crate::config;
use crate::egress::{Fault, Reply, cut};
use crate::model::{Attempt, AttemptResult, DeadCode, DeadReason, DeliveryState, Timestamp};
use crate::store::{PendingDelivery, Settlement};

/// The longest reason that is kept of a death.
const REASON_BYTES_MAX: usize = 1024;

/// An attempt that was made.
#[derive(Debug, Clone)]
pub(super) struct Made {
    /// When it began, by the wall clock.
    pub(super) started_at: Timestamp,
    /// How long it took.
    pub(super) took: Duration,
    /// What came back.
    pub(super) result: Result<Reply, Fault>,
    /// What that means.
    pub(super) verdict: Verdict,
    /// Why, in the words of the system's own table; empty where the answer says it all.
    pub(super) reason: String,
    /// How long the destination wants to be left alone.
    pub(super) hold: Option<Duration>,
    /// A person has to authorize again.
    pub(super) must_authorize: bool,
    /// The request was another delivery's too, whose attempt says how the destination is.
    pub(super) is_shared: bool,
}

/// A settlement, and the gap until the next attempt where there is to be one.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) settlement: Settlement,
    pub(super) gap: Option<Duration>,
}

/// The settlement after an attempt. `age` is the delivery's, less what its destination was paused.
pub(super) fn after_attempt(
    pending: &PendingDelivery,
    made: Made,
    retry: &config::Retry,
    age: Duration,
    now: Timestamp,
    rng: &mut impl Rng,
) -> Settled {
    let attempts = pending.attempts.saturating_add(1);
    // A pause is no failure of this delivery: it must not use up the attempts that it has.
    let counted = if made.verdict == Verdict::Pause { pending.attempts } else { attempts };
    let (state, gap) = match made.verdict {
        Verdict::Delivered => (DeliveryState::Delivered, None),
        Verdict::Gone => (dead(DeadCode::Gone, said(&made)), None),
        Verdict::Rejected => (dead(DeadCode::Rejected, said(&made)), None),
        // A pause is ended by a person, and what waited is due at once then.
        Verdict::Pause => (DeliveryState::Pending { due: now }, Some(Duration::ZERO)),
        Verdict::Retry { .. } if retry.max_attempts.is_some_and(|most| attempts >= most) => {
            (dead(DeadCode::MaxAttempts, format!("{attempts} attempts, the last: {}", said(&made))), None)
        }
        Verdict::Retry { .. } if age >= retry.max_age => {
            (dead(DeadCode::MaxAge, format!("{attempts} attempts, the last: {}", said(&made))), None)
        }
        Verdict::Retry { asked_for } => {
            let backoff = Backoff::new(retry);
            let gap = match asked_for {
                Some(gap) => backoff.asked_for(gap, rng),
                None => backoff.gap(attempts, rng),
            };
            (DeliveryState::Pending { due: now.saturating_add(gap) }, Some(gap))
        }
    };
    let settlement = Settlement {
        delivery: pending.id,
        version: pending.version,
        attempt: Some(record(attempts, made)),
        attempts: counted,
        state,
        acknowledgement: None,
    };
    Settled { settlement, gap }
}

/// The settlement of a delivery that ends without an attempt.
pub(super) fn without_attempt(pending: &PendingDelivery, code: DeadCode, detail: impl Into<String>) -> Settlement {
    let mut detail = detail.into();
    cut(&mut detail, Attempt::DETAIL_BYTES_MAX);
    let state = dead(code, detail);
    Settlement { delivery: pending.id, version: pending.version, attempt: None, attempts: pending.attempts, state, acknowledgement: None }
}

/// The settlement of a delivery that its `when` excludes.
pub(super) fn skipped(pending: &PendingDelivery) -> Settlement {
    Settlement {
        delivery: pending.id,
        version: pending.version,
        attempt: None,
        attempts: pending.attempts,
        state: DeliveryState::Skipped,
        acknowledgement: None,
    }
}

/// The same settlement, ending dead because its destination has gone meanwhile.
pub(super) fn removed(settlement: Settlement) -> Settlement {
    if settlement.state.is_final() {
        return settlement;
    }
    Settlement { state: dead(DeadCode::DestinationRemoved, String::new()), ..settlement }
}

fn dead(code: DeadCode, detail: String) -> DeliveryState {
    DeliveryState::Dead(DeadReason { code, detail: detail.into() })
}

fn said(made: &Made) -> String {
    let mut said = match &made.result {
        Ok(_) if !made.reason.is_empty() => made.reason.clone(),
        Ok(reply) => format!("status {}", reply.status.as_u16()),
        Err(fault) => fault.to_string(),
    };
    cut(&mut said, REASON_BYTES_MAX);
    said
}

fn record(number: u32, made: Made) -> Attempt {
    let result = match made.result {
        Ok(reply) => {
            // A copy, so that the record does not keep the whole reply in memory.
            let excerpt = Bytes::copy_from_slice(&reply.body[..reply.body.len().min(Attempt::EXCERPT_BYTES_MAX)]);
            AttemptResult::Response { status: reply.status.as_u16(), excerpt }
        }
        Err(mut fault) => {
            cut(&mut fault.detail, Attempt::DETAIL_BYTES_MAX);
            AttemptResult::Fault { kind: fault.kind, detail: fault.detail.into() }
        }
    };
    let duration_ms = u32::try_from(made.took.as_millis()).unwrap_or(u32::MAX);
    Attempt { number, started_at: made.started_at, duration_ms, result, outcome: made.verdict.outcome() }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::model::{DeliveryId, DeliveryKind, EventId, FaultKind};

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn pending(attempts: u32) -> PendingDelivery {
        PendingDelivery {
            position: 1,
            id: DeliveryId::new(EventId::from_bits(1), 0),
            route: "r".into(),
            destination: "d".into(),
            lane: None,
            kind: DeliveryKind::Original,
            created_at: NOW,
            due: NOW,
            attempts,
            version: attempts + 3,
            bytes: 1024,
        }
    }

    fn settle(attempts: u32, verdict: Verdict, retry: &config::Retry, age: Duration) -> Settled {
        let fault = Fault { kind: FaultKind::Reset, detail: "x".repeat(1000) };
        let made = Made {
            started_at: NOW,
            took: Duration::from_millis(5),
            result: Err(fault),
            verdict,
            reason: String::new(),
            hold: None,
            must_authorize: false,
            is_shared: false,
        };
        after_attempt(&pending(attempts), made, retry, age, NOW, &mut StdRng::seed_from_u64(1))
    }

    fn code(settled: &Settled) -> Option<DeadCode> {
        match &settled.settlement.state {
            DeliveryState::Dead(reason) => Some(reason.code),
            DeliveryState::Pending { .. } | DeliveryState::Delivered | DeliveryState::Skipped | DeliveryState::Cancelled => None,
        }
    }

    const RETRY: Verdict = Verdict::Retry { asked_for: None };

    #[test]
    fn a_settlement_follows_the_version_it_was_read_at_and_counts_the_attempt() {
        let settled = settle(4, Verdict::Delivered, &config::Retry::default(), Duration::ZERO);
        assert_eq!((settled.settlement.version, settled.settlement.attempts), (7, 5));
        let attempt = settled.settlement.attempt.unwrap();
        assert_eq!((attempt.number, attempt.duration_ms, attempt.outcome), (5, 5, crate::model::OutcomeKind::Delivered));
        let AttemptResult::Fault { detail, .. } = attempt.result else { panic!("a fault") };
        assert_eq!(detail.len(), Attempt::DETAIL_BYTES_MAX);
    }

    #[test]
    fn age_kills_only_after_another_attempt_has_failed() {
        let retry = config::Retry::default();
        assert_eq!(code(&settle(0, RETRY, &retry, retry.max_age)), Some(DeadCode::MaxAge));
        assert_eq!(code(&settle(0, Verdict::Delivered, &retry, retry.max_age * 9)), None);
        assert_eq!(code(&settle(9, RETRY, &retry, retry.max_age - Duration::from_secs(1))), None);
    }

    #[test]
    fn the_last_allowed_attempt_ends_it() {
        let retry = config::Retry { max_attempts: Some(3), ..config::Retry::default() };
        assert_eq!(code(&settle(1, RETRY, &retry, Duration::ZERO)), None);
        assert_eq!(code(&settle(2, RETRY, &retry, Duration::ZERO)), Some(DeadCode::MaxAttempts));
    }

    #[test]
    fn a_pause_uses_up_no_attempt() {
        let retry = config::Retry { max_attempts: Some(3), ..config::Retry::default() };
        let settled = settle(2, Verdict::Pause, &retry, retry.max_age * 9);
        assert_eq!((settled.settlement.attempts, code(&settled)), (2, None));
        assert_eq!(settled.settlement.state, DeliveryState::Pending { due: NOW }, "it goes as soon as it is resumed");
        assert_eq!(settled.settlement.attempt.unwrap().number, 3, "and is told all the same");
    }

    #[test]
    fn what_the_destination_asks_for_is_kept_within_the_bounds() {
        let retry = config::Retry::default();
        for (asked, given) in [(0, 1), (90, 90), (u64::MAX, 3600)] {
            let settled = settle(0, Verdict::Retry { asked_for: Some(Duration::from_secs(asked)) }, &retry, Duration::ZERO);
            let (gap, given) = (settled.gap.unwrap(), Duration::from_secs(given));
            assert!(gap >= given && gap <= (given + given / 10).min(retry.max), "{asked}: {gap:?}");
            assert_eq!(settled.settlement.state, DeliveryState::Pending { due: NOW.saturating_add(gap) });
        }
    }

    #[test]
    fn a_removed_destination_ends_what_would_wait_and_leaves_what_is_delivered() {
        let retry = config::Retry::default();
        let waiting = removed(settle(0, RETRY, &retry, Duration::ZERO).settlement);
        assert!(matches!(waiting.state, DeliveryState::Dead(DeadReason { code: DeadCode::DestinationRemoved, .. })));
        assert_eq!(removed(settle(0, Verdict::Delivered, &retry, Duration::ZERO).settlement).state, DeliveryState::Delivered);
    }
}
