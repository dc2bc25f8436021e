//! Every bound that the server keeps beyond its options, with its reason.

use std::time::Duration;

/// The shortest head limit that hyper's read buffer allows.
pub const HEAD_BYTES_MIN: usize = 8 * 1024;

/// Most headers of one request; hyper's default, which it keeps on the stack. More get 431.
pub const HEADERS_MAX: usize = 100;

/// How long a connection may stay open between two requests: longer than the minute for which common senders
/// and load balancers keep theirs, so that they close first and no request runs into a closing connection.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// How long a client may leave an answer unread before it is given up.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Most HTTP/2 streams of one connection at a time: as many concurrent bodies as one connection may hold.
pub(super) const STREAMS_MAX: u32 = 128;

/// What one HTTP/2 stream may send ahead of being read.
pub(super) const STREAM_WINDOW_BYTES: u32 = 64 * 1024;

/// What one HTTP/2 connection may send ahead of being read: bounds what unread streams hold together.
pub(super) const CONNECTION_WINDOW_BYTES: u32 = 256 * 1024;

/// Most answer bytes that one HTTP/2 stream buffers.
pub(super) const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// Streams that a peer opened and reset before they were looked at; above it the connection is closed ("rapid
/// reset", CVE-2023-44487).
pub(super) const PENDING_RESETS_MAX: usize = 20;

/// Streams that we reset for a peer's protocol errors; above it the connection is closed (CVE-2025-8671).
pub(super) const LOCAL_RESETS_MAX: usize = 100;

/// How often a silent HTTP/2 connection is asked whether it still lives.
pub(super) const PING_INTERVAL: Duration = Duration::from_secs(20);

/// How long the answer to that may take.
pub(super) const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// How long what a client still sends is read and thrown away after we have closed our side. Without it the
/// kernel would answer those bytes with a reset that can destroy our last answer before it is read.
pub(super) const LINGER_TIME: Duration = Duration::from_secs(2);

/// How many such bytes are read: the largest body there can be.
pub(super) const LINGER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How long an idle HTTP/2 client has to close after it was told to.
pub(super) const GOODBYE_TIME: Duration = Duration::from_secs(1);

/// The first pause after `accept` failed (no file descriptors left, say); it doubles up to the longest.
pub(super) const ACCEPT_PAUSE_MIN: Duration = Duration::from_millis(20);

/// The longest pause after `accept` failed.
pub(super) const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// How long an HTTP/1 connection has nothing to do before what hyper holds for it (a buffer to read into and one to write heads from,
/// 8 KiB each) is given back. Connections under load never come to it; to one that does it costs some microseconds at its next request, and a
/// burst of many connections must not hold all their buffers at a time.
pub(super) const REST_AFTER: Duration = Duration::from_millis(100);

/// How much of the next request is read at once where a connection rested: a usual one's all.
pub(super) const REST_READ_BYTES: usize = 4096;
