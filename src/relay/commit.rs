//! A settlement on its way into the store, until it is durable.
//!
//! Nothing follows from an attempt before its settlement is durable. One that was refused, or whose outcome is
//! unknown, is asked for again: a delivery may be repeated for it, never skipped.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::moment::Moment;
use crate::store::{CommitError, PendingDelivery, Settlement, Store};

/// The first pause before a refused settlement is asked for again; it doubles.
const RETRY_FIRST: Duration = Duration::from_millis(100);

/// The longest pause between two tries.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// What a settlement came to.
#[derive(Debug)]
pub(super) enum Durable {
    /// It is stored.
    Stored,
    /// Somebody else settled the delivery meanwhile, or an unknown outcome turned out to be stored: this is
    /// how it waits now, if it does.
    Overtaken(Option<PendingDelivery>),
}

/// A settlement that has ended.
pub(super) struct Committed {
    pub(super) pending: PendingDelivery,
    pub(super) settlement: Settlement,
    /// When the next attempt is due, where there is to be one.
    pub(super) due: Option<Moment>,
    pub(super) durable: Durable,
}

/// Commits the settlement of `pending`, however often it takes.
pub(super) async fn commit(store: Arc<dyn Store>, pending: PendingDelivery, settlement: Settlement, due: Option<Moment>) -> Committed {
    let mut wait = RETRY_FIRST;
    let durable = loop {
        match store.settle(settlement.clone()).await {
            Ok(()) => break Durable::Stored,
            Err(CommitError::Stale) => break Durable::Overtaken(read_again(&*store, &pending).await),
            Err(CommitError::NotFound) => {
                tracing::error!(delivery.id = %pending.id, "{} is not in the store any more", pending.id);
                break Durable::Overtaken(None);
            }
            Err(error @ (CommitError::Refused(_) | CommitError::Unknown)) => {
                tracing::warn!(delivery.id = %pending.id, %error, "a settlement is not stored yet; trying again");
            }
        }
        sleep(wait).await;
        wait = (wait * 2).min(RETRY_MAX);
    };
    Committed { pending, settlement, due, durable }
}

/// The delivery as it waits now; none when it is final.
async fn read_again(store: &dyn Store, pending: &PendingDelivery) -> Option<PendingDelivery> {
    loop {
        match store.pending_after(pending.position.saturating_sub(1), 1).await {
            Ok(found) => return found.into_iter().find(|found| found.id == pending.id),
            Err(error) => tracing::warn!(delivery.id = %pending.id, %error, "a delivery can't be read again; trying again"),
        }
        sleep(RETRY_MAX).await;
    }
}
