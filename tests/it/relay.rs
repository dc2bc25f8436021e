//! The relay against scripted destinations on paused time, and its transport against real sockets.

mod acknowledgements;
mod deliveries;
mod faults;
mod order;
mod programs;
mod requests;
pub(crate) mod transport;
mod world;
