//! `kurier store`: the store's folder, looked at from outside.

use std::path::{Path, PathBuf};

use super::exit::{Exit, Failure};
use super::{Context, settings};
use crate::store::local::FileDisk;
use crate::store::local::StoreError;
use crate::store::local::tools::{self, Findings, Progress, Stats};

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,

    /// The store's folder, in place of the configuration's
    #[arg(long, global = true, value_name = "FOLDER")]
    path: Option<PathBuf>,
}

#[derive(clap::Subcommand)]
enum Action {
    /// What it holds; the server may be running
    Stats {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Read every byte and name all damage; the server must be stopped
    Check,
    /// Contain damage so that the store opens again, and say what is lost; the server must be stopped
    Repair,
    /// Copy it into an empty folder; the server may be running
    Backup {
        /// The folder to make
        to: PathBuf,
    },
    /// Copy a backup into the store's folder, which must be empty
    Restore {
        /// The backup
        from: PathBuf,
    },
}

pub(super) async fn run(args: Args, context: &mut Context) -> Result<Exit, Failure> {
    let path = match args.path {
        Some(path) => path,
        // Secrets are no business of a look at files.
        None => settings::load(context, true)?.store.path,
    };
    match args.action {
        Action::Stats { json } => {
            let stats = tools::stats(&FileDisk, &path, &mut shown("reading")).await.map_err(failure)?;
            show_stats(context, &path, &stats, json)?;
            Ok(Exit::Done)
        }
        Action::Check => {
            let findings = tools::check(&FileDisk, &path, &mut shown("checking")).await.map_err(failure)?;
            show_findings(context, &findings)?;
            if findings.damage.is_empty() {
                return Ok(Exit::Done);
            }
            eprintln!("hint: `kurier store repair` contains the damage; take a copy of the folder first, or restore a backup");
            Ok(Exit::Failed)
        }
        Action::Repair => {
            let findings = tools::repair(&FileDisk, &path, &mut shown("repairing")).await.map_err(failure)?;
            show_findings(context, &findings)?;
            if !findings.damage.is_empty() {
                context.out.line("repaired: the store opens again, without what is named above")?;
            }
            Ok(Exit::Done)
        }
        Action::Backup { to } => copy(context, &path, &to, "backing up").await,
        Action::Restore { from } => copy(context, &from, &path, "restoring").await,
    }
}

async fn copy(context: &mut Context, from: &Path, to: &Path, word: &'static str) -> Result<Exit, Failure> {
    let copied = tools::copy(&FileDisk, from, to, &mut shown(word)).await.map_err(failure)?;
    let (segments, bytes) = (count(copied.segments, "segment", "segments"), copied.bytes);
    let until = copied.until.map_or("no commits yet".to_owned(), |until| format!("commits up to {until}"));
    context.out.line(format!("{}: {segments}, {bytes} bytes, {until}", to.display()))?;
    Ok(Exit::Done)
}

fn failure(error: StoreError) -> Failure {
    let hint = match &error {
        StoreError::InUse { .. } => Some("stop the server first; `stats` and `backup` work while it runs"),
        StoreError::NotAStore { .. } => Some("--path names the folder; a copy wants an empty one to write to"),
        StoreError::Damaged { .. } => Some("`kurier store check` names all damage"),
        StoreError::FileSystem { .. } | StoreError::Version { .. } | StoreError::Options(_) | StoreError::Io { .. } => None,
    };
    let failure = Failure::new(Exit::Store, error.to_string());
    match hint {
        Some(hint) => failure.with_hint(hint),
        None => failure,
    }
}

/// Progress on standard error, in tenths.
fn shown(word: &'static str) -> impl FnMut(Progress) + Send {
    let mut tenths = 0;
    move |progress: Progress| {
        let now = progress.done.saturating_mul(10).checked_div(progress.total).unwrap_or(10);
        if now > tenths {
            tenths = now;
            eprintln!("{word}: {} of {} MiB", progress.done >> 20, progress.total >> 20);
        }
    }
}

fn show_findings(context: &mut Context, findings: &Findings) -> Result<(), Failure> {
    for damage in &findings.damage {
        context.out.line(format!("{} at byte {}: {}", damage.file.display(), damage.offset, damage.what))?;
        for lost in &damage.lost {
            context.out.line(format!("  lost: {lost}"))?;
        }
    }
    for event in &findings.missing {
        context.out.line(format!("lost: event {event}, known from what followed from it"))?;
    }
    let places = findings.damage.len() as u64;
    let word = if places == 0 { "sound".to_owned() } else { count(places, "damaged place", "damaged places") };
    let segments = count(findings.segments, "segment", "segments");
    let batches = count(findings.batches, "batch", "batches");
    context.out.line(format!("{word}: {segments}, {batches}, {}", count(findings.records, "record", "records")))
}

fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

fn show_stats(context: &mut Context, path: &Path, stats: &Stats, json: bool) -> Result<(), Failure> {
    let pending: u64 = stats.pending.values().sum();
    let dead: u64 = stats.dead.values().sum();
    if json {
        let segments = stats.segments.iter().map(|segment| {
            serde_json::json!({
                "number": segment.number, "used_bytes": segment.used, "bytes": segment.bytes, "events": segment.events,
                "pending": segment.pending, "from": segment.from.to_string(), "until": segment.until.to_string(),
            })
        });
        let by_name = |counts: &std::collections::BTreeMap<crate::model::Name, u64>| -> serde_json::Map<String, serde_json::Value> {
            counts.iter().map(|(name, count)| (name.to_string(), (*count).into())).collect()
        };
        return context.out.json(&serde_json::json!({
            "path": path.display().to_string(), "store": format!("{:032x}", stats.store), "events": stats.events,
            "body_bytes": stats.body_bytes, "pending": by_name(&stats.pending), "dead": by_name(&stats.dead), "states": stats.states, "moved_keys": stats.keys,
            "journal_bytes": stats.journal_bytes, "spare_segments": stats.spare, "segments": segments.collect::<Vec<_>>(),
        }));
    }
    context.out.line(format!("{}: store {:032x}", path.display(), stats.store))?;
    context.out.line(format!("events: {}, with {} bytes of bodies", stats.events, stats.body_bytes))?;
    context.out.line(format!("deliveries: {pending} pending, {dead} dead"))?;
    let names: std::collections::BTreeSet<_> = stats.pending.keys().chain(stats.dead.keys()).collect();
    for name in names {
        let of = |counts: &std::collections::BTreeMap<crate::model::Name, u64>| counts.get(name).copied().unwrap_or(0);
        context.out.line(format!("  {name}: {} pending, {} dead", of(&stats.pending), of(&stats.dead)))?;
    }
    let (count, spare) = (stats.segments.len(), stats.spare);
    let (bytes, states, keys) = (stats.journal_bytes, stats.states, stats.keys);
    context.out.line(format!("journal: {bytes} bytes in {count} segments and {spare} spare ones; {states} states, {keys} moved keys"))?;
    for segment in &stats.segments {
        context.out.line(format!(
            "  {:016x}: {} to {}, {} of {} bytes used, {} events, {} deliveries pending",
            segment.number, segment.from, segment.until, segment.used, segment.bytes, segment.events, segment.pending
        ))?;
    }
    Ok(())
}
