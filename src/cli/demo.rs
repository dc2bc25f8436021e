//! `kurier demo`.

use tokio::signal::unix::{SignalKind, signal};
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
    // Before the start, as in `serve`: the demo's folder, with its secrets, must not outlive it.
    let failed = |error: std::io::Error| Failure::failed(format!("listening for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
    let (stop, stopped) = watch::channel(false);
    let signals = tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
        }
        stop.send_replace(true);
    });
    let outcome = crate::demo::run(args.once, stopped).await;
    signals.abort();
    outcome.map(|()| Exit::Done).map_err(|error| Failure::failed(format!("{error:#}")))
}
