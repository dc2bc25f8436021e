//! routes.yaml: read, checked, linked, defaults filled in. The same code serves `check`, start and reload.

mod settings;

pub use settings::*;
