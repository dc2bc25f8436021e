//! What happens to deliveries, said once: as log lines that a demo or a test can also subscribe to.
//!
//! Names, ids and numbers only; never a body, a header or a url (I9).

use super::JOURNEY_TARGET;
use crate::model::{AttemptResult, DeadCode, DeadReason, DeliveryState};
use crate::store::{PendingDelivery, Settlement};

/// An attempt begins.
pub(super) fn attempt_begins(pending: &PendingDelivery) {
    tracing::debug!(
        target: JOURNEY_TARGET,
        step = "attempt",
        event.id = %pending.id.event,
        delivery.id = %pending.id,
        destination.name = %pending.destination,
        attempt.number = pending.attempts.saturating_add(1),
        "attempt of {} at {}", pending.id.event, pending.destination
    );
}

/// A settlement is durable.
pub(super) fn settled(pending: &PendingDelivery, settlement: &Settlement) {
    let (event, destination) = (pending.id.event, &pending.destination);
    let (mut status, mut fault, mut duration_ms) = (None, None, None);
    if let Some(attempt) = &settlement.attempt {
        duration_ms = Some(attempt.duration_ms);
        match &attempt.result {
            AttemptResult::Response { status: answered, .. } => status = Some(*answered),
            AttemptResult::Fault { kind, .. } => fault = Some(kind.word()),
        }
    }
    macro_rules! say {
        ($level:ident, $step:literal, $($rest:tt)+) => {
            tracing::$level!(
                target: JOURNEY_TARGET,
                step = $step,
                event.id = %event,
                delivery.id = %pending.id,
                destination.name = %destination,
                attempt.number = settlement.attempts,
                attempt.duration_ms = duration_ms,
                attempt.status = status,
                attempt.fault = fault,
                $($rest)+
            )
        };
    }
    match &settlement.state {
        DeliveryState::Delivered => say!(debug, "delivered", "{event} is delivered to {destination}"),
        DeliveryState::Pending { due } => say!(info, "retry", due = %due, "{event} is to be tried again at {destination} at {due}"),
        // What a program said may hold values of the event: the stored reason has it, a log never.
        DeliveryState::Dead(DeadReason { code: DeadCode::Unsendable, .. }) => {
            say!(warn, "dead", reason = %DeadCode::Unsendable.word(), "{event} is a dead letter of {destination}: no request could be made of it")
        }
        DeliveryState::Dead(reason) => {
            say!(warn, "dead", reason = %reason.code.word(), "{event} is a dead letter of {destination}: {reason}")
        }
        DeliveryState::Skipped | DeliveryState::Cancelled => {
            say!(debug, "ended", "{event} is {} at {destination}", settlement.state.word());
        }
    }
}
