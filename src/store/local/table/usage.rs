//! What the segments are needed for.

use std::collections::{BTreeMap, BTreeSet};

use super::{Name, Timestamp};

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
