//! Reads a request's body whole: counted, timed, and copied at most once.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use http_body::{Body, Frame};
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
pub(super) async fn collect<B>(body: &mut B, bounds: Bounds, held: &mut Held) -> Result<Bytes, Refused>
where
    B: Body<Data = Bytes> + Unpin,
{
    // Nobody has to be timed who has sent everything already.
    let mut pace: Option<Pace> = None;
    let mut collected = Collected::Nothing;
    let mut length = 0_usize;
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    while let Some(frame) = next(body, &mut pace, bounds.read_timeout).await? {
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
        if let Some(pace) = &mut pace {
            pace.took(frame.len());
        }
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

/// The next piece of the body that has bytes; `None` at its end. The pace begins where it has to be waited for.
async fn next<B>(body: &mut B, pace: &mut Option<Pace>, read_timeout: Duration) -> Result<Option<Bytes>, Refused>
where
    B: Body<Data = Bytes> + Unpin,
{
    loop {
        let next = body.frame().now_or_never().map(broken);
        let next = match next {
            Some(next) => next,
            None => {
                let due = pace.get_or_insert_with(|| Pace::begin(read_timeout)).due();
                timeout_at(due, body.frame()).await.map(broken).map_err(|_elapsed| Refused::BodyTooSlow)?
            }
        };
        let Some(frame) = next else { return Ok(None) };
        if let Ok(data) = frame?.into_data()
            && !data.is_empty()
        {
            return Ok(Some(data));
        }
    }
}

fn broken<E>(frame: Option<Result<Frame<Bytes>, E>>) -> Option<Result<Frame<Bytes>, Refused>> {
    frame.map(|frame| frame.map_err(|_error| Refused::BodyBroken))
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
