//! `kurier serve`.

use std::path::Path;

use tokio::signal::unix::{SignalKind, signal};

use super::exit::{Exit, Failure};
use crate::app::{Running, StartError};

/// Run the relay.
#[derive(clap::Args)]
pub(super) struct Args {}

pub(super) async fn run(_args: Args, config_path: &Path) -> Result<Exit, Failure> {
    // Before the start: a signal that comes meanwhile must not end the process by its default.
    let failed = |error: std::io::Error| Failure::failed(format!("listening for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
    let running = Running::start(config_path).await.map_err(failure)?;
    loop {
        tokio::select! {
            biased;
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => running.reload(),
        }
    }
    tracing::info!("stopping; a second signal ends at once");
    tokio::select! {
        biased;
        () = running.stop() => {}
        _ = terminate.recv() => tracing::warn!("ended by a second signal; what was under way is due again at the next start"),
        _ = interrupt.recv() => tracing::warn!("ended by a second signal; what was under way is due again at the next start"),
    }
    Ok(Exit::Done)
}

fn failure(error: StartError) -> Failure {
    let exit = match &error {
        StartError::Config(_) => Exit::Configuration,
        StartError::Store(_) => Exit::Store,
        StartError::Listen(listen) if listen.is_in_use() => Exit::AddressInUse,
        StartError::Listen(_) | StartError::Random(_) | StartError::Egress(_) => Exit::Failed,
    };
    Failure::new(exit, error.to_string())
}
