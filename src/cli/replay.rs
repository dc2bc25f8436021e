//! `kurier replay`: stored events are delivered again, named one by one or found by a filter.

mod filtered;

use serde_json::{Map, Value, json};

use super::Context;
use super::client::{Client, Remote, all_or_failed};
use super::exit::{Exit, Failure};
use super::table::{field, items};
use crate::config::Scope;
use crate::model::EventId;
use filtered::Filter;

#[derive(clap::Args)]
pub(super) struct Args {
    /// The events
    #[arg(
        value_name = "ID",
        required_unless_present_any = ["route", "destination", "since", "until"],
        conflicts_with_all = ["route", "destination", "state", "since", "until"]
    )]
    ids: Vec<EventId>,

    #[command(flatten)]
    filter: Filter,

    /// Only to this destination; may be given several times [default: of an ID, where the route delivers now; of a
    /// filter, where the delivery is in the state]
    #[arg(long, value_name = "DESTINATION")]
    to: Vec<String>,

    /// Say what would be delivered where, and do nothing
    #[arg(long)]
    dry_run: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    remote: Remote,
}

pub(super) async fn run(args: Args, context: &mut Context) -> Result<Exit, Failure> {
    let client = Client::new(args.remote, context, Some(Scope::Operate))?;
    if args.ids.is_empty() {
        let (filter, to) = (&args.filter, &args.to);
        return match args.dry_run {
            true => filtered::count(&client, filter, to, context, args.json).await,
            false => filtered::run(&client, filter, to, context, args.json).await,
        };
    }
    let (mut done, mut unreachable): (Vec<Value>, Option<Failure>) = (Vec::new(), None);
    for event in &args.ids {
        let event = event.to_string();
        match client.post(&["api", "v1", "events", &event, "replay"], Some(request(&args.to, args.dry_run))).await {
            Ok(answer) => done.push(answer),
            // The others may well go through; what failed is said now, what was done is said below.
            Err(failure) if !failure.is_unreachable() => eprint!("{}", failure.about(&event)),
            Err(failure) => {
                unreachable = Some(failure.about(&event));
                break;
            }
        }
    }
    if args.json {
        context.out.json(&json!({ "items": done }))?;
    } else {
        for answer in &done {
            context.out.line(line(answer, args.dry_run))?;
        }
    }
    if !done.is_empty() && !args.dry_run {
        eprintln!("next: `kurier events show ID` says what became of it");
    }
    if let Some(failure) = unreachable {
        return Err(failure);
    }
    Ok(all_or_failed(done.len() == args.ids.len()))
}

fn request(destinations: &[String], dry_run: bool) -> Value {
    let mut request = Map::new();
    if dry_run {
        request.insert("dry_run".to_owned(), json!(true));
    }
    if !destinations.is_empty() {
        request.insert("destinations".to_owned(), json!(destinations));
    }
    Value::Object(request)
}

fn line(answer: &Value, dry_run: bool) -> String {
    let delivery = |item: &Value| {
        let (id, destination) = (field(item, "id"), field(item, "destination"));
        if id.is_empty() { destination } else { format!("{destination} ({id})") }
    };
    let deliveries: Vec<String> = items(answer, "deliveries").iter().map(delivery).collect();
    let verb = if dry_run { "would be replayed" } else { "is replayed" };
    format!("{} {verb} to {}", field(answer, "event"), deliveries.join(", "))
}
