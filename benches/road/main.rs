//! `make bench`: what Kurier reaches, beside the limit measured in the same run.
//!
//! Four servers take the same load in turn: (a) the bare hyper + tower server, (b) that with nothing but the
//! HMAC check and one raw append + fdatasync per group, (c) Kurier with its destination down, (d) Kurier that
//! delivers to a sink. Each is a process of its own; this one is the load generator. Interleaved rounds, medians.
#![expect(clippy::print_stdout, reason = "the table is what a benchmark is for")]
#![expect(clippy::disallowed_methods, reason = "measures real time on real sockets")]

mod against;
mod drain;
mod instructions;
mod isolation;
mod limit;
mod load;
mod servers;
mod sink;
mod table;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};

use load::{Load, Measured};
use servers::{Kind, Server};
use table::Table;

/// What is measured; each can be set by a variable, for a quick look (`BENCH_ROUNDS=1 BENCH_SECONDS=1 BENCH_PARTS=drain,idle`),
/// or for two of the servers side by side (`BENCH_PARTS=accept BENCH_SERVERS=bc`), or for
/// other binaries beside this one (`BENCH_PARTS=turns BENCH_TURNS=100 BENCH_OTHER=…/kurier:…/another`), or for more attempts
/// at a time than usual (`BENCH_ATTEMPTS=1024`).
struct Plan {
    rounds: usize,
    seconds: f64,
    connections: Vec<usize>,
    parts: Vec<String>,
    kinds: Vec<Kind>,
    /// How often each server has its turn.
    turns: usize,
    others: Vec<PathBuf>,
}

/// What a run consists of, in this order.
const PARTS: [&str; 8] = ["accept", "turns", "sizes", "open", "drain", "isolation", "instructions", "idle"];

impl Plan {
    fn from_environment() -> anyhow::Result<Self> {
        let read = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
        let connections = read("BENCH_CONNECTIONS", "1,16,64,256");
        let parts = read("BENCH_PARTS", &PARTS.join(","));
        let parts: Vec<String> = parts.split(',').map(str::to_owned).collect();
        if let Some(unknown) = parts.iter().find(|part| !PARTS.contains(&part.as_str())) {
            bail!("BENCH_PARTS: {unknown} is none of {}", PARTS.join(", "));
        }
        let letters = read("BENCH_SERVERS", "abcd");
        if let Some(unknown) = letters.chars().find(|letter| Kind::ALL.iter().all(|kind| kind.letter() != *letter)) {
            bail!("BENCH_SERVERS: {unknown} is none of a, b, c, d");
        }
        let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| letters.contains(kind.letter())).collect();
        Ok(Self {
            parts,
            kinds,
            turns: read("BENCH_TURNS", "30").parse().context("BENCH_TURNS: a number")?,
            others: std::env::var_os("BENCH_OTHER").iter().flat_map(std::env::split_paths).collect(),
            rounds: read("BENCH_ROUNDS", "5").parse().context("BENCH_ROUNDS: a number")?,
            seconds: read("BENCH_SECONDS", "2").parse().context("BENCH_SECONDS: a number")?,
            connections: connections.split(',').map(str::parse).collect::<Result<_, _>>().context("BENCH_CONNECTIONS: numbers")?,
        })
    }

    fn has(&self, part: &str) -> bool {
        self.parts.iter().any(|known| known == part)
    }

    fn window(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    match arguments.next().as_deref() {
        Some("serve") => {
            let kind = arguments.next().context("which limit?")?;
            if kind == "sink" {
                return tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(sink::serve());
            }
            tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(limit::serve(&kind))
        }
        Some("count") => {
            let what = arguments.next().context("what?")?;
            let times = arguments.next().context("how often?")?.parse()?;
            tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(instructions::work(&what, times))
        }
        Some(other) => {
            bail!("unknown argument {other}; the variables BENCH_ROUNDS, BENCH_SECONDS, BENCH_CONNECTIONS and BENCH_PARTS set what is run")
        }
        None => tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run(&Plan::from_environment()?)),
    }
}

async fn run(plan: &Plan) -> anyhow::Result<()> {
    println!("{}", table::machine());
    println!("\n1 KiB bodies, signed, unique; {} rounds of {} s each, interleaved, medians\n", plan.rounds, plan.seconds);
    if plan.has("accept") {
        accept(plan).await?;
    }
    if plan.has("turns") {
        against::print(&plan.others, &plan.connections, plan.turns).await?;
    }
    if plan.has("sizes") {
        sizes(plan).await?;
    }
    if plan.has("open") {
        open_loop(plan).await?;
    }
    if plan.has("drain") {
        drain::print().await?;
    }
    if plan.has("isolation") {
        isolation::print().await?;
    }
    if plan.has("instructions") {
        instructions::print()?;
    }
    if plan.has("idle") { idle().await } else { Ok(()) }
}

