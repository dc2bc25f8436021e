//! `kurier events`: what came in and what became of it.

use serde_json::{Value, json};

use super::Context;
use super::client::{Client, Remote};
use super::exit::{Exit, Failure};
use super::refusals;
use super::show;
use super::table::{Table, duration, field, items, time};
use crate::config::Scope;
use crate::model::Timestamp;

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
    /// List events, newest first (what `kurier events` does)
    List(List),
    /// Show one event whole: headers, body, deliveries, attempts
    Show(show::Args),
    /// List refused requests that are in quarantine, newest first
    Refused(refusals::List),
    /// Let in what is in quarantine and passes now, as of its time of receipt; after a secret was corrected
    Release(refusals::Release),
}

#[derive(clap::Args, Default, PartialEq)]
struct List {
    /// Of this route
    #[arg(long)]
    route: Option<String>,

    /// Of this type
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,

    /// With a delivery in this state
    #[arg(long, value_parser = ["pending", "delivered", "dead", "skipped", "cancelled"])]
    state: Option<String>,

    /// With a delivery to this destination
    #[arg(long)]
    destination: Option<String>,

    /// Whose event id or source id contains this text
    #[arg(long, short, value_name = "TEXT")]
    q: Option<String>,

    /// Received since: RFC 3339, or how long ago, such as 2h
    #[arg(long, value_name = "TIME")]
    since: Option<String>,

    /// Received before; written like --since
    #[arg(long, value_name = "TIME")]
    until: Option<String>,

    /// Most events to list [default: 50]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: Option<u32>,

    /// Go on where an earlier list ended
    #[arg(long)]
    cursor: Option<String>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args, context: &mut Context) -> Result<Exit, Failure> {
    // Given before the command they would be ignored, which would show more than was asked for.
    if args.command.is_some() && args.list != List::default() {
        return Err(Failure::usage("filters stand after `list`: `kurier events list --state dead`"));
    }
    let command = args.command.unwrap_or(Command::List(args.list));
    let scope = if matches!(command, Command::Release(_)) { Scope::Operate } else { Scope::Read };
    let client = Client::new(args.remote, context, Some(scope))?;
    match command {
        Command::List(list) => self::list(&client, list, context).await,
        Command::Show(args) => show::run(&client, &args, context).await,
        Command::Refused(list) => refusals::list(&client, &list, context).await,
        Command::Release(release) => refusals::release(&client, &release, context).await,
    }
}

async fn list(client: &Client, args: List, context: &mut Context) -> Result<Exit, Failure> {
    let (all, cursor) = client.list(&["api", "v1", "events"], &filters(&args), (args.limit, args.cursor.as_deref())).await?;
    if args.json {
        context.out.json(&json!({ "items": all, "next_cursor": cursor }))?;
        return Ok(Exit::Done);
    }
    let table = table(&all, args.state.as_deref(), args.destination.as_deref(), context.now);
    if table.is_empty() {
        eprintln!("no events match");
        return Ok(Exit::Done);
    }
    context.out.line(table.render())?;
    if let Some(cursor) = cursor {
        eprintln!("there are more: the same with --cursor {cursor}");
    }
    if args.state.as_deref() == Some("dead") {
        eprintln!("next: `kurier events show ID` says why, `kurier replay ID` delivers again");
    }
    Ok(Exit::Done)
}

fn filters(args: &List) -> [(&'static str, Option<&str>); 7] {
    [
        ("route", args.route.as_deref()),
        ("type", args.event_type.as_deref()),
        ("state", args.state.as_deref()),
        ("destination", args.destination.as_deref()),
        ("q", args.q.as_deref()),
        ("since", args.since.as_deref()),
        ("until", args.until.as_deref()),
    ]
}

/// One row for each delivery that was asked for.
fn table(events: &[Value], state: Option<&str>, destination: Option<&str>, now: Timestamp) -> Table {
    let mut table = Table::new(&["RECEIVED (UTC)", "EVENT", "ROUTE", "TYPE", "DESTINATION", "STATE", "ATTEMPTS", "DETAIL"]);
    for event in events {
        let row = |delivery: Option<&Value>| {
            let of = |name| delivery.map(|delivery| field(delivery, name)).unwrap_or_default();
            let start = [time(&field(event, "received_at")), field(event, "id"), field(event, "route"), field(event, "type")];
            let detail = delivery.map(|delivery| detail(delivery, now)).unwrap_or_default();
            start.into_iter().chain([of("destination"), of("state"), of("attempts_made"), detail]).collect()
        };
        let asked_for = |delivery: &&Value| {
            state.is_none_or(|state| field(delivery, "state") == state)
                && destination.is_none_or(|name| field(delivery, "destination") == name)
        };
        let deliveries = items(event, "deliveries");
        if deliveries.is_empty() {
            table.row(row(None));
        }
        for delivery in deliveries.iter().filter(asked_for) {
            table.row(row(Some(delivery)));
        }
    }
    table
}

/// Why a delivery is dead, or when it is tried next.
pub(super) fn detail(delivery: &Value, now: Timestamp) -> String {
    if let Some(reason) = delivery.get("reason").filter(|reason| !reason.is_null()) {
        let (code, detail) = (field(reason, "code"), field(reason, "detail"));
        return if detail.is_empty() { code } else { format!("{code}: {detail}") };
    }
    match field(delivery, "due").parse::<Timestamp>() {
        Ok(due) if due > now => format!("next attempt in {}", duration(due.since(now))),
        Ok(_) => "due now".to_owned(),
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events() -> Vec<Value> {
        let delivery = |destination: &str, state: &str, reason: Value, due: Value| json!({ "destination": destination, "state": state, "attempts_made": 1, "reason": reason, "due": due });
        let dead = delivery("erp", "dead", json!({ "code": "rejected", "detail": "status 400" }), Value::Null);
        let pending = delivery("bank", "pending", Value::Null, json!("1970-01-01T00:02:05.000Z"));
        vec![
            json!({ "id": "evt_1", "route": "invoices", "type": null, "received_at": "1970-01-01T00:00:00.000Z", "deliveries": [dead, pending] }),
        ]
    }

    #[test]
    fn a_dead_letter_says_why_and_a_pending_one_when_it_is_tried_next() {
        let rendered = table(&events(), None, None, Timestamp::from_millis(0)).render();
        insta::assert_snapshot!(rendered, @r"
        RECEIVED (UTC)       EVENT  ROUTE     TYPE  DESTINATION  STATE    ATTEMPTS  DETAIL
        1970-01-01 00:00:00  evt_1  invoices  -     erp          dead     1         rejected: status 400
        1970-01-01 00:00:00  evt_1  invoices  -     bank         pending  1         next attempt in 2m 5s
        ");
    }

    #[test]
    fn only_deliveries_that_were_asked_for_have_a_row() {
        let rendered = table(&events(), Some("dead"), None, Timestamp::from_millis(0)).render();
        assert!(rendered.contains("rejected") && !rendered.contains("pending"), "{rendered}");
        assert!(table(&events(), Some("dead"), Some("bank"), Timestamp::from_millis(0)).is_empty());
    }
}
