//! `respond.wait`: the answer to what becomes of an event that is durable already.
//!
//! It looks at the store, where the relay settles, and nowhere else; a hint only tells when to look again.

use tokio::time::{Instant, timeout_at};

use crate::config::Wait;
use crate::model::{Answer, Delivery, DeliveryKind, DeliveryState, EventId};
use crate::store::{Settled, Store};

/// Waits for the outcome of this event's deliveries; the answer to it, unless it is the usual one.
pub(super) async fn answer<'w>(store: &dyn Store, settled: &Settled, wait: &'w Wait, event: EventId) -> Option<&'w Answer> {
    let deadline = Instant::now() + wait.time;
    let outcome = timeout_at(deadline, outcome(store, settled, event)).await;
    match outcome {
        Ok(Some(Outcome::Delivered)) => wait.delivered.as_ref(),
        Ok(Some(Outcome::Dead)) => wait.dead.as_ref(),
        Ok(Some(Outcome::Nothing) | None) | Err(_) => wait.otherwise.as_ref(),
    }
}

/// What came of an event as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Delivered,
    Dead,
    /// Skipped or cancelled, all of it.
    Nothing,
}

/// The outcome, once there is one; none where it can't be seen.
async fn outcome(store: &dyn Store, settled: &Settled, event: EventId) -> Option<Outcome> {
    let mut waiting = settled.wait_for(event)?;
    loop {
        match store.record(event).await {
            Ok(Some(record)) => {
                if let Some(outcome) = judge(&record.deliveries) {
                    return Some(outcome);
                }
            }
            Ok(None) | Err(_) => return None,
        }
        waiting.hint().await;
    }
}

/// What deliveries came to; none while it is open.
fn judge(deliveries: &[Delivery]) -> Option<Outcome> {
    let states = || deliveries.iter().filter(|delivery| delivery.kind == DeliveryKind::Original).map(|delivery| &delivery.state);
    // Nothing that is still pending could mend it.
    if states().any(|state| matches!(state, DeliveryState::Dead(_))) {
        return Some(Outcome::Dead);
    }
    if states().any(|state| !state.is_final()) {
        return None;
    }
    Some(if states().any(|state| *state == DeliveryState::Delivered) { Outcome::Delivered } else { Outcome::Nothing })
}
