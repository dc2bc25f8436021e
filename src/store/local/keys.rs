//! Dedupe keys within their windows. Only the committer decides about them (rule 7), so there is no lock.
//!
//! Keys whose records lie in segments without a footer are here; older ones are in the footers, behind a filter.
//! One that is asked for comes back until the next segment is sealed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;

use super::record::KeyRecord;
use crate::model::{Answer, EventId, Timestamp};

/// Most keys in memory, about 100 MiB. At it, events with a key are refused until a segment is sealed.
pub(super) const KEYS_MAX: usize = 1_000_000;

/// How long a key is kept past its window: requests are judged by when they were received, and a slow one may
/// be judged much later than that.
pub(super) const SLACK: Duration = Duration::from_secs(10 * 60);

/// At how many keys those are looked for whose windows have ended, at most once in a minute: most leave when their
/// segment is sealed, long before.
const SWEEP_AT: usize = KEYS_MAX / 2;
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// Most distinct answers that are shared between keys.
const ANSWERS_MAX: usize = 64;

/// A key within its window.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) event: EventId,
    /// The event's accept sequence.
    pub(super) sequence: u64,
    pub(super) answer: Arc<Answer>,
    pub(super) expires_at: Timestamp,
    pub(super) repeats: u64,
    /// It came back out of a footer.
    is_recalled: bool,
    /// Its record moved: a sealed segment may hold a later event's, which has the key now.
    is_in_doubt: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// What they are found by is half of a SHA-256 already: a stronger hash on top would cost and give nothing.
    keys: HashMap<[u8; 16], Key, RandomState>,
    answers: Vec<Arc<Answer>>,
    /// Those whose segment was sealed.
    leaving: Vec<([u8; 16], EventId)>,
    /// Those that came back.
    recalled: Vec<([u8; 16], EventId)>,
    /// The wall clock can't be believed just now.
    is_doubted: bool,
    /// When ended windows were last looked for.
    swept_at: Timestamp,
}

impl Keys {
    /// The key, if a request received at this time repeats it. While dates can't be believed every key counts.
    pub(super) fn current(&mut self, hash: &[u8; 16], received_at: Timestamp) -> Option<&mut Key> {
        let is_doubted = self.is_doubted;
        self.keys.get_mut(hash).filter(|key| is_doubted || key.expires_at > received_at)
    }

    pub(super) fn is_full(&self) -> bool {
        self.keys.len() >= KEYS_MAX
    }

    /// Whether the key is here, whatever its window, and no footer can know better.
    pub(super) fn knows(&self, hash: &[u8; 16]) -> bool {
        self.keys.get(hash).is_some_and(|key| !key.is_in_doubt)
    }

    /// What the footers of sealed segments know of a key. A later one than is here comes back, until the next segment is
    /// sealed.
    pub(super) fn recall(&mut self, hash: &[u8; 16], found: Option<&KeyRecord>) {
        let held = self.keys.get_mut(hash);
        let sequence = held.as_ref().map_or(0, |held| held.sequence);
        if let Some(held) = held {
            held.is_in_doubt = false;
        }
        let Some(key) = found.filter(|key| key.sequence > sequence) else { return };
        self.hold(key);
        if let Some(held) = self.keys.get_mut(hash) {
            (held.is_recalled, held.is_in_doubt) = (true, false);
        }
        self.recalled.push((key.hash, key.event));
    }

    /// A segment was sealed: its keys are found through the filter from now on, and [leave](Self::leave).
    pub(super) fn sealed(&mut self, keys: Vec<([u8; 16], EventId)>) {
        self.leaving.extend(keys);
        for (hash, event) in std::mem::take(&mut self.recalled) {
            // One that moved since lies in a segment without a footer: it stays.
            if self.keys.get(&hash).is_some_and(|key| key.event == event && key.is_recalled) {
                self.keys.remove(&hash);
            }
        }
    }

    /// Forgets so many keys of sealed segments. All must be gone before one of them moves: one that moved is of the same event, and
    /// would be forgotten in its place.
    pub(super) fn leave(&mut self, most: usize) {
        for _ in 0..most {
            let Some((hash, event)) = self.leaving.pop() else { break };
            self.free(&hash, event);
        }
        if self.leaving.is_empty() {
            // The memory of a segment's keys, which may be large.
            self.leaving = Vec::new();
        }
    }

    /// How many are still to leave.
    pub(super) fn leaving(&self) -> usize {
        self.leaving.len()
    }

