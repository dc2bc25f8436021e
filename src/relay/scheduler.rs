//! Who may go now, and when to look again. Pure: no IO, no clock, no chance.
//!
//! It keeps what the destinations were promised: never more attempts at a time than their concurrency, never
//! two of one lane, a lane in the order of its positions, nothing before it is due, nothing while the
//! destination is paused or its breaker open (I7, I8). Destinations take turns, so one with a long queue
//! never delays another; at one destination live deliveries and replays do.
//!
//! A lane waits for its first as long as that takes, unless its route says after how many failures a delivery
//! steps out of the line: then the lane goes on without it, still one at a time.
//!
//! A delivery is held from the moment it was read until its end is durable: an attempt whose settlement is
//! still being committed no longer counts as in flight, but its lane waits and it is not forgotten.

mod lane;
mod queue;
mod ready;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use super::breaker::{Breaker, Health};
use super::moment::Moment;
use crate::config;
use crate::model::{DeliveryId, DeliveryKind, Name};
use crate::store::PendingDelivery;
use queue::Queue;

/// Most attempts of one destination that are over but whose settlement is not durable yet. A store that can't
/// commit thus stops the deliveries too, instead of letting them run ahead of what is recorded.
pub(super) const UNSETTLED_MAX: usize = 1024;

/// What the attempts of one destination hold in memory at a time of stored events: at this size none is begun, so it is
/// passed by less than one event. A slow destination of large events thus costs no other's memory (I10).
pub(super) const IN_FLIGHT_BYTES_MAX: u64 = 64 << 20;

/// What a destination is promised.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// Most attempts at a time.
    pub(super) concurrency: usize,
    /// When to leave it alone.
    pub(super) breaker: config::Breaker,
    /// Most deliveries of each kind that are held in memory for it.
    pub(super) held_max: usize,
}

/// What becomes of a delivery once its settlement is durable.
#[derive(Debug)]
pub(super) enum Next {
    /// It is final.
    Forget,
    /// It waits again: its new version and its due time.
    Again(PendingDelivery, Moment),
}

/// How a destination stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// Attempts under way.
    pub(super) in_flight: usize,
    /// Its breaker.
    pub(super) breaker: Breaker,
}

/// All queues.
#[derive(Debug, Default)]
pub(super) struct Scheduler {
    queues: BTreeMap<Name, Queue>,
    /// After how many failed attempts a delivery of a route steps out of its lane; of any other, never.
    steps_out: BTreeMap<Name, u32>,
    /// Whose turn was last.
    last: Option<Name>,
}

impl Scheduler {
    /// Takes over a configuration. Queues, breakers and pauses of destinations that stay, stay; what is held
    /// for any other destination is condemned.
    pub(super) fn configure(&mut self, destinations: &BTreeMap<Name, Rules>, steps_out: BTreeMap<Name, u32>) {
        for (name, queue) in &mut self.queues {
            queue.condemned = !destinations.contains_key(name);
        }
        for (name, rules) in destinations {
            self.queues.entry(name.clone()).or_insert_with(|| Queue::new(*rules)).rules = *rules;
        }
        self.queues.retain(|_, queue| !queue.condemned || !queue.is_empty());
        if self.steps_out != steps_out {
            self.steps_out = steps_out;
            for queue in self.queues.values_mut() {
                queue.judge_lanes(|delivery| steps_out_of(&self.steps_out, delivery));
            }
        }
    }

    /// Holds a delivery. `false`: there is no room for it; it must be read again later.
    pub(super) fn insert(&mut self, delivery: PendingDelivery, due: Moment, unknown: Rules) -> bool {
        let out = steps_out_of(&self.steps_out, &delivery);
        let queue = self.queues.entry(delivery.destination.clone()).or_insert_with(|| Queue::condemned(unknown));
        queue.has_room(delivery.kind) && {
            queue.insert(delivery, due, out);
            true
        }
    }

    /// Whether so much room has come up that reading more for this destination is worth a page.
    pub(super) fn is_hungry(&self, destination: &Name, kind: DeliveryKind) -> bool {
        self.queues.get(destination).is_none_or(|queue| queue.is_hungry(kind))
    }

