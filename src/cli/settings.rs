//! Reading the configuration for a command.

use super::Context;
use super::exit::{Exit, Failure};
use crate::config::{self, Config, LoadError, LoadOptions, ProcessEnvironment};

/// The configuration with its warnings shown; every problem otherwise.
pub(super) fn load(context: &Context, allow_missing_secrets: bool) -> Result<Config, Failure> {
    let options = LoadOptions { allow_missing_secrets, now: Some(context.now) };
    let file = context.config_path().display().to_string();
    let loaded = config::load(context.config_path(), &ProcessEnvironment, &options);
    let warnings = loaded.as_ref().map_or_else(|error| &error.warnings, |loaded| &loaded.warnings);
    for warning in warnings {
        eprintln!("warning: {}", warning.located(&file));
    }
    loaded.map(|loaded| loaded.config).map_err(|error| failure(&error))
}

/// The same for a command that needs only a part of it: missing secrets don't matter, warnings are not its
/// business.
pub(super) fn load_quietly(context: &Context) -> Result<Config, Failure> {
    let options = LoadOptions { allow_missing_secrets: true, now: None };
    let loaded = config::load(context.config_path(), &ProcessEnvironment, &options);
    loaded.map(|loaded| loaded.config).map_err(|error| failure(&error))
}

fn failure(error: &LoadError) -> Failure {
    let count = error.problems.len();
    let problems = if count == 1 { "1 problem".to_owned() } else { format!("{count} problems") };
    let failure = Failure::new(Exit::Configuration, format!("{problems} in the configuration\n{error}"));
    if error.file.exists() { failure } else { failure.with_hint("name the file with --config, or write one with `kurier init`") }
}