async fn accept(plan: &Plan) -> anyhow::Result<()> {
    let mut table = Table::new();
    for connections in &plan.connections {
        for _ in 0..plan.rounds {
            for kind in plan.kinds.iter().copied() {
                table.add(*connections, kind, closed(kind, *connections, 1024, plan.window()).await?);
            }
        }
        table.print(*connections, &plan.kinds);
    }
    println!();
    Ok(())
}

async fn sizes(plan: &Plan) -> anyhow::Result<()> {
    for size in [256, 10 * 1024] {
        let mut table = Table::new();
        for _ in 0..plan.rounds {
            for kind in plan.kinds.iter().copied() {
                table.add(64, kind, closed(kind, 64, size, plan.window()).await?);
            }
        }
        println!("{size} B bodies");
        table.print(64, &plan.kinds);
    }
    Ok(())
}

/// As fast as this many connections go, each with one request under way.
async fn closed(kind: Kind, connections: usize, body: usize, window: Duration) -> anyhow::Result<Measured> {
    let server = Server::start(kind).await?;
    let load = Load::closed(server.address(), connections, body, window);
    // Caches, pools and the prepared segments are as in the midst of a day.
    Load { window: window / 4, ..load }.run().await?;
    let before = server.cost()?;
    let mut measured = load.run().await?;
    measured.cpu = server.cost()?.cpu.saturating_sub(before.cpu);
    measured.rss_peak = server.cost()?.rss_peak;
    measured.backlog = server.backlog().await?;
    server.stop().await?;
    Ok(measured)
}

/// Latency where it matters: at half of what each can take, measured from when each event was due; and whether what is
/// delivered keeps up with what is accepted.
async fn open_loop(plan: &Plan) -> anyhow::Result<()> {
    println!("open loop at half of each one's rate with 64 connections, from the scheduled time");
    let mut accepted = 0.0;
    for kind in plan.kinds.iter().copied().filter(|kind| *kind != Kind::Bare) {
        let most = closed(kind, 64, 1024, plan.window()).await?.rate();
        if kind == Kind::Accept {
            accepted = most;
        }
        println!("  {}", table::line(kind, &paced(kind, most / 2.0, plan.window()).await?));
    }
    if accepted == 0.0 || !plan.kinds.contains(&Kind::Deliver) {
        return Ok(());
    }
    println!("(d) at 0.40 of (c)'s rate");
    for seconds in [2, 4] {
        let measured = paced(Kind::Deliver, accepted * 0.4, Duration::from_secs(seconds)).await?;
        println!("  {}; after {seconds} s {} wait", table::line(Kind::Deliver, &measured), measured.backlog);
    }
    Ok(())
}

/// At this rate, whatever the answers take.
async fn paced(kind: Kind, rate: f64, window: Duration) -> anyhow::Result<Measured> {
    let server = Server::start(kind).await?;
    let load = Load { rate: Some(rate), ..Load::closed(server.address(), 64, 1024, window) };
    // As in `closed`: what a start does once is no part of it.
    Load { window: window / 4, ..load }.run().await?;
    let mut measured = load.run().await?;
    measured.backlog = server.backlog().await?;
    server.stop().await?;
    Ok(measured)
}

/// What Kurier takes while nothing happens.
async fn idle() -> anyhow::Result<()> {
    let server = Server::start(Kind::Accept).await?;
    // The first seconds prepare segments; a second of silence seals the journal.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let (before, busy) = (server.cost()?, server.busy()?);
    let time = Duration::from_secs(10);
    tokio::time::sleep(time).await;
    let since = |(thread, now): (&_, &Duration)| now.saturating_sub(busy.get(thread).copied().unwrap_or_default());
    let (after, busy) = (server.cost()?, server.busy()?.iter().map(since).sum::<Duration>());
    let (seconds, share) = (time.as_secs(), busy.as_secs_f64() / time.as_secs_f64() * 100.0);
    println!(
        "\nidle for {seconds} s: {:.1} MiB RSS, {share:.2} % CPU, {} bytes written",
        table::mebibytes(after.rss),
        after.written.saturating_sub(before.written)
    );
    server.stop().await
}
