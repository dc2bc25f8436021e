//! Events that the disk does not give back: when they are asked for again, and when that has no more sense. Pure.
//!
//! One bad sector must not hold up its lane for ever, and a disk that is away for a while must not end what waits. So
//! a failed read counts only where other events could be read since the one before it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::DeliveryId;

/// Reads of one event that fail while others succeed, before its delivery is given up: about five minutes.
const READS_MAX: u32 = 10;

/// The gap after the first failed read; it doubles with each.
const GAP_FIRST: Duration = Duration::from_secs(1);

/// The longest gap.
const GAP_MAX: Duration = Duration::from_secs(60);

/// Most deliveries that are remembered; beyond it all are counted anew.
const REMEMBERED_MAX: usize = 10_000;

/// What could not be read.
#[derive(Debug, Default)]
pub(super) struct Unread {
    /// How many events were read, ever.
    read: u64,
    failing: BTreeMap<DeliveryId, Failing>,
}

#[derive(Debug)]
struct Failing {
    gap: Duration,
    reads: u32,
    /// `Unread::read` at the last failure that counted.
    read_then: u64,
}

impl Unread {
    /// The event of this delivery could be read.
    pub(super) fn was_read(&mut self, delivery: DeliveryId) {
        self.read = self.read.saturating_add(1);
        self.failing.remove(&delivery);
    }

    /// The event of this delivery could not be read: when to try again, or none if it is to be given up.
    pub(super) fn failed(&mut self, delivery: DeliveryId) -> Option<Duration> {
        if self.failing.len() >= REMEMBERED_MAX && !self.failing.contains_key(&delivery) {
            self.failing.clear();
        }
        let read = self.read;
        let failing = self.failing.entry(delivery).or_insert(Failing { gap: GAP_FIRST, reads: 0, read_then: read });
        if failing.reads == 0 || failing.read_then < read {
            failing.reads += 1;
            failing.read_then = read;
        }
        if failing.reads >= READS_MAX {
            self.failing.remove(&delivery);
            return None;
        }
        let gap = failing.gap;
        failing.gap = (gap * 2).min(GAP_MAX);
        Some(gap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::EventId;

    fn id(n: u128) -> DeliveryId {
        DeliveryId::new(EventId::from_bits(n), 0)
    }

    #[test]
    fn one_that_fails_beside_others_is_given_up_after_some_minutes() {
        let mut unread = Unread::default();
        let mut waited = Duration::ZERO;
        while let Some(gap) = unread.failed(id(1)) {
            waited += gap;
            unread.was_read(id(2));
        }
        assert_eq!(waited, Duration::from_secs(1 + 2 + 4 + 8 + 16 + 32 + 60 + 60 + 60));
        assert_eq!(unread.failed(id(1)), Some(GAP_FIRST), "a replay of it counts anew");
    }

    #[test]
    fn a_disk_that_is_away_gives_nothing_up() {
        let mut unread = Unread::default();
        for _ in 0..1000 {
            assert!(unread.failed(id(1)).is_some() && unread.failed(id(2)).is_some());
        }
        assert_eq!(unread.failed(id(1)), Some(GAP_MAX));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut unread = Unread::default();
        for n in 0..3 * REMEMBERED_MAX as u128 {
            unread.failed(id(n));
        }
        assert!(unread.failing.len() <= REMEMBERED_MAX);
    }
}
