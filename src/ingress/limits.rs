//! Every bound that ingress keeps beyond the configured ones, with its reason.

use std::num::NonZeroUsize;
use std::time::Duration;

/// Sender addresses whose rate is remembered at a time: some megabytes.
pub(super) const ADDRESSES_MAX: NonZeroUsize = NonZeroUsize::new(65_536).expect("not zero");

/// The slowest pace at which a body may arrive once its first read time-out is over. The time-out between two
/// reads alone would let one byte per read hold a body open for days.
pub(super) const BODY_BYTES_PER_SECOND_MIN: u64 = 1024;

/// The longest time for a whole body, whatever its pace: the largest one at a slow line's 280 KiB/s. Without it
/// whoever sends most of a body at once and the rest at the slowest pace would own its bytes for hours.
pub(super) const BODY_TIME_MAX: Duration = Duration::from_secs(60);

/// The part of `server.limits.in_flight` that bodies still under way from one address may hold: one half, so
/// that no single unauthenticated sender can lock the others out.
pub(super) const IN_FLIGHT_SHARE: usize = 2;

/// The first capacity for a body of unknown length that comes in several pieces.
pub(super) const CHUNKED_CAPACITY: usize = 64 * 1024;

/// The longest `X-Forwarded-For` chain that is followed.
pub(super) const FORWARDED_HOPS_MAX: usize = 32;

/// The longest host name (and port) that is taken for one.
pub(super) const HOST_BYTES_MAX: usize = 261;

/// Log lines per second about refusals; metrics count every one.
pub(super) const REFUSAL_LINES_PER_SECOND: u32 = 20;

/// How long senders are told to wait after a 503.
pub(super) const RETRY_AFTER_503: Duration = Duration::from_secs(5);
