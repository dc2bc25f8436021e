//! Keeps the keys that senders publish: fetched once for all who wait, kept for a while, and remembered as
//! absent for a shorter one.
//!
//! Looking takes a short lock and no more. A fetch runs in a task of its own, so nobody who gives up takes it
//! with him; those who wait for it wait outside of any lock. What has been had goes on counting for a while
//! when its source fails. Strangers decide what is asked for, so everything has a limit: how many keys are
//! kept, how many fetches run, and how soon the same may be asked again (I10).

mod ask;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use crate::clock::Clock;
use crate::config::Live;
use crate::egress::{HttpTransport, PublicTransport, Transport, TransportError};
use crate::signature::{KeyKeeper, KeyState, WantedKey};
use crate::tokens::Tokens;

use ask::Place;

/// How long a key counts before it is fetched again.
const FRESH: Duration = Duration::from_secs(3600);

/// How long a key that can't be fetched again still counts.
const STALE_MAX: Duration = Duration::from_secs(24 * 3600);

/// How soon the same is asked for again after it could not be had, or was not there.
const AGAIN: Duration = Duration::from_secs(30);

/// How long one fetch may take: senders wait for our answer meanwhile, some no longer than three seconds.
const FETCH_TIMEOUT: Duration = Duration::from_millis(2500);

/// Most places that are remembered.
const PLACES_MAX: usize = 1024;

/// Most fetches at a time.
const FETCHES_MAX: usize = 16;

/// The keys in memory and the ways to get more. Clones share them.
#[derive(Clone)]
pub(super) struct Keeper(Arc<Inner>);

struct Inner {
    config: Live,
    clock: Arc<dyn Clock>,
    /// For urls out of payloads and schemes: public addresses only.
    public: Arc<dyn Transport>,
    /// For the operator's own sources.
    own: Arc<dyn Transport>,
    /// Access tokens for those of them that ask for one.
    tokens: Tokens,
    places: Mutex<HashMap<Place, Entry>>,
    fetches: Arc<Semaphore>,
}

/// What is known of one place; times are since boot.
#[derive(Default)]
struct Entry {
    text: Option<(Bytes, Duration)>,
    /// The last fetch that brought no text, and what it said.
    fault: Option<(Fault, Duration)>,
    /// When the last fetch ended, well or not.
    asked: Option<Duration>,
    /// The fetch under way.
    flight: Option<watch::Receiver<()>>,
    used: Duration,
}

/// What a fetch without a text said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The source says that there is no such key.
    Unknown,
    /// The source can't be asked, or its answer not be read.
    Failed,
}

/// What there is to do about a wanted key.
enum Need {
    Nothing,
    /// A fetch is under way. Whether it has to be waited for depends on what is there meanwhile.
    Wait(watch::Receiver<()>),
    Start(watch::Sender<()>, watch::Receiver<()>),
}

impl Keeper {
    /// A keeper that has nothing yet.
    pub(super) fn new(config: Live, clock: Arc<dyn Clock>, tokens: Tokens) -> Result<Self, TransportError> {
        Ok(Self::over(config, clock, tokens, Arc::new(PublicTransport::new()?), Arc::new(HttpTransport::new()?)))
    }

    fn over(config: Live, clock: Arc<dyn Clock>, tokens: Tokens, public: Arc<dyn Transport>, own: Arc<dyn Transport>) -> Self {
        let fetches = Arc::new(Semaphore::new(FETCHES_MAX));
        Self(Arc::new(Inner { config, clock, public, own, tokens, places: Mutex::default(), fetches }))
    }
}

impl Keeper {
    /// Forgets what came from the operator's own sources: they may be others now, with other credentials.
    pub(super) fn configured_anew(&self) {
        self.0.places.lock().retain(|place, _| matches!(place, Place::Url(_)));
    }
}

#[async_trait]
impl KeyKeeper for Keeper {
    fn look(&self, wanted: &WantedKey) -> KeyState {
        let now = self.0.clock.boot();
        let mut places = self.0.places.lock();
        let Some(entry) = places.get_mut(&Place::of(wanted)) else { return KeyState::Unavailable };
        entry.used = now;
        entry.state(wanted, now)
    }

