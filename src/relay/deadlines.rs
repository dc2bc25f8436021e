//! The time in which a source waits for its acknowledgement.
//!
//! When it is about to end and deliveries are still pending, they end dead, and the last of them brings the
//! acknowledgement along, which reports the failure; where the route says so they go on, and the failure is reported all
//! the same. Whatever was reported before stays as it was: the store gives an event one acknowledgement, ever.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::select;
use tokio::sync::watch;
use tokio::time::sleep;

use super::notices::Notices;
use super::{Parts, RelayHandle, journey, settle};
use crate::clock::Clock;
use crate::config::{Config, Live};
use crate::model::{DeadCode, DeadReason, Delivery, DeliveryKind, DeliveryState, EventId, Name, Notice, NoticeKind, Timestamp};
use crate::store::{CommitError, EventFilter, EventRecord, NewDelivery, PendingDelivery, ReadError, Store};

/// How often what is pending is looked through. A deadline has an hour to spare before the source gives up.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Deliveries that are read from the store at a time.
const PAGE: usize = 1024;

/// How far the order of positions may be from the order of time: a wall clock that is put right.
const DISORDER_MAX: Duration = Duration::from_secs(3600);

/// Events whose acknowledgement is known to be under way although deliveries go on; beyond it the store is asked again.
const REPORTED_MAX: usize = 100_000;

/// Events that are ended at one look; the rest follows at the next.
const LATE_MAX: usize = 10_000;

/// How far back a start looks for events that the end of the process ended.
const INTERRUPTED_WITHIN: Duration = Duration::from_secs(48 * 3600);

/// Watches over deadlines.
pub(super) struct Deadlines {
    live: Live,
    changes: watch::Receiver<()>,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    notices: Notices,
    relay: RelayHandle,
    reported: BTreeSet<EventId>,
}

impl Deadlines {
    pub(super) fn new(parts: &Parts, relay: RelayHandle) -> Self {
        Self {
            live: parts.config.clone(),
            changes: parts.changes.clone(),
            store: parts.store.clone(),
            clock: parts.clock.clone(),
            notices: parts.notices.clone(),
            relay,
            reported: BTreeSet::new(),
        }
    }

