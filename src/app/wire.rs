//! What joins rooms that don't know each other.

use std::future::Future;

use async_trait::async_trait;
use tokio::sync::watch;

use super::descriptors;
use crate::admin::{DestinationView, Destinations, PauseError};
use crate::config::Config;
use crate::model::{DeliveryId, Name, Notice, NoticeKind};
use crate::pull::Gate;
use crate::relay::{BreakerStatus, ControlError, Notices, RelayHandle};
use crate::server::ServeOptions;

/// Most connections to the admin port: operators and a scraper, not senders.
const ADMIN_CONNECTIONS_MAX: usize = 256;

/// The relay as the admin side sees it.
pub(super) struct RelayDestinations(pub(super) RelayHandle);

#[async_trait]
impl Destinations for RelayDestinations {
    fn is_running(&self) -> bool {
        self.0.is_running()
    }

    fn list(&self) -> Vec<DestinationView> {
        let view = |status: crate::relay::DestinationStatus| DestinationView {
            name: status.name,
            paused: status.paused.map(|paused| paused.reason.into()),
            breaker_open_until: match status.breaker {
                BreakerStatus::Open { until } => Some(until),
                BreakerStatus::Closed | BreakerStatus::Probing => None,
            },
            in_flight: status.in_flight,
            drains_in: status.drains_in,
        };
        self.0.destinations().into_iter().map(view).collect()
    }

    async fn pause(&self, name: &str, reason: &str) -> Result<(), PauseError> {
        self.0.pause(name, reason).await.map_err(pause_error)
    }

    async fn resume(&self, name: &str) -> Result<(), PauseError> {
        self.0.resume(name).await.map_err(pause_error)
    }

    fn cancelled(&self, delivery: DeliveryId) {
        self.0.cancelled(delivery);
    }
}

fn pause_error(error: ControlError) -> PauseError {
    match error {
        ControlError::UnknownDestination(_) => PauseError::Unknown,
        ControlError::Commit(error) => PauseError::Commit(error),
        ControlError::Stopping => PauseError::Stopping,
    }
}

/// The relay as polls see it.
pub(super) struct PullGate {
    pub(super) relay: RelayHandle,
    pub(super) notices: Notices,
}

#[async_trait]
impl Gate for PullGate {
    fn is_paused(&self, name: &Name) -> bool {
        self.relay.is_paused(name)
    }

    async fn pause(&self, name: &Name, reason: &str, renew: bool) {
        if let Err(error) = self.relay.pause(name, reason).await {
            tracing::warn!(destination.name = %name, %error, "{name} can't be paused: {reason}");
        }
        let kind = if renew { NoticeKind::Authorization } else { NoticeKind::Paused };
        self.notices.tell(Notice { kind, destination: name.clone(), route: None, delivery: None, reason: reason.to_owned() });
    }
}

/// What the public port keeps to.
pub(super) fn public_options(config: &Config) -> ServeOptions {
    let limits = &config.server.limits;
    ServeOptions {
        connections_max: descriptors::connections(limits.connections),
        head_bytes_max: limits.headers,
        head_timeout: limits.read_timeout,
        grace: config.server.grace,
        tls: config.server.tls.as_ref().map(|tls| tls.config.clone()),
        ..ServeOptions::default()
    }
}

/// What the admin port keeps to.
pub(super) fn admin_options() -> ServeOptions {
    ServeOptions { connections_max: ADMIN_CONNECTIONS_MAX, grace: super::CLOSING_RESERVE, ..ServeOptions::default() }
}

/// A switch, and what waits for it to be thrown. Dropping the switch throws it.
pub(super) fn switch() -> (watch::Sender<bool>, impl Future<Output = ()> + Send + 'static) {
    let (switch, mut thrown) = watch::channel(false);
    let waiting = async move {
        // An error means that the switch was dropped.
        drop(thrown.wait_for(|thrown| *thrown).await);
    };
    (switch, waiting)
}
