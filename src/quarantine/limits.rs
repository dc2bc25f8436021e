//! Every bound of a quarantine beyond the configured ones, with its reason.

use std::time::Duration;

/// The largest request that is kept: a body as most senders cap it. A larger one is only counted.
pub const ENTRY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Most bytes of one route; a new request takes the place of as many of the oldest as it needs.
pub const ROUTE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Most bytes of all routes together, as the disk counts them.
pub(super) const TOTAL_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// What the disk gives to a file is a multiple of this, on most file systems; so there are never more files than
/// [`TOTAL_BYTES_MAX`] has of these, however small they are.
pub(super) const BLOCK_BYTES: u64 = 4096;

/// Bytes of the disk that a quarantine leaves to the store.
pub(super) const FREE_BYTES_MIN: u64 = 256 * 1024 * 1024;

/// Files that a quarantine leaves to the store: on a small disk, inodes run out before bytes do.
pub(super) const FREE_FILES_MIN: u64 = 4096;

/// Requests that wait to be written.
pub(super) const QUEUE_MAX: usize = 256;

/// Bytes that wait to be written.
pub(super) const QUEUE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Requests that are written together.
pub(super) const BATCH_MAX: usize = 32;

/// The shortest rest between two writes.
pub(super) const REST_MIN: Duration = Duration::from_millis(100);

/// A rest is so many times as long as the write before it: a flood must not take the disk's syncs from the store, and so
/// gets a tenth of the disk's time at most.
pub(super) const REST_FACTOR: u32 = 9;

/// The longest rest.
pub(super) const REST_MAX: Duration = Duration::from_secs(30);

/// Most requests that one call releases.
pub const RELEASE_MAX: usize = 100;

/// The longest time that one call releases requests for; whoever asks goes on with the next call.
pub(super) const RELEASE_TIME_MAX: Duration = Duration::from_secs(10);
