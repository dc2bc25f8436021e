//! The queue of one destination: what waits, what is under way, and its lanes.

use std::collections::BTreeMap;

use super::lane::Members;
use super::ready::{Place, Ready};
use super::{IN_FLIGHT_BYTES_MAX, Next, Rules, Standing, UNSETTLED_MAX};
use crate::model::{DeliveryId, DeliveryKind, Lane};
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
    /// It failed so often that it stepped out of its lane's line.
    out: bool,
}

impl Held {
    fn place(&self) -> Place {
        (self.due, self.delivery.position)
    }
}

/// Of a destination's concurrency, replays use at most one part in so many, so that a live delivery always
/// finds a slot that a mass replay has not taken.
const REPLAY_SHARE: usize = 2;

/// One destination's queue, by position.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) rules: Rules,
    /// The destination is not configured: nothing starts.
    pub(super) condemned: bool,
    pub(super) paused: bool,
    breaker: Breaker,
    /// Its rate, or the destination itself, allows nothing before this.
    rate_until: Moment,
    held: BTreeMap<u64, Held>,
    replays_held: usize,
    ready: Ready,
    lanes: BTreeMap<Lane, Members>,
    in_flight: usize,
    /// What those in flight hold in memory.
    in_flight_bytes: u64,
    /// How many of those in flight are replays.
    replays_in_flight: usize,
    /// Attempts that are over, or were not made, and whose settlement is being committed.
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
            replays_held: 0,
            ready: Ready::default(),
            lanes: BTreeMap::new(),
            in_flight: 0,
            in_flight_bytes: 0,
            replays_in_flight: 0,
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

    /// How many of a kind are held.
    fn held_of(&self, kind: DeliveryKind) -> usize {
        match kind {
            DeliveryKind::Original | DeliveryKind::Acknowledgement => self.held.len() - self.replays_held,
            DeliveryKind::Replay => self.replays_held,
        }
    }

    pub(super) fn has_room(&self, kind: DeliveryKind) -> bool {
        self.held_of(kind) < self.rules.held_max
    }

    pub(super) fn is_hungry(&self, kind: DeliveryKind) -> bool {
        self.held_of(kind) <= self.rules.held_max / 2
    }

    pub(super) fn standing(&self) -> Standing {
        Standing { in_flight: self.in_flight, breaker: self.breaker }
    }

    pub(super) fn insert(&mut self, delivery: PendingDelivery, due: Moment, out: bool) {
        let (position, lane) = (delivery.position, delivery.lane);
        self.replays_held += usize::from(delivery.kind == DeliveryKind::Replay);
        if let Some(lane) = lane {
            self.lanes.entry(lane).or_default().wait((due, position), out);
        }
        self.held.insert(position, Held { delivery, due, phase: Phase::Waiting, out });
        self.offer(position, lane);
    }

    /// Decides anew who has stepped out of its lane.
    pub(super) fn judge_lanes(&mut self, steps_out: impl Fn(&PendingDelivery) -> bool) {
        let Self { held, lanes, .. } = self;
        for held in held.values_mut() {
            held.out = steps_out(&held.delivery);
            let members = held.delivery.lane.and_then(|lane| lanes.get_mut(&lane));
            if let Some(members) = members.filter(|_| held.phase == Phase::Waiting) {
                members.wait(held.place(), held.out);
            }
        }
        let lanes: Vec<Lane> = self.lanes.keys().copied().collect();
        for lane in lanes {
            self.offer_of(lane);
        }
    }

    /// Puts what may go next into `ready`: the delivery itself, or one of its lane.
    fn offer(&mut self, position: u64, lane: Option<Lane>) {
        if let Some(lane) = lane {
            self.offer_of(lane);
        } else if let Some(held) = self.held.get(&position).filter(|held| held.phase == Phase::Waiting) {
            self.ready.insert(held.delivery.kind, held.place());
        }
    }

    fn offer_of(&mut self, lane: Lane) {
        let Some(members) = self.lanes.get_mut(&lane) else { return };
        if let Some(held) = members.offered.take().and_then(|position| self.held.get(&position)) {
            self.ready.remove(held.delivery.kind, held.place());
        }
        let (first, out) = members.candidates();
        let first = first.and_then(|first| self.held.get(&first));
        let out = out.and_then(|(_, position)| self.held.get(&position));
        if let Some(next) = first.into_iter().chain(out).min_by_key(|held| held.place()) {
            members.offered = Some(next.delivery.position);
            self.ready.insert(next.delivery.kind, next.place());
        }
        if members.is_empty() {
            self.lanes.remove(&lane);
        }
    }

    /// How many deliveries that came before this one in its lane still wait.
    pub(super) fn overtaken_by(&self, delivery: &PendingDelivery) -> usize {
        delivery.lane.and_then(|lane| self.lanes.get(&lane)).map_or(0, |members| members.overtaken_by(delivery.position))
    }

    fn replays_may(&self) -> bool {
        self.replays_in_flight < (self.rules.concurrency / REPLAY_SHARE).max(1)
    }

    /// The earliest moment at which something could start, apart from its due time.
    pub(super) fn free_at(&self) -> Option<Moment> {
        let is_full = self.in_flight >= self.rules.concurrency.max(1)
            || self.in_flight_bytes >= IN_FLIGHT_BYTES_MAX
            || self.unsettled >= UNSETTLED_MAX;
        if self.condemned || self.paused || is_full {
            return None;
        }
        self.breaker.opens_at().map(|opens| opens.max(self.rate_until))
    }

    pub(super) fn wake_at(&self) -> Option<Moment> {
        let (due, _) = self.ready.first(self.replays_may())?;
        self.free_at().map(|free| free.max(due))
    }

    /// What may start now.
    pub(super) fn startable(&self, now: Moment) -> Option<&PendingDelivery> {
        self.free_at().filter(|free| now >= *free)?;
        let (_, position) = self.ready.pick(now, self.replays_may())?;
        self.held.get(&position).map(|held| &held.delivery)
    }

    /// Of two who say when, the later one is right: its rate must not shorten what the destination itself asked for.
    pub(super) fn held_back_until(&mut self, moment: Moment) {
        self.rate_until = self.rate_until.max(moment);
    }

    pub(super) fn start(&mut self, now: Moment) -> Option<PendingDelivery> {
        let position = self.startable(now)?.position;
        let started = self.occupy(position, Phase::InFlight)?;
        self.breaker.started();
        self.ready.starts(started.kind);
        self.in_flight += 1;
        self.in_flight_bytes += started.bytes;
        self.replays_in_flight += usize::from(started.kind == DeliveryKind::Replay);
        Some(started)
    }

    /// Takes a waiting delivery out of the line.
    fn occupy(&mut self, position: u64, phase: Phase) -> Option<PendingDelivery> {
        let held = self.held.get_mut(&position)?;
        held.phase = phase;
        self.unsettled += usize::from(phase == Phase::Unsettled);
        let (place, delivery) = (held.place(), held.delivery.clone());
        self.ready.remove(delivery.kind, place);
        if let Some(members) = delivery.lane.and_then(|lane| self.lanes.get_mut(&lane)) {
            members.take(place);
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
        self.settled(position, Next::Forget, false);
        true
    }

    pub(super) fn answered(&mut self, position: u64, health: Health, now: Moment) {
        let Some(held) = self.held.get_mut(&position).filter(|held| held.phase == Phase::InFlight) else { return };
        held.phase = Phase::Unsettled;
        self.unsettled += 1;
        self.in_flight -= 1;
        self.in_flight_bytes -= held.delivery.bytes;
        self.replays_in_flight -= usize::from(held.delivery.kind == DeliveryKind::Replay);
        self.breaker.ended(health, now, self.rules.breaker);
    }

    /// What became of it is durable. `out`: should it wait again, it does so out of its lane's line.
    pub(super) fn settled(&mut self, position: u64, next: Next, out: bool) {
        let Some(held) = self.held.get_mut(&position).filter(|held| held.phase == Phase::Unsettled) else { return };
        let lane = held.delivery.lane;
        self.unsettled -= 1;
        let mut members = lane.and_then(|lane| self.lanes.get_mut(&lane));
        if let Some(members) = &mut members {
            members.busy -= 1;
        }
        match next {
            Next::Again(delivery, due) => {
                *held = Held { delivery, due, phase: Phase::Waiting, out };
                if let Some(members) = members {
                    members.wait((due, position), out);
                }
            }
            Next::Forget => {
                self.replays_held -= usize::from(held.delivery.kind == DeliveryKind::Replay);
                self.held.remove(&position);
                if let Some(members) = members {
                    members.leave(position);
                }
            }
        }
        self.offer(position, lane);
    }
}
