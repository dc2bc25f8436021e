//! Every bound that the configuration keeps, with its reason.

use std::time::Duration;

/// Size of a journal segment. No batch spans two segments, so it bounds what one event may be.
pub const SEGMENT_BYTES: u64 = 64 * MIB;

/// The longest body that may be configured: a quarter of a segment, so that a segment's end never wastes
/// more than that.
pub const BODY_BYTES_MAX: u64 = SEGMENT_BYTES / 4;

/// The longest body where neither route, preset nor server says otherwise: the largest common sender's.
pub const BODY_BYTES_DEFAULT: u64 = MIB;

/// The shortest head limit: what hyper's read buffer needs.
pub const HEAD_BYTES_MIN: u64 = 8 * KIB;
/// The longest head limit: heads are held in memory before anybody is trusted.
pub const HEAD_BYTES_MAX: u64 = MIB;
/// The default head limit.
pub const HEAD_BYTES_DEFAULT: u64 = 64 * KIB;

/// The default of body bytes held at a time.
pub const IN_FLIGHT_BYTES_DEFAULT: u64 = 64 * MIB;
/// The most body bytes held at a time.
pub const IN_FLIGHT_BYTES_MAX: u64 = 64 * GIB;

/// The longest wait for a destination's outcome before an answer: senders give up after 10 to 30 s.
pub const WAIT_MS_MAX: u64 = 30 * SECOND_MS;

/// The default number of connections.
pub const CONNECTIONS_DEFAULT: u64 = 10_000;
/// The most connections: a file descriptor each.
pub const CONNECTIONS_MAX: u64 = 1_000_000;

/// The default time for a head, and between two reads of a body.
pub const READ_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// The default time that a stop may take.
pub const GRACE_DEFAULT: Duration = Duration::from_secs(25);

/// The default time for which settled events are kept.
pub const RETENTION_DEFAULT: Duration = Duration::from_secs(7 * 24 * 3600);
/// The default size of the store.
pub const STORE_BYTES_DEFAULT: u64 = 20 * GIB;
/// The smallest store: four segments (one written, one ready, two reserved for settlements).
pub const STORE_BYTES_MIN: u64 = 4 * SEGMENT_BYTES;
/// The largest store that a number of bytes can name with room for arithmetic.
pub const STORE_BYTES_MAX: u64 = 1 << 50;

/// For how long a dedupe key is remembered unless the route says otherwise: as long as senders retry.
pub const DEDUPE_WINDOW_DEFAULT: Duration = Duration::from_secs(3 * 24 * 3600);

/// The default of refused requests that a quarantine keeps.
pub const QUARANTINE_KEEP_DEFAULT: usize = 1000;
/// The most refused requests that a quarantine keeps: a file each.
pub const QUARANTINE_KEEP_MAX: u64 = 100_000;
/// The default time for which they are kept: as long as senders retry.
pub const QUARANTINE_AGE_DEFAULT: Duration = Duration::from_secs(3 * 24 * 3600);

/// The default of attempts at a time per destination.
pub const CONCURRENCY_DEFAULT: u64 = 16;
/// The most attempts at a time per destination: each holds an event and a connection.
pub const CONCURRENCY_MAX: u64 = 4096;
/// The default time for one attempt.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(15);

/// The longest duration anywhere in the file, in milliseconds: ten years.
pub const DURATION_MS_MAX: u64 = 3650 * DAY_MS;

/// The longest configuration file.
pub const FILE_BYTES_MAX: u64 = MIB;
/// The longest secret.
pub const SECRET_BYTES_MAX: u64 = 64 * KIB;
/// The longest certificate or key file: a bundle of a few hundred authorities fits.
pub const PEM_BYTES_MAX: u64 = MIB;
/// A secret below this is guessable enough for a warning.
pub const SECRET_BYTES_SHORT: usize = 16;

/// Shortest `store.key`.
pub const STORE_KEY_BYTES_MIN: usize = 32;

/// The most routes, destinations, tokens, headers or items of any list.
pub const ITEMS_MAX: usize = 10_000;
/// The longest name of a route, destination or token: names are labels of metrics.
pub const NAME_BYTES_MAX: usize = 64;
/// The longest path pattern.
pub const PATH_BYTES_MAX: usize = 2048;
/// The longest of any other text.
pub const TEXT_BYTES_MAX: usize = 16 * 1024;

/// 1024 bytes.
pub const KIB: u64 = 1024;
/// 1024 KiB.
pub const MIB: u64 = 1024 * KIB;
/// 1024 MiB.
pub const GIB: u64 = 1024 * MIB;
/// Milliseconds of a second.
pub const SECOND_MS: u64 = 1000;
/// Milliseconds of a minute.
pub const MINUTE_MS: u64 = 60 * SECOND_MS;
/// Milliseconds of an hour.
pub const HOUR_MS: u64 = 60 * MINUTE_MS;
/// Milliseconds of a day.
pub const DAY_MS: u64 = 24 * HOUR_MS;
