use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::model::{DeliveryId, DeliveryKind, EventId, Lane, Timestamp};

const DESTINATIONS: [&str; 3] = ["a", "b", "c"];

/// Routes, and after how many failed attempts their deliveries step out of their lanes.
const ROUTES: [(&str, Option<u32>); 3] = [("blocks", None), ("skips", Some(1)), ("parks", Some(3))];

fn rules(concurrency: usize) -> Rules {
    Rules { concurrency, breaker: config::Breaker { failures: 3, cool_down: Duration::from_secs(30) }, held_max: 10_000 }
}

fn at(seconds: u64) -> Moment {
    Moment::at(Duration::from_secs(seconds))
}

fn delivery(position: u64, destination: &str, lane: Option<u64>) -> PendingDelivery {
    PendingDelivery {
        position,
        id: DeliveryId::new(EventId::from_bits(u128::from(position)), 0),
        route: "r".into(),
        destination: destination.into(),
        lane: lane.map(Lane),
        kind: DeliveryKind::Original,
        created_at: Timestamp::default(),
        due: Timestamp::default(),
        attempts: 0,
        version: 0,
        bytes: 1024,
    }
}

fn replay(position: u64) -> PendingDelivery {
    PendingDelivery { kind: DeliveryKind::Replay, ..delivery(position, "a", None) }
}

fn scheduler(destinations: &[(&str, usize)]) -> Scheduler {
    let mut scheduler = Scheduler::default();
    let destinations = destinations.iter().map(|(name, concurrency)| (Name::from(*name), rules(*concurrency))).collect();
    scheduler.configure(&destinations, BTreeMap::from([("skips".into(), 1), ("parks".into(), 3)]));
    scheduler
}

fn start(scheduler: &mut Scheduler, now: Moment) -> Vec<u64> {
    std::iter::from_fn(|| scheduler.next(now, |_| Ok(()))).map(|delivery| delivery.position).collect()
}

#[derive(Debug, Clone)]
enum Step {
    Insert { destination: usize, lane: Option<u64>, route: usize, replay: bool, due_in: u64 },
    Start,
    Pass { seconds: u64 },
    End { which: usize, health: Health },
    Settle { which: usize, again_in: Option<u64> },
    Pause { destination: usize, paused: bool },
}

fn step() -> impl Strategy<Value = Step> {
    let health = prop_oneof![Just(Health::Alive), Just(Health::Failing), Just(Health::Unclear)];
    prop_oneof![
        4 => (0..3_usize, prop::option::of(0..3_u64), 0..3_usize, any::<bool>(), 0..20_u64)
            .prop_map(|(destination, lane, route, replay, due_in)| Step::Insert { destination, lane, route, replay, due_in }),
        4 => Just(Step::Start),
        2 => (0..40_u64).prop_map(|seconds| Step::Pass { seconds }),
        4 => (any::<usize>(), health).prop_map(|(which, health)| Step::End { which, health }),
        4 => (any::<usize>(), prop::option::of(0..60_u64)).prop_map(|(which, again_in)| Step::Settle { which, again_in }),
        1 => (0..3_usize, any::<bool>()).prop_map(|(destination, paused)| Step::Pause { destination, paused }),
    ]
}

/// What the scheduler was promised to do, kept in the plainest way.
#[derive(Default)]
struct World {
    scheduler: Scheduler,
    now: u64,
    positions: u64,
    waiting: BTreeMap<u64, (PendingDelivery, u64)>,
    in_flight: Vec<PendingDelivery>,
    unsettled: Vec<PendingDelivery>,
    paused: BTreeMap<Name, bool>,
}

