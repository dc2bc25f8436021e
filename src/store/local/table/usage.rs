//! What the segments are needed for.

use std::collections::{BTreeMap, BTreeSet};

use super::{Name, Table, Timestamp};

/// What one segment is still needed for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::store::local) struct Usage {
    /// The accept sequences of its events; it has some where the first is not above the last.
    pub(in crate::store::local) events: Option<(u64, u64)>,
    /// How many events were accepted into it.
    pub(in crate::store::local) count: u64,
    /// Pending deliveries of its events.
    pub(in crate::store::local) pending: u64,
    /// Bytes of its events that have something pending.
    pub(in crate::store::local) live: u64,
    /// When the last of its dedupe keys ends.
    pub(in crate::store::local) keys_until: Timestamp,
    /// Bytes that its keys take as records of their own.
    pub(in crate::store::local) key_bytes: u64,
    /// Its keys whose records begin up to here have moved on.
    pub(in crate::store::local) keys_through: u32,
    /// When its newest batch was committed.
    pub(in crate::store::local) newest_at: Timestamp,
    /// Replays of its events that are on their way.
    pub(in crate::store::local) pins: u64,
    /// Its footer is written: what was finished in it is known from there.
    pub(in crate::store::local) sealed: bool,
    /// Bytes of its footer.
    pub(in crate::store::local) footer_bytes: u64,
    /// Dead deliveries of its events that are not in memory.
    pub(in crate::store::local) dead: BTreeMap<Name, u64>,
    /// Events that moved into it.
    pub(in crate::store::local) moved: BTreeSet<u64>,
    /// It is about to go: nothing of it may be replayed any more.
    pub(in crate::store::local) leaving: bool,
    /// Nothing knows its events any more: its file may go.
    pub(in crate::store::local) forgotten: bool,
}

impl Usage {
    /// Keys that end by this time at the latest are in it.
    pub(in crate::store::local) fn add_keys(&mut self, until: Timestamp, bytes: u64) {
        self.keys_until = self.keys_until.max(until);
        self.key_bytes = self.key_bytes.saturating_add(bytes);
    }
}

impl Table {
    /// Keys became durable in `to`: those of `from` up to this offset are no longer needed there.
    pub(in crate::store::local) fn keys_moved(&mut self, (from, through): (u64, u32), to: u64, until: Timestamp, bytes: u64) {
        self.usage.entry(to).or_default().add_keys(until, bytes);
        if let Some(usage) = self.usage.get_mut(&from) {
            usage.keys_through = usage.keys_through.max(through);
        }
    }

    /// No key holds the segment any more.
    pub(in crate::store::local) fn keys_gone(&mut self, segment: u64) {
        if let Some(usage) = self.usage.get_mut(&segment) {
            (usage.keys_until, usage.key_bytes) = (Timestamp::default(), 0);
        }
    }

    /// A segment went since the checkpoint that tells of it. What waited in it then was finished since, or moved, or lies
    /// in the copy that the oldest segment opens with: later segments tell.
    pub(in crate::store::local) fn lose_segment(&mut self, segment: u64) {
        let inside: Vec<u64> = self.inside(segment).collect();
        for sequence in inside {
            let Some(meta) = self.live.get(sequence) else { continue };
            for delivery in meta.deliveries.iter().filter(|delivery| !delivery.state.is_final()) {
                self.pending.remove(delivery.position);
                if let Some(count) = self.counts.get_mut(&delivery.destination) {
                    count.pending.remove(delivery.position);
                }
            }
            self.repeats.remove(&meta.id);
            self.forget(meta.sequence);
        }
        self.remove_segment(segment);
    }
}
