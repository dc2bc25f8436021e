//! What a sender gets, row by row of the contract, and what abusive ones get: all on real sockets.

mod abuse;
mod answers;
mod bytes;
mod client;
mod framing;
mod handshakes;
mod http2;
mod overload;
mod proxies;
mod slow;
mod stop;
mod tls;
mod waiting;
mod world;

pub(crate) use world::{orders, quarantine, tokens};
