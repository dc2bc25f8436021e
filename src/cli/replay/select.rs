//! Which events a replay by filter means, and where each of them goes.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::cli::client::Client;
use crate::cli::exit::Failure;
use crate::cli::table::{field, items};

/// Events of one page of the list.
const PAGE: usize = 500;

/// The most events that one replay by filter takes; more go in several, by `--until`.
const EVENTS_MAX: usize = 100_000;

#[derive(clap::Args, Default)]
pub(super) struct Filter {
    /// Instead of IDs: events of this route
    #[arg(long, value_name = "NAME")]
    route: Option<String>,

    /// Events of this type
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,

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

/// An event and the destinations it is meant for.
pub(super) struct Chosen {
    pub(super) event: String,
    pub(super) destinations: Vec<String>,
}

/// Every event that the filter means, oldest first: lanes and receivers want the order in which things happened.
pub(super) async fn chosen(client: &Client, filter: &Filter) -> Result<Vec<Chosen>, Failure> {
    let given = [
        ("route", filter.route.as_deref()),
        ("type", filter.event_type.as_deref()),
        ("destination", filter.destination.as_deref()),
        ("state", Some(&*filter.state)),
        ("since", filter.since.as_deref()),
        ("until", filter.until.as_deref()),
    ];
    let fixed: Vec<_> = given.into_iter().filter_map(|(name, value)| Some((name, value?.to_owned()))).collect();
    let (mut found, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let mut query = fixed.clone();
        query.push(("limit", PAGE.to_string()));
        query.extend(cursor.map(|cursor| ("cursor", cursor)));
        let page = client.get(&["api", "v1", "events"], &query).await?;
        for event in items(&page, "items") {
            let destinations = destinations(event, filter);
            if !destinations.is_empty() {
                found.push(Chosen { event: field(event, "id"), destinations });
            }
        }
        if found.len() > EVENTS_MAX {
            let failure = Failure::failed(format!("more than {EVENTS_MAX} events match"));
            return Err(failure.with_hint("narrow it with --route, --destination, --since and --until"));
        }
        cursor = page.get("next_cursor").and_then(Value::as_str).map(str::to_owned);
        if cursor.is_none() {
            found.reverse();
            return Ok(found);
        }
    }
}

/// The destinations whose newest delivery of this event is in the state: what was replayed since and has arrived,
/// or still waits, is not replayed again.
fn destinations(event: &Value, filter: &Filter) -> Vec<String> {
    let mut newest: BTreeMap<String, (u64, String)> = BTreeMap::new();
    for delivery in items(event, "deliveries") {
        let ordinal = field(delivery, "id").rsplit('_').next().and_then(|ordinal| ordinal.parse().ok()).unwrap_or(0);
        let of = newest.entry(field(delivery, "destination")).or_default();
        if ordinal >= of.0 {
            *of = (ordinal, field(delivery, "state"));
        }
    }
    let meant = |name: &str| filter.destination.as_deref().is_none_or(|only| only == name);
    newest.into_iter().filter(|(name, (_, state))| *state == filter.state && meant(name)).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_replayed_since_is_not_replayed_again() {
        let delivery = |ordinal: u32, destination: &str, state: &str| json!({ "id": format!("dlv_x_{ordinal}"), "destination": destination, "state": state });
        let event = json!({ "deliveries": [
            delivery(0, "erp", "dead"), delivery(1, "shop", "dead"), delivery(2, "bank", "delivered"),
            delivery(10, "erp", "delivered"), delivery(9, "erp", "dead"),
        ] });
        let filter =
            |destination: Option<&str>| Filter { state: "dead".into(), destination: destination.map(str::to_owned), ..Filter::default() };
        assert_eq!(destinations(&event, &filter(None)), ["shop"]);
        assert_eq!(destinations(&event, &filter(Some("bank"))), [""; 0]);
    }
}