impl World {
    fn take(&mut self, step: Step) {
        match step {
            Step::Insert { destination, lane, route, replay, due_in } => {
                self.positions += 1;
                // Lanes of different routes are different lanes, whatever their texts.
                let lane = lane.map(|lane| lane + 10 * route as u64);
                let delivery = PendingDelivery {
                    route: ROUTES[route].0.into(),
                    kind: if replay { DeliveryKind::Replay } else { DeliveryKind::Original },
                    ..delivery(self.positions, DESTINATIONS[destination], lane)
                };
                assert!(self.scheduler.insert(delivery.clone(), at(self.now + due_in), rules(1)));
                self.waiting.insert(self.positions, (delivery, self.now + due_in));
            }
            Step::Start => {
                while let Some(started) = self.scheduler.next(at(self.now), |_| Ok(())) {
                    self.started(started);
                }
            }
            Step::Pass { seconds } => self.now += seconds,
            Step::End { which, health } if !self.in_flight.is_empty() => {
                let ended = self.in_flight.remove(which % self.in_flight.len());
                self.scheduler.answered(&ended.destination, ended.position, health, at(self.now));
                self.unsettled.push(ended);
            }
            Step::Settle { which, again_in } if !self.unsettled.is_empty() => {
                let settled = self.unsettled.remove(which % self.unsettled.len());
                let due = again_in.map(|seconds| self.now + seconds);
                let settled = PendingDelivery { attempts: settled.attempts + 1, ..settled };
                let next = due.map_or(Next::Forget, |due| Next::Again(settled.clone(), at(due)));
                self.scheduler.settled(&settled.destination, settled.position, next);
                if let Some(due) = due {
                    self.waiting.insert(settled.position, (settled, due));
                }
            }
            Step::Pause { destination, paused } => {
                self.scheduler.set_paused(&DESTINATIONS[destination].into(), paused);
                self.paused.insert(DESTINATIONS[destination].into(), paused);
            }
            Step::End { .. } | Step::Settle { .. } => {}
        }
    }

    fn started(&mut self, started: PendingDelivery) {
        let (expected, due) = self.waiting.remove(&started.position).expect("only what waits is started");
        assert_eq!(expected.id, started.id);
        assert!(due <= self.now, "started before it is due");
        assert!(!self.paused.get(&started.destination).copied().unwrap_or_default(), "started in a pause");
        let same_lane = |other: &PendingDelivery| other.destination == started.destination && other.lane == started.lane;
        if started.lane.is_some() {
            assert!(!self.in_flight.iter().chain(&self.unsettled).any(same_lane), "two of a lane");
            let out = |delivery: &PendingDelivery| {
                let after = ROUTES.iter().find(|(name, _)| **name == *delivery.route).and_then(|(_, after)| *after);
                after.is_some_and(|after| delivery.attempts >= after)
            };
            let mut before = self.waiting.range(..started.position).filter(|(_, (other, _))| same_lane(other));
            assert!(out(&started) || before.all(|(_, (other, _))| out(other)), "a lane out of order");
        }
        self.in_flight.push(started.clone());
        let busy = self.in_flight.iter().filter(|other| other.destination == started.destination).count();
        assert!(busy <= concurrency(&started.destination), "more in flight than allowed");
        let replays = |other: &&PendingDelivery| other.destination == started.destination && other.kind == DeliveryKind::Replay;
        let replays = self.in_flight.iter().filter(replays).count();
        assert!(replays <= (concurrency(&started.destination) / 2).max(1), "more replays in flight than their share");
        assert_eq!(self.scheduler.standing(&started.destination).in_flight, busy);
    }
}

fn concurrency(destination: &str) -> usize {
    DESTINATIONS.iter().position(|name| *name == destination).unwrap() + 1
}

proptest! {
    #[test]
    fn every_promise_holds_and_everything_goes_once_faults_stop(steps in vec(step(), 0..200)) {
        let mut world = World { scheduler: scheduler(&[("a", 1), ("b", 2), ("c", 3)]), ..World::default() };
        for step in steps {
            world.take(step);
        }
        for destination in 0..DESTINATIONS.len() {
            world.take(Step::Pause { destination, paused: false });
        }
        let mut rounds = 0;
        while world.scheduler.held() > 0 {
            while !world.in_flight.is_empty() {
                world.take(Step::End { which: 0, health: Health::Alive });
            }
            while !world.unsettled.is_empty() {
                world.take(Step::Settle { which: 0, again_in: None });
            }
            if let Some(wake) = world.scheduler.wake_at() {
                world.now = world.now.max(wake.since(Moment::default()).as_secs());
            }
            world.take(Step::Start);
            rounds += 1;
            prop_assert!(rounds <= 400, "it does not end: {:?}", world.scheduler);
        }
    }
}

