//! Changes of pauses on their way into the store, one after the other.
//!
//! A pause is in force for operators once it is durable. One at a time, so that the newest wins in the store
//! as it does in memory.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::sleep;

use super::pause::{PREFIX, Pauses};
use crate::clock::Clock;
use crate::model::Name;
use crate::store::{CommitError, Store};

/// The most changes that wait; operators' commands beyond it wait in their channel.
pub(super) const CHANGES_MAX: usize = 64;

/// How long after a refusal the pause that a 410 asked for is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// A change of one destination's pause.
pub(super) struct Change {
    pub(super) destination: Name,
    /// The reason of a pause; none: it is resumed.
    pub(super) reason: Option<String>,
    /// The operator who waits for it; without one it is tried until it is durable.
    pub(super) reply: Option<oneshot::Sender<Result<(), CommitError>>>,
}

/// A change whose outcome is known.
pub(super) struct Changed {
    change: Change,
    pauses: Pauses,
    outcome: Result<(), CommitError>,
}

/// The changes that wait and the one under way.
#[derive(Default)]
pub(super) struct Pausing {
    waiting: VecDeque<Change>,
    under_way: Option<Pin<Box<dyn Future<Output = Changed> + Send>>>,
}

impl Pausing {
    /// Whether an operator's change may be taken on.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < CHANGES_MAX
    }

    /// Whether nothing waits or is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.under_way.is_none()
    }

    /// Takes a change on. A second 410 of the same destination adds nothing.
    pub(super) fn push(&mut self, change: Change) {
        let known = change.reply.is_none()
            && self.waiting.iter().any(|waiting| waiting.reply.is_none() && waiting.destination == change.destination);
        if !known {
            self.waiting.push_back(change);
        }
    }

    /// Begins the next change, if none is under way.
    pub(super) fn advance(&mut self, pauses: &BTreeMap<Name, Pauses>, store: &Arc<dyn Store>, clock: &dyn Clock) {
        if self.under_way.is_some() {
            return;
        }
        let Some(change) = self.waiting.pop_front() else { return };
        let mut new = pauses.get(&change.destination).cloned().unwrap_or_default();
        match &change.reason {
            Some(reason) => new.begin(reason, clock.now()),
            None => new.end(clock.now()),
        }
        let ticket = store.set_state(format!("{PREFIX}{}", change.destination), Some(new.encode()));
        self.under_way = Some(Box::pin(async move {
            let outcome = ticket.await;
            if outcome.is_err() && change.reply.is_none() {
                sleep(RETRY).await;
            }
            Changed { change, pauses: new, outcome }
        }));
    }

    /// Waits for the change under way; for ever when there is none.
    pub(super) async fn changed(&mut self) -> Changed {
        match &mut self.under_way {
            Some(under_way) => {
                let changed = under_way.await;
                self.under_way = None;
                changed
            }
            None => std::future::pending().await,
        }
    }

    /// What a change means: the destination's pauses as they are in the store now, if it is durable.
    pub(super) fn conclude(&mut self, changed: Changed) -> Option<(Name, Pauses)> {
        let Changed { change, pauses, outcome } = changed;
        let destination = change.destination.clone();
        let durable = outcome.is_ok();
        match change.reply {
            // Whoever asked may have gone; the change counts all the same.
            Some(reply) => drop(reply.send(outcome)),
            None if !durable => self.push(change),
            None => {}
        }
        durable.then_some((destination, pauses))
    }
}
