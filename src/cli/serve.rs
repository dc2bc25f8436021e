//! `kurier serve`.

use std::path::Path;

use super::exit::{Exit, Failure};

/// Run the relay.
#[derive(clap::Args)]
pub(super) struct Args {}

pub(super) async fn run(_args: Args, config_path: &Path) -> Result<Exit, Failure> {
    Err(Failure::failed(format!("{}: the composition root is not merged", config_path.display())))
}