    /// The next delivery that may start, now under way. `admit` is asked last, with its rate in mind: it takes
    /// one, or says how long the destination has to wait.
    pub(super) fn next(&mut self, now: Moment, mut admit: impl FnMut(&PendingDelivery) -> Result<(), Duration>) -> Option<PendingDelivery> {
        let after = self.last.clone().map_or(Bound::Unbounded, Bound::Excluded);
        let until = self.last.clone().map_or(Bound::Excluded(Name::from("")), Bound::Included);
        let mut start = |(_, queue): (&Name, &mut Queue)| match admit(queue.startable(now)?) {
            Ok(()) => queue.start(now),
            Err(wait) => {
                queue.held_back_until(now.after(wait));
                None
            }
        };
        let mut started = self.queues.range_mut((after, Bound::Unbounded)).find_map(&mut start);
        if started.is_none() {
            started = self.queues.range_mut((Bound::Unbounded, until)).find_map(&mut start);
        }
        self.last = started.as_ref().map(|delivery| delivery.destination.clone()).or(self.last.take());
        started
    }

    /// How many deliveries that came before this one in its lane still wait, because they stepped out of it.
    pub(super) fn overtaken_by(&self, delivery: &PendingDelivery) -> usize {
        self.queues.get(&delivery.destination).map_or(0, |queue| queue.overtaken_by(delivery))
    }

    /// The attempt is over; its slot is free. The delivery stays held until [`Scheduler::settled`].
    pub(super) fn answered(&mut self, destination: &Name, position: u64, health: Health, now: Moment) {
        if let Some(queue) = self.queues.get_mut(destination) {
            queue.answered(position, health, now);
        }
    }

    /// What became of it is durable.
    pub(super) fn settled(&mut self, destination: &Name, position: u64, next: Next) {
        let Some(queue) = self.queues.get_mut(destination) else { return };
        let out = matches!(&next, Next::Again(delivery, _) if steps_out_of(&self.steps_out, delivery));
        queue.settled(position, next, out);
        if queue.condemned && queue.is_empty() {
            self.queues.remove(destination);
        }
    }

    /// Lets go of a waiting delivery that has ended by other hands.
    pub(super) fn forget(&mut self, id: DeliveryId) {
        self.queues.values_mut().any(|queue| queue.forget(id));
    }

    /// Up to `most` waiting deliveries whose destination is no longer configured, now being settled.
    pub(super) fn take_condemned(&mut self, most: usize) -> Vec<PendingDelivery> {
        let mut taken = Vec::new();
        for queue in self.queues.values_mut().filter(|queue| queue.condemned) {
            let room = most - taken.len();
            taken.append(&mut queue.take_waiting(room));
        }
        taken
    }

    /// Starts nothing at a destination before this moment; attempts under way go on.
    pub(super) fn hold(&mut self, destination: &Name, until: Moment) {
        if let Some(queue) = self.queues.get_mut(destination) {
            queue.held_back_until(until);
        }
    }

    /// Stops or resumes a destination; attempts under way go on.
    pub(super) fn set_paused(&mut self, destination: &Name, paused: bool) {
        if let Some(queue) = self.queues.get_mut(destination) {
            queue.paused = paused;
        }
    }

    /// When to ask [`Scheduler::next`] again, if nothing else happens before.
    pub(super) fn wake_at(&self) -> Option<Moment> {
        self.queues.values().filter_map(Queue::wake_at).min()
    }

    /// From when on a delivery that is new could start at one of the destinations; none while only an end, a resume or a
    /// reload can change that.
    pub(super) fn free_at(&self) -> Option<Moment> {
        self.queues.values().filter_map(Queue::free_at).min()
    }

    /// How a destination stands.
    pub(super) fn standing(&self, destination: &Name) -> Standing {
        self.queues.get(destination).map(Queue::standing).unwrap_or_default()
    }

    /// How many deliveries are held.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.queues.values().map(Queue::held).sum()
    }
}

/// Whether the delivery has failed so often that its lane goes on without it.
fn steps_out_of(steps_out: &BTreeMap<Name, u32>, delivery: &PendingDelivery) -> bool {
    steps_out.get(&delivery.route).is_some_and(|after| delivery.attempts >= *after)
}
