//! `kurier secret`: fresh secrets.

use super::Context;
use super::exit::{Exit, Failure};
use crate::signature;

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Print a fresh signing secret (Standard Webhooks); it is stored nowhere
    New,
}

pub(super) fn run(args: &Args, context: &mut Context) -> Result<Exit, Failure> {
    match args.command {
        Command::New => context.out.line(signature::new_signing_secret().map_err(Failure::failed)?)?,
    }
    Ok(Exit::Done)
}
