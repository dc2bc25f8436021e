//! routes.yaml: read, checked, linked, defaults filled in. The same code serves `check`, start and reload.
//!
//! The way is `document` (text to a tree with places) → `resolve` (the tree against the tables in `fields`:
//! keys, shapes, `{ env }` texts) → `compile` (values, secrets, certificates, schemes) → `link` (what needs the
//! whole file). Each reports and goes on, so every problem comes at once; with one error there is no
//! configuration at all. What this room must never do: accept an unknown key in silence, let a literal or a
//! placeholder become a secret (I9), or repeat a secret in a message.

mod auth;
mod compile;
mod environment;
mod fields;
mod fingerprint;
mod fuzz;
pub mod limits;
mod load;
mod path;
mod reload;
mod resolve;
mod scalar;
mod schema;
mod section;
mod settings;
mod shown;
mod systems;
mod table;
mod units;
mod validity;
mod watch;
mod within;
mod wrong;

pub use environment::{Environment, ProcessEnvironment};
pub use fingerprint::{Fingerprint, Fingerprints};
pub use fuzz::fuzz_routes;
pub use load::{LoadError, LoadOptions, Loaded, load, parse};
pub use path::RouteIndex;
pub use reload::{reload_refusals, removed_destinations};
pub use schema::schema;
pub use settings::*;
pub use systems::{BankReport, Pull, Source, Target, acknowledgement_name, key_source_name, pull_name};
pub use watch::Watcher;

/// A commented configuration to start from: what `kurier init` writes.
pub fn init_text() -> &'static str {
    include_str!("config/init.yaml")
}
