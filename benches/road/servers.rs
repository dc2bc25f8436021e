//! The servers under load, each a process of its own with a folder of its own.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
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
            Kind::Accept => Self::kurier(folder, None).await,
            Kind::Deliver => {
                let sink = Self::limit("bare", tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?)?;
                Self::kurier(folder, Some(sink)).await
            }
        }
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

    async fn kurier(folder: TempDir, sink: Option<Self>) -> anyhow::Result<Self> {
        let (address, admin) = (free_address()?, free_address()?);
        let target = sink.as_ref().map_or_else(free_address, |sink| Ok(sink.address))?;
        std::fs::write(folder.path().join("secret"), SECRET)?;
        std::fs::write(folder.path().join("routes.yaml"), routes(address, admin, target))?;
        let log = std::fs::File::create(folder.path().join("log"))?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_kurier"));
        command.arg("serve").current_dir(folder.path()).env("KURIER_LOG", "error").stderr(log);
        let process = Process(command.spawn()?);
        let begin = Instant::now();
        while load::get(admin, "/readyz").await.is_err() {
            ensure!(begin.elapsed() < Duration::from_secs(30), "not ready: {}", std::fs::read_to_string(folder.path().join("log"))?);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(Self { process, address, admin: Some(admin), sink: sink.map(Box::new), _folder: folder })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Pending deliveries, as Kurier's metrics tell.
    pub(crate) async fn backlog(&self) -> anyhow::Result<u64> {
        let (Some(admin), Some(_)) = (self.admin, &self.sink) else { return Ok(0) };
        let text = load::get(admin, "/metrics").await?;
        let line = text.lines().find_map(|line| line.strip_prefix("kurier_pending_deliveries{destination=\"erp\"} "));
        Ok(line.context("kurier_pending_deliveries")?.parse()?)
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

    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        drop(self.process);
        // The next one must not share the disk with what this one left in the page cache.
        tokio::task::spawn_blocking(rustix::fs::sync).await?;
        Ok(())
    }
}

fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn routes(listen: SocketAddr, admin: SocketAddr, target: SocketAddr) -> String {
    format!(
        "server: {{ listen: '{listen}' }}
admin: {{ listen: '{admin}' }}
store: {{ path: data, allow_file_systems: [overlay] }}
routes:
  invoices:
    path: {PATH}
    verify: {{ preset: dvelop-smart-invoice, secrets: [{{ file: secret }}] }}
    deliver: [erp]
destinations:
  erp:
    url: http://{target}/hook
    limits: {{ concurrency: 64 }}
"
    )
}
