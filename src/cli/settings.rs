//! Reading the configuration for a command.

use crate::config::{self, Config, LoadOptions, ProcessEnvironment};

use super::Context;
use super::exit::{Exit, Failure};

/// The configuration with its warnings shown; every problem otherwise.
pub(super) fn load(context: &Context, allow_missing_secrets: bool) -> Result<Config, Failure> {
    let options = LoadOptions { allow_missing_secrets };
    match config::load(context.config_path(), &ProcessEnvironment, &options) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                eprintln!("warning: {warning}");
            }
            Ok(loaded.config)
        }
        Err(error) => Err(Failure::new(Exit::Configuration, format!("the configuration can't be used\n{error}"))),
    }
}

/// The same for a command that needs only a part of it: missing secrets don't matter, warnings are not its
/// business.
pub(super) fn load_quietly(context: &Context) -> Result<Config, Failure> {
    let options = LoadOptions { allow_missing_secrets: true };
    let loaded = config::load(context.config_path(), &ProcessEnvironment, &options);
    loaded
        .map(|loaded| loaded.config)
        .map_err(|error| Failure::new(Exit::Configuration, format!("the configuration can't be used\n{error}")))
}
