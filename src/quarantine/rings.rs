//! What is kept, by route and id: which of it has to go, and which of it is meant.

use std::collections::BTreeMap;

use super::Received;
use super::limits::{BLOCK_BYTES, ROUTE_BYTES_MAX, TOTAL_BYTES_MAX};
use crate::config::Quarantine;
use crate::model::{Name, RefusalId, Timestamp};

/// The rings of all routes. Ids sort by the time of receipt.
#[derive(Default)]
pub(super) struct Rings {
    rings: BTreeMap<Name, Ring>,
    disk_bytes: u64,
}

#[derive(Default)]
struct Ring {
    entries: BTreeMap<RefusalId, u64>,
    bytes: u64,
}

/// What a file of so many bytes takes of the disk.
fn on_disk(bytes: u64) -> u64 {
    bytes.next_multiple_of(BLOCK_BYTES)
}

impl Rings {
    pub(super) fn add(&mut self, route: &Name, id: RefusalId, bytes: u64) {
        let ring = self.rings.entry(route.clone()).or_default();
        let before = ring.entries.insert(id, bytes).unwrap_or(0);
        ring.bytes = ring.bytes + bytes - before;
        self.disk_bytes = self.disk_bytes + on_disk(bytes) - on_disk(before);
    }

    pub(super) fn remove(&mut self, route: &Name, id: RefusalId) {
        let Some(ring) = self.rings.get_mut(route) else { return };
        if let Some(bytes) = ring.entries.remove(&id) {
            ring.bytes -= bytes;
            self.disk_bytes -= on_disk(bytes);
        }
        if ring.entries.is_empty() {
            self.rings.remove(route);
        }
    }

    pub(super) fn routes(&self) -> Vec<Name> {
        self.rings.keys().cloned().collect()
    }

    pub(super) fn count(&self, route: &str) -> usize {
        self.rings.get(route).map_or(0, |ring| ring.entries.len())
    }

    pub(super) fn route_of(&self, id: RefusalId) -> Option<Name> {
        self.rings.iter().find(|(_, ring)| ring.entries.contains_key(&id)).map(|(name, _)| name.clone())
    }

    /// What one route keeps too much of, oldest first: all of it where it keeps none.
    pub(super) fn excess(&self, route: &str, quarantine: Option<Quarantine>, now: Timestamp) -> Vec<RefusalId> {
        let Some(ring) = self.rings.get(route) else { return Vec::new() };
        let Some(Quarantine { keep, max_age }) = quarantine else { return ring.entries.keys().copied().collect() };
        let (mut count, mut bytes) = (ring.entries.len(), ring.bytes);
        let mut excess = Vec::new();
        for (id, size) in &ring.entries {
            if count <= keep && bytes <= ROUTE_BYTES_MAX && now.since(id.received_at()) < max_age {
                break;
            }
            (count, bytes) = (count - 1, bytes - size);
            excess.push(*id);
        }
        excess
    }

    /// The oldest of all, while all together are too many bytes.
    pub(super) fn beyond_total(&self) -> Option<(Name, RefusalId)> {
        let oldest = |(name, ring): (&Name, &Ring)| ring.entries.keys().next().map(|id| (name.clone(), *id));
        if self.disk_bytes > TOTAL_BYTES_MAX { self.rings.iter().filter_map(oldest).min_by_key(|(_, id)| *id) } else { None }
    }

    /// When the oldest of a route was received.
    pub(super) fn oldest(&self, route: &str) -> Option<Timestamp> {
        self.rings.get(route)?.entries.keys().next().map(|id| id.received_at())
    }

    /// Newest first.
    pub(super) fn newest(&self, route: Option<&str>, received: Received, below: Option<RefusalId>, limit: usize) -> Vec<(Name, RefusalId)> {
        let of_ring = |name: &Name, ring: &Ring| -> Vec<(Name, RefusalId)> {
            let ids = ring.entries.keys().rev().filter(|id| below.is_none_or(|below| **id < below) && received.holds(**id));
            ids.take(limit).map(|id| (name.clone(), *id)).collect()
        };
        let wanted = self.rings.iter().filter(|(name, _)| route.is_none_or(|route| ***name == *route));
        let mut found: Vec<(Name, RefusalId)> = wanted.flat_map(|(name, ring)| of_ring(name, ring)).collect();
        found.sort_by_key(|(_, id)| std::cmp::Reverse(*id));
        found.truncate(limit);
        found
    }

    /// Of one route, oldest first.
    pub(super) fn oldest_first(&self, route: &str, received: Received, after: Option<RefusalId>, limit: usize) -> Vec<RefusalId> {
        let Some(ring) = self.rings.get(route) else { return Vec::new() };
        let ids = ring.entries.keys().filter(|id| after.is_none_or(|after| **id > after) && received.holds(**id));
        ids.take(limit).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::EventId;

    #[test]
    fn files_are_bounded_however_small_they_are() {
        let mut rings = Rings::default();
        let ids: Vec<RefusalId> = (0..=TOTAL_BYTES_MAX / BLOCK_BYTES).map(|n| RefusalId::new(EventId::from_bits(n.into()))).collect();
        for (n, id) in ids.iter().enumerate() {
            assert_eq!(rings.beyond_total(), None);
            rings.add(&if n % 2 == 0 { "even" } else { "odd" }.into(), *id, 1);
        }
        let oldest: (Name, RefusalId) = ("even".into(), ids[0]);
        assert_eq!(rings.beyond_total(), Some(oldest.clone()));
        rings.remove(&oldest.0, oldest.1);
        assert_eq!(rings.beyond_total(), None);
        rings.add(&"odd".into(), ids[1], BLOCK_BYTES + 1);
        assert!(rings.beyond_total().is_some(), "it takes two blocks now");
    }
}
