//! Stand-ins for the loader, which is built in the config room.

use std::path::Path;

use super::Config;

/// Where secrets come from.
pub trait Environment {
    /// The variable's value.
    fn var(&self, name: &str) -> Option<String>;
}

/// The process's own.
pub struct ProcessEnvironment;

impl Environment for ProcessEnvironment {
    fn var(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

/// How to load.
#[derive(Debug, Clone, Copy, Default)]
pub struct LoadOptions {
    /// Secrets that are missing are no problem.
    pub allow_missing_secrets: bool,
}

/// What was loaded.
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What is allowed and unwise.
    pub warnings: Vec<String>,
}

/// Why nothing was loaded.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct LoadError(String);

/// Loads.
///
/// # Errors
/// Always, here.
pub fn load(path: &Path, env: &dyn Environment, options: &LoadOptions) -> Result<Loaded, LoadError> {
    let _ = (env.var("KURIER"), options.allow_missing_secrets);
    Err(LoadError(format!("{}: the loader is not merged", path.display())))
}

/// The text of `kurier init`.
pub fn init_text() -> &'static str {
    "routes: {}\n"
}

/// The JSON Schema.
pub fn schema() -> serde_json::Value {
    serde_json::json!({ "type": "object" })
}
