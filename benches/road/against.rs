//! One server beside another in short turns, for what a noisy machine hides: the ratio of two that were measured within
//! a second of each other says more than either's rate.

use std::path::PathBuf;
use std::time::Duration;

use crate::load::{Load, Measured};
use crate::servers::{Kind, Server, Setup};

/// How long a turn is.
const TURN: Duration = Duration::from_millis(400);

/// This build's Kurier, accepting, beside (b) and beside other binaries of it, if there are any.
pub(crate) async fn print(others: &[PathBuf], connections: &[usize], rounds: usize) -> anyhow::Result<()> {
    println!(
        "in {rounds} turns of {} ms, events/s and processor time of an event, each to the other's: median (quarters)",
        TURN.as_millis()
    );
    for connections in connections {
        let ours = Server::start(Kind::Accept).await?;
        let raw = Server::start(Kind::Raw).await?;
        let mut servers = vec![ours, raw];
        for binary in others {
            servers.push(Server::alone(&Setup { binary: Some(binary.clone()), ..Setup::default() }).await?);
        }
        let mut turns: Vec<Vec<Measured>> = servers.iter().map(|_| Vec::new()).collect();
        for turn in 0..=rounds {
            for at in 0..servers.len() {
                let at = (at + turn) % servers.len();
                let measured = measured(&servers[at], *connections).await?;
                // The first is for caches and pools.
                if turn > 0 {
                    turns[at].push(measured);
                }
            }
        }
        let names = std::iter::once("(b)".to_owned()).chain(others.iter().map(|binary| binary.display().to_string()));
        for (other, name) in turns[1..].iter().zip(names) {
            let ratios = |of: &dyn Fn(&Measured) -> f64| quarters(turns[0].iter().zip(other).map(|(ours, other)| of(ours) / of(other)));
            let (rates, costs) = (ratios(&Measured::rate), ratios(&cost));
            println!("  {connections} connections, to {name}: rate {rates}, time {costs}");
        }
    }
    Ok(())
}

async fn measured(server: &Server, connections: usize) -> anyhow::Result<Measured> {
    let before = server.cost()?;
    let mut measured = Load::closed(server.address(), connections, 1024, TURN).run().await?;
    measured.cpu = server.cost()?.cpu.saturating_sub(before.cpu);
    Ok(measured)
}

fn cost(measured: &Measured) -> f64 {
    measured.cpu.as_secs_f64() / measured.events.max(1) as f64
}

fn quarters(values: impl Iterator<Item = f64>) -> String {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let at = |share: usize| values.get(values.len() * share / 4).copied().unwrap_or(f64::NAN);
    format!("{:.2} ({:.2} to {:.2})", at(2), at(1), at(3))
}