    async fn fetch(&self, wanted: &WantedKey) {
        let place = Place::of(wanted);
        let (flight, usable) = {
            let now = self.0.clock.boot();
            let mut places = self.0.places.lock();
            let entry = entry(&mut places, &place, now);
            entry.used = now;
            let usable = matches!(entry.state(wanted, now), KeyState::Known(text) if wanted.is_in(&text));
            match entry.need(wanted, now) {
                Need::Nothing => return,
                Need::Wait(flight) => (flight, usable),
                Need::Start(done, flight) => {
                    // A fetch that can't begin now is as good as one that failed, without being remembered as one.
                    let Ok(permit) = self.0.fetches.clone().try_acquire_owned() else {
                        entry.flight = None;
                        return;
                    };
                    let (inner, place) = (self.0.clone(), place.clone());
                    tokio::spawn(async move {
                        inner.bring(&place).await;
                        drop((permit, done));
                    });
                    (flight, usable)
                }
            }
        };
        if !usable {
            wait(flight).await;
        }
    }
}

/// Until the fetch has ended; an error means that its sender is gone, which is how it ends.
async fn wait(mut flight: watch::Receiver<()>) {
    drop(timeout(FETCH_TIMEOUT * 2, flight.changed()).await);
}

fn entry<'p>(places: &'p mut HashMap<Place, Entry>, place: &Place, now: Duration) -> &'p mut Entry {
    if places.len() >= PLACES_MAX && !places.contains_key(place) {
        // The one that nobody has asked for the longest goes, unless it is just being fetched.
        let oldest = places.iter().filter(|(_, entry)| entry.flight.is_none()).min_by_key(|(_, entry)| entry.used);
        if let Some(oldest) = oldest.map(|(place, _)| place.clone()) {
            places.remove(&oldest);
        }
    }
    places.entry(place.clone()).or_insert_with(|| Entry { used: now, ..Entry::default() })
}

impl Entry {
    fn state(&self, wanted: &WantedKey, now: Duration) -> KeyState {
        let failing = self.fault.is_some_and(|(fault, _)| fault == Fault::Failed);
        match &self.text {
            // A set that could not be refreshed does not know whether there is such a key.
            Some((text, _)) if failing && !wanted.is_in(text) => KeyState::Unavailable,
            Some((text, since)) if now.saturating_sub(*since) <= FRESH + STALE_MAX => KeyState::Known(text.clone()),
            Some(_) | None => match self.fault {
                Some((Fault::Unknown, since)) if now.saturating_sub(since) <= AGAIN => KeyState::Unknown,
                Some(_) | None => KeyState::Unavailable,
            },
        }
    }

    fn need(&mut self, wanted: &WantedKey, now: Duration) -> Need {
        if let Some(flight) = self.flight.clone().filter(|flight| flight.has_changed().is_ok()) {
            return Need::Wait(flight);
        }
        let fresh = |since: Duration| now.saturating_sub(since) <= FRESH;
        let had = self.text.as_ref().is_some_and(|(text, since)| fresh(*since) && wanted.is_in(text));
        let just_asked = self.asked.is_some_and(|asked| now.saturating_sub(asked) < AGAIN);
        if had || just_asked {
            return Need::Nothing;
        }
        let (done, flight) = watch::channel(());
        self.flight = Some(flight.clone());
        Need::Start(done, flight)
    }
}

impl Inner {
    /// Fetches, and remembers what came of it.
    async fn bring(&self, place: &Place) {
        let brought = match timeout(FETCH_TIMEOUT, self.ask(place)).await {
            Ok(brought) => brought,
            Err(_elapsed) => Err((Fault::Failed, format!("no answer within {FETCH_TIMEOUT:?}"))),
        };
        let now = self.clock.boot();
        let mut places = self.places.lock();
        let Some(entry) = places.get_mut(place) else { return };
        entry.flight = None;
        entry.asked = Some(now);
        match brought {
            Ok(text) => {
                entry.text = Some((text, now));
                entry.fault = None;
                tracing::debug!(key.place = %place, "fetched a key");
            }
            Err((fault, detail)) => {
                if fault == Fault::Unknown {
                    entry.text = None;
                }
                entry.fault = Some((fault, now));
                tracing::warn!(key.place = %place, detail, "a key could not be fetched from {place}: {detail}");
            }
        }
    }
}

#[cfg(test)]
mod tests;
