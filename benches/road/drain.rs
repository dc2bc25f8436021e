//! How fast what waits is delivered once its destination is back: as it came, and through a `transform`.

use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::load::Load;
use crate::servers::{Server, Setup, concurrency};

const WAITING: u64 = 20_000;

/// A program as users write them: some fields under other names.
const TRANSFORM: &str = "{id: .body.workflow.id, kind: .body.event_type, route, received_at}";

/// Prints both, and what the transform costs.
pub(crate) async fn print() -> anyhow::Result<()> {
    let (plain, transformed) = (drained(None).await?, drained(Some(TRANSFORM)).await?);
    let rate = |took: Duration| WAITING as f64 / took.as_secs_f64();
    let more = transformed.saturating_sub(plain).as_secs_f64() * 1e6 / WAITING as f64;
    println!("\ndrain of {WAITING} that wait, {} at a time: {:.0} events/s", concurrency()?, rate(plain));
    println!("  through a transform: {:.0} events/s, {more:.0} µs more for each", rate(transformed));
    Ok(())
}

/// From the end of a pause until nothing waits.
async fn drained(transform: Option<&'static str>) -> anyhow::Result<Duration> {
    let server = Server::delivering(&Setup { transform, ..Setup::default() }).await?;
    server.operate("/api/v1/destinations/erp/pause").await?;
    Load { events: WAITING, ..Load::closed(server.address(), 64, 1024, Duration::from_secs(60)) }.run().await?;
    ensure!(server.backlog().await? >= WAITING, "they wait while it is paused");
    let begin = Instant::now();
    server.operate("/api/v1/destinations/erp/resume").await?;
    while server.backlog().await? > 0 {
        ensure!(begin.elapsed() < Duration::from_secs(120), "it never drained");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let took = begin.elapsed();
    server.stop().await?;
    Ok(took)
}
