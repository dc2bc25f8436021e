//! Leases: which of several who could is to do something that must be done by one at a time, such as a poll.
//!
//! Engines whose folder belongs to one process keep them in memory; an engine that several processes share keeps them in
//! its database, and gives out an epoch that grows with every change of hands, which what the holder writes must name.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Most leases at a time.
const LEASES_MAX: usize = 10_000;

/// Proof that something is one's own to do, until its term ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Grows whenever the lease changes hands.
    pub epoch: u64,
}

#[derive(Debug)]
struct Held {
    holder: u128,
    epoch: u64,
    until: Instant,
}

/// The leases of one process.
#[derive(Debug, Default)]
pub(super) struct Leases(Mutex<BTreeMap<String, Held>>);

impl Leases {
    /// Takes or prolongs a lease; none while another holds it.
    pub(super) fn take(&self, name: &str, holder: u128, term: Duration) -> Option<Lease> {
        let mut leases = self.0.lock();
        let now = Instant::now();
        let until = now + term;
        match leases.get_mut(name) {
            Some(held) if held.holder == holder => {
                held.until = until;
                Some(Lease { epoch: held.epoch })
            }
            Some(held) if held.until > now => None,
            Some(held) => {
                *held = Held { holder, epoch: held.epoch + 1, until };
                Some(Lease { epoch: held.epoch })
            }
            None => {
                if leases.len() >= LEASES_MAX {
                    leases.retain(|_, held| held.until > now);
                }
                if leases.len() >= LEASES_MAX {
                    return None;
                }
                leases.insert(name.to_owned(), Held { holder, epoch: 1, until });
                Some(Lease { epoch: 1 })
            }
        }
    }
}
