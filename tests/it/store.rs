//! The store: one contract suite against every engine, and what only the embedded engine can get wrong.

mod bytes;
mod callers;
mod cli;
mod contract;
mod faults;
mod fixture;
mod gather;
mod growth;
mod keys;
mod leftovers;
mod make;
mod meanwhile;
mod model;
mod moves;
mod paged;
mod planted;
mod read_only;
mod rules;
mod safety;
mod scarce;
mod sealed;
pub(crate) mod sim;
pub(crate) mod sim_disk;
mod sim_index;
mod starts;
mod tails;
mod tools;