#[test]
fn destinations_take_turns() {
    let mut scheduler = scheduler(&[("a", 100), ("b", 100), ("c", 100)]);
    for position in 0..6 {
        scheduler.insert(delivery(position, "a", None), at(0), rules(1));
    }
    scheduler.insert(delivery(6, "b", None), at(1), rules(1));
    scheduler.insert(delivery(7, "c", None), at(1), rules(1));
    assert_eq!(start(&mut scheduler, at(1)), [0, 6, 7, 1, 2, 3, 4, 5]);
}

#[test]
fn what_a_destination_holds_in_memory_is_bounded_by_bytes_too() {
    let mut scheduler = scheduler(&[("a", 1000), ("b", 1)]);
    let large = |position, destination| PendingDelivery { bytes: 10 << 20, ..delivery(position, destination, None) };
    for position in 1..=20 {
        scheduler.insert(large(position, "a"), at(0), rules(1));
    }
    scheduler.insert(PendingDelivery { bytes: IN_FLIGHT_BYTES_MAX * 2, ..large(21, "b") }, at(0), rules(1));
    let started = start(&mut scheduler, at(0));
    assert_eq!(started, [1, 21, 2, 3, 4, 5, 6, 7], "an event that is larger than all of it goes too, alone");
    assert_eq!(scheduler.wake_at(), None, "nothing to wake up for until one of them ends");
    scheduler.answered(&"a".into(), 3, Health::Alive, at(0));
    assert_eq!(start(&mut scheduler, at(0)), [8], "it is over, whether settled or not");
}

#[test]
fn a_concurrency_beyond_what_may_be_unsettled_is_reached() {
    let concurrency = UNSETTLED_MAX * 2;
    let mut scheduler = scheduler(&[("a", concurrency)]);
    for position in 1..=4 * UNSETTLED_MAX as u64 {
        scheduler.insert(delivery(position, "a", None), at(0), rules(1));
    }
    assert_eq!(start(&mut scheduler, at(0)).len(), concurrency);
    for position in 1..=UNSETTLED_MAX as u64 {
        scheduler.answered(&"a".into(), position, Health::Alive, at(0));
    }
    assert_eq!(start(&mut scheduler, at(0)), [] as [u64; 0], "a store that can't settle stops the deliveries");
    scheduler.settled(&"a".into(), 1, Next::Forget);
    assert_eq!(start(&mut scheduler, at(0)).len(), UNSETTLED_MAX);
}

#[test]
fn a_rate_holds_back_its_own_destination_only() {
    let mut scheduler = scheduler(&[("a", 9), ("b", 9)]);
    scheduler.insert(delivery(1, "a", None), at(0), rules(1));
    scheduler.insert(delivery(2, "b", None), at(0), rules(1));
    let admit = |pending: &PendingDelivery| if *pending.destination == *"a" { Err(Duration::from_secs(5)) } else { Ok(()) };
    assert_eq!(scheduler.next(at(0), admit).unwrap().position, 2);
    assert!(scheduler.next(at(0), admit).is_none());
    assert_eq!(scheduler.wake_at(), Some(at(5)));
    assert_eq!(start(&mut scheduler, at(5)), [1]);
}

#[test]
fn a_rate_does_not_shorten_what_a_destination_asked_for() {
    let mut scheduler = scheduler(&[("a", 9)]);
    scheduler.insert(delivery(1, "a", None), at(0), rules(1));
    scheduler.hold(&"a".into(), at(60));
    scheduler.hold(&"a".into(), at(1));
    assert_eq!((scheduler.wake_at(), start(&mut scheduler, at(59))), (Some(at(60)), vec![]));
    assert_eq!(start(&mut scheduler, at(60)), [1]);
}

