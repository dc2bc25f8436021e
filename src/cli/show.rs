//! `kurier events show`: one event whole.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::Value;

use super::Context;
use super::client::Client;
use super::events::detail;
use super::exit::{Exit, Failure};
use super::table::{Table, duration, field, items, printable, size, time};
use crate::model::{EventId, Timestamp};

#[derive(clap::Args)]
pub(super) struct Args {
    /// The event
    #[arg(value_name = "ID")]
    id: EventId,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Print the body's bytes as received, and nothing else
    #[arg(long, conflicts_with = "json")]
    body: bool,
}

pub(super) async fn run(client: &Client, args: &Args, context: &mut Context) -> Result<Exit, Failure> {
    let id = args.id.to_string();
    if args.body {
        let bytes = client.bytes(&["api", "v1", "events", &id, "body"], &[]).await?;
        context.out.bytes(&bytes)?;
        return Ok(Exit::Done);
    }
    let event = client.get(&["api", "v1", "events", &id], &[]).await?;
    if args.json {
        context.out.json(&event)?;
        return Ok(Exit::Done);
    }
    context.out.bytes(render(&event, context.now).as_bytes())?;
    if items(&event, "deliveries").iter().any(|delivery| field(delivery, "state") == "dead") {
        eprintln!("next: `kurier replay {id}` delivers it again");
    }
    Ok(Exit::Done)
}

fn render(event: &Value, now: Timestamp) -> String {
    let mut text = head(event, now);
    let parts = [("Deliveries", deliveries(event, now)), ("Attempts", attempts(event)), ("Headers", headers(event)), ("Body", body(event))];
    for (title, part) in parts {
        if !part.is_empty() {
            // Writing to a String can't fail.
            let _written = write!(text, "\n{title}\n{}\n", part.trim_end_matches('\n'));
        }
    }
    text
}

fn head(event: &Value, now: Timestamp) -> String {
    let received = field(event, "received_at");
    let ago = received.parse().map(|at: Timestamp| format!(" UTC, {} ago", duration(now.since(at)))).unwrap_or_default();
    let query = field(event, "query");
    let target = if query.is_empty() { field(event, "path") } else { format!("{}?{query}", field(event, "path")) };
    let lines = [
        ("event", field(event, "id")),
        ("route", field(event, "route")),
        ("type", field(event, "type")),
        ("source id", field(event, "source_id")),
        ("received", format!("{}{ago}", time(&received))),
        ("from", field(event, "peer")),
        ("request", format!("{} {target}", field(event, "method"))),
        ("repeats", field(event, "repeats")),
        ("body", size(event.get("body_bytes").and_then(Value::as_u64).unwrap_or(0))),
    ];
    let shown = lines.into_iter().filter(|(_, value)| !value.is_empty());
    shown.map(|(name, value)| format!("{name:<10} {}\n", printable(&value, false))).collect()
}

fn deliveries(event: &Value, now: Timestamp) -> String {
    let mut table = Table::new(&["DELIVERY", "DESTINATION", "KIND", "STATE", "ATTEMPTS", "DETAIL"]);
    for delivery in items(event, "deliveries") {
        let of = |name| field(delivery, name);
        table.row(vec![of("id"), of("destination"), of("kind"), of("state"), of("attempts_made"), detail(delivery, now)]);
    }
    if table.is_empty() { String::new() } else { table.render() }
}

fn attempts(event: &Value) -> String {
    let mut table = Table::new(&["DESTINATION", "#", "STARTED (UTC)", "TOOK", "OUTCOME", "ANSWER"]);
    for delivery in items(event, "deliveries") {
        for attempt in items(delivery, "attempts") {
            let took = attempt.get("duration_ms").and_then(Value::as_u64).unwrap_or(0);
            table.row(vec![
                field(delivery, "destination"),
                field(attempt, "number"),
                time(&field(attempt, "started_at")),
                duration(Duration::from_millis(took)),
                field(attempt, "outcome"),
                answer(attempt),
            ]);
        }
    }
    if table.is_empty() { String::new() } else { table.render() }
}

fn answer(attempt: &Value) -> String {
    if let Some(fault) = attempt.get("fault").filter(|fault| !fault.is_null()) {
        return format!("{}: {}", field(fault, "kind"), field(fault, "detail"));
    }
    let Some(response) = attempt.get("response") else { return String::new() };
    let excerpt = response.get("excerpt").map(|excerpt| field(excerpt, "text")).unwrap_or_default();
    let status = field(response, "status");
    if excerpt.is_empty() { status } else { format!("{status} {excerpt}") }
}

fn headers(event: &Value) -> String {
    let line = |header: &Value| {
        let value =
            if header.get("value").is_some() { field(header, "value") } else { format!("(base64) {}", field(header, "value_base64")) };
        format!("  {}: {}\n", printable(&field(header, "name"), false), printable(&value, false))
    };
    items(event, "headers").iter().map(line).collect()
}

fn body(event: &Value) -> String {
    let Some(body) = event.get("body") else { return String::new() };
    let rest =
        if body.get("truncated").and_then(Value::as_bool) == Some(true) { "\n(only the start; --body prints all of it)" } else { "" };
    match body.get("text").and_then(Value::as_str) {
        Some(text) => format!("{}{rest}", printable(text, true)),
        None => "  not text; --body prints its bytes".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_readable_whole() {
        let attempt = json!({
            "number": 1, "started_at": "1970-01-01T00:00:01.000Z", "duration_ms": 80, "outcome": "rejected", "fault": null,
            "response": { "status": 400, "excerpt": { "text": "no\u{1b}[2J such", "truncated": false } },
        });
        let delivery = json!({
            "id": "dlv_1_0", "destination": "erp", "kind": "original", "state": "dead", "due": null, "attempts_made": 1,
            "reason": { "code": "rejected", "detail": "status 400" }, "attempts": [attempt],
        });
        let event = json!({
            "id": "evt_1", "route": "invoices", "type": null, "source_id": "42", "received_at": "1970-01-01T00:00:00.000Z",
            "method": "POST", "path": "/in", "query": "a=b", "peer": "192.0.2.1", "repeats": 0, "body_bytes": 3,
            "headers": [{ "name": "content-type", "value": "text/plain" }, { "name": "x", "value_base64": "/w==" }],
            "body": { "text": "a\nb", "truncated": false }, "deliveries": [delivery],
        });
        insta::assert_snapshot!(render(&event, Timestamp::from_millis(60_000)), @r"
        event      evt_1
        route      invoices
        source id  42
        received   1970-01-01 00:00:00 UTC, 1m ago
        from       192.0.2.1
        request    POST /in?a=b
        repeats    0
        body       3 B

        Deliveries
        DELIVERY  DESTINATION  KIND      STATE  ATTEMPTS  DETAIL
        dlv_1_0   erp          original  dead   1         rejected: status 400

        Attempts
        DESTINATION  #  STARTED (UTC)        TOOK  OUTCOME   ANSWER
        erp          1  1970-01-01 00:00:01  80ms  rejected  400 no\u{1b}[2J such

        Headers
          content-type: text/plain
          x: (base64) /w==

        Body
        a
        b
        ");
    }
}
