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
    if args.json {
        context.out.json(&as_json(&report))?;
    } else {
        for result in &report.results {
            let id = printable(&result.id, false);
            match &result.failure {
                Some(failure) => context.out.line(format!("FAILED {id}: {}", printable(failure, false)))?,
                None if args.verbose => context.out.line(format!("passed {id}"))?,
                None => {}
            }
        }
        context.out.line(format!("{} passed, {} failed", report.passed(), report.failed()))?;
    }
    Ok(if report.failed() == 0 { Exit::Done } else { Exit::Failed })
}

fn as_json(report: &Report) -> serde_json::Value {
    let one = |result: &vectors::VectorResult| json!({ "id": result.id, "passed": result.failure.is_none(), "failure": result.failure });
    json!({ "items": report.results.iter().map(one).collect::<Vec<_>>() })
}
