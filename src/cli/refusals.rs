//! `kurier events refused` and `kurier events release`: what was refused and is kept, and its way in after all.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Context;
use super::client::{Client, all_or_failed};
use super::exit::{Exit, Failure};
use super::table::{Table, field, items, printable, time};

#[derive(clap::Args)]
pub(super) struct List {
    /// Of this route
    #[arg(long, value_name = "NAME")]
    route: Option<String>,

    #[command(flatten)]
    received: Received,

    /// Most requests to list [default: 50]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: Option<u32>,

    /// Go on where an earlier list ended
    #[arg(long)]
    cursor: Option<String>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub(super) struct Release {
    /// Of this route
    #[arg(long, value_name = "NAME")]
    route: String,

    #[command(flatten)]
    received: Received,

    /// Say what would be released, and do nothing
    #[arg(long)]
    dry_run: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct Received {
    /// Received since: RFC 3339, or how long ago, such as 2h
    #[arg(long, value_name = "TIME")]
    since: Option<String>,

    /// Received before; written like --since
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

pub(super) async fn list(client: &Client, args: &List, context: &mut Context) -> Result<Exit, Failure> {
    let Received { since, until } = &args.received;
    let filters = [("route", args.route.as_deref()), ("since", since.as_deref()), ("until", until.as_deref())];
    let (all, cursor) = client.list(&["api", "v1", "refusals"], &filters, (args.limit, args.cursor.as_deref())).await?;
    if args.json {
        context.out.json(&json!({ "items": all, "next_cursor": cursor }))?;
        return Ok(Exit::Done);
    }
    if all.is_empty() {
        let is_filtered = filters.iter().any(|(_, value)| value.is_some());
        let what = if is_filtered { "nothing in quarantine matches" } else { "nothing is in quarantine" };
        eprintln!("{what}; a route keeps refused requests when it has `quarantine`");
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["RECEIVED (UTC)", "REFUSAL", "ROUTE", "PEER", "METHOD", "BYTES", "REASON"]);
    for item in &all {
        let of = |name| field(item, name);
        table.row(vec![time(&of("received_at")), of("id"), of("route"), of("peer"), of("method"), of("body_bytes"), of("reason")]);
    }
    context.out.line(table.render())?;
    if let Some(cursor) = cursor {
        eprintln!("there are more: the same with --cursor {cursor}");
    }
    eprintln!("next: `kurier verify --route NAME --refusal ID` says why, `kurier events release --route NAME` lets in what passes now");
    Ok(Exit::Done)
}

/// What all calls of one release came to.
#[derive(Default)]
struct Total {
    released: u64,
    repeated: u64,
    refused: BTreeMap<String, u64>,
    events: Vec<Value>,
    trouble: Option<String>,
}

pub(super) async fn release(client: &Client, args: &Release, context: &mut Context) -> Result<Exit, Failure> {
    let (mut total, mut cursor) = (Total::default(), Value::Null);
    loop {
        let Received { since, until } = &args.received;
        let given = [("route", json!(args.route)), ("since", json!(since)), ("until", json!(until)), ("cursor", cursor)];
        let mut request: Map<String, Value> = given.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        request.insert("dry_run".to_owned(), args.dry_run.into());
        let called = client.post(&["api", "v1", "refusals", "release"], Some(Value::Object(request))).await;
        let mut page = match called {
            Ok(page) => page,
            Err(failure) if total.is_nothing() => return Err(failure),
            Err(failure) => {
                // What the calls before it released must not go unsaid.
                total.say(args, context)?;
                return Err(failure.with_hint("what went before is done; the same command goes on"));
            }
        };
        total.add(&page);
        cursor = page["next_cursor"].take();
        if cursor.is_null() || total.trouble.is_some() {
            break;
        }
    }
    total.say(args, context)?;
    if let Some(trouble) = &total.trouble {
        eprintln!("error: it ended early, at {}", printable(trouble, false));
    } else if !total.refused.is_empty() && !args.json {
        eprintln!(
            "next: `kurier events refused --route {}` lists what is left, `kurier verify --route {0} --refusal ID` says why",
            args.route
        );
    }
    Ok(all_or_failed(total.trouble.is_none()))
}

impl Total {
    fn add(&mut self, page: &Value) {
        self.released += page["released"].as_u64().unwrap_or(0);
        self.repeated += page["repeated"].as_u64().unwrap_or(0);
        self.events.extend_from_slice(items(page, "events"));
        for (why, count) in page["refused"].as_object().into_iter().flatten() {
            *self.refused.entry(why.clone()).or_default() += count.as_u64().unwrap_or(0);
        }
        self.trouble = page["trouble"].as_str().map(str::to_owned);
    }

    fn is_nothing(&self) -> bool {
        self.released == 0 && self.repeated == 0 && self.refused.is_empty()
    }

    fn say(&self, args: &Release, context: &mut Context) -> Result<(), Failure> {
        if args.json { context.out.json(&self.json(args.dry_run)) } else { context.out.line(self.line(args.dry_run)) }
    }

    fn json(&self, dry_run: bool) -> Value {
        let Self { released, repeated, refused, events, trouble } = self;
        json!({ "dry_run": dry_run, "released": released, "repeated": repeated, "refused": refused, "events": events, "trouble": trouble })
    }

    fn line(&self, dry_run: bool) -> String {
        let verb = if dry_run { "would release" } else { "released" };
        let mut line = format!("{verb} {}, still refused {}", self.released, self.refused.values().sum::<u64>());
        if !self.refused.is_empty() {
            let reasons: Vec<String> = self.refused.iter().map(|(why, count)| format!("{count} {}", printable(why, false))).collect();
            line.push_str(&format!(" ({})", reasons.join(", ")));
        }
        if self.repeated > 0 {
            line.push_str(&format!("; {} were events already", self.repeated));
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_of_several_calls_is_one_line() {
        let mut total = Total::default();
        total.add(&json!({ "released": 2, "repeated": 1, "refused": { "stale": 1 }, "events": ["evt_1", "evt_2"], "trouble": null }));
        total.add(&json!({ "released": 1, "repeated": 0, "refused": { "stale": 2, "mismatch": 1 }, "events": ["evt_3"], "trouble": null }));
        assert_eq!(total.line(false), "released 3, still refused 4 (1 mismatch, 3 stale); 1 were events already");
        assert_eq!(Total::default().line(true), "would release 0, still refused 0");
        assert_eq!(total.json(false)["events"], json!(["evt_1", "evt_2", "evt_3"]));
    }
}
