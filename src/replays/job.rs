//! What one job is, as the store keeps it and the API shows it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::{Delivery, DeliveryState, Name, Timestamp};
use crate::store::EventFilter;

/// Which events a job means. Everything that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// Of this route.
    pub route: Option<String>,
    /// With a delivery to this destination, and only to this one.
    pub destination: Option<String>,
    /// Where the newest delivery to a destination is in this state: `dead`, `delivered`, `skipped` or `cancelled`.
    pub state: String,
    /// Received at or after; milliseconds since 1970.
    pub since: Option<i64>,
    /// Received before; milliseconds since 1970.
    pub until: Option<i64>,
    /// Whose event id or source id contains this text.
    pub q: Option<String>,
}

impl Filter {
    /// The states that can be replayed: what is pending goes by itself.
    pub const STATES: [&'static str; 4] = ["dead", "delivered", "skipped", "cancelled"];

    pub(super) fn for_store(&self) -> EventFilter {
        EventFilter {
            route: self.route.clone(),
            event_type: None,
            state: Some(self.state.clone()),
            destination: self.destination.clone(),
            since: self.since.map(Timestamp::from_millis),
            until: self.until.map(Timestamp::from_millis),
            text: self.q.clone(),
        }
    }

    /// The destinations whose newest delivery is in the state: what was replayed since and has arrived, or still waits,
    /// is not meant.
    pub(super) fn means(&self, deliveries: &[Delivery]) -> Vec<Name> {
        let mut newest: BTreeMap<&Name, (u32, &DeliveryState)> = BTreeMap::new();
        for delivery in deliveries {
            let of = newest.entry(&delivery.destination).or_insert((delivery.id.ordinal, &delivery.state));
            if delivery.id.ordinal >= of.0 {
                *of = (delivery.id.ordinal, &delivery.state);
            }
        }
        let is_meant = |name: &Name| self.destination.as_ref().is_none_or(|only| **only == **name);
        newest.into_iter().filter(|(name, (_, state))| state.word() == self.state && is_meant(name)).map(|(name, _)| name.clone()).collect()
    }
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It waits for its turn, or works.
    Running,
    /// Everything that it meant is replayed.
    Done,
    /// An operator stopped it.
    Stopped,
    /// It could not go on; `error` says why.
    Failed,
}

impl Status {
    /// The word in the API.
    pub fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }

    pub(super) fn is_final(self) -> bool {
        self != Self::Running
    }
}

/// A job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// `rpl_` and a ULID: jobs sort by when they were begun.
    pub id: String,
    /// Which events.
    pub filter: Filter,
    /// Where to, instead of the destinations that the filter means.
    pub destinations: Option<Vec<String>>,
    /// Who asked for it.
    pub by: String,
    /// When; milliseconds since 1970.
    pub begun_at: i64,
    /// Where it stands.
    pub status: Status,
    /// How many events it means, once they are found.
    pub matched: Option<u64>,
    /// How many of them are replayed.
    pub replayed: u64,
    /// Deliveries that came of it.
    pub deliveries: u64,
    /// What it waits for just now.
    pub waits_for: Option<String>,
    /// When it ended; milliseconds since 1970.
    pub ended_at: Option<i64>,
    /// Why it failed.
    pub error: Option<String>,
    /// The accept sequence of the last event that was replayed: it goes on behind it.
    pub(super) after: Option<u64>,
}

/// Whoever asks for the same within this time, while it is not done, has asked twice.
const TWICE_WITHIN_MS: u64 = 10_000;

impl Job {
    /// Whether the other one is this one, asked for a second time.
    pub(super) fn is_asked_again_by(&self, other: &Self) -> bool {
        let words = |job: &Self| (job.destinations.clone(), Filter { since: None, until: None, ..job.filter.clone() });
        // `2h` was another instant then, as long before the one at which it was asked for.
        let is_same = |ours: Option<i64>, theirs: Option<i64>| match (ours, theirs) {
            (Some(ours), Some(theirs)) => {
                let before = |job: &Self, at: i64| job.begun_at.saturating_sub(at);
                ours == theirs || before(self, ours).abs_diff(before(other, theirs)) <= 1000
            }
            (ours, theirs) => ours == theirs,
        };
        !self.status.is_final()
            && self.begun_at.abs_diff(other.begun_at) <= TWICE_WITHIN_MS
            && words(self) == words(other)
            && is_same(self.filter.since, other.filter.since)
            && is_same(self.filter.until, other.filter.until)
    }

    pub(super) fn new(id: String, filter: Filter, destinations: Option<Vec<String>>, by: &str, now: Timestamp) -> Self {
        // What is received from now on is not meant, however long the job takes.
        let until = filter.until.unwrap_or(i64::MAX).min(now.millis().saturating_add(1));
        Self {
            id,
            filter: Filter { until: Some(until), ..filter },
            destinations,
            by: by.to_owned(),
            begun_at: now.millis(),
            status: Status::Running,
            matched: None,
            replayed: 0,
            deliveries: 0,
            waits_for: None,
            ended_at: None,
            error: None,
            after: None,
        }
    }

    pub(super) fn end(&mut self, status: Status, now: Timestamp) {
        self.status = status;
        self.waits_for = None;
        self.ended_at = Some(now.millis());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DeadCode, DeadReason, DeliveryId, DeliveryKind, EventId};

    #[test]
    fn what_was_replayed_since_is_not_meant_again() {
        let dead = || DeliveryState::Dead(DeadReason { code: DeadCode::Rejected, detail: "".into() });
        let delivery = |ordinal: u32, destination: &str, state: DeliveryState| Delivery {
            id: DeliveryId::new(EventId::from_bits(1), ordinal),
            destination: destination.into(),
            lane: None,
            kind: DeliveryKind::Original,
            created_at: Timestamp::default(),
            state,
            attempts: 1,
            version: 1,
        };
        let deliveries = [
            delivery(0, "erp", dead()),
            delivery(1, "shop", dead()),
            delivery(2, "bank", DeliveryState::Delivered),
            delivery(3, "erp", DeliveryState::Delivered),
        ];
        let filter =
            |destination: Option<&str>| Filter { state: "dead".into(), destination: destination.map(str::to_owned), ..Filter::default() };
        assert_eq!(filter(None).means(&deliveries), [Name::from("shop")]);
        assert_eq!(filter(Some("erp")).means(&deliveries), [] as [Name; 0]);
    }
}
