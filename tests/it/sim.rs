//! The whole system on paused time: real ingress, accept, relay and store over a simulated disk, scripted
//! destinations, and lives that end with a stop, a kill or a power cut, with reloads in between.
//!
//! Every seed draws its own faults. The ledger holds what the world outside was told, and every attempt, every
//! answer and every start of a life is held against it: I1 to I8 and I11. `SIM_SEED=7` plays one seed,
//! `SIM_SEEDS=10000` that many.

mod audit;
mod downstream;
mod ledger;
mod life;
mod people;
mod plan;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// How many seeds `make test` plays.
const SEEDS: u64 = 200;

fn each_seed(play: impl Fn(u64)) {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seeds = match number("SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIM_SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| play(seed))) {
            eprintln!("SIM_SEED={seed}");
            resume_unwind(panic);
        }
    }
}

#[test]
fn every_accepted_event_ends_well_whatever_fails_in_between() {
    each_seed(|seed| {
        life::lives(seed);
    });
}

#[test]
fn a_seed_plays_the_same_every_time() {
    for seed in [1, 2, 3] {
        assert_eq!(life::lives(seed), life::lives(seed), "seed {seed}");
    }
}
