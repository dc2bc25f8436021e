//! The servers under load, each a process of its own with a folder of its own.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tempfile::TempDir;

use crate::load::{self, PATH, SECRET};

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// (a) the bare server.
    Bare,
    /// (b) the bare server, an HMAC and a raw group commit.
    Raw,
    /// (c) Kurier, the destination down.
    Accept,
    /// (d) Kurier, delivering to a sink.
    Deliver,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Bare, Self::Raw, Self::Accept, Self::Deliver];

    /// Its letter in the table.
    pub(crate) fn letter(self) -> char {
        match self {
            Self::Bare => 'a',
            Self::Raw => 'b',
            Self::Accept => 'c',
            Self::Deliver => 'd',
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Bare => "(a) bare server",
            Self::Raw => "(b) + hmac, append, fdatasync",
            Self::Accept => "(c) kurier accepts",
            Self::Deliver => "(d) kurier accepts, delivers",
        }
    }
}

/// What a process has cost so far.
pub(crate) struct Cost {
    pub(crate) cpu: Duration,
    pub(crate) rss: u64,
    pub(crate) rss_peak: u64,
    /// Bytes handed to the disk.
    pub(crate) written: u64,
}

/// A running server; ended when dropped.
pub(crate) struct Server {
    process: Process,
    address: SocketAddr,
    admin: Option<SocketAddr>,
    sink: Option<Box<Self>>,
    _folder: TempDir,
}

/// A child that does not outlive this.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Server {
    pub(crate) async fn start(kind: Kind) -> anyhow::Result<Self> {
        // On the same disk as the project, not on a file system in memory.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        match kind {
            Kind::Bare => Self::limit("bare", folder),
            Kind::Raw => Self::limit("raw", folder),
            Kind::Accept => Self::kurier(folder, None, &Setup::default()).await,
            Kind::Deliver => Self::delivering(&Setup::default()).await,
        }
    }

    /// Kurier that delivers to a sink.
    pub(crate) async fn delivering(setup: &Setup) -> anyhow::Result<Self> {
        let folder = || tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"));
        let sink = Self::limit("sink", folder()?)?;
        Self::kurier(folder()?, Some(sink), setup).await
    }

    /// Kurier whose destinations are the caller's.
    pub(crate) async fn alone(setup: &Setup) -> anyhow::Result<Self> {
        Self::kurier(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?, None, setup).await
    }

    fn limit(kind: &str, folder: TempDir) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["serve", kind]).env("BENCH_FOLDER", folder.path()).stdout(Stdio::piped());
        let mut process = Process(command.spawn()?);
        let mut line = String::new();
        BufReader::new(process.0.stdout.take().context("standard output")?).read_line(&mut line)?;
        let address = line.trim().parse().with_context(|| format!("an address: {line:?}"))?;
        Ok(Self { process, address, admin: None, sink: None, _folder: folder })
    }

    async fn kurier(folder: TempDir, sink: Option<Self>, setup: &Setup) -> anyhow::Result<Self> {
        let (address, admin) = (free_address()?, free_address()?);
        let target = match (&sink, setup.healthy) {
            (Some(sink), _) => sink.address,
            (None, Some(healthy)) => healthy,
            (None, None) => free_address()?,
        };
        std::fs::write(folder.path().join("secret"), SECRET)?;
        std::fs::write(folder.path().join("routes.yaml"), setup.routes(address, admin, target, concurrency()?))?;
        let log = std::fs::File::create(folder.path().join("log"))?;
        let mut command = Command::new(setup.binary.as_deref().unwrap_or(Path::new(env!("CARGO_BIN_EXE_kurier"))));
        command.arg("serve").current_dir(folder.path()).env("KURIER_LOG", "error").stderr(log);
        let process = Process(command.spawn()?);
        let begin = Instant::now();
        while load::get(admin, "/readyz").await.is_err() {
            ensure!(begin.elapsed() < Duration::from_secs(30), "not ready: {}", std::fs::read_to_string(folder.path().join("log"))?);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        stocked(&folder.path().join("data/journal")).await?;
        Ok(Self { process, address, admin: Some(admin), sink: sink.map(Box::new), _folder: folder })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Pending deliveries, as Kurier's metrics tell.
    pub(crate) async fn backlog(&self) -> anyhow::Result<u64> {
        if self.sink.is_some() { self.pending("erp").await } else { Ok(0) }
    }

    /// Pending deliveries of a destination.
    pub(crate) async fn pending(&self, destination: &str) -> anyhow::Result<u64> {
        let text = load::get(self.admin.context("an admin address")?, "/metrics").await?;
        let name = format!("kurier_pending_deliveries{{destination=\"{destination}\"}} ");
        Ok(text.lines().find_map(|line| line.strip_prefix(&name)).context("kurier_pending_deliveries")?.parse()?)
    }

    /// Does what an operator does, by its path.
    pub(crate) async fn operate(&self, path: &str) -> anyhow::Result<()> {
        load::call(self.admin.context("an admin address")?, "POST", path).await.map(drop)
    }

    pub(crate) fn cost(&self) -> anyhow::Result<Cost> {
        let folder = format!("/proc/{}", self.process.0.id());
        let folder = Path::new(&folder);
        let status = std::fs::read_to_string(folder.join("status"))?;
        let field = |name: &str, text: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()).and_then(|number| number.parse::<u64>().ok())
        };
        let stat = std::fs::read_to_string(folder.join("stat"))?;
        // The command's name stands in parentheses and may hold anything; the fields count from behind it.
        let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
        let ticks = ticks(11).zip(ticks(12)).map(|(user, system)| user + system).context("processor time")?;
        let per_second = rustix::param::clock_ticks_per_second();
        let io = std::fs::read_to_string(folder.join("io"))?;
        Ok(Cost {
            cpu: Duration::from_secs_f64(ticks as f64 / per_second as f64),
            rss: field("VmRSS:", &status).context("VmRSS")? * 1024,
            rss_peak: field("VmHWM:", &status).context("VmHWM")? * 1024,
            written: field("write_bytes:", &io).context("write_bytes")?,
        })
    }

    /// Processor time of each thread: in nanoseconds, where [`cost`](Self::cost) counts ticks of 10 ms for all.
    pub(crate) fn busy(&self) -> anyhow::Result<BTreeMap<OsString, Duration>> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.process.0.id()))?;
        let busy = tasks.map(|task| {
            let task = task?;
            let said = std::fs::read_to_string(task.path().join("schedstat"))?;
            Ok((task.file_name(), Duration::from_nanos(said.split_whitespace().next().context("schedstat")?.parse()?)))
        });
        busy.collect()
    }

    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        drop(self.process);
        // The next one must not share the disk with what this one left in the page cache.
        tokio::task::spawn_blocking(rustix::fs::sync).await?;
        Ok(())
    }
}

