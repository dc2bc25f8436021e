//! routes.yaml: read, checked, linked, defaults filled in. The same code serves `check`, start and reload.

mod placeholder;
mod settings;
mod shown;

pub use placeholder::*;
pub use settings::*;
