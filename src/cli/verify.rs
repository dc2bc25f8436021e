//! `kurier verify`: signature vectors, and the doctor for one request: captured in a file, or in quarantine. Of the latter
//! the server says what is wrong, so that no secret leaves it.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::client::{Client, Remote};
use super::exit::{Exit, Failure};
use super::table::{field, items, printable};
use super::{Context, settings};
use crate::config::{Config, Route, Scope};
use crate::model::{RefusalId, Timestamp};
use crate::signature::vectors::{self, Report};
use crate::signature::{Diagnosis, Step, Verifier, captured};

#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["vectors", "route"]))]
pub(super) struct Args {
    /// The vectors to run
    #[arg(long, value_name = "FILE")]
    vectors: Option<PathBuf>,

    /// Explain why a request of this route verifies or not
    #[arg(long, value_name = "NAME", requires = "from")]
    route: Option<String>,

    /// The captured request: an HTTP/1.1 message, or JSON with method, url, headers and body
    #[arg(long, value_name = "FILE", requires = "route", group = "from")]
    request: Option<PathBuf>,

    /// A refused request in the quarantine of the running server
    #[arg(long, value_name = "ID", requires = "route", group = "from")]
    refusal: Option<RefusalId>,

    /// When the request was received, in RFC 3339 [default: what the file says, else now]
    #[arg(long, value_name = "TIME", requires = "request")]
    at: Option<Timestamp>,

    /// Print every result as JSON
    #[arg(long)]
    json: bool,

    /// Name the vectors that passed too
    #[arg(long, short, conflicts_with = "json", requires = "vectors")]
    verbose: bool,

    #[command(flatten)]
    remote: Remote,
}

pub(super) async fn run(args: Args, context: &mut Context) -> Result<Exit, Failure> {
    match (&args.vectors, &args.route, &args.request, args.refusal) {
        (Some(file), ..) => run_vectors(&args, file, context),
        (None, Some(route), Some(request), _) => explain(&args, route, request, context),
        (None, Some(route), None, Some(refusal)) => {
            let client = Client::new(args.remote, context, Some(Scope::Read))?;
            explain_refusal(&client, route, refusal, args.json, context).await
        }
        (None, ..) => Err(Failure::usage("--route goes with --request or --refusal")),
    }
}

/// What the server's doctor says.
async fn explain_refusal(client: &Client, route: &str, id: RefusalId, as_json: bool, context: &mut Context) -> Result<Exit, Failure> {
    let refusal = client.get(&["api", "v1", "refusals", &id.to_string()], &[]).await?;
    let of = field(&refusal, "route");
    if of != route {
        return Err(Failure::usage(format!("{id} was refused by the route `{}`, not by `{route}`", printable(&of, false))));
    }
    let told = &refusal["diagnosis"];
    let diagnosis = Diagnosis {
        accepted: told["accepted"] == true,
        verdict: field(told, "verdict").into(),
        steps: items(told, "steps")
            .iter()
            .map(|step| Step { name: field(step, "name").into(), good: step["good"] == true, seen: field(step, "seen") })
            .collect(),
        findings: items(told, "findings").iter().filter_map(|finding| Some(finding.as_str()?.to_owned())).collect(),
    };
    if as_json {
        context.out.json(&refusal)?;
    } else {
        print(&diagnosis, context)?;
        if diagnosis.accepted {
            eprintln!("next: `kurier events release --route {route}` lets it in");
        }
    }
    Ok(if diagnosis.accepted { Exit::Done } else { Exit::Failed })
}

fn run_vectors(args: &Args, file: &Path, context: &mut Context) -> Result<Exit, Failure> {
    let shown = file.display();
    let text = std::fs::read(file).map_err(|error| Failure::failed(format!("reading {shown}: {error}")))?;
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

fn explain(args: &Args, name: &str, file: &Path, context: &mut Context) -> Result<Exit, Failure> {
    let config = settings::load(context, false)?;
    let route = find(&config, name)?;
    let shown = file.display();
    let text = std::fs::read(file).map_err(|error| Failure::failed(format!("reading {shown}: {error}")))?;
    let captured = captured::read(&text).map_err(|reason| Failure::failed(format!("{shown}: {reason}")))?;
    let now = args.at.or(captured.received_at).unwrap_or(context.now);
    let mut inbound = captured.inbound;
    if let Some(url) = &config.server.public_url {
        inbound.base = url.clone();
    }
    let Some(path) = &route.path else { return Err(Failure::usage(format!("the route `{name}` fetches its events: nobody sends to it"))) };
    if !path.matches(inbound.path()) {
        eprintln!("warning: the path of this request is not one of the route's ({})", path.text);
    }
    let others: Vec<(&str, &Verifier)> =
        config.routes.iter().filter(|other| other.name != route.name).map(|other| (&*other.name, &other.verifier)).collect();
    let mut diagnosis = route.verifier.diagnose(&inbound, now, &others);
    for step in diagnosis.steps.iter_mut().filter(|step| step.name == "address") {
        step.seen.push_str(" (a captured file does not know its sender)");
    }
    if args.json {
        context.out.json(&diagnosis.to_json())?;
    } else {
        print(&diagnosis, context)?;
    }
    Ok(if diagnosis.accepted { Exit::Done } else { Exit::Failed })
}

fn print(diagnosis: &Diagnosis, context: &mut Context) -> Result<(), Failure> {
    for step in &diagnosis.steps {
        let mark = if step.good { "ok " } else { "NO " };
        context.out.line(format!("{mark} {:<12} {}", printable(&step.name, false), printable(&step.seen, false)))?;
    }
    context.out.line(if diagnosis.accepted {
        diagnosis.verdict.to_string()
    } else {
        format!("refused: {}", printable(&diagnosis.verdict, false))
    })?;
    for finding in &diagnosis.findings {
        context.out.line(printable(finding, false))?;
    }
    if !diagnosis.accepted && diagnosis.findings.is_empty() {
        context.out.line("none of the usual single changes makes it verify: compare secret and scheme with what the sender has")?;
    }
    Ok(())
}

fn find<'c>(config: &'c Config, name: &str) -> Result<&'c Route, Failure> {
    config.routes.iter().map(|route| &**route).find(|route| *route.name == *name).ok_or_else(|| {
        let known: Vec<&str> = config.routes.iter().map(|route| &*route.name).collect();
        Failure::usage(format!("there is no route `{name}`")).with_hint(format!("there are: {}", known.join(", ")))
    })
}