/// Waits until the segments are prepared that a start prepares once, as (b)'s file is before it is asked.
async fn stocked(journal: &Path) -> anyhow::Result<()> {
    let begin = Instant::now();
    let mut quiet = 0;
    while quiet < 10 {
        ensure!(begin.elapsed() < Duration::from_secs(60), "segments are still prepared after a minute");
        tokio::time::sleep(Duration::from_millis(50)).await;
        let mut names = std::fs::read_dir(journal)?.filter_map(Result::ok);
        let is_preparing = names.any(|name| name.path().extension().is_some_and(|extension| extension == "tmp"));
        quiet = if is_preparing { 0 } else { quiet + 1 };
    }
    Ok(())
}

fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Attempts at a time of the usual destination: as many as it needs to keep up with what is accepted, where accepts and
/// deliveries share two cores. With fewer, accepts get the cores and a backlog grows.
const CONCURRENCY: usize = 512;

/// The same, or what `BENCH_ATTEMPTS` says.
pub(crate) fn concurrency() -> anyhow::Result<usize> {
    std::env::var("BENCH_ATTEMPTS").map_or(Ok(CONCURRENCY), |number| number.parse().context("BENCH_ATTEMPTS: a number"))
}

/// What Kurier is configured with beside the usual.
#[derive(Default)]
pub(crate) struct Setup {
    /// A `transform` of the usual delivery.
    pub(crate) transform: Option<&'static str>,
    /// Where the usual destination is, if it is no sink of its own.
    pub(crate) healthy: Option<SocketAddr>,
    /// A second route, [`DEAD_PATH`], to a destination of its own.
    pub(crate) dead: Option<SocketAddr>,
    /// Another Kurier than this build's.
    pub(crate) binary: Option<PathBuf>,
}

/// The path of the second route.
pub(crate) const DEAD_PATH: &str = "/callbacks/dead";

impl Setup {
    fn routes(&self, listen: SocketAddr, admin: SocketAddr, target: SocketAddr, attempts: usize) -> String {
        const VERIFY: &str = "{ preset: dvelop-smart-invoice, secrets: [{ file: secret }] }";
        let transform = self.transform.map_or_else(String::new, |program| format!(", transform: '{program}'"));
        let mut routes = format!("  invoices: {{ path: {PATH}, verify: {VERIFY}, deliver: [{{ to: erp{transform} }}] }}\n");
        let mut destinations = format!("  erp: {{ url: 'http://{target}/hook', limits: {{ concurrency: {attempts} }} }}\n");
        if let Some(dead) = self.dead {
            routes += &format!("  dead: {{ path: {DEAD_PATH}, verify: {VERIFY}, deliver: [dead] }}\n");
            destinations += &format!("  dead: {{ url: 'http://{dead}/hook' }}\n");
        }
        format!(
            "server: {{ listen: '{listen}' }}
admin: {{ listen: '{admin}' }}
store: {{ path: data, allow_file_systems: [overlay] }}
routes:
{routes}destinations:
{destinations}"
        )
    }
}
