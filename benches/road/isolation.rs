//! Whether a dead destination can be felt at another one: from the moment an event is sent to Kurier until it has arrived
//! at the healthy destination, alone and beside a destination that answers nothing and has 10,000 deliveries waiting.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use hdrhistogram::Histogram;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

use crate::load::{self, Load};
use crate::servers::{DEAD_PATH, Server, Setup};
use crate::sink;

const WAITING: u64 = 10_000;
const EVENTS: u128 = 1_000;
const EVERY: Duration = Duration::from_millis(5);

/// When each event was sent, by the number in its body.
type Sent = Rc<RefCell<HashMap<u128, Instant>>>;

/// Prints both.
pub(crate) async fn print() -> anyhow::Result<()> {
    LocalSet::new().run_until(compare()).await
}

async fn compare() -> anyhow::Result<()> {
    let (alone, beside) = (arrivals(false).await?, arrivals(true).await?);
    let p95 = |found: &Histogram<u64>| found.value_at_quantile(0.95) as f64 / 1000.0;
    println!("\nfrom sent to delivered at 200 events/s: p95 {:.2} ms alone", p95(&alone));
    println!(
        "  beside a destination that answers nothing and has {WAITING} waiting: p95 {:.2} ms, {:.2} of alone",
        p95(&beside),
        p95(&beside) / p95(&alone)
    );
    Ok(())
}

/// Microseconds from sent to arrived.
async fn arrivals(beside_a_dead_one: bool) -> anyhow::Result<Histogram<u64>> {
    let destination = TcpListener::bind("127.0.0.1:0").await?;
    // Connections to it are made by the kernel, and that is all.
    let dead = std::net::TcpListener::bind("127.0.0.1:0")?;
    let setup = Setup { healthy: Some(destination.local_addr()?), dead: Some(dead.local_addr()?), ..Setup::default() };
    let server = Server::alone(&setup).await?;
    let sent: Sent = Rc::default();
    let found = Rc::new(RefCell::new(Histogram::new(3)?));
    let (sent_at, arrived) = (sent.clone(), found.clone());
    tokio::task::spawn_local(sink::take(destination, move |body: &[u8]| {
        if let Some(at) = sent_at.borrow_mut().remove(&load::serial(body)?) {
            arrived.borrow_mut().record(u64::try_from(at.elapsed().as_micros())?.max(1))?;
        }
        Ok(())
    }));
    if beside_a_dead_one {
        let fill = Load::closed(server.address(), 64, 1024, Duration::from_secs(60));
        Load { path: DEAD_PATH, events: WAITING, ..fill }.run().await?;
        ensure!(server.pending("dead").await? >= WAITING, "a destination that answers nothing has them all waiting");
    }
    let mut socket = TcpStream::connect(server.address()).await?;
    socket.set_nodelay(true)?;
    let (mut request, mut answer) = (Vec::new(), vec![0; 4096]);
    let begin = Instant::now();
    for number in 0..EVENTS {
        tokio::time::sleep_until((begin + EVERY * u32::try_from(number)?).into()).await;
        load::compose(&mut request, load::PATH, number, 1024)?;
        sent.borrow_mut().insert(number, Instant::now());
        socket.write_all(&request).await?;
        load::read_answer(&mut socket, &mut answer).await?;
    }
    let wanted = u64::try_from(EVENTS)?;
    let end = Instant::now() + Duration::from_secs(30);
    while found.borrow().len() < wanted {
        ensure!(Instant::now() < end, "{} of {wanted} arrived", found.borrow().len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    server.stop().await?;
    let found = found.borrow().clone();
    Ok(found)
}
