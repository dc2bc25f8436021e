//! Pauses of destinations: durable, and remembered after their end, because a paused destination's events do
//! not age.
//!
//! Each destination that was ever paused has one named state, `pause/<name>`, a small JSON object.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::egress::cut;
use crate::model::{Name, Timestamp};

/// The names of all pauses in the store begin so.
pub(super) const PREFIX: &str = "pause/";

/// The most ended pauses that are remembered for a destination; the oldest goes first, and events of that age
/// then count it as time in which they aged.
const PAST_MAX: usize = 64;

/// The longest reason that is kept.
const REASON_BYTES_MAX: usize = 512;

/// Why a destination is paused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paused {
    /// In the words of whoever paused it, or `answered 410`.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
}

/// Everything known of one destination's pauses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Pauses {
    /// The one that lasts.
    pub(super) current: Option<Paused>,
    /// Those that have ended, from when to when, oldest first.
    past: Vec<(Timestamp, Timestamp)>,
}

/// As stored.
#[derive(Serialize, Deserialize)]
struct Stored {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    since_ms: Option<i64>,
    #[serde(default)]
    past_ms: Vec<(i64, i64)>,
}

impl Pauses {
    /// Begins a pause; one that lasts already goes on with its own reason.
    pub(super) fn begin(&mut self, reason: &str, now: Timestamp) {
        if self.current.is_none() {
            let mut reason = reason.to_owned();
            cut(&mut reason, REASON_BYTES_MAX);
            self.current = Some(Paused { reason, since: now });
        }
    }

    /// Ends the pause that lasts.
    pub(super) fn end(&mut self, now: Timestamp) {
        if let Some(paused) = self.current.take() {
            self.past.push((paused.since, now));
            let surplus = self.past.len().saturating_sub(PAST_MAX);
            self.past.drain(..surplus);
        }
    }

    /// How long ago `created_at` is, less the time in which the destination was paused.
    pub(super) fn age(&self, created_at: Timestamp, now: Timestamp) -> Duration {
        let current = self.current.as_ref().map(|paused| (paused.since, now));
        let paused = self.past.iter().copied().chain(current).map(|(from, to)| to.min(now).since(from.max(created_at)));
        now.since(created_at).saturating_sub(paused.sum())
    }

    /// The bytes to store.
    pub(super) fn encode(&self) -> Bytes {
        let stored = Stored {
            reason: self.current.as_ref().map(|paused| paused.reason.clone()),
            since_ms: self.current.as_ref().map(|paused| paused.since.millis()),
            past_ms: self.past.iter().map(|(from, to)| (from.millis(), to.millis())).collect(),
        };
        // Texts and numbers always serialise.
        serde_json::to_vec(&stored).map(Bytes::from).unwrap_or_default()
    }

    fn decode(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let stored: Stored = serde_json::from_slice(bytes)?;
        let current =
            stored.since_ms.map(|since| Paused { reason: stored.reason.unwrap_or_default(), since: Timestamp::from_millis(since) });
        let past = stored.past_ms.into_iter().map(|(from, to)| (Timestamp::from_millis(from), Timestamp::from_millis(to))).collect();
        Ok(Self { current, past })
    }
}

/// The pauses among these named states. One that can't be read counts as a pause that began now: a
/// destination that should be left alone must not be called by mistake.
pub(super) fn read(states: &BTreeMap<String, Bytes>, now: Timestamp) -> BTreeMap<Name, Pauses> {
    let mut pauses = BTreeMap::new();
    for (key, bytes) in states {
        let Some(name) = key.strip_prefix(PREFIX) else { continue };
        let read = Pauses::decode(bytes).unwrap_or_else(|error| {
            tracing::error!(destination.name = name, %error, "the stored pause can't be read; the destination stays paused until it is resumed");
            let mut unreadable = Pauses::default();
            unreadable.begin("the stored pause can't be read", now);
            unreadable
        });
        pauses.insert(Name::from(name), read);
    }
    pauses
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[test]
    fn time_in_a_pause_does_not_age() {
        let mut pauses = Pauses::default();
        pauses.begin("a", at(10));
        pauses.begin("b", at(12));
        assert_eq!(pauses.current.as_ref().unwrap().reason, "a");
        assert_eq!(pauses.age(at(0), at(15)), Duration::from_secs(10));
        pauses.end(at(20));
        pauses.begin("c", at(30));
        pauses.end(at(40));
        assert_eq!(pauses.age(at(0), at(50)), Duration::from_secs(30));
        assert_eq!(pauses.age(at(15), at(50)), Duration::from_secs(20), "the part before it was created does not count");
        assert_eq!(pauses.age(at(45), at(50)), Duration::from_secs(5));
    }

    #[test]
    fn pauses_read_back_and_their_number_is_bounded() {
        let mut pauses = Pauses::default();
        for n in 0..1000 {
            pauses.begin("again", at(n * 10));
            pauses.end(at(n * 10 + 1));
        }
        pauses.begin("now", at(20_000));
        assert_eq!(pauses.past.len(), PAST_MAX);
        let states = BTreeMap::from([("pause/erp".to_owned(), pauses.encode()), ("other".to_owned(), Bytes::new())]);
        assert_eq!(read(&states, at(0)), BTreeMap::from([(Name::from("erp"), pauses)]));
    }

    #[test]
    fn a_pause_that_cannot_be_read_counts_as_a_pause() {
        let states = BTreeMap::from([("pause/erp".to_owned(), Bytes::from_static(b"{"))]);
        assert!(read(&states, at(7))["erp"].current.is_some());
    }
}