#[test]
fn an_open_breaker_lets_one_probe_through() {
    let mut scheduler = scheduler(&[("a", 9)]);
    for position in 0..10 {
        scheduler.insert(delivery(position, "a", None), at(0), rules(1));
    }
    for position in start(&mut scheduler, at(0)) {
        scheduler.answered(&"a".into(), position, Health::Failing, at(0));
        scheduler.settled(&"a".into(), position, Next::Again(delivery(position, "a", None), at(1)));
    }
    assert_eq!(start(&mut scheduler, at(29)), [0; 0]);
    assert_eq!(scheduler.wake_at(), Some(at(30)));
    assert_eq!(start(&mut scheduler, at(30)), [9]);
    assert_eq!(scheduler.wake_at(), None, "the probe's end wakes it");
    scheduler.answered(&"a".into(), 9, Health::Alive, at(31));
    assert_eq!(start(&mut scheduler, at(31)).len(), 9);
}

#[test]
fn attempts_do_not_run_ahead_of_what_is_settled() {
    let mut scheduler = scheduler(&[("a", 1)]);
    for position in 0..UNSETTLED_MAX as u64 + 5 {
        scheduler.insert(delivery(position, "a", None), at(0), rules(1));
    }
    let mut answered = Vec::new();
    while let Some(started) = scheduler.next(at(0), |_| Ok(())) {
        scheduler.answered(&started.destination, started.position, Health::Alive, at(0));
        answered.push(started.position);
    }
    assert_eq!(answered.len(), UNSETTLED_MAX);
    scheduler.settled(&"a".into(), answered[0], Next::Forget);
    assert_eq!(start(&mut scheduler, at(0)).len(), 1);
}

#[test]
fn a_removed_destination_is_condemned_and_a_returning_one_goes_on() {
    let mut scheduler = scheduler(&[("a", 1)]);
    for position in 0..5 {
        scheduler.insert(delivery(position, "a", Some(1)), at(0), rules(1));
    }
    assert_eq!(start(&mut scheduler, at(0)), [0]);
    scheduler.configure(&BTreeMap::new(), BTreeMap::new());
    let taken: Vec<u64> = scheduler.take_condemned(2).iter().map(|delivery| delivery.position).collect();
    assert_eq!(taken, [1, 2]);
    scheduler.configure(&BTreeMap::from([("a".into(), rules(9))]), BTreeMap::new());
    assert_eq!(start(&mut scheduler, at(0)), [0; 0], "the lane is busy with what is being settled");
    for position in [1, 2] {
        scheduler.settled(&"a".into(), position, Next::Forget);
    }
    scheduler.answered(&"a".into(), 0, Health::Alive, at(0));
    assert_eq!(start(&mut scheduler, at(0)), [0; 0], "the first is not settled");
    scheduler.settled(&"a".into(), 0, Next::Forget);
    assert_eq!(start(&mut scheduler, at(0)), [3]);
}

#[test]
fn what_has_no_room_is_not_held() {
    let mut scheduler = Scheduler::default();
    scheduler.configure(&BTreeMap::from([("a".into(), Rules { held_max: 4, ..rules(1) })]), BTreeMap::new());
    let held = (0..6).filter(|position| scheduler.insert(delivery(*position, "a", None), at(0), rules(1))).count();
    assert_eq!(held, 4);
    assert!(!scheduler.is_hungry(&"a".into(), DeliveryKind::Original));
    assert!(scheduler.is_hungry(&"a".into(), DeliveryKind::Replay), "replays have room of their own");
    assert!(scheduler.insert(replay(9), at(99), rules(1)));
    for _ in 0..2 {
        let position = start(&mut scheduler, at(0))[0];
        scheduler.answered(&"a".into(), position, Health::Alive, at(0));
        scheduler.settled(&"a".into(), position, Next::Forget);
    }
    assert!(scheduler.is_hungry(&"a".into(), DeliveryKind::Original));
}

