//! What the world outside was told, and what must follow from it.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use kurier::model::Timestamp;

use super::plan::{ATTEMPTS_MAX, GAP_MIN, PARKS_AFTER, RATE, RATED, REPORTS, TIMEOUT, Variant};

/// Items with a dedupe key are numbered from here on, by their key.
pub(super) const KEYED: u64 = 1_000_000;

/// Items whose results are to be reported are numbered from here on.
pub(super) const REPORTED: u64 = 2_000_000;

/// Items that are fetched are numbered from here on.
pub(super) const FETCHED: u64 = 3_000_000;

/// One thing that a sender wants to tell, however often it does.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) route: &'static str,
    pub(super) lane: Option<u64>,
    /// Requests under way.
    pub(super) open: u32,
    /// Answered 2xx.
    pub(super) kept: bool,
    /// Requests that ended without an answer.
    pub(super) unknown: u32,
}

impl Item {
    /// Whether it was refused, so that nothing of it may ever be seen.
    pub(super) fn is_void(&self) -> bool {
        !self.kept && self.unknown == 0 && self.open == 0
    }

    /// The bytes that its sender sends.
    pub(super) fn body(number: u64) -> String {
        // Spaces that no JSON writer would leave, and a digit that one would drop.
        if number >= REPORTED {
            let href = format!("https://{REPORTS}/{number}");
            format!("{{ \"n\" :{number}, \"x\":1.0, \"_links\": {{\"report_results_async\": {{\"href\":\"{href}\"}}}}}}")
        } else if number >= KEYED {
            format!("{{ \"key\" :{number}, \"x\":1.0}}")
        } else {
            format!("{{ \"n\" :{number}, \"x\":1.0}}")
        }
    }

    /// The inverse of [`Item::body`].
    pub(super) fn number(body: &[u8]) -> u64 {
        let body: serde_json::Value = serde_json::from_slice(body).unwrap();
        ["n", "key"].iter().find_map(|name| body.get(name)).and_then(serde_json::Value::as_u64).unwrap()
    }

    /// The bytes that a destination is to get.
    pub(super) fn expected(&self, number: u64, destination: &str) -> String {
        if self.route == "free" && destination == "d2" { format!("{{\"item\":{number}}}") } else { Self::body(number) }
    }
}

/// An attempt as a destination sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) destination: String,
    pub(super) item: u64,
    pub(super) number: u32,
    pub(super) is_replay: bool,
}

#[derive(Default)]
pub(super) struct Ledger {
    pub(super) items: BTreeMap<u64, Item>,
    /// Event ids that destinations saw, by item.
    ids: BTreeMap<u64, BTreeSet<String>>,
    /// Every status that a destination has told for an item.
    pub(super) told: BTreeMap<(String, u64), BTreeSet<u16>>,
    attempted: BTreeSet<u64>,
    pub(super) cancelled: BTreeSet<u64>,
    /// The result of each item that its source has taken.
    pub(super) taken: BTreeMap<u64, bool>,
    /// Items whose result their source has refused.
    pub(super) refused: BTreeSet<u64>,
    lives: u32,
    in_flight: Vec<Seen>,
    /// When the last attempt of an item ended in this life.
    ended: BTreeMap<(String, u64), Timestamp>,
    /// The newest item of each lane that a destination saw.
    newest_of_lane: BTreeMap<(String, &'static str, u64), u64>,
    starts: Vec<Timestamp>,
    /// Destinations whose pause is durable.
    pub(super) paused: BTreeSet<String>,
    pub(super) variant: Option<(Variant, Timestamp)>,
    pub(super) was_removed: bool,
    /// The disk was full once, which costs history: what has ended may be gone.
    pub(super) was_full: bool,
    trace: DefaultHasher,
}

impl Ledger {
    /// A new process begins: nothing is in flight in it, and its limiters are full.
    pub(super) fn begin_life(&mut self, now: Timestamp) {
        self.lives += 1;
        self.in_flight.clear();
        self.ended.clear();
        self.starts.clear();
        // What was under way when the process died never got an answer.
        for item in self.items.values_mut() {
            item.unknown += std::mem::take(&mut item.open);
        }
        self.variant = self.variant.map(|(variant, _)| (variant, now));
    }

    /// What a sender heard: 2xx, a refusal, or nothing.
    pub(super) fn heard(&mut self, number: u64, status: Option<u16>) {
        let item = self.items.get_mut(&number).unwrap();
        item.open -= 1;
        match status {
            Some(200..300) => item.kept = true,
            Some(_) => {}
            None => item.unknown += 1,
        }
        let was_attempted = self.attempted.contains(&number);
        assert!(!(item.is_void() && was_attempted), "I2: item {number} was refused, and a destination saw it");
        (number, status).hash(&mut self.trace);
    }

    /// Whether an item may have ended and gone with the history that a full disk costs.
    pub(super) fn may_be_gone(&self, number: u64) -> bool {
        self.was_full && (self.attempted.contains(&number) || self.cancelled.contains(&number))
    }

