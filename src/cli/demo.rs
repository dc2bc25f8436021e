//! `kurier demo`.

use tokio::sync::watch;

use super::exit::{Exit, Failure};

/// Everything in one process.
#[derive(clap::Args)]
pub(super) struct Args {
    /// End when every sample has arrived
    #[arg(long)]
    once: bool,
}

pub(super) async fn run(args: Args) -> Result<Exit, Failure> {
    let (stop, stopped) = watch::channel(false);
    let interrupt = tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stop.send_replace(true);
        }
    });
    let outcome = crate::demo::run(args.once, stopped).await;
    interrupt.abort();
    outcome.map(|()| Exit::Done).map_err(|error| Failure::failed(format!("{error:#}")))
}
