//! What the loop does with ends: of attempts, of settlements, of pauses being written.

use std::time::Duration;

use tokio::task::JoinError;

use super::{Dispatcher, Flight, PASSED_MAX, READ_RETRY, gap_max};
use crate::model::{DeadCode, DeadReason, DeliveryKind, DeliveryState, FaultKind, Name, Notice, NoticeKind};
use crate::relay::attempt::Ended;
use crate::relay::breaker::Health;
use crate::relay::classify::Verdict;
use crate::relay::commit::{Committed, Durable, commit};
use crate::relay::journey;
use crate::relay::moment::Moment;
use crate::relay::pausing::{Change, Changed};
use crate::relay::scheduler::Next;
use crate::relay::settle::{Made, Settled, after_attempt, removed, skipped, without_attempt};
use crate::store::{NewDelivery, PendingDelivery, Settlement};

/// Most settlements at a time of deliveries whose destination was removed.
const CONDEMNED_SETTLING_MAX: usize = 256;

/// The reason of a pause that a destination asked for.
const GONE_REASON: &str = "answered 410 Gone";

impl Dispatcher {
    /// An attempt has ended.
    pub(super) fn ended(&mut self, ended: Result<(Flight, Ended), JoinError>) {
        // Attempts catch their own panics; only the end of the runtime cancels one.
        let Ok((Flight { pending, destination }, ended)) = ended else { return };
        self.in_flight.remove(&pending.id);
        let now = Moment::now(&*self.tools.clock);
        if !matches!(ended, Ended::Unread(_)) {
            self.unread.was_read(pending.id);
        }
        self.passed.remove(&pending.id);
        match ended {
            Ended::Made(made) => {
                self.answered(&pending, health(&made), now);
                self.metrics.attempted(&pending.destination, made.verdict.outcome(), made.took);
                if matches!(made.verdict, Verdict::Gone | Verdict::Pause) {
                    // Nothing more is sent from here on; it counts as a pause once it is durable.
                    self.board.lock().scheduler.set_paused(&pending.destination, true);
                }
                if made.verdict == Verdict::Pause {
                    let kind = if made.must_authorize { NoticeKind::Authorization } else { NoticeKind::Paused };
                    self.pause(&pending.destination, kind, &made.reason);
                }
                if let Some(hold) = made.hold {
                    self.board.lock().scheduler.hold(&pending.destination, now.after(hold));
                }
                let Settled { settlement, gap } = self.settlement(&pending, *made, &destination.retry);
                let known = self.config.destinations.contains_key(&pending.destination);
                let settlement = if known { settlement } else { removed(settlement) };
                let due = gap.filter(|_| known).map(|gap| now.after(gap));
                self.commit(pending, settlement, due);
            }
            Ended::Damaged(detail) => {
                self.answered(&pending, Health::Unclear, now);
                let settlement = without_attempt(&pending, DeadCode::Damaged, detail);
                self.commit(pending, settlement, None);
            }
            Ended::Skipped => {
                self.answered(&pending, Health::Unclear, now);
                let settlement = skipped(&pending);
                self.commit(pending, settlement, None);
            }
            Ended::Unmade(detail) => {
                self.answered(&pending, Health::Unclear, now);
                let settlement = without_attempt(&pending, DeadCode::Unsendable, detail);
                self.commit(pending, settlement, None);
            }
            Ended::Unread(error) => match self.unread.failed(pending.id) {
                Some(gap) => {
                    tracing::error!(event.id = %pending.id.event, error, "an event can't be read; trying again");
                    self.again(pending, gap);
                }
                None => {
                    self.answered(&pending, Health::Unclear, now);
                    let settlement = without_attempt(&pending, DeadCode::Damaged, format!("its bytes can't be read: {error}"));
                    self.commit(pending, settlement, None);
                }
            },
            Ended::NotNow(error) => {
                tracing::error!(event.id = %pending.id.event, error, "an event can't be delivered just now; trying again");
                self.again(pending, READ_RETRY);
            }
            Ended::TooEarly(wait) => {
                if self.passed.len() >= PASSED_MAX {
                    self.passed.clear();
                }
                self.passed.insert(pending.id);
                self.board.lock().scheduler.hold(&pending.destination, now.after(wait));
                self.again(pending, Duration::ZERO);
            }
        }
    }

    /// Nothing was sent: it waits again, as it was.
    fn again(&mut self, pending: PendingDelivery, gap: Duration) {
        let now = Moment::now(&*self.tools.clock);
        self.answered(&pending, Health::Unclear, now);
        self.tools.store.attempt_ends(pending.id);
        let (destination, position) = (pending.destination.clone(), pending.position);
        self.board.lock().scheduler.settled(&destination, position, Next::Again(pending, now.after(gap)));
    }

    fn answered(&self, pending: &PendingDelivery, health: Health, now: Moment) {
        self.board.lock().scheduler.answered(&pending.destination, pending.position, health, now);
    }

    fn settlement(&mut self, pending: &PendingDelivery, made: Made, begun_with: &crate::config::Retry) -> Settled {
        let now = self.tools.clock.now();
        // A reload that came during the attempt counts already.
        let retry = self.config.destinations.get(&pending.destination).map_or(begun_with, |destination| &destination.retry);
        let plain_age = now.since(pending.created_at);
        let age = self.board.lock().pauses.get(&pending.destination).map_or(plain_age, |pauses| pauses.age(pending.created_at, now));
        let age = self.tools.clock.date().map_or(Duration::ZERO, |_| age);
        after_attempt(pending, made, retry, age, now, &mut self.rng)
    }

