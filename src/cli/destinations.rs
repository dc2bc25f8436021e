//! `kurier destinations`: how they stand; pause and resume.

use std::time::Duration;

use serde_json::{Value, json};

use super::Context;
use super::client::{Client, Remote};
use super::exit::{Exit, Failure};
use super::table::{Table, duration, field, items, time};
use crate::config::Scope;

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    list: List,

    #[command(flatten)]
    remote: Remote,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Show every destination (what `kurier destinations` does)
    List(List),
    /// Stop attempts to a destination until it is resumed; its events wait
    Pause(Named),
    /// Let attempts to a destination go on
    Resume(Named),
}

#[derive(clap::Args)]
struct List {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct Named {
    /// The destination's name
    name: String,
}

pub(super) async fn run(args: Args, context: &mut Context) -> Result<Exit, Failure> {
    match args.command.unwrap_or(Command::List(List { json: false })) {
        Command::List(list) => {
            let as_json = list.json || args.list.json;
            self::list(Client::new(args.remote, context, Some(Scope::Read))?, as_json, context).await
        }
        Command::Pause(named) => steer(args.remote, &named.name, "pause", context).await,
        Command::Resume(named) => steer(args.remote, &named.name, "resume", context).await,
    }
}

async fn steer(remote: Remote, name: &str, verb: &str, context: &mut Context) -> Result<Exit, Failure> {
    let client = Client::new(remote, context, Some(Scope::Operate))?;
    let answer = client.post(&["api", "v1", "destinations", name, verb], None).await?;
    context.out.line(format!("{name} is {}", field(&answer, "state")))?;
    Ok(Exit::Done)
}

async fn list(client: Client, as_json: bool, context: &mut Context) -> Result<Exit, Failure> {
    let (mut all, mut cursor): (Vec<Value>, String) = (Vec::new(), String::new());
    loop {
        let query = [("limit", "500".to_owned()), ("cursor", cursor)];
        let page = client.get(&["api", "v1", "destinations"], &query).await?;
        all.extend_from_slice(items(&page, "items"));
        cursor = field(&page, "next_cursor");
        if cursor.is_empty() {
            break;
        }
    }
    if as_json {
        context.out.json(&json!({ "items": all, "next_cursor": null }))?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["DESTINATION", "STATE", "PENDING", "OLDEST", "DEAD", "IN FLIGHT", "WHERE", "DETAIL"]);
    for item in &all {
        let oldest = item.get("oldest_pending_seconds").and_then(Value::as_u64);
        table.row(vec![
            field(item, "name"),
            field(item, "state"),
            field(item, "pending"),
            oldest.map(|seconds| duration(Duration::from_secs(seconds))).unwrap_or_default(),
            field(item, "dead"),
            field(item, "in_flight"),
            field(item, "origin"),
            detail(item),
        ]);
    }
    if table.is_empty() {
        eprintln!("no destinations are configured");
        return Ok(Exit::Done);
    }
    context.out.line(table.render())?;
    Ok(Exit::Done)
}

fn detail(item: &Value) -> String {
    let paused = field(item, "paused_because");
    let open = field(item, "breaker_open_until");
    if !paused.is_empty() {
        format!("paused: {paused}")
    } else if !open.is_empty() {
        format!("fails; left alone until {}", time(&open))
    } else if field(item, "state") == "removed" {
        "no longer in the configuration".to_owned()
    } else {
        String::new()
    }
}
