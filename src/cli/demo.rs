//! `kurier demo`.

use super::exit::{Exit, Failure};

/// Everything in one process.
#[derive(clap::Args)]
pub(super) struct Args {
    /// End when every sample has arrived
    #[arg(long)]
    once: bool,
}

pub(super) async fn run(args: Args) -> Result<Exit, Failure> {
    Err(Failure::failed(format!("the demo is not merged (once: {})", args.once)))
}
