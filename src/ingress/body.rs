//! Reads a request's body whole: counted, timed, and copied at most once.

use std::pin::Pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

use super::budget::Held;
use super::limits::{BODY_BYTES_PER_SECOND_MIN, CHUNKED_CAPACITY};
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
    let started = Instant::now();
    let mut collected = Collected::Nothing;
    let mut length = 0_usize;
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    while let Some(frame) = next(&mut body, deadline(started, length, bounds.read_timeout)).await? {
        length = length.saturating_add(frame.len());
        if length > bounds.bytes_max {
            return Err(Refused::BodyTooLarge);
        }
        if !held.add(frame.len(), bounds.in_flight_max) {
            return Err(Refused::Overload);
        }
        collected = collected.add(frame, announced.min(bounds.bytes_max));
    }
    Ok(match collected {
        Collected::Nothing => Bytes::new(),
        Collected::One(frame) => frame,
        Collected::Many(buffer) => buffer.freeze(),
    })
}

/// When the next bytes must be there: within the read time-out, and not behind the slowest pace.
fn deadline(started: Instant, length: usize, read_timeout: Duration) -> Instant {
    let length = u64::try_from(length).unwrap_or(u64::MAX);
    let pace = Duration::from_millis(length.saturating_mul(1000) / BODY_BYTES_PER_SECOND_MIN);
    let paced = started.checked_add(read_timeout.saturating_add(pace));
    let next = Instant::now() + read_timeout;
    paced.map_or(next, |paced| paced.min(next))
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