    /// An attempt begins.
    pub(super) fn begins(&mut self, now: Timestamp, seen: &Seen, id: &str, body: &[u8]) {
        (now.millis(), &seen.destination, seen.item, seen.number).hash(&mut self.trace);
        let what = format!("{seen:?} at {now}");
        let item = self.items.get(&seen.item).unwrap_or_else(|| panic!("nobody sent this: {what}")).clone();
        assert!(!item.is_void(), "I2: refused, and delivered: {what}");
        assert_eq!(std::str::from_utf8(body).unwrap(), item.expected(seen.item, &seen.destination), "I11: {what}");
        self.attempted.insert(seen.item);
        let ids = self.ids.entry(seen.item).or_default();
        ids.insert(id.to_owned());
        assert!(ids.len() == 1, "I3: two events of one item: {ids:?}, {what}");
        assert!(seen.number <= ATTEMPTS_MAX, "I7: more attempts than allowed: {what}");
        assert!(!self.paused.contains(&seen.destination), "an attempt in a pause: {what}");
        self.one_at_a_time(&item, seen, &what);
        self.in_order(&item, seen, &what);
        self.within_limits(now, seen, &what);
        if !seen.is_replay
            && let Some(ended) = self.ended.get(&(seen.destination.clone(), seen.item))
        {
            assert!(now.since(*ended) >= GAP_MIN, "I7: too soon after {ended}: {what}");
        }
        self.in_flight.push(seen.clone());
    }

    fn one_at_a_time(&self, item: &Item, seen: &Seen, what: &str) {
        for other in self.in_flight.iter().filter(|other| other.destination == seen.destination) {
            assert!(seen.is_replay || other.is_replay || other.item != seen.item, "I7: two in flight for one delivery: {what}");
            let lane = self.items[&other.item].lane.filter(|_| self.items[&other.item].route == item.route);
            assert!(item.lane.is_none() || lane != item.lane, "I7: two in flight of one lane: {what} and {other:?}");
        }
    }

    fn in_order(&mut self, item: &Item, seen: &Seen, what: &str) {
        let Some(lane) = item.lane.filter(|_| !seen.is_replay) else { return };
        let newest = self.newest_of_lane.entry((seen.destination.clone(), item.route, lane)).or_default();
        let stepped_out = item.route == "parks" && seen.number > PARKS_AFTER;
        assert!(seen.item >= *newest || stepped_out, "a lane out of order, {newest} went before: {what}");
        *newest = seen.item.max(*newest);
    }

    fn within_limits(&mut self, now: Timestamp, seen: &Seen, what: &str) {
        let busy = self.in_flight.iter().filter(|other| other.destination == seen.destination).count() + 1;
        let (variant, since) = self.variant.unwrap();
        // Attempts that began before a reload may still be under way.
        let allowed = if now.since(since) > TIMEOUT * 2 {
            variant.concurrency(&seen.destination)
        } else {
            Variant::ALL.iter().map(|variant| variant.concurrency(&seen.destination)).max().unwrap()
        };
        assert!(busy <= allowed, "I8: {busy} at a time, {allowed} allowed: {what}");
        if seen.destination == RATED {
            self.starts.push(now);
            let within = self.starts.iter().rev().take_while(|start| now.since(**start) < Duration::from_secs(1)).count();
            assert!(within <= 2 * RATE, "I8: {within} within a second: {what}");
        }
    }

    /// An attempt ends, with what the destination told.
    pub(super) fn ends(&mut self, now: Timestamp, seen: &Seen, status: Option<u16>) {
        let at = self.in_flight.iter().position(|other| other == seen);
        self.in_flight.remove(at.unwrap());
        if !seen.is_replay {
            self.ended.insert((seen.destination.clone(), seen.item), now);
        }
        if let Some(status) = status {
            self.told.entry((seen.destination.clone(), seen.item)).or_default().insert(status);
        }
    }

    /// A result is about to be reported.
    pub(super) fn reports(&mut self, now: Timestamp, number: u64, successful: bool) {
        (now.millis(), number, successful).hash(&mut self.trace);
        let what = format!("item {number}, successful: {successful}, at {now}");
        assert!(self.items.get(&number).is_some_and(|item| !item.is_void()), "I2: a report of what was refused: {what}");
        assert!(self.taken.get(&number).is_none_or(|taken| *taken == successful), "two results of one event: {what}");
        let told = |destination: &str, is: fn(u16) -> bool| self.has_told(destination, number, is);
        let all = Variant::Usual.delivers("reported").into_iter();
        let is_true = if successful {
            all.clone().all(|destination| told(destination, |status| (200..300).contains(&status)))
        } else {
            // Only three interrupted attempts in a row end a delivery without a word of its destination or an operator.
            all.clone().any(|destination| told(destination, |status| matches!(status, 410 | 422)))
                || self.cancelled.contains(&number)
                || self.lives > 3
        };
        assert!(is_true, "a result that is not true: {what}");
    }

    /// An attempt is given up by the relay, as at a stop.
    pub(super) fn given_up(&mut self, seen: &Seen) {
        self.in_flight.retain(|other| other != seen);
    }

    pub(super) fn has_told(&self, destination: &str, item: u64, is: impl Fn(u16) -> bool) -> bool {
        self.told.get(&(destination.to_owned(), item)).is_some_and(|told| told.iter().any(|status| is(*status)))
    }

    /// Everything that happened, as a number.
    pub(super) fn trace(&self) -> u64 {
        self.trace.finish()
    }
}
