//! The composition root: the only file that knows every room, and the order in which they start, reload and
//! stop.

mod descriptors;
mod keys;
mod listen;
mod refused;
mod reload;
mod roads;
mod wire;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::accept::{Acceptor, IdSource};
use crate::admin::{self, Admin};
use crate::clock::{Calendar, Clock, SystemClock};
use crate::config::{self, Config, Fingerprints, Live, LoadError, LoadOptions, Loaded, ProcessEnvironment};
use crate::document::Problem;
use crate::egress::TransportError;
use crate::ingress::{self, Ingress};
use crate::orders::Orders;
use crate::quarantine::Releases;
use crate::replays::Replays;
use crate::server::{self, LiveOptions};
use crate::store::local::{LocalOptions, LocalStore, StoreError};
use crate::store::{Settled, Store};
use crate::telemetry::Metrics;

use listen::Listeners;
use reload::Reloader;

pub use listen::ListenError;
pub use roads::{Common, Outside, Roads};

/// How much of the grace period is kept for closing the store and the admin port.
const CLOSING_RESERVE: Duration = Duration::from_secs(2);

/// Why Kurier could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// routes.yaml has problems.
    #[error(transparent)]
    Config(#[from] LoadError),
    /// The store can't be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A port can't be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The operating system has no randomness to give.
    #[error("drawing random bytes: {0}")]
    Random(getrandom::Error),
    /// The outbound client can't be made.
    #[error("making the outbound client: {0}")]
    Egress(#[from] TransportError),
}

/// A running Kurier.
pub struct Running {
    config: Live,
    public_address: SocketAddr,
    admin_address: SocketAddr,
    reloader: Reloader,
    stopping: Arc<AtomicBool>,
    public: Port,
    admin: Port,
    roads: Roads,
    releases: Releases,
    store: Arc<dyn Store>,
}

/// A port that is served, and the switch that closes it.
struct Port {
    name: &'static str,
    close: watch::Sender<bool>,
    task: JoinHandle<server::Stopped>,
}

impl Running {
    /// Starts everything from this file: configuration, ports, store, relay; then serves.
    ///
    /// # Errors
    /// What kept it from starting. Nothing stays behind.
    pub async fn start(file: &Path) -> Result<Self, StartError> {
        let clock: Arc<dyn Clock> = Arc::new(Calendar::new(SystemClock));
        let (config, read) = load(file, &*clock)?;
        let listeners = Listeners::open(config.server.listen, config.admin.listen)?;
        let metrics = Arc::new(Metrics::new());
        metrics.prepare(config.routes.iter().map(|route| &route.name), config.destinations.keys());
        let store = open_store(&config, clock.clone(), metrics.clone()).await?;
        let public_options = Arc::new(ArcSwap::from_pointee(wire::public_options(&config)));
        let config: Live = Arc::new(ArcSwap::from_pointee(config));
        let (changed, changes) = watch::channel(());
        let stopping = Arc::new(AtomicBool::new(false));

        let settled = Settled::default();
        let ids = IdSource::random().map_err(StartError::Random)?;
        let common = Common {
            config: config.clone(),
            changes,
            store: store.clone(),
            settled: settled.clone(),
            clock: clock.clone(),
            metrics: metrics.clone(),
            ids: ids.clone(),
        };
        let mut roads = Roads::start(common.clone(), Outside::real()?);
        let acceptor = Acceptor::new(store.clone(), clock.clone(), ids.clone());
        let orders = Orders::new(store.clone(), roads.fetching(), clock.clone(), acceptor.clone());
        roads.follow(orders.clone().expire(config.clone()));
        let keys = keys::Keeper::new(config.clone(), clock.clone(), roads.tokens())?;
        let releases = refused::start(common, orders.clone(), acceptor, Arc::new(keys.clone()));
        let ingress = Ingress::new(ingress::Parts {
            config: config.clone(),
            store: store.clone(),
            settled,
            clock: clock.clone(),
            metrics: metrics.clone(),
            keys: Arc::new(keys.clone()),
            orders: orders.clone(),
            quarantine: releases.quarantine().clone(),
            tokens: roads.tokens(),
            ids,
            stopping: stopping.clone(),
        });
        let admin = Admin::new(admin::Parts {
            config: config.clone(),
            store: store.clone(),
            destinations: Arc::new(wire::RelayDestinations(roads.relay())),
            orders,
            tokens: roads.tokens(),
            releases: releases.clone(),
            replays: Replays::start(store.clone(), clock.clone()),
            clock: clock.clone(),
            metrics: metrics.clone(),
            stopping: stopping.clone(),
        });
        let target = reload::Target {
            file: file.to_owned(),
            config: config.clone(),
            changed,
            public: public_options.clone(),
            store: store.clone(),
            keys,
            metrics,
            clock,
        };
        let reloader = Reloader::start(target, &read);
        let Listeners { public, admin: admin_listener, public_address, admin_address } = listeners;
        let public = Port::serve("public port", public, ingress.service(), public_options);
        let admin = Port::serve("admin port", admin_listener, admin, Arc::new(ArcSwap::from_pointee(wire::admin_options())));
        tracing::info!(listen = %public_address, admin = %admin_address, "kurier is up: callbacks on {public_address}, admin on {admin_address}");
        Ok(Self { config, public_address, admin_address, reloader, stopping, public, admin, roads, releases, store })
    }

    /// Where senders connect.
    pub fn public_address(&self) -> SocketAddr {
        self.public_address
    }

    /// Where operators connect.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// The configuration in force.
    pub fn config(&self) -> &Live {
        &self.config
    }

    /// Reads the file again now, as SIGHUP asks for.
    pub fn reload(&self) {
        self.reloader.reload_now();
    }

    /// Stops accepting, finishes what was begun, settles and closes, within the grace period. What is not
    /// finished then is due again at the next start.
    pub async fn stop(self) {
        let grace = self.config.load().server.grace;
        let deadline = Instant::now() + grace.saturating_sub(CLOSING_RESERVE).max(grace / 2);
        self.stopping.store(true, Ordering::Release);
        self.reloader.stop();
        self.roads.stop_polls();
        // Side by side: one sender that trickles must not take the time in which attempts could finish.
        tokio::join!(self.public.close(deadline), self.roads.stop(deadline.saturating_duration_since(Instant::now())));
        self.admin.close(Instant::now() + CLOSING_RESERVE / 2).await;
        if tokio::time::timeout(CLOSING_RESERVE / 4, self.releases.quarantine().close()).await.is_err() {
            tracing::warn!("the quarantine did not write in time what it was given last");
        }
        self.store.close().await;
        tracing::info!("kurier has stopped");
    }
}

impl Port {
    fn serve(name: &'static str, listener: TcpListener, service: impl server::HttpService, options: LiveOptions) -> Self {
        let (close, closed) = wire::switch();
        Self { name, close, task: tokio::spawn(server::serve(listener, service, options, closed)) }
    }

    async fn close(mut self, deadline: Instant) {
        self.close.send_replace(true);
        if tokio::time::timeout_at(deadline, &mut self.task).await.is_err() {
            tracing::warn!("the {} did not close in time and is closed by force", self.name);
            self.task.abort();
        }
    }
}

async fn open_store(config: &Config, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Result<Arc<dyn Store>, StoreError> {
    let settings = &config.store;
    let options = LocalOptions {
        retention: settings.retention,
        max_size: settings.max_size,
        allow_file_systems: settings.allow_file_systems.clone(),
        ..LocalOptions::new(&settings.path)
    };
    Ok(Arc::new(LocalStore::open(options, clock, Some(metrics)).await?))
}

fn load(file: &Path, clock: &dyn Clock) -> Result<(Config, Fingerprints), LoadError> {
    let options = LoadOptions { now: Some(clock.now()), ..LoadOptions::default() };
    let Loaded { config, warnings, read, .. } = config::load(file, &ProcessEnvironment, &options)?;
    warn(file, &warnings);
    Ok((config, read))
}

fn warn(file: &Path, warnings: &[Problem]) {
    let name = file.display().to_string();
    for warning in warnings {
        tracing::warn!("{}", warning.located(&name));
    }
}
