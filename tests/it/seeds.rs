//! Which seeds a simulation plays: first those that once turned red, then as many as asked for.
//!
//! `KURIER_SIM_SEED=7` plays one seed, `KURIER_SIM_SEEDS=10000` that many, on `KURIER_SIM_THREADS` threads.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// How many seeds `make test` plays of each simulation.
const SEEDS: u64 = 200;

/// Seeds that once turned red: the simulation's name, the seed, what it found.
const ONCE_RED: &str = include_str!("../fixtures/seeds-once-red.txt");

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// The seeds of this simulation that once turned red.
fn once_red(simulation: &str) -> impl Iterator<Item = u64> {
    let lines = ONCE_RED.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.filter_map(move |line| {
        let mut words = line.split_whitespace();
        let is_ours = words.next() == Some(simulation);
        let seed = words.next().and_then(|word| word.parse().ok());
        assert!(seed.is_some() && words.next().is_some(), "a simulation, a seed and what it found: {line}");
        seed.filter(|_| is_ours)
    })
}

/// Plays the seeds of a simulation; `play` says how many acknowledged events were held against what is stored.
pub(crate) fn each_seed(simulation: &str, play: impl Fn(u64) -> u64 + Sync) {
    let seeds: Vec<u64> = match number("KURIER_SIM_SEED") {
        Some(seed) => vec![seed],
        None => once_red(simulation).chain(0..number("KURIER_SIM_SEEDS").unwrap_or(SEEDS)).collect(),
    };
    let (next, is_red, acknowledged) = (AtomicU64::new(0), AtomicBool::new(false), AtomicU64::new(0));
    let panicked = Mutex::new(None);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..number("KURIER_SIM_THREADS").unwrap_or(1) {
            scope.spawn(|| {
                while !is_red.load(Ordering::Relaxed) {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(seed) = usize::try_from(at).ok().and_then(|at| seeds.get(at)) else { break };
                    match catch_unwind(AssertUnwindSafe(|| play(*seed))) {
                        Ok(count) => drop(acknowledged.fetch_add(count, Ordering::Relaxed)),
                        Err(panic) => {
                            eprintln!("KURIER_SIM_SEED={seed} plays it again: simulation `{simulation}`");
                            is_red.store(true, Ordering::Relaxed);
                            panicked.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(panic);
                        }
                    }
                }
            });
        }
    });
    if let Some(panic) = panicked.into_inner().unwrap_or_else(PoisonError::into_inner) {
        resume_unwind(panic);
    }
    let (seconds, acknowledged) = (begun.elapsed().as_secs(), acknowledged.into_inner());
    eprintln!("soak: simulation `{simulation}`: {} seeds, {acknowledged} acknowledged events held, {seconds} s", seeds.len());
}
