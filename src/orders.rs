//! Orders of InPaSy: placed by an application, completed by a callback, expired by time.
//!
//! An order is durable before it is started, and what a callback comes to is durable before it is answered. Decisions
//! about one order are made one after the other. The event comes first and the order's state follows: a crash in between
//! lets the repeat of the callback, which has got no answer, find the event by its key. What an order holds of its payer
//! goes to InPaSy and is not kept.

mod complete;
mod expire;
mod ids;
mod kept;
mod place;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tokio::sync::{Mutex, MutexGuard};
use xxhash_rust::xxh3::xxh3_64;

use crate::accept::Acceptor;
use crate::clock::Clock;
use crate::connectors::inpasy::Lid;
use crate::egress::Transport;
use crate::model::Name;
use crate::store::{CommitError, ReadError, Store};

pub use complete::{Completed, Incomplete};
pub use kept::Kept;
pub use place::{Answered, PlaceError, Placed};

/// Orders that are decided about at a time; others of the same place wait.
const LOCKS: usize = 64;

/// Most orders that are kept, some 120 bytes each: a part of what the store has for states, so that a shop that places
/// orders without end takes nothing of what pauses, tokens and replays need. They leave once they have ended and the
/// store's retention is over.
pub const ORDERS_MAX: usize = 50_000;

/// Why an order can't be looked at or kept just now.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Trouble {
    /// It could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It could not be committed.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// All orders. Clones share them.
#[derive(Clone)]
pub struct Orders(Arc<Inner>);

struct Inner {
    store: Arc<dyn Store>,
    transport: Arc<dyn Transport>,
    clock: Arc<dyn Clock>,
    acceptor: Acceptor,
    locks: Vec<Mutex<()>>,
    ids: ids::Ids,
    /// How many are kept: counted at each look, and what was placed since.
    count: AtomicUsize,
}

impl Orders {
    /// The orders of this store. `transport` reads whole status pages.
    pub fn new(store: Arc<dyn Store>, transport: Arc<dyn Transport>, clock: Arc<dyn Clock>, acceptor: Acceptor) -> Self {
        let locks = (0..LOCKS).map(|_| Mutex::default()).collect();
        Self(Arc::new(Inner { store, transport, clock, acceptor, locks, ids: ids::Ids::default(), count: AtomicUsize::new(0) }))
    }

    /// An order as it stands.
    ///
    /// # Errors
    /// It can't be read.
    pub async fn order(&self, route: &Name, lid: &Lid) -> Result<Option<Kept>, Trouble> {
        self.0.kept(route, lid).await
    }
}

#[cfg(test)]
impl Orders {
    /// Orders that nobody places, for tests of what lies around them.
    pub(crate) fn unreachable(store: Arc<dyn Store>, clock: Arc<dyn Clock>, acceptor: Acceptor) -> Self {
        Self::new(store, Arc::new(crate::egress::HttpTransport::new().unwrap()), clock, acceptor)
    }
}

impl Inner {
    async fn lock(&self, route: &Name, lid: &Lid) -> MutexGuard<'_, ()> {
        let place = xxh3_64(kept::state_name(route, lid).as_bytes()) % LOCKS as u64;
        self.locks[usize::try_from(place).unwrap_or(0)].lock().await
    }

    async fn kept(&self, route: &Name, lid: &Lid) -> Result<Option<Kept>, Trouble> {
        let name = kept::state_name(route, lid);
        let states = self.store.states(&name).await?;
        Ok(states.get(&name).and_then(|bytes| Kept::from_bytes(bytes)))
    }

    async fn keep(&self, route: &Name, lid: &Lid, kept: Option<&Kept>) -> Result<(), CommitError> {
        self.store.set_state(kept::state_name(route, lid), kept.map(|kept| kept.to_bytes().into())).await
    }
}
