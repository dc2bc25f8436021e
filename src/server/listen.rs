//! The accept loop and the stop.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::connection::serve_socket;
use super::limits::{ACCEPT_PAUSE_MAX, ACCEPT_PAUSE_MIN};
use super::{HttpService, LiveOptions};

/// How a server came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// Connections that were still busy when the grace period was over, and were closed without an answer.
    pub forced: usize,
}

/// Accepts connections and serves them until `shutdown` resolves; then accepts no more, lets what was begun
/// finish within the grace period, and closes the rest.
///
/// At the limit of connections it stops accepting until one ends: further ones wait in the kernel's backlog.
pub async fn serve<S: HttpService>(
    listener: TcpListener,
    service: S,
    options: LiveOptions,
    shutdown: impl Future<Output = ()> + Send,
) -> Stopped {
    let service = Arc::new(service);
    let (stop, stopping) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut pause = Pause::default();
    let mut full = false;
    let mut shutdown = pin!(shutdown);
    loop {
        let now = options.load();
        let has_room = connections.len() < now.connections_max.max(1);
        if full == has_room {
            full = !has_room;
            if full {
                tracing::warn!(connections = connections.len(), "at server.limits.connections: further connections wait");
            }
        }
        drop(now);
        tokio::select! {
            biased;
            () = shutdown.as_mut() => break,
            Some(ended) = connections.join_next() => report(ended),
            () = sleep_until(pause.until()), if pause.is_running() => pause.over(),
            accepted = listener.accept(), if has_room && !pause.is_running() => match accepted {
                Ok((socket, peer)) => {
                    pause = Pause::default();
                    // Answers are one small write each; waiting to fill a packet would only delay them.
                    drop(socket.set_nodelay(true));
                    connections.spawn(serve_socket(socket, peer, service.clone(), options.load_full(), stopping.clone()));
                }
                Err(error) if concerns_one_connection(&error) => {}
                Err(error) => pause.begin(&error),
            },
        }
    }
    drop(listener);
    let deadline = Instant::now() + options.load().grace;
    stop.send_replace(true);
    while let Ok(Some(ended)) = timeout_at(deadline, connections.join_next()).await {
        report(ended);
    }
    let forced = connections.len();
    if forced > 0 {
        tracing::warn!(connections = forced, "the grace period is over: closing connections that are still busy");
    }
    connections.shutdown().await;
    Stopped { forced }
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!("a request panicked; its connection was closed without an answer");
    }
}

/// Errors of `accept` that say nothing of the listener.
fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused | io::ErrorKind::Interrupted
    )
}

/// The pause after `accept` failed for want of file descriptors or memory: trying again at once would only
/// burn the processor until a connection ends.
#[derive(Debug, Default)]
struct Pause {
    length: Duration,
    until: Option<Instant>,
}

impl Pause {
    fn begin(&mut self, error: &io::Error) {
        if self.length.is_zero() {
            tracing::warn!(%error, "can't accept connections; trying again");
        }
        self.length = (self.length * 2).clamp(ACCEPT_PAUSE_MIN, ACCEPT_PAUSE_MAX);
        self.until = Some(Instant::now() + self.length);
    }

    fn is_running(&self) -> bool {
        self.until.is_some()
    }

    fn until(&self) -> Instant {
        self.until.unwrap_or_else(Instant::now)
    }

    fn over(&mut self) {
        self.until = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_pause_after_a_failed_accept_grows_to_a_second_and_no_further() {
        let error = io::Error::from_raw_os_error(24);
        assert!(!concerns_one_connection(&error));
        let mut pause = Pause::default();
        let mut lengths = Vec::new();
        for _ in 0..8 {
            pause.begin(&error);
            lengths.push(pause.until() - Instant::now());
            pause.over();
        }
        assert_eq!(lengths[0], ACCEPT_PAUSE_MIN);
        assert!(lengths.is_sorted());
        assert_eq!(lengths[7], ACCEPT_PAUSE_MAX);
    }
}
