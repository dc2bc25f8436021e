//! `kurier clock believe`: the operator's word for a wall clock that jumped.

use super::Context;
use super::client::{Client, Remote};
use super::exit::{Exit, Failure};
use super::table::field;
use crate::config::Scope;

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,

    #[command(flatten)]
    remote: Remote,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Say that the machine's clock is right after it jumped: dates count again at once, not only after ten minutes
    Believe,
}

pub(super) async fn run(args: Args, context: &mut Context) -> Result<Exit, Failure> {
    let Command::Believe = args.command;
    let client = Client::new(args.remote, context, Some(Scope::Operate))?;
    let answer = client.post(&["api", "v1", "clock", "believe"], None).await?;
    context.out.line(format!("the clock is believed: it is {}", field(&answer, "now")))?;
    Ok(Exit::Done)
}
