//! What the store says of earlier attempts.

use super::{Ended, Tools, read};
use crate::model::{Attempt, AttemptResult, DeliveryId, FaultKind};
use crate::store::PendingDelivery;

/// Whether an earlier attempt of this delivery ended without an answer, so that nobody knows whether it arrived.
pub(super) async fn may_have_arrived(tools: &Tools, pending: &PendingDelivery) -> Result<bool, Ended> {
    if pending.attempts == 0 {
        return Ok(false);
    }
    let record = read(tools.store.record(pending.id.event).await)?;
    Ok(is_among(&record.attempts, |id| id == pending.id))
}

/// Makes durable that this attempt may arrive, before it is sent. Without that nothing would say so after a power cut.
pub(super) async fn may_arrive_now(tools: &Tools) -> Result<(), Ended> {
    tools.store.keep_attempts().await.map_err(|error| Ended::NotNow(error.to_string()))
}

/// Whether one of these attempts, of the deliveries in question, ended without an answer.
pub(super) fn is_among(attempts: &[(DeliveryId, Attempt)], of: impl Fn(DeliveryId) -> bool) -> bool {
    attempts.iter().any(|(id, attempt)| of(*id) && is_unanswered(attempt))
}

fn is_unanswered(attempt: &Attempt) -> bool {
    match &attempt.result {
        AttemptResult::Response { .. } => false,
        AttemptResult::Fault { kind, .. } => match kind {
            FaultKind::Timeout | FaultKind::Reset | FaultKind::Protocol | FaultKind::Interrupted => true,
            FaultKind::Dns | FaultKind::Connect | FaultKind::Tls | FaultKind::ForbiddenAddress | FaultKind::Unsendable => false,
        },
    }
}