    /// A key that moved into a segment without a footer.
    pub(super) fn hold(&mut self, key: &KeyRecord) {
        if self.keys.get(&key.hash).is_some_and(|held| held.sequence > key.sequence) {
            return;
        }
        self.insert(key.hash, (key.event, key.sequence), &key.answer, key.expires_at);
        if let Some(held) = self.keys.get_mut(&key.hash) {
            (held.repeats, held.is_in_doubt) = (key.repeats, true);
        }
    }

    /// The key of a new event, by its id and accept sequence.
    pub(super) fn insert(&mut self, hash: [u8; 16], (event, sequence): (EventId, u64), answer: &Answer, expires_at: Timestamp) {
        let answer = self.shared(answer);
        self.keys.insert(hash, Key { event, sequence, answer, expires_at, repeats: 0, is_recalled: false, is_in_doubt: false });
    }

    /// The key as it is to move: with all its repeats. None: a later event has it.
    pub(super) fn as_moved(&self, key: &KeyRecord) -> Option<KeyRecord> {
        let held = self.keys.get(&key.hash);
        if held.is_some_and(|held| held.sequence > key.sequence) {
            return None;
        }
        Some(KeyRecord { repeats: key.repeats.max(held.map_or(0, |held| held.repeats)), ..key.clone() })
    }

    /// Frees the key of this event: it was voided, or a footer tells it.
    pub(super) fn free(&mut self, hash: &[u8; 16], event: EventId) {
        if self.keys.get(hash).is_some_and(|key| key.event == event) {
            self.keys.remove(hash);
        }
    }

    /// How often the key was seen again, as read at a start.
    pub(super) fn set_repeats(&mut self, hash: &[u8; 16], event: EventId, count: u64) {
        if let Some(key) = self.keys.get_mut(hash).filter(|key| key.event == event) {
            key.repeats = count;
        }
    }

    /// Most routes give every sender the same answer: keep it once.
    fn shared(&mut self, answer: &Answer) -> Arc<Answer> {
        if let Some(same) = self.answers.iter().find(|known| ***known == *answer) {
            return same.clone();
        }
        let answer = Arc::new(answer.clone());
        if self.answers.len() < ANSWERS_MAX {
            self.answers.push(answer.clone());
        }
        answer
    }

    /// Forgets keys whose windows ended before `now`; none: dates can't be believed.
    pub(super) fn expire(&mut self, now: Option<Timestamp>) {
        self.is_doubted = now.is_none();
        let Some(now) = now.filter(|_| self.keys.len() >= SWEEP_AT) else { return };
        let was_just_now = self.swept_at <= now && now < self.swept_at.saturating_add(SWEEP_EVERY);
        if !was_just_now {
            self.swept_at = now;
            self.keys.retain(|_, key| key.expires_at.saturating_add(SLACK) > now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_sealed_segment_leave_a_few_at_a_time_unless_a_later_event_has_them() {
        let (mut keys, ends) = (Keys::default(), Timestamp::from_millis(1_795_000_000_000));
        let hash = |n: u128| n.to_le_bytes();
        for n in 0..10 {
            keys.insert(hash(n), (EventId::from_bits(n), 1), &Answer::ok(), ends);
        }
        keys.sealed((0..10).map(|n| (hash(n), EventId::from_bits(n))).collect());
        keys.insert(hash(0), (EventId::from_bits(100), 2), &Answer::ok(), ends);
        assert_eq!(keys.keys.len(), 10);
        keys.leave(4);
        assert_eq!(keys.keys.len(), 6);
        assert_eq!(keys.leaving(), 6);
        keys.leave(usize::MAX);
        assert_eq!(keys.leaving(), 0);
        assert_eq!(keys.keys.keys().collect::<Vec<_>>(), [&hash(0)]);
    }

    #[test]
    fn keys_whose_windows_ended_make_room_when_many_are_held() {
        let mut keys = Keys::default();
        let at = |seconds: i64| Timestamp::from_millis(1_795_000_000_000 + seconds * 1000);
        for n in 0..SWEEP_AT as u128 {
            let ends = if n % 2 == 0 { at(0) } else { at(3600) };
            keys.insert(n.to_le_bytes(), (EventId::from_bits(n), 1), &Answer::ok(), ends);
        }
        keys.expire(Some(at(599)));
        assert_eq!(keys.keys.len(), SWEEP_AT, "a slow request may still be judged by them");
        keys.expire(None);
        keys.expire(Some(at(601)));
        assert_eq!(keys.keys.len(), SWEEP_AT, "once a minute is enough");
        keys.expire(Some(at(700)));
        assert_eq!(keys.keys.len(), SWEEP_AT / 2);
        assert!(keys.keys.contains_key(&1_u128.to_le_bytes()) && !keys.keys.contains_key(&2_u128.to_le_bytes()));
    }
}
