//! `kurier demo`: a relay, a sample downstream and signed sample callbacks in one process, on free loopback
//! ports and a temporary store.
//!
//! It runs the same code as `kurier serve`, from a routes.yaml that it writes for itself, and looks at it from
//! outside only: what a sender is answered and what the downstream receives is what it prints.

mod downstream;
mod journey;
mod samples;
pub mod simulators;

use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::app;
use crate::egress::HttpTransport;
use downstream::Downstream;
use journey::Printer;
use samples::Secrets;

/// How long `--once` waits for everything to arrive.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs the demo. With `once` it ends when every sample has arrived, else when `stop` turns true.
///
/// # Errors
/// Whatever kept a journey from ending as it should.
pub async fn run(once: bool, mut stop: watch::Receiver<bool>) -> anyhow::Result<()> {
    let folder = Folder::new()?;
    let printer = Arc::new(Printer::new());
    let secrets = Secrets::fresh()?;
    secrets.write(&folder.0)?;
    let downstream = Downstream::start(&secrets, printer.clone()).await?;
    let routes = samples::routes_yaml(&downstream.url("/erp"), &downstream.url("/shop"), &downstream.url("/till"));
    std::fs::write(folder.0.join("routes.yaml"), routes).context("writing the demo's routes.yaml")?;
    let relay = app::Running::start(&folder.0.join("routes.yaml")).await?;
    printer.turn().await.headline(&format!(
        "Kurier demo\n  callbacks   http://{}\n  admin       http://{}\n  downstream  {}\n  files       {}",
        relay.public_address(),
        relay.admin_address(),
        downstream.url(""),
        folder.0.display()
    ));

    let expected = tokio::select! {
        biased;
        _ = stopped(&mut stop) => None,
        expected = play(&relay, &printer) => Some(expected?),
    };
    let arrived = match expected {
        Some(expected) => tokio::select! {
            biased;
            _ = stopped(&mut stop) => Ok(()),
            arrived = wait(&downstream, expected) => arrived,
        },
        None => Ok(()),
    };
    if arrived.is_ok() && !once && !*stop.borrow() {
        printer.turn().await.headline(&samples::invitation(relay.public_address(), relay.admin_address(), &secrets));
        stopped(&mut stop).await;
    }
    relay.stop().await;
    downstream.stop().await;
    arrived
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone will never ask for a stop: then only the end of the process ends the demo.
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Sends every sample and checks its answer. Returns how many deliveries must arrive.
async fn play(relay: &app::Running, printer: &Printer) -> anyhow::Result<usize> {
    let transport = HttpTransport::new()?;
    let base = format!("http://{}", relay.public_address());
    let mut expected = 0;
    for sample in samples::all(&relay.config().load())? {
        // The downstream's lines wait for the sender's own: the delivery is often there before the answer is read.
        let turn = printer.turn().await;
        let status = sample.send(&base, &transport).await?;
        turn.answered(&sample, status);
        ensure!(status == sample.expected_status, "{}: answered {status}, not {}", sample.title, sample.expected_status);
        expected += usize::from(sample.arrives);
    }
    Ok(expected)
}

async fn wait(downstream: &Downstream, expected: usize) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while downstream.accepted() < expected {
        ensure!(Instant::now() < deadline, "{} of {expected} deliveries arrived within {PATIENCE:?}", downstream.accepted());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // A delivery too many would come now: the forged or the repeated one.
    tokio::time::sleep(Duration::from_millis(300)).await;
    ensure!(downstream.accepted() == expected, "{} deliveries arrived, not {expected}", downstream.accepted());
    Ok(())
}

/// A folder under the system's temporary one, removed at the end.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new() -> anyhow::Result<Self> {
        let mut random = [0_u8; 8];
        getrandom::fill(&mut random).context("drawing random bytes")?;
        let path = std::env::temp_dir().join(format!("kurier-demo-{}", hex::encode(random)));
        // For its owner only: the demo's secrets lie in it.
        std::fs::DirBuilder::new().mode(0o700).create(&path).with_context(|| format!("making the folder {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let leftover: &Path = &self.0;
        drop(std::fs::remove_dir_all(leftover));
    }
}