    /// Watches for ever.
    pub(super) async fn run(mut self) {
        let config = self.live.load_full();
        if let Err(error) = self.acknowledge_interrupted(&config).await {
            tracing::error!(%error, "events that the last end of the process ended can't be looked for");
        }
        loop {
            let config = self.live.load_full();
            let shortest = config.routes.iter().filter_map(|route| route.acknowledge.as_ref()).map(|settings| settings.deadline).min();
            if let (Some(shortest), Some(now)) = (shortest, self.clock.date())
                && let Err(error) = self.look(&config, shortest, now).await
            {
                tracing::error!(%error, "deadlines can't be looked through; trying again");
            }
            select! {
                biased;
                changed = self.changes.changed() => if changed.is_err() {
                    // Nothing changes any more; time still passes.
                    sleep(LOOK_EVERY).await;
                },
                () = sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Looks through what is pending and old enough.
    async fn look(&mut self, config: &Config, shortest: Duration, now: Timestamp) -> Result<(), ReadError> {
        let mut position = 0;
        let mut late: Vec<EventId> = Vec::new();
        let mut reported = BTreeSet::new();
        loop {
            let page = self.store.pending_after(position, PAGE).await?;
            let young = now.saturating_sub(shortest.saturating_sub(DISORDER_MAX));
            let Some(last) = page.last() else { break };
            position = last.position;
            let is_over = late.len() >= LATE_MAX
                || page.len() < PAGE
                || page.iter().any(|pending| pending.kind == DeliveryKind::Original && pending.created_at > young);
            // Those that go on although their failure is reported come first, and must not hide the others.
            let found = page.iter().filter(|pending| is_late(config, pending, now)).map(|pending| pending.id.event);
            let (known, new): (Vec<EventId>, Vec<EventId>) = found.partition(|event| self.reported.contains(event));
            reported.extend(known);
            late.extend(new);
            if is_over {
                break;
            }
        }
        if late.len() < LATE_MAX {
            // All were seen: the others have ended.
            self.reported = reported;
        }
        late.dedup();
        for event in late {
            if let Some(record) = self.store.record(event).await? {
                self.fail(config, &record).await;
            }
        }
        Ok(())
    }

    /// The source is told that it failed.
    async fn fail(&mut self, config: &Config, record: &EventRecord) {
        let (event, now) = (record.event.id, self.clock.now());
        let settings = config.route(&record.event.route).and_then(|route| route.acknowledge.as_ref());
        let (Some(settings), Some(destination)) = (settings, config.acknowledgement(&record.event.route)) else { return };
        let is_reported = record.deliveries.iter().any(|delivery| delivery.kind == DeliveryKind::Acknowledgement);
        let new = NewDelivery { destination: destination.clone(), lane: None, due: now };
        if settings.continue_after_deadline || is_reported {
            let named = if is_reported { Ok(Vec::new()) } else { self.store.acknowledge(event, new).await };
            match named {
                Ok(named) => {
                    if !named.is_empty() {
                        self.tell(record, &destination, "the failure is reported; what is pending goes on");
                    }
                    if self.reported.len() < REPORTED_MAX {
                        self.reported.insert(event);
                    }
                }
                Err(error) => tracing::warn!(event.id = %event, %error, "a deadline's report is not stored yet; trying again"),
            }
            return;
        }
        let detail = format!("not settled within {:?}", settings.deadline);
        let pending: Vec<PendingDelivery> =
            record.deliveries.iter().filter_map(|delivery| PendingDelivery::of(delivery, &record.event, 0)).collect();
        // Asked for together, so that they share a commit; the last of them brings the report along.
        let tickets: Vec<_> = pending
            .iter()
            .map(|pending| {
                let mut settlement = settle::without_attempt(pending, DeadCode::Deadline, detail.clone());
                settlement.acknowledgement = Some(new.clone());
                (pending, settlement.clone(), self.store.settle(settlement))
            })
            .collect();
        let mut ended = false;
        for (pending, settlement, ticket) in tickets {
            match ticket.await {
                Ok(()) => {
                    ended = true;
                    journey::settled(pending, &settlement);
                    self.relay.cancelled(pending.id);
                }
                // An attempt was settled in between: it has ended, or is found again at the next look.
                Err(CommitError::Stale) => {}
                Err(error) => tracing::warn!(delivery.id = %pending.id, %error, "a deadline is not stored yet; trying again"),
            }
        }
        if ended {
            self.tell(record, &destination, "the failure is reported; what was pending is dead");
        }
    }

    /// Events whose last delivery ended with the process, at the start that noticed it: nothing brought their
    /// acknowledgement along.
    async fn acknowledge_interrupted(&self, config: &Config) -> Result<(), ReadError> {
        // By a date that is far ahead, the clock's or that of what was written last, none would be recent.
        let now = self.clock.now();
        let since = Some(now.min(self.clock.reckon(now)).saturating_sub(INTERRUPTED_WITHIN));
        for route in config.routes.iter().filter(|route| route.acknowledge.is_some()) {
            let filter =
                EventFilter { route: Some(route.name.to_string()), state: Some("dead".to_owned()), since, ..EventFilter::default() };
            let mut before = None;
            loop {
                let (found, next) = self.store.list(&filter, before, PAGE).await?;
                for summary in found.iter().filter(|summary| is_owed(&summary.deliveries)) {
                    let Some(destination) = config.acknowledgement(&route.name) else { continue };
                    let new = NewDelivery { destination, lane: None, due: self.clock.now() };
                    if let Err(error) = self.store.acknowledge(summary.event.id, new).await {
                        tracing::error!(event.id = %summary.event.id, %error, "an event's acknowledgement can't be stored");
                    }
                }
                before = next;
                if before.is_none() {
                    break;
                }
            }
        }
        Ok(())
    }

    fn tell(&self, record: &EventRecord, destination: &Name, what: &str) {
        let event = record.event.id;
        tracing::warn!(event.id = %event, route.name = %record.event.route, "{event} was not settled in time: {what}");
        let delivery = record.deliveries.iter().find(|delivery| !delivery.state.is_final()).map(|delivery| delivery.id);
        let route = Some(record.event.route.clone());
        self.notices.tell(Notice {
            kind: NoticeKind::Deadline,
            destination: destination.clone(),
            route,
            delivery,
            reason: format!("not settled in time: {what}"),
        });
    }
}

/// Whether this delivery's source is about to give up waiting.
fn is_late(config: &Config, pending: &PendingDelivery, now: Timestamp) -> bool {
    let route = config.route(&pending.route);
    let settings = route.and_then(|route| route.acknowledge.as_ref());
    pending.kind == DeliveryKind::Original && settings.is_some_and(|settings| settings.due(pending.created_at) <= now)
}

/// Whether the end of the process ended the event, and nobody has told its source.
fn is_owed(deliveries: &[Delivery]) -> bool {
    let is_interrupted =
        |delivery: &Delivery| matches!(&delivery.state, DeliveryState::Dead(DeadReason { code: DeadCode::Interrupted, .. }));
    deliveries.iter().any(is_interrupted)
        && deliveries.iter().all(|delivery| delivery.state.is_final() && delivery.kind != DeliveryKind::Acknowledgement)
}
