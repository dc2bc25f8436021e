//! The bytes of all bodies that are held at a time (`server.limits.in_flight`).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::limits::IN_FLIGHT_SHARE;

/// Counts the bytes in flight. Clones count together.
#[derive(Debug, Clone, Default)]
pub(super) struct Budget(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    all: AtomicUsize,
    /// What bodies still under way hold, by the address that sends them: at most one entry per connection.
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

/// Bytes that are counted until this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    budget: Budget,
    address: IpAddr,
    bytes: usize,
    /// How many of them are counted for the address too.
    slow: usize,
}

impl Budget {
    /// Nothing yet, to be added to as bytes arrive from this address.
    pub(super) fn hold(&self, address: IpAddr) -> Held {
        Held { budget: self.clone(), address, bytes: 0, slow: 0 }
    }

    /// Whether so many more bytes would fit just now. Nothing is taken: an announced length costs its sender
    /// nothing, so reserving it would let mere announcements lock everybody out.
    pub(super) fn has_room(&self, bytes: u64, max: usize) -> bool {
        let held = self.0.all.load(Ordering::Relaxed);
        usize::try_from(bytes).ok().and_then(|bytes| held.checked_add(bytes)).is_some_and(|sum| sum <= max)
    }
}

impl Held {
    /// Counts further bytes; `false` and nothing counted when they don't fit.
    pub(super) fn add(&mut self, bytes: usize, max: usize) -> bool {
        let fits = |held: usize| held.checked_add(bytes).filter(|sum| *sum <= max);
        let added = self.budget.0.all.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok();
        if added {
            self.bytes += bytes;
        }
        added
    }

    /// The same for a body that did not come whole: all of its bytes count against its address's share too, which
    /// is at least one body of the route's longest.
    pub(super) fn add_slowly(&mut self, bytes: usize, body_max: usize, max: usize) -> bool {
        let uncounted = (self.bytes - self.slow).saturating_add(bytes);
        self.add_to_share(uncounted, body_max.max(max / IN_FLIGHT_SHARE)) && self.add(bytes, max)
    }

    fn add_to_share(&mut self, bytes: usize, share: usize) -> bool {
        let mut by_address = self.budget.0.by_address.lock();
        let held = by_address.get(&self.address).copied().unwrap_or(0);
        let Some(sum) = held.checked_add(bytes).filter(|sum| *sum <= share) else { return false };
        by_address.insert(self.address, sum);
        self.slow += bytes;
        true
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.0.all.fetch_sub(self.bytes, Ordering::Relaxed);
        if self.slow > 0
            && let Entry::Occupied(mut entry) = self.budget.0.by_address.lock().entry(self.address)
        {
            *entry.get_mut() -= self.slow;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const ONE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

    #[test]
    fn what_does_not_fit_is_not_counted_and_what_is_dropped_is_free_again() {
        let budget = Budget::default();
        let mut one = budget.hold(ONE);
        let mut other = budget.hold(OTHER);
        assert!(one.add(60, 100));
        assert!(!other.add(41, 100));
        assert!(other.add(40, 100));
        assert!(!budget.has_room(1, 100));
        drop(one);
        assert!(budget.has_room(60, 100));
        assert!(!budget.has_room(u64::MAX, usize::MAX));
        assert!(!other.add(usize::MAX, usize::MAX));
        drop(other);
        assert_eq!(budget.0.all.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn bodies_under_way_from_one_address_get_half_and_leave_the_rest_to_others() {
        let budget = Budget::default();
        let (mut one, mut two) = (budget.hold(ONE), budget.hold(ONE));
        assert!(one.add(10, 100) && one.add_slowly(20, 1, 100), "30 bytes, all of them counted for the address");
        assert!(two.add_slowly(20, 1, 100));
        assert!(!two.add_slowly(1, 1, 100), "51 of 100 for one address");
        assert!(!one.add_slowly(1, 1, 100));
        let mut other = budget.hold(OTHER);
        assert!(other.add_slowly(50, 1, 100));
        let mut large = budget.hold(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 3)));
        assert!(!large.add_slowly(60, 50, 100) && large.add_slowly(60, 60, 200), "one body always fits its share");
        drop((one, two, other, large));
        assert!(budget.0.by_address.lock().is_empty());
        assert_eq!(budget.0.all.load(Ordering::Relaxed), 0);
    }
}
