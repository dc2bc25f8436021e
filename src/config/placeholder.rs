//! Stand-ins for the loader, which is built in the config room.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use super::Config;
use crate::document::{Problem, Span};
use crate::model::Timestamp;

/// Where secrets come from.
pub trait Environment {
    /// The variable's value.
    fn var(&self, name: &str) -> Option<OsString>;
}

/// The process's own.
pub struct ProcessEnvironment;

impl Environment for ProcessEnvironment {
    fn var(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name)
    }
}

/// How to load.
#[derive(Debug, Clone, Copy, Default)]
pub struct LoadOptions {
    /// Secrets that are missing are no problem.
    pub allow_missing_secrets: bool,
    /// The present time, for warnings of what has expired.
    pub now: Option<Timestamp>,
}

/// What was loaded.
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What is allowed and unwise.
    pub warnings: Vec<Problem>,
}

/// Why nothing was loaded.
#[derive(Debug)]
pub struct LoadError {
    /// The file, as it was named.
    pub file: PathBuf,
    /// The problems.
    pub problems: Vec<Problem>,
    /// Allowed, and probably not meant.
    pub warnings: Vec<Problem>,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display().to_string();
        self.problems.iter().try_for_each(|problem| write!(f, "{}", problem.located(&file)))
    }
}

/// Loads.
///
/// # Errors
/// Always, here.
pub fn load(path: &Path, env: &dyn Environment, options: &LoadOptions) -> Result<Loaded, LoadError> {
    let _ = (env.var("KURIER"), options);
    let problem = Problem::new(Span::default(), "", "the loader is not merged");
    Err(LoadError { file: path.to_owned(), problems: vec![problem], warnings: Vec::new() })
}

/// The text of `kurier init`.
pub fn init_text() -> &'static str {
    "routes: {}\n"
}

/// The JSON Schema.
pub fn schema() -> serde_json::Value {
    serde_json::json!({ "type": "object" })
}
