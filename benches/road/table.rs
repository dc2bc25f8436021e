//! Medians, ratios and how they are printed.

use std::collections::BTreeMap;

use crate::load::Measured;
use crate::servers::Kind;

/// All rounds, by connections and kind.
pub(crate) struct Table(BTreeMap<(usize, Kind), Vec<Measured>>);

impl Table {
    pub(crate) fn new() -> Self {
        Self(BTreeMap::new())
    }

    pub(crate) fn add(&mut self, connections: usize, kind: Kind, measured: Measured) {
        self.0.entry((connections, kind)).or_default().push(measured);
    }

    fn median(&self, connections: usize, kind: Kind, of: impl Fn(&Measured) -> f64) -> f64 {
        let mut values: Vec<f64> = self.0.get(&(connections, kind)).into_iter().flatten().map(of).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// The rows of so many connections.
    pub(crate) fn print(&self, connections: usize, kinds: &[Kind]) {
        println!("{connections} connections");
        println!(
            "  {:<30} {:>9}  {:>7} {:>7} {:>7} {:>7}  {:>8} {:>8} {:>8}",
            "", "events/s", "ratio", "p50 ms", "p99", "p99.9", "µs CPU", "MiB RSS", "backlog"
        );
        for kind in kinds.iter().copied() {
            let median = |of: &dyn Fn(&Measured) -> f64| self.median(connections, kind, of);
            let rate = median(&Measured::rate);
            let ratio = match kind {
                Kind::Bare => String::new(),
                Kind::Raw | Kind::Accept => ratio(
                    rate,
                    self.median(connections, if kind == Kind::Raw { Kind::Bare } else { Kind::Raw }, Measured::rate),
                    if kind == Kind::Raw { 'a' } else { 'b' },
                ),
                Kind::Deliver => ratio(rate, self.median(connections, Kind::Accept, Measured::rate), 'c'),
            };
            let quantile = |q: f64| median(&|measured| measured.latency.value_at_quantile(q) as f64 / 1000.0);
            println!(
                "  {:<30} {rate:>9.0}  {ratio:>7} {:>7.2} {:>7.2} {:>7.2}  {:>8.1} {:>8.1} {:>8.0}",
                kind.title(),
                quantile(0.5),
                quantile(0.99),
                quantile(0.999),
                median(&|measured| measured.cpu.as_secs_f64() * 1e6 / measured.events.max(1) as f64),
                median(&|measured| mebibytes(measured.rss_peak)),
                median(&|measured| measured.backlog as f64),
            );
        }
    }
}

fn ratio(value: f64, of: f64, name: char) -> String {
    format!("{:.2} {name}", value / of)
}

/// One measurement in one line.
pub(crate) fn line(kind: Kind, measured: &Measured) -> String {
    let quantile = |q: f64| measured.latency.value_at_quantile(q) as f64 / 1000.0;
    format!(
        "{:<30} {:>9.0} events/s, p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms",
        kind.title(),
        measured.rate(),
        quantile(0.5),
        quantile(0.99),
        quantile(0.999)
    )
}

pub(crate) fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}

/// What it was measured on.
pub(crate) fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model =
        info.lines().find_map(|line| line.strip_prefix("model name")).map_or("unknown", |line| line.trim_start_matches([' ', '\t', ':']));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{cores} × {model}, Linux {}", read("/proc/sys/kernel/osrelease").trim())
}