/// Ends an attempt with a failure; it is due again at this time.
fn fail(scheduler: &mut Scheduler, failed: PendingDelivery, due: u64) {
    scheduler.answered(&failed.destination, failed.position, Health::Alive, at(0));
    let (destination, position) = (failed.destination.clone(), failed.position);
    scheduler.settled(&destination, position, Next::Again(PendingDelivery { attempts: failed.attempts + 1, ..failed }, at(due)));
}

#[test]
fn a_parked_delivery_lets_its_lane_go_on_and_says_so() {
    let mut scheduler = scheduler(&[("a", 9)]);
    for position in 1..=3 {
        scheduler.insert(PendingDelivery { route: "parks".into(), ..delivery(position, "a", Some(7)) }, at(0), rules(1));
    }
    for attempt in 1..=3 {
        let first = scheduler.next(at(100), |_| Ok(())).unwrap();
        assert_eq!((first.position, scheduler.overtaken_by(&first)), (1, 0), "attempt {attempt} holds the lane up");
        assert!(scheduler.next(at(100), |_| Ok(())).is_none());
        fail(&mut scheduler, first, if attempt < 3 { 100 } else { 200 });
    }
    let second = scheduler.next(at(100), |_| Ok(())).unwrap();
    assert_eq!((second.position, scheduler.overtaken_by(&second)), (2, 1));
    assert!(scheduler.next(at(300), |_| Ok(())).is_none(), "one of a lane at a time, parked ones too");
    scheduler.answered(&"a".into(), 2, Health::Alive, at(100));
    scheduler.settled(&"a".into(), 2, Next::Forget);
    assert_eq!(start(&mut scheduler, at(300)), [3], "by due time once it is out");
    scheduler.answered(&"a".into(), 3, Health::Alive, at(300));
    scheduler.settled(&"a".into(), 3, Next::Forget);
    assert_eq!(start(&mut scheduler, at(300)), [1]);
}

#[test]
fn a_reload_that_takes_parking_back_restores_the_order() {
    let mut scheduler = scheduler(&[("a", 9)]);
    for position in 1..=2 {
        scheduler.insert(PendingDelivery { route: "skips".into(), ..delivery(position, "a", Some(7)) }, at(0), rules(1));
    }
    let first = scheduler.next(at(0), |_| Ok(())).unwrap();
    fail(&mut scheduler, first, 50);
    scheduler.configure(&BTreeMap::from([("a".into(), rules(9))]), BTreeMap::new());
    assert_eq!(start(&mut scheduler, at(0)), [0; 0]);
    assert_eq!(start(&mut scheduler, at(50)), [1]);
}

#[test]
fn live_deliveries_and_replays_take_turns_and_live_ones_always_have_a_slot() {
    let mut scheduler = scheduler(&[("a", 4)]);
    for position in 1..=20 {
        scheduler.insert(replay(position), at(0), rules(1));
    }
    assert_eq!(start(&mut scheduler, at(0)), [1, 2], "half of the slots");
    scheduler.insert(delivery(100, "a", None), at(9), rules(1));
    assert_eq!(start(&mut scheduler, at(9)), [100]);
    for position in 101..=110 {
        scheduler.insert(delivery(position, "a", None), at(9), rules(1));
    }
    let mut order = start(&mut scheduler, at(9));
    for _ in 0..6 {
        let oldest = if order.len() == 1 { 1 } else { order[order.len() - 2] };
        scheduler.answered(&"a".into(), oldest, Health::Alive, at(9));
        scheduler.settled(&"a".into(), oldest, Next::Forget);
        order.extend(start(&mut scheduler, at(9)));
    }
    let replays = order.iter().filter(|position| **position <= 20).count();
    assert!((2..=5).contains(&replays), "neither starves: {order:?}");
}
