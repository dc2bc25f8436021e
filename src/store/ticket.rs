//! A commit that was asked for: queued, then taken, then settled one way.
//!
//! Only a queued one can be called off. Once the engine has taken it, no timer and no disconnect stands
//! around it any more: its outcome is waited for (I2).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use tokio::sync::oneshot;

const QUEUED: u8 = 0;
const TAKEN: u8 = 1;
const CANCELLED: u8 = 2;

/// Why a commit did not come about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// Nothing of it is stored, and nothing of it ever will be.
    #[error("refused: {0}")]
    Refused(&'static str),
    /// It may be stored or not; whoever asked must not be told either.
    #[error("the outcome can't be known")]
    Unknown,
    /// The settlement follows a version that is not the newest.
    #[error("the delivery has changed meanwhile")]
    Stale,
    /// There is no such event or delivery.
    #[error("not found")]
    NotFound,
}

/// The asking side of a commit: a future of its outcome. Dropping it calls the commit off if it is still
/// queued.
#[derive(Debug)]
#[must_use = "a ticket that is dropped calls its commit off"]
pub struct Ticket<T> {
    state: Arc<AtomicU8>,
    outcome: oneshot::Receiver<Told<T>>,
}

/// The engine's side of a commit.
#[derive(Debug)]
pub struct Promise<T> {
    state: Arc<AtomicU8>,
    outcome: oneshot::Sender<Told<T>>,
}

/// What a commit was made of.
pub(crate) type Spent = Box<dyn Send>;

/// An outcome on its way.
struct Told<T> {
    outcome: Result<T, CommitError>,
    _spent: Option<Spent>,
}

impl<T> std::fmt::Debug for Told<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Told").finish_non_exhaustive()
    }
}

impl<T> Ticket<T> {
    /// Both sides of a commit that is queued now.
    pub fn queued() -> (Promise<T>, Self) {
        let state = Arc::new(AtomicU8::new(QUEUED));
        let (sender, receiver) = oneshot::channel();
        (Promise { state: state.clone(), outcome: sender }, Self { state, outcome: receiver })
    }

    /// A commit that was refused before it was queued.
    pub fn refused(error: CommitError) -> Self {
        let (promise, ticket) = Self::queued();
        promise.settle(Err(error));
        ticket
    }

    /// Calls the commit off. `true`: nothing of it will ever be stored. `false`: the engine has taken it, so
    /// wait for the outcome.
    pub fn cancel(&self) -> bool {
        self.state.compare_exchange(QUEUED, CANCELLED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

impl<T> Promise<T> {
    /// Takes the commit out of the queue. `false`: it was called off, and must not be stored.
    pub fn take(&self) -> bool {
        self.state.compare_exchange(QUEUED, TAKEN, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Tells the outcome. A promise that is dropped instead means [`CommitError::Unknown`].
    pub fn settle(self, outcome: Result<T, CommitError>) {
        self.tell(Told { outcome, _spent: None });
    }

    /// The same, and gives back what the commit was made of. Whoever waits drops it: an allocator is quicker where memory is freed by the
    /// thread that asked for it.
    pub fn settle_with(self, outcome: Result<T, CommitError>, spent: Spent) {
        self.tell(Told { outcome, _spent: Some(spent) });
    }

    fn tell(self, told: Told<T>) {
        // Nobody may be waiting any more: the sender has hung up, and its event is stored all the same.
        drop(self.outcome.send(told));
    }
}

impl<T> Future for Ticket<T> {
    type Output = Result<T, CommitError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.outcome).poll(context).map(|told| told.map_or(Err(CommitError::Unknown), |told| told.outcome))
    }
}

impl<T> Drop for Ticket<T> {
    fn drop(&mut self) {
        self.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queued_commit_can_be_called_off_and_a_taken_one_cannot() {
        let (promise, ticket) = Ticket::<u8>::queued();
        assert!(ticket.cancel());
        assert!(!promise.take());

        let (promise, ticket) = Ticket::<u8>::queued();
        assert!(promise.take());
        assert!(!ticket.cancel());
    }

    #[test]
    fn dropping_the_ticket_calls_a_queued_commit_off() {
        let (promise, ticket) = Ticket::<u8>::queued();
        drop(ticket);
        assert!(!promise.take());
    }

    #[tokio::test]
    async fn a_dropped_promise_leaves_the_outcome_unknown() {
        let (promise, ticket) = Ticket::<u8>::queued();
        drop(promise);
        assert_eq!(ticket.await, Err(CommitError::Unknown));
    }
}
