//! Reads a request's body whole: counted, timed, and copied at most once.

use std::pin::Pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

use super::budget::Held;
use super::limits::{BODY_BYTES_PER_SECOND_MIN, BODY_TIME_MAX, CHUNKED_CAPACITY};
use super::refusal::Refused;

/// What a body may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// The longest, in bytes.
    pub(super) bytes_max: usize,
    /// The longest time between two reads.
    pub(super) read_timeout: Duration,
    /// The most bytes of all requests together.
    pub(super) in_flight_max: usize,
}

/// Collects a body. Trailers are read and left out: no scheme signs them and no destination gets them.
///
/// # Errors
/// It is too long, too slow, breaks off, or there is no room for it now.
pub(super) async fn collect<B>(mut body: B, bounds: Bounds, held: &mut Held) -> Result<Bytes, Refused>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut pace = Pace::begin(bounds.read_timeout);
    let mut collected = Collected::Nothing;
    let mut length = 0_usize;
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    while let Some(frame) = next(&mut body, pace.due()).await? {
        length = length.saturating_add(frame.len());
        if length > bounds.bytes_max {
            return Err(Refused::BodyTooLarge);
        }
        // A body that comes whole is held for no longer than its commit takes; the others wait for their sender.
        let fits = match collected {
            Collected::Nothing => held.add(frame.len(), bounds.in_flight_max),
            Collected::One(_) | Collected::Many(_) => held.add_slowly(frame.len(), bounds.bytes_max, bounds.in_flight_max),
        };
        if !fits {
            return Err(Refused::Overload);
        }
        pace.took(frame.len());
        collected = collected.add(frame, announced.min(bounds.bytes_max));
    }
    Ok(match collected {
        Collected::Nothing => Bytes::new(),
        Collected::One(frame) => frame,
        Collected::Many(buffer) => buffer.freeze(),
    })
}

/// When the next bytes must be there: never later than a read time-out from now, never behind the slowest pace,
/// and never after the longest time for a body. Bytes that came fast buy no more than one read time-out.
struct Pace {
    read_timeout: Duration,
    due: Instant,
    end: Instant,
}

impl Pace {
    fn begin(read_timeout: Duration) -> Self {
        let now = Instant::now();
        Self { read_timeout, due: now + read_timeout, end: now + BODY_TIME_MAX.max(read_timeout) }
    }

    fn took(&mut self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let earned = Duration::from_millis(bytes.saturating_mul(1000) / BODY_BYTES_PER_SECOND_MIN);
        let latest = Instant::now() + self.read_timeout;
        self.due = self.due.checked_add(earned).map_or(latest, |due| due.min(latest));
    }

    fn due(&self) -> Instant {
        self.due.min(self.end)
    }
}

/// The next piece of the body that has bytes; `None` at its end.
async fn next<B>(body: &mut B, deadline: Instant) -> Result<Option<Bytes>, Refused>
where
    B: Body<Data = Bytes> + Unpin,
{
    loop {
        let frame = timeout_at(deadline, Pin::new(&mut *body).frame()).await.map_err(|_elapsed| Refused::BodyTooSlow)?;
        match frame {
            None => return Ok(None),
            Some(Err(_)) => return Err(Refused::BodyBroken),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data()
                    && !data.is_empty()
                {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// What has been read. One piece is kept as it came; only a second one makes a copy of both necessary.
enum Collected {
    Nothing,
    One(Bytes),
    Many(BytesMut),
}

impl Collected {
    fn add(self, frame: Bytes, announced: usize) -> Self {
        let mut buffer = match self {
            Self::Nothing => return Self::One(frame),
            Self::One(first) => {
                let mut buffer = BytesMut::with_capacity(announced.max(first.len() + frame.len()).max(CHUNKED_CAPACITY));
                buffer.extend_from_slice(&first);
                buffer
            }
            Self::Many(buffer) => buffer,
        };
        buffer.extend_from_slice(&frame);
        Self::Many(buffer)
    }
}
