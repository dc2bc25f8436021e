//! The queue of one destination: what waits, what is under way, and its lanes.

use std::collections::{BTreeMap, BTreeSet};

use super::{Next, Rules, Standing, UNSETTLED_MAX};
use crate::model::{DeliveryId, Lane};
use crate::relay::breaker::{Breaker, Health};
use crate::relay::moment::Moment;
use crate::store::PendingDelivery;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Waiting,
    InFlight,
    /// The attempt is over, or none is made; the settlement is being committed.
    Unsettled,
}

#[derive(Debug)]
struct Held {
    delivery: PendingDelivery,
    due: Moment,
    phase: Phase,
}

/// Deliveries that go one after the other.
#[derive(Debug, Default)]
struct Members {
    positions: BTreeSet<u64>,
    /// Those of them that do not wait.
    busy: usize,
    /// The one that stands in `Queue::ready` for the lane.
    offered: Option<u64>,
}

/// One destination's queue, by position.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) rules: Rules,
    /// The destination is not configured: nothing starts.
    pub(super) condemned: bool,
    pub(super) paused: bool,
    breaker: Breaker,
    /// The rate allows nothing before this.
    rate_until: Moment,
    held: BTreeMap<u64, Held>,
    /// What waits and is not behind another of its lane, by due time.
    ready: BTreeSet<(Moment, u64)>,
    lanes: BTreeMap<Lane, Members>,
    in_flight: usize,
    unsettled: usize,
}

impl Queue {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules,
            condemned: false,
            paused: false,
            breaker: Breaker::default(),
            rate_until: Moment::default(),
            held: BTreeMap::new(),
            ready: BTreeSet::new(),
            lanes: BTreeMap::new(),
            in_flight: 0,
            unsettled: 0,
        }
    }

    /// The queue of a destination that is not configured.
    pub(super) fn condemned(rules: Rules) -> Self {
        Self { condemned: true, ..Self::new(rules) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    pub(super) fn has_room(&self) -> bool {
        self.held.len() < self.rules.held_max
    }

    pub(super) fn is_hungry(&self) -> bool {
        self.held.len() <= self.rules.held_max / 2
    }

    pub(super) fn standing(&self) -> Standing {
        Standing { in_flight: self.in_flight, breaker: self.breaker }
    }

    pub(super) fn insert(&mut self, delivery: PendingDelivery, due: Moment) {
        let (position, lane) = (delivery.position, delivery.lane);
        if let Some(lane) = lane {
            self.lanes.entry(lane).or_default().positions.insert(position);
        }
        self.held.insert(position, Held { delivery, due, phase: Phase::Waiting });
        self.offer(position, lane);
    }

    /// Puts what may go next into `ready`: the delivery itself, or its lane's first.
    fn offer(&mut self, position: u64, lane: Option<Lane>) {
        let Some(lane) = lane else {
            if let Some(held) = self.held.get(&position).filter(|held| held.phase == Phase::Waiting) {
                self.ready.insert((held.due, position));
            }
            return;
        };
        let Some(members) = self.lanes.get_mut(&lane) else { return };
        if let Some(held) = members.offered.take().and_then(|position| self.held.get(&position)) {
            self.ready.remove(&(held.due, held.delivery.position));
        }
        let first = members.positions.first().and_then(|first| self.held.get(first));
        if let Some(first) = first.filter(|_| members.busy == 0) {
            members.offered = Some(first.delivery.position);
            self.ready.insert((first.due, first.delivery.position));
        }
        if members.positions.is_empty() {
            self.lanes.remove(&lane);
        }
    }

    /// The earliest moment at which something could start, apart from its due time.
    fn free_at(&self) -> Option<Moment> {
        let full = self.in_flight >= self.rules.concurrency.max(1) || self.unsettled >= UNSETTLED_MAX;
        if self.condemned || self.paused || full {
            return None;
        }
        self.breaker.opens_at().map(|opens| opens.max(self.rate_until))
    }

    pub(super) fn wake_at(&self) -> Option<Moment> {
        let (due, _) = self.ready.first()?;
        self.free_at().map(|free| free.max(*due))
    }

    /// The position that may start now.
    pub(super) fn startable(&self, now: Moment) -> Option<u64> {
        let (due, position) = *self.ready.first()?;
        self.free_at().filter(|free| now >= *free && now >= due).map(|_| position)
    }

    pub(super) fn held_back_until(&mut self, moment: Moment) {
        self.rate_until = moment;
    }

    pub(super) fn start(&mut self, now: Moment) -> Option<PendingDelivery> {
        let position = self.startable(now)?;
        self.breaker.started();
        self.in_flight += 1;
        self.occupy(position, Phase::InFlight)
    }

    /// Takes a waiting delivery out of the line.
    fn occupy(&mut self, position: u64, phase: Phase) -> Option<PendingDelivery> {
        let held = self.held.get_mut(&position)?;
        held.phase = phase;
        self.unsettled += 1;
        let (due, delivery) = (held.due, held.delivery.clone());
        self.ready.remove(&(due, position));
        if let Some(members) = delivery.lane.and_then(|lane| self.lanes.get_mut(&lane)) {
            members.busy += 1;
        }
        self.offer(position, delivery.lane);
        Some(delivery)
    }

    pub(super) fn take_waiting(&mut self, most: usize) -> Vec<PendingDelivery> {
        let waiting = self.held.iter().filter(|(_, held)| held.phase == Phase::Waiting);
        let positions: Vec<u64> = waiting.map(|(position, _)| *position).take(most).collect();
        positions.into_iter().filter_map(|position| self.occupy(position, Phase::Unsettled)).collect()
    }

    /// Lets go of a waiting delivery; one that is under way stays until its settlement says that it is stale.
    pub(super) fn forget(&mut self, id: DeliveryId) -> bool {
        let waiting = self.held.iter().find(|(_, held)| held.delivery.id == id && held.phase == Phase::Waiting);
        let Some(position) = waiting.map(|(position, _)| *position) else { return false };
        self.occupy(position, Phase::Unsettled);
        self.settled(position, Next::Forget);
        true
    }

    pub(super) fn answered(&mut self, position: u64, health: Health, now: Moment) {
        let Some(held) = self.held.get_mut(&position).filter(|held| held.phase == Phase::InFlight) else { return };
        held.phase = Phase::Unsettled;
        self.in_flight -= 1;
        self.breaker.ended(health, now, self.rules.breaker);
    }

    pub(super) fn settled(&mut self, position: u64, next: Next) {
        let Some(held) = self.held.get_mut(&position).filter(|held| held.phase == Phase::Unsettled) else { return };
        let lane = held.delivery.lane;
        self.unsettled -= 1;
        let members = lane.and_then(|lane| self.lanes.get_mut(&lane));
        match next {
            Next::Again(delivery, due) => {
                *held = Held { delivery, due, phase: Phase::Waiting };
                if let Some(members) = members {
                    members.busy -= 1;
                }
            }
            Next::Forget => {
                self.held.remove(&position);
                if let Some(members) = members {
                    members.busy -= 1;
                    members.positions.remove(&position);
                }
            }
        }
        self.offer(position, lane);
    }
}
