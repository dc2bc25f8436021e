//! `kurier verify`: signature vectors.

use std::path::PathBuf;

use serde_json::json;

use super::Context;
use super::exit::{Exit, Failure};
use super::table::printable;
use crate::signature::vectors::{self, Report};

#[derive(clap::Args)]
pub(super) struct Args {
    /// The vectors to run
    #[arg(long, value_name = "FILE")]
    vectors: PathBuf,

    /// Print every result as JSON
    #[arg(long)]
    json: bool,

    /// Name the vectors that passed too
    #[arg(long, short, conflicts_with = "json")]
    verbose: bool,
}

pub(super) fn run(args: &Args, context: &mut Context) -> Result<Exit, Failure> {
    let shown = args.vectors.display();
    let text = std::fs::read(&args.vectors).map_err(|error| Failure::failed(format!("reading {shown}: {error}")))?;
    let report = vectors::run(&text).map_err(|reason| Failure::failed(format!("{shown}: {reason}")))?;
    let failed = report.results.iter().filter(|result| !result.passed).count();
    if args.json {
        context.out.json(&as_json(&report))?;
    } else {
        for result in report.results.iter().filter(|result| args.verbose || !result.passed) {
            let word = if result.passed { "passed" } else { "FAILED" };
            let detail = if result.detail.is_empty() { String::new() } else { format!(": {}", printable(&result.detail, false)) };
            context.out.line(format!("{word} {}{detail}", printable(&result.id, false)))?;
        }
        context.out.line(format!("{} passed, {failed} failed", report.results.len().saturating_sub(failed)))?;
    }
    Ok(if failed == 0 { Exit::Done } else { Exit::Failed })
}

fn as_json(report: &Report) -> serde_json::Value {
    let one = |result: &vectors::VectorResult| json!({ "id": result.id, "passed": result.passed, "detail": result.detail });
    json!({ "items": report.results.iter().map(one).collect::<Vec<_>>() })
}
