//! `kurier check`: the same code as at start, and every problem at once.

use std::path::PathBuf;

use super::exit::{Exit, Failure};
use super::{Context, settings};
use crate::config;

#[derive(clap::Args)]
pub(super) struct Args {
    /// The configuration to check, in place of --config
    file: Option<PathBuf>,

    /// Secrets that are missing are no problem, as in CI
    #[arg(long)]
    allow_missing_secrets: bool,

    /// Print the JSON Schema of the configuration instead, for editors
    #[arg(long, conflicts_with_all = ["file", "allow_missing_secrets"])]
    schema: bool,
}

pub(super) fn run(args: &Args, context: &mut Context) -> Result<Exit, Failure> {
    if args.schema {
        context.out.json(&config::schema())?;
        return Ok(Exit::Done);
    }
    if let Some(file) = &args.file {
        context.config = Some(file.clone());
    }
    let config = settings::load(context, args.allow_missing_secrets)?;
    let shown = context.config_path().display().to_string();
    let count = |count: usize, one: &str| if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") };
    let (routes, destinations) = (count(config.routes.len(), "route"), count(config.destinations.len(), "destination"));
    context.out.line(format!("{shown}: good, {routes} and {destinations}"))?;
    Ok(Exit::Done)
}
