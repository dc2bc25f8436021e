//! What one connection is doing, so that its driver knows how long it may go on doing it.
//!
//! hyper times a request's head from the moment it begins to wait for it, so its time-out would cut idle
//! connections as if they were slow ones. Here the two are told apart.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How long each kind of waiting may last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// From a head's first byte to its end.
    pub(super) head: Duration,
    /// Between two requests.
    pub(super) idle: Duration,
    /// From an answer to a rest, where the connection can have one.
    pub(super) rest: Option<Duration>,
}

impl Patience {
    /// How long nothing may happen before something is done about it.
    pub(super) fn quiet(self) -> Duration {
        self.rest.map_or(self.idle, |rest| rest.min(self.idle))
    }
}

#[derive(Debug)]
struct State {
    /// Requests begun whose answers are not yet written in full.
    in_flight: usize,
    /// When the head that is being read began.
    head_since: Option<Instant>,
    /// When the last answer was finished.
    idle_since: Instant,
    /// On HTTP/2, bytes that arrive need not be a head's: only idleness counts once a request has come.
    multiplexed: bool,
}

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    /// Whether hyper may have bytes that the socket has not yet taken.
    unsent: AtomicBool,
}

/// Shared by a connection's driver, its stream and its requests.
#[derive(Debug, Clone)]
pub(super) struct Activity(Arc<Inner>);

/// A request that is being served; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct InFlight(Activity);

/// Until when a connection may go on as it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// It is serving, for as long as that takes.
    Busy,
    /// Its head must be complete by then.
    Head(Instant),
    /// It must have begun a request by then.
    Idle(Instant),
}

impl Until {
    /// The moment; none while it is serving.
    pub(super) fn instant(self) -> Option<Instant> {
        match self {
            Self::Busy => None,
            Self::Head(at) | Self::Idle(at) => Some(at),
        }
    }
}

impl Activity {
    /// A connection whose first byte is there.
    pub(super) fn begin(now: Instant) -> Self {
        let state = State { in_flight: 0, head_since: Some(now), idle_since: now, multiplexed: false };
        Self(Arc::new(Inner { state: Mutex::new(state), unsent: AtomicBool::new(false) }))
    }

    /// Notes that bytes have arrived.
    pub(super) fn bytes_read(&self) {
        let mut state = self.0.state.lock();
        if state.in_flight == 0 && state.head_since.is_none() && !state.multiplexed {
            state.head_since = Some(Instant::now());
        }
    }

    /// Notes that a request's head is complete.
    pub(super) fn request(&self, multiplexed: bool) -> InFlight {
        let mut state = self.0.state.lock();
        state.in_flight = state.in_flight.saturating_add(1);
        state.head_since = None;
        state.multiplexed = multiplexed;
        InFlight(self.clone())
    }

    /// Notes whether there may be bytes that are not yet sent. Only the connection's own task asks.
    pub(super) fn unsent(&self, unsent: bool) {
        self.0.unsent.store(unsent, Ordering::Relaxed);
    }

    /// Whether there may be.
    pub(super) fn is_unsent(&self) -> bool {
        self.0.unsent.load(Ordering::Relaxed)
    }

    /// Until when this may go on.
    pub(super) fn until(&self, patience: Patience) -> Until {
        let state = self.0.state.lock();
        match (state.in_flight, state.head_since) {
            (0, Some(since)) => Until::Head(since + patience.head),
            (0, None) => Until::Idle(state.idle_since + patience.quiet()),
            _ => Until::Busy,
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut state = self.0.0.state.lock();
        state.in_flight = state.in_flight.saturating_sub(1);
        state.idle_since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience { head: Duration::from_secs(10), idle: Duration::from_secs(75), rest: None };

    #[tokio::test(start_paused = true)]
    async fn a_head_is_timed_from_its_first_byte_and_idleness_from_the_last_answer() {
        let begun = Instant::now();
        let activity = Activity::begin(begun);
        assert_eq!(activity.until(PATIENCE), Until::Head(begun + PATIENCE.head));

        let request = activity.request(false);
        assert_eq!(activity.until(PATIENCE), Until::Busy);
        tokio::time::advance(Duration::from_secs(60)).await;
        activity.bytes_read();
        drop(request);
        assert_eq!(activity.until(PATIENCE), Until::Idle(Instant::now() + PATIENCE.idle));

        tokio::time::advance(Duration::from_secs(60)).await;
        activity.bytes_read();
        let next = Instant::now();
        tokio::time::advance(Duration::from_secs(1)).await;
        activity.bytes_read();
        assert_eq!(activity.until(PATIENCE), Until::Head(next + PATIENCE.head), "further bytes don't prolong it");
    }

    #[tokio::test(start_paused = true)]
    async fn frames_of_an_idle_multiplexed_connection_are_not_taken_for_a_head() {
        let activity = Activity::begin(Instant::now());
        drop(activity.request(true));
        activity.bytes_read();
        assert!(matches!(activity.until(PATIENCE), Until::Idle(_)));
    }
}
