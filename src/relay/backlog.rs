//! Which page of the store to read next. Pure.
//!
//! Every pending delivery is held once, in order, without holding them all: when a destination's room is used
//! up, what follows for it stays in the store and is read again from that place once there is room. The other
//! destinations read on, so a dead destination's backlog never hides what is due elsewhere (I8, I10), and a
//! destination's held deliveries are always its oldest, so lanes keep their order. Replays have a room of their
//! own, so a mass replay does not hide what comes in meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{DeliveryKind, Name};
use crate::store::PendingDelivery;

/// Who has a room of its own.
type Tenant = (Name, DeliveryKind);

fn tenant(delivery: &PendingDelivery) -> Tenant {
    (delivery.destination.clone(), delivery.kind)
}

/// What has been read.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// Everything at or below this position was looked at once.
    scanned: u64,
    /// Those that had no room: everything at or below the position is held or done, nothing above is.
    behind: BTreeMap<Tenant, u64>,
    /// Whether the last page was one of new deliveries; kinds take turns, so that neither starves.
    last_was_new: bool,
}

/// A page to read: `Store::pending_after(after, ..)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Page {
    /// The position to read after.
    pub(super) after: u64,
    /// The newest position when the page was asked for.
    newest: u64,
}

impl Backlog {
    /// The page to read next; none while everything that could be held is.
    pub(super) fn next_page(&mut self, newest: u64, is_hungry: impl Fn(&Tenant) -> bool) -> Option<Page> {
        let new = (newest > self.scanned).then_some(self.scanned);
        let hungry = self.behind.iter().filter(|(tenant, _)| is_hungry(tenant)).map(|(_, seen)| *seen).min();
        let after = if self.last_was_new { hungry.or(new) } else { new.or(hungry) }?;
        self.last_was_new = new == Some(after);
        Some(Page { after, newest })
    }

    /// Takes in a page that was read with this limit. `hold` says whether there was room.
    pub(super) fn take(&mut self, page: Page, found: Vec<PendingDelivery>, limit: usize, mut hold: impl FnMut(PendingDelivery) -> bool) {
        let complete = found.len() < limit;
        let last = found.last().map_or(0, |last| last.position);
        // A page that is not full holds everything that was durable when it was read.
        let end = if complete { last.max(page.newest).max(self.scanned) } else { last };
        let mut full = BTreeSet::new();
        for delivery in found {
            let tenant = tenant(&delivery);
            let seen = self.behind.get(&tenant).copied();
            // What lies beyond a gap must wait until the gap is read.
            let gap = seen.is_some_and(|seen| seen < page.after) || full.contains(&tenant);
            if gap || delivery.position <= seen.unwrap_or(self.scanned) {
                continue;
            }
            let position = delivery.position;
            if !hold(delivery) {
                self.behind.insert(tenant.clone(), position.saturating_sub(1));
                full.insert(tenant);
            }
        }
        self.scanned = self.scanned.max(end);
        self.behind.retain(|tenant, seen| {
            if *seen >= page.after && !full.contains(tenant) {
                *seen = (*seen).max(end);
            }
            *seen < self.scanned
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::model::{DeliveryId, DeliveryKind, EventId, Timestamp};

    /// A store and a memory with room for a few deliveries of each destination.
    #[derive(Default)]
    struct World {
        backlog: Backlog,
        store: BTreeMap<u64, Name>,
        newest: u64,
        held: BTreeMap<Name, BTreeSet<u64>>,
        /// Everything ever held, in the order in which it was.
        order: BTreeMap<Name, Vec<u64>>,
        room: usize,
        limit: usize,
    }

    impl World {
        fn add(&mut self, destination: usize) {
            self.newest += 1;
            self.store.insert(self.newest, Name::from(["a", "b", "c"][destination]));
        }

        /// Reads a page; `false`: there is none to read.
        fn read(&mut self) -> bool {
            let hungry = |(name, _): &Tenant| self.held.get(name).is_none_or(|held| held.len() <= self.room / 2);
            let Some(page) = self.backlog.next_page(self.newest, hungry) else { return false };
            let found = self.store.range(page.after + 1..).take(self.limit).map(|(position, name)| pending(*position, name)).collect();
            let (held, order, room) = (&mut self.held, &mut self.order, self.room);
            self.backlog.take(page, found, self.limit, |delivery| {
                let destination = held.entry(delivery.destination.clone()).or_default();
                if destination.len() >= room {
                    return false;
                }
                assert!(destination.insert(delivery.position), "held twice");
                order.entry(delivery.destination.clone()).or_default().push(delivery.position);
                true
            });
            true
        }

        /// The destination takes its first delivery.
        fn deliver(&mut self, destination: usize) {
            if let Some(position) = self.held.get_mut(["a", "b", "c"][destination]).and_then(BTreeSet::pop_first) {
                self.store.remove(&position);
            }
        }
    }

    fn pending(position: u64, destination: &Name) -> PendingDelivery {
        PendingDelivery {
            position,
            id: DeliveryId::new(EventId::from_bits(u128::from(position)), 0),
            route: "r".into(),
            destination: destination.clone(),
            lane: None,
            kind: DeliveryKind::Original,
            created_at: Timestamp::default(),
            due: Timestamp::default(),
            attempts: 0,
            version: 0,
            bytes: 1024,
        }
    }

    proptest! {
        #[test]
        fn everything_pending_is_held_once_and_in_order(steps in vec((0..3_u8, 0..3_usize), 0..300), room in 1..8_usize, limit in 1..8_usize) {
            let mut world = World { room, limit, ..World::default() };
            for (step, destination) in steps {
                match step {
                    0 => world.add(destination),
                    1 => drop(world.read()),
                    _ => world.deliver(destination),
                }
            }
            let mut pages = 0;
            while !world.store.is_empty() {
                for destination in 0..3 {
                    world.deliver(destination);
                }
                world.read();
                pages += 1;
                prop_assert!(pages < 3000, "it does not end");
            }
            for positions in world.order.values() {
                prop_assert!(positions.is_sorted());
            }
        }
    }

    #[test]
    fn a_full_destination_hides_nothing_of_the_others() {
        let mut world = World { room: 2, limit: 4, ..World::default() };
        for _ in 0..20 {
            world.add(0);
        }
        world.add(1);
        while world.read() {}
        assert_eq!(world.held["a"], BTreeSet::from([1, 2]));
        assert_eq!(world.held["b"], BTreeSet::from([21]));
        world.deliver(0);
        world.add(0);
        while world.read() {}
        assert_eq!(world.held["a"], BTreeSet::from([2, 3]), "the oldest come first, not the newest");
    }
}
