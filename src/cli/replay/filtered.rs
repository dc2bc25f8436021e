//! A replay by filter: the server's own job, begun, watched and, with Ctrl-C, stopped from here.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::Context;
use crate::cli::client::{Client, all_or_failed};
use crate::cli::exit::{Exit, Failure};
use crate::cli::table::field;

/// How often the job is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(300);

#[derive(clap::Args)]
pub(super) struct Filter {
    /// Instead of IDs: events of this route
    #[arg(long, value_name = "NAME")]
    route: Option<String>,

    /// Events with a delivery to this destination, and to this one only
    #[arg(long, value_name = "NAME")]
    destination: Option<String>,

    /// Where the newest delivery to a destination is in this state
    #[arg(long, value_name = "STATE", default_value = "dead", value_parser = ["delivered", "dead", "skipped", "cancelled"])]
    state: String,

    /// Received since: RFC 3339, or how long ago, such as 2h
    #[arg(long, value_name = "TIME")]
    since: Option<String>,

    /// Received before; written like --since
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

impl Filter {
    fn request(&self, to: &[String], dry_run: bool) -> Value {
        let Self { route, destination, state, since, until } = self;
        let filter = json!({ "route": route, "destination": destination, "state": state, "since": since, "until": until });
        let mut request = Map::from_iter([("filter".to_owned(), filter), ("dry_run".to_owned(), dry_run.into())]);
        if !to.is_empty() {
            request.insert("destinations".to_owned(), json!(to));
        }
        Value::Object(request)
    }
}

/// Says how many events the filter means, and does nothing.
pub(super) async fn count(client: &Client, filter: &Filter, to: &[String], context: &mut Context, as_json: bool) -> Result<Exit, Failure> {
    let counted = client.post(&["api", "v1", "replays"], Some(filter.request(to, true))).await?;
    if as_json {
        context.out.json(&counted)?;
    } else {
        let or_more = if counted["more"] == true { " or more" } else { "" };
        context.out.line(format!("{}{or_more} events would be replayed", number(&counted, "matched")))?;
    }
    Ok(Exit::Done)
}

/// Replays what the filter means, and says what came of it.
pub(super) async fn run(client: &Client, filter: &Filter, to: &[String], context: &mut Context, as_json: bool) -> Result<Exit, Failure> {
    let begun = client.post(&["api", "v1", "replays"], Some(filter.request(to, false))).await?;
    let ended = watch(client, begun).await?;
    if as_json {
        context.out.json(&ended)?;
    } else {
        context.out.line(line(&ended))?;
    }
    Ok(all_or_failed(ended["status"] == "done"))
}

/// Waits for the job's end. Ctrl-C stops it; a terminal that goes does not.
async fn watch(client: &Client, mut job: Value) -> Result<Value, Failure> {
    let id = field(&job, "id");
    eprintln!("{id} has begun; Ctrl-C stops it, and without this terminal it goes on");
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    let mut said = String::new();
    while job["status"] == "running" {
        tokio::select! {
            biased;
            _ = &mut interrupted => return client.delete(&["api", "v1", "replays", &id]).await,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        job = client.get(&["api", "v1", "replays", &id], &[]).await?;
        let waits_for = field(&job, "waits_for");
        if !waits_for.is_empty() && waits_for != said {
            eprintln!("{} events so far; it waits for {waits_for}", number(&job, "replayed"));
            said = waits_for;
        }
    }
    Ok(job)
}

fn line(job: &Value) -> String {
    let (id, status, error) = (field(job, "id"), field(job, "status"), field(job, "error"));
    let why = if error.is_empty() { String::new() } else { format!(": {error}") };
    format!("{id} is {status}{why}: {} events replayed, {} deliveries", number(job, "replayed"), number(job, "deliveries"))
}

fn number(of: &Value, name: &str) -> u64 {
    of[name].as_u64().unwrap_or(0)
}
