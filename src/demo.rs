//! `kurier demo`: a relay, a sample downstream, the five systems as simulators and signed sample callbacks in one
//! process, on free loopback ports and a temporary store.
//!
//! It runs the same code as `kurier serve`, from a routes.yaml that it writes for itself, and looks at it from
//! outside only: what a sender is answered and what the downstream receives is what it prints.

mod downstream;
mod journey;
mod samples;
pub mod simulators;
mod systems;

use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use http::{Method, StatusCode};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;
use url::Url;

use crate::app;
use crate::egress::{HttpTransport, admin_call};
use downstream::Downstream;
use journey::Printer;
use samples::Secrets;
use systems::Systems;

/// How often the simulators are asked what they have seen.
const LOOK_EVERY: Duration = Duration::from_millis(20);

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
    let systems = Systems::start().await?;
    let routes = samples::routes_yaml(&systems, &downstream.url("/erp"), &downstream.url("/shop"), &downstream.url("/till"));
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
        expected = play(&relay, &systems, &printer) => Some(expected?),
    };
    let arrived = match expected {
        Some(expected) => tokio::select! {
            biased;
            _ = stopped(&mut stop) => Ok(()),
            arrived = wait(&downstream, &systems, &printer, expected) => arrived,
        },
        None => Ok(()),
    };
    if arrived.is_ok() && !once && !*stop.borrow() {
        printer.turn().await.headline(&samples::invitation(relay.public_address(), relay.admin_address(), &secrets));
        loop {
            tokio::select! {
                biased;
                () = stopped(&mut stop) => break,
                () = tokio::time::sleep(LOOK_EVERY) => systems.tell(&printer).await,
            }
        }
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
async fn play(relay: &app::Running, systems: &Systems, printer: &Printer) -> anyhow::Result<usize> {
    let lid = place_order(relay, printer).await?;
    systems.tell(printer).await;
    let transport = HttpTransport::new()?;
    let base = format!("http://{}", relay.public_address());
    let mut expected = 0;
    for sample in samples::all(&relay.config().load(), &systems.report_link(), &lid)? {
        // The downstream's lines wait for the sender's own: the delivery is often there before the answer is read.
        let turn = printer.turn().await;
        let status = sample.send(&base, &transport).await?;
        turn.answered(&sample, status);
        ensure!(status == sample.expected_status, "{}: answered {status}, not {}", sample.title, sample.expected_status);
        expected += usize::from(sample.arrives);
        systems.tell(printer).await;
    }
    Ok(expected)
}

/// Places an order as the application of a shop does. Its transaction id.
async fn place_order(relay: &app::Running, printer: &Printer) -> anyhow::Result<String> {
    let path = "/api/v1/inpasy/payments/orders";
    let url = Url::parse(&format!("http://{}{path}", relay.admin_address())).context("the admin address")?;
    let (status, body) = admin_call(Method::POST, url, None, Some(Systems::order()), PATIENCE).await.context("placing an order")?;
    let answer: Value = serde_json::from_slice(&body).context("the answer to an order")?;
    let (lid, location) = (answer["lid"].as_str().unwrap_or_default(), answer["location"].as_str().unwrap_or_default());
    ensure!(status == StatusCode::CREATED && !lid.is_empty(), "placing an order: answered {status}: {answer}");
    printer.turn().await.placed(path, status.as_u16(), location);
    Ok(lid.to_owned())
}

async fn wait(downstream: &Downstream, systems: &Systems, printer: &Printer, expected: usize) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while downstream.accepted() < expected || !systems.missing().is_empty() {
        let (arrived, missing) = (downstream.accepted(), systems.missing());
        ensure!(
            Instant::now() < deadline,
            "{arrived} of {expected} deliveries arrived within {PATIENCE:?}; missing of the five systems: {missing:?}"
        );
        tokio::time::sleep(LOOK_EVERY).await;
        systems.tell(printer).await;
    }
    systems.tell(printer).await;
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
