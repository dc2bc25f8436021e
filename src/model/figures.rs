//! What a store counts.

use super::Timestamp;

/// What is pending and dead at one destination.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DestinationCounts {
    /// Deliveries that wait.
    pub pending: u64,
    /// Dead letters in the store.
    pub dead: u64,
    /// When the oldest pending one was created.
    pub oldest_pending: Option<Timestamp>,
}

/// Figures of the store as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Bytes on disk.
    pub bytes: u64,
    /// Events stored.
    pub events: u64,
    /// Why nothing can be committed just now.
    pub unwritable: Option<String>,
    /// What is being made anew while everything else goes on.
    pub rebuilding: Option<&'static str>,
}
