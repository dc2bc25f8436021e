//! What is kept of refused requests, and how it is released.

use std::sync::Arc;

use super::roads::Common;
use crate::accept::Acceptor;
use crate::orders::Orders;
use crate::quarantine::{Files, Parts, Quarantine, Releases, Tools};
use crate::signature::KeyKeeper;

/// The folder of refused requests, in the store's.
const FOLDER: &str = "quarantine";

pub(super) fn start(common: Common, orders: Orders, acceptor: Acceptor, keys: Arc<dyn KeyKeeper>) -> Releases {
    let Common { config, changes, store, clock, metrics, ids, .. } = common;
    let shelf = Arc::new(Files::in_folder(&config.load().store.path.join(FOLDER)));
    let quarantine = Quarantine::start(Parts { shelf, config, changes, clock: clock.clone(), metrics: metrics.clone(), ids });
    Releases::new(Tools { quarantine, acceptor, orders, keys, store, clock, metrics })
}
