use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::model::{DeliveryId, DeliveryKind, EventId, Lane, Timestamp};

const DESTINATIONS: [&str; 3] = ["a", "b", "c"];

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
    }
}

fn scheduler(destinations: &[(&str, usize)]) -> Scheduler {
    let mut scheduler = Scheduler::default();
    scheduler.configure(&destinations.iter().map(|(name, concurrency)| (Name::from(*name), rules(*concurrency))).collect());
    scheduler
}

fn start(scheduler: &mut Scheduler, now: Moment) -> Vec<u64> {
    std::iter::from_fn(|| scheduler.next(now, |_| Ok(()))).map(|delivery| delivery.position).collect()
}

#[derive(Debug, Clone)]
enum Step {
    Insert { destination: usize, lane: Option<u64>, due_in: u64 },
    Start,
    Pass { seconds: u64 },
    End { which: usize, health: Health },
    Settle { which: usize, again_in: Option<u64> },
    Pause { destination: usize, paused: bool },
}

fn step() -> impl Strategy<Value = Step> {
    let health = prop_oneof![Just(Health::Alive), Just(Health::Failing), Just(Health::Unclear)];
    prop_oneof![
        4 => (0..3_usize, prop::option::of(0..3_u64), 0..20_u64).prop_map(|(destination, lane, due_in)| Step::Insert { destination, lane, due_in }),
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
            Step::Insert { destination, lane, due_in } => {
                self.positions += 1;
                let delivery = delivery(self.positions, DESTINATIONS[destination], lane);
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
            let before = self.waiting.range(..started.position).any(|(_, (other, _))| same_lane(other));
            assert!(!before, "a lane out of order");
        }
        self.in_flight.push(started.clone());
        let busy = self.in_flight.iter().filter(|other| other.destination == started.destination).count();
        assert!(busy <= concurrency(&started.destination), "more in flight than allowed");
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
fn a_rate_holds_back_its_own_destination_only() {
    let mut scheduler = scheduler(&[("a", 9), ("b", 9)]);
    scheduler.insert(delivery(1, "a", None), at(0), rules(1));
    scheduler.insert(delivery(2, "b", None), at(0), rules(1));
    let admit = |name: &Name| if **name == *"a" { Err(Duration::from_secs(5)) } else { Ok(()) };
    assert_eq!(scheduler.next(at(0), admit).unwrap().position, 2);
    assert!(scheduler.next(at(0), admit).is_none());
    assert_eq!(scheduler.wake_at(), Some(at(5)));
    assert_eq!(start(&mut scheduler, at(5)), [1]);
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
    scheduler.configure(&BTreeMap::new());
    let taken: Vec<u64> = scheduler.take_condemned(2).iter().map(|delivery| delivery.position).collect();
    assert_eq!(taken, [1, 2]);
    scheduler.configure(&BTreeMap::from([("a".into(), rules(9))]));
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
    scheduler.configure(&BTreeMap::from([("a".into(), Rules { held_max: 4, ..rules(1) })]));
    let held = (0..6).filter(|position| scheduler.insert(delivery(*position, "a", None), at(0), rules(1))).count();
    assert_eq!(held, 4);
    assert!(!scheduler.is_hungry(&"a".into()));
    for _ in 0..2 {
        let position = start(&mut scheduler, at(0))[0];
        scheduler.answered(&"a".into(), position, Health::Alive, at(0));
        scheduler.settled(&"a".into(), position, Next::Forget);
    }
    assert!(scheduler.is_hungry(&"a".into()));
}
