//! The bytes of all bodies that are held at a time (`server.limits.in_flight`).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts the bytes in flight. Clones count together.
#[derive(Debug, Clone, Default)]
pub(super) struct Budget(Arc<AtomicUsize>);

/// Bytes that are counted until this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    budget: Budget,
    bytes: usize,
}

impl Budget {
    /// Nothing yet, to be added to as bytes arrive.
    pub(super) fn hold(&self) -> Held {
        Held { budget: self.clone(), bytes: 0 }
    }

    /// Whether so many more bytes would fit just now. Nothing is taken: an announced length costs its sender
    /// nothing, so reserving it would let mere announcements lock everybody out.
    pub(super) fn has_room(&self, bytes: u64, max: usize) -> bool {
        let held = self.0.load(Ordering::Relaxed);
        usize::try_from(bytes).ok().and_then(|bytes| held.checked_add(bytes)).is_some_and(|sum| sum <= max)
    }
}

impl Held {
    /// Counts further bytes; `false` and nothing counted when they don't fit.
    pub(super) fn add(&mut self, bytes: usize, max: usize) -> bool {
        let fits = |held: usize| held.checked_add(bytes).filter(|sum| *sum <= max);
        let added = self.budget.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok();
        if added {
            self.bytes += bytes;
        }
        added
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_not_counted_and_what_is_dropped_is_free_again() {
        let budget = Budget::default();
        let mut one = budget.hold();
        let mut other = budget.hold();
        assert!(one.add(60, 100));
        assert!(!other.add(41, 100));
        assert!(other.add(40, 100));
        assert!(!budget.has_room(1, 100));
        drop(one);
        assert!(budget.has_room(60, 100));
        assert!(!budget.has_room(u64::MAX, usize::MAX));
        assert!(!other.add(usize::MAX, usize::MAX));
        drop(other);
        assert_eq!(budget.0.load(Ordering::Relaxed), 0);
    }
}
