//! Kurier, a durable relay for webhooks and callbacks.
//!
//! It terminates callbacks, verifies who sent them, commits each event durably before it answers 2xx, and
//! delivers it at least once. `docs/architecture.md` has the map; the rooms below are in the order of that
//! map, and `tests/tidy` enforces which of them may import which.
//!
//! Ingress and relay never import each other: they meet only in the store, and only the store can make the
//! receipt that a 2xx needs.

pub mod accept;
pub mod admin;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod connectors;
#[cfg(feature = "demo")]
pub mod demo;
pub mod document;
pub mod egress;
pub mod ingress;
pub mod jq;
pub mod limits;
pub mod model;
pub mod notify;
pub mod orders;
pub mod pull;
pub mod quarantine;
pub mod relay;
pub mod replays;
pub mod server;
pub mod signature;
pub mod store;
pub mod telemetry;
pub mod tokens;