    /// Ends a delivery whose attempts are used up before another one begins (I7).
    pub(super) fn exhausted(&mut self, pending: PendingDelivery) {
        self.answered(&pending, Health::Unclear, Moment::now(&*self.tools.clock));
        let settlement = without_attempt(&pending, DeadCode::MaxAttempts, format!("{} attempts", pending.attempts));
        self.commit(pending, settlement, None);
    }

    /// A destination's own words pause it.
    fn pause(&mut self, destination: &Name, kind: NoticeKind, reason: &str) {
        self.pausing.push(Change { destination: destination.clone(), reason: Some(reason.to_owned()), reply: None });
        self.tell(kind, destination, None, reason);
    }

    fn commit(&mut self, pending: PendingDelivery, mut settlement: Settlement, due: Option<Moment>) {
        if settlement.state.is_final() && pending.kind != DeliveryKind::Acknowledgement {
            let due = self.tools.clock.now();
            let name = self.config.acknowledgement(&pending.route);
            settlement.acknowledgement = name.map(|destination| NewDelivery { destination, lane: None, due });
        }
        self.commits.push(Box::pin(commit(self.tools.store.clone(), pending, settlement, due)));
    }

    /// Ends what waits for destinations that are no longer configured.
    pub(super) fn settle_condemned(&mut self) {
        let room = CONDEMNED_SETTLING_MAX.saturating_sub(self.condemned);
        let condemned = self.board.lock().scheduler.take_condemned(room);
        for pending in condemned {
            self.condemned += 1;
            let settlement = without_attempt(&pending, DeadCode::DestinationRemoved, "");
            self.commit(pending, settlement, None);
        }
    }

    /// A settlement has ended: only now does anything follow from it.
    pub(super) fn committed(&mut self, committed: Committed) {
        let Committed { pending, settlement, due, durable } = committed;
        self.tools.store.attempt_ends(pending.id);
        self.settled.hint(pending.id.event);
        if is_condemned(&settlement) {
            self.condemned = self.condemned.saturating_sub(1);
        }
        let (destination, position) = (pending.destination.clone(), pending.position);
        if let DeliveryState::Dead(DeadReason { code: DeadCode::Gone, .. }) = settlement.state {
            // Also where an operator's cancellation came first: the destination has said it all the same, and a pause
            // that stood in memory only would be seen by nobody and ended by nobody.
            self.pause(&destination, NoticeKind::Paused, GONE_REASON);
        }
        let next = match durable {
            Durable::Stored => {
                journey::settled(&pending, &settlement);
                if let DeliveryState::Dead(reason) = &settlement.state {
                    self.tell(NoticeKind::DeadLetter, &destination, Some(&pending), &reason.to_string());
                }
                if settlement.state.is_final() && self.config.destinations.contains_key(&destination) {
                    let now = Moment::now(&*self.tools.clock);
                    self.board.lock().throughput.entry(destination.clone()).or_default().ended(now);
                }
                waits(pending, &settlement, due)
            }
            Durable::Overtaken(None) => Next::Forget,
            Durable::Overtaken(Some(newer)) => {
                let due = Moment::of_due(newer.due, &*self.tools.clock, gap_max(&self.config, &destination));
                Next::Again(newer, due)
            }
        };
        self.board.lock().scheduler.settled(&destination, position, next);
    }

    /// Tells a person, where one is to be told.
    fn tell(&self, kind: NoticeKind, destination: &Name, about: Option<&PendingDelivery>, reason: &str) {
        let route = about.map(|pending| pending.route.clone());
        let delivery = about.map(|pending| pending.id);
        self.notices.tell(Notice { kind, destination: destination.clone(), route, delivery, reason: reason.to_owned() });
    }

    /// A change of a pause has ended.
    pub(super) fn paused(&mut self, changed: Changed) {
        let Some((destination, pauses)) = self.pausing.conclude(changed) else { return };
        match &pauses.current {
            Some(paused) => tracing::warn!(destination.name = %destination, reason = paused.reason, "{destination} is paused"),
            None => tracing::info!(destination.name = %destination, "{destination} is resumed"),
        }
        let board = &mut *self.board.lock();
        board.scheduler.set_paused(&destination, pauses.current.is_some());
        board.pauses.insert(destination, pauses);
    }
}

/// Settled without an attempt because its destination was removed: such are counted.
fn is_condemned(settlement: &Settlement) -> bool {
    settlement.attempt.is_none() && matches!(settlement.state, DeliveryState::Dead(DeadReason { code: DeadCode::DestinationRemoved, .. }))
}

fn waits(pending: PendingDelivery, settlement: &Settlement, due: Option<Moment>) -> Next {
    match (&settlement.state, due) {
        (DeliveryState::Pending { due: on_the_wall }, Some(due)) => {
            let version = settlement.version.saturating_add(1);
            Next::Again(PendingDelivery { due: *on_the_wall, attempts: settlement.attempts, version, ..pending }, due)
        }
        _ => Next::Forget,
    }
}

/// What an attempt says about its destination; nothing, when it ended on our side of the wire or another says it.
fn health(made: &Made) -> Health {
    match &made.result {
        _ if made.is_shared => Health::Unclear,
        Err(fault) if matches!(fault.kind, FaultKind::Unsendable | FaultKind::Interrupted) => Health::Unclear,
        Ok(_) | Err(_) => made.verdict.health(),
    }
}
