//! The whole system on paused time: real ingress, accept, relay and store over a simulated disk, scripted
//! destinations, and lives that end with a stop, a kill or a power cut, with reloads in between.
//!
//! Every seed draws its own faults. The ledger holds what the world outside was told, and every attempt, every
//! answer and every start of a life is held against it: I1 to I8 and I11. docs/simulation.md says more.

mod audit;
mod downstream;
mod ledger;
mod life;
mod people;
mod plan;
mod systems;

pub(crate) use downstream::InProcess;

use crate::seeds::each_seed;

#[test]
fn every_accepted_event_ends_well_whatever_fails_in_between() {
    each_seed("whole", |seed| life::lives(seed).held);
}

#[test]
fn a_seed_plays_the_same_every_time() {
    for seed in [1, 2, 3] {
        assert_eq!(life::lives(seed), life::lives(seed), "seed {seed}");
    }
}
