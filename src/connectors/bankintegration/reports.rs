//! Account statements and balances. What is fetched is a window of days with an overlap, and what was seen before is known
//! by its key: `newOnly` would lose what was in an answer that got lost.

use http::header::AUTHORIZATION;
use jiff::ToSpan as _;
use jiff::civil::Date;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::authorization::Authorization;
use super::settings::Settings;
use crate::connectors::{Outcome, Reply, Request, json};
use crate::model::Timestamp;
use crate::signature::fingerprint;

/// Most days of one request.
pub const DAYS_MAX: i64 = 31;

/// Days before the last fetched one that are fetched again: banks enter late what belongs to an earlier day.
pub const OVERLAP_DAYS: i64 = 5;

/// Most entries of one answer.
pub const ENTRIES_MAX: usize = 50_000;

/// Days to fetch, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The first.
    pub from: Date,
    /// The last.
    pub to: Date,
}

/// The next window. `start` is the first day ever, `fetched` the last day that was fetched whole; once `to` is `today`
/// there is nothing more until another day, or another poll.
pub fn window(start: Date, fetched: Option<Date>, today: Date) -> Window {
    let back = |day: Date, days: i64| day.checked_sub(days.days()).unwrap_or(Date::MIN);
    let from = fetched.map_or(start, |day| back(day, OVERLAP_DAYS)).max(start).min(today);
    let to = from.checked_add((DAYS_MAX - 1).days()).unwrap_or(Date::MAX).min(today);
    Window { from, to }
}

/// The request for the entries of these days.
///
/// # Errors
/// Why there is none.
pub fn statement_request(settings: &Settings, request_id: &str, window: Window, now: Timestamp) -> Result<Request, String> {
    let (from, to) = (window.from.to_string(), window.to.to_string());
    get(settings, "report/account", &[("requestId", request_id), ("type", "Full"), ("from", &from), ("to", &to)], request_id, now)
}

/// The request for the balances, opening and closing.
///
/// # Errors
/// Why there is none.
pub fn balance_request(settings: &Settings, request_id: &str, now: Timestamp) -> Result<Request, String> {
    get(settings, "report/balance", &[("requestId", request_id), ("type", "3")], request_id, now)
}

fn get(settings: &Settings, path: &str, query: &[(&str, &str)], request_id: &str, now: Timestamp) -> Result<Request, String> {
    let header = Authorization::new(settings, request_id, now)?.of_request()?;
    let mut url = settings.url(path);
    url.query_pairs_mut().extend_pairs(query);
    let mut request = Request::get(url);
    request.headers.insert(AUTHORIZATION, header);
    Ok(request)
}

/// An entry of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is known by: account and entry id.
    pub key: String,
    /// Its bytes, as sent.
    pub body: Vec<u8>,
}

/// A balance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Balance {
    /// What it is known by: account, day, kind and amount, so that a changed one is another.
    pub key: String,
    /// Its bytes, as sent.
    pub body: Vec<u8>,
}

#[derive(Deserialize)]
struct Report<'a> {
    #[serde(default)]
    account: Option<Value>,
    #[serde(borrow, default)]
    entries: Option<Vec<&'a RawValue>>,
}

/// The entries of a statement, in their order. The caller has judged the reply.
///
/// # Errors
/// What to do instead: an answer is taken whole or not at all.
pub fn entries(reply: &Reply<'_>, settings: &Settings) -> Result<Vec<Entry>, Outcome> {
    let entry = |raw: &RawValue| {
        let entry: Value = serde_json::from_str(raw.get()).unwrap_or(Value::Null);
        // Without an id only its bytes tell it from another.
        let id = json::at(&entry, "/id").unwrap_or_else(|| hex::encode(fingerprint(&[raw.get().as_bytes()])));
        Entry { key: format!("{}:{id}", settings.account), body: raw.get().as_bytes().to_vec() }
    };
    Ok(report(reply, settings)?.into_iter().map(entry).collect())
}

/// The balances, in their order. The caller has judged the reply.
///
/// # Errors
/// What to do instead.
pub fn balances(reply: &Reply<'_>, settings: &Settings) -> Result<Vec<Balance>, Outcome> {
    let balance = |raw: &RawValue| {
        let balance: Value = serde_json::from_str(raw.get()).unwrap_or(Value::Null);
        let part = |pointer| json::at(&balance, pointer).unwrap_or_default();
        let key = format!("{}:{}:{}:{}", settings.account, part("/date"), part("/type"), part("/amount"));
        Balance { key, body: raw.get().as_bytes().to_vec() }
    };
    Ok(report(reply, settings)?.into_iter().map(balance).collect())
}

fn report<'a>(reply: &Reply<'a>, settings: &Settings) -> Result<Vec<&'a RawValue>, Outcome> {
    if reply.status.as_u16() == 204 {
        return Ok(Vec::new());
    }
    if reply.truncated {
        return Err(Outcome::retry("the report is longer than what is read of an answer, or broke off"));
    }
    let report: Report<'a> =
        serde_json::from_slice(reply.body).map_err(|error| Outcome::retry(format!("the answer is no report: {error}")))?;
    if let Some(other) = report.account.as_ref().and_then(json::scalar).filter(|account| *account != settings.account) {
        return Err(Outcome::retry(format!("the report is of another account, which ends with {}", tail(&other))));
    }
    let entries = report.entries.ok_or_else(|| Outcome::retry("the report has no list of `entries`"))?;
    if entries.len() > ENTRIES_MAX {
        return Err(Outcome::retry(format!("the report has more than {ENTRIES_MAX} entries")));
    }
    Ok(entries)
}

fn tail(account: &str) -> String {
    let count = account.chars().count();
    account.chars().skip(count.saturating_sub(4)).collect()
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode};
    use jiff::civil::date;

    use super::super::authorization::tests::{content, settings, then};
    use super::*;

    fn reply<'a>(status: u16, headers: &'a HeaderMap, body: &'a str, truncated: bool) -> Reply<'a> {
        Reply { status: StatusCode::from_u16(status).unwrap(), headers, body: body.as_bytes(), truncated }
    }

    #[test]
    fn windows_overlap_are_bounded_and_end_today() {
        let (start, today) = (date(2026, 1, 10), date(2026, 3, 20));
        let first = window(start, None, today);
        assert_eq!(first, Window { from: start, to: date(2026, 2, 9) });
        let second = window(start, Some(first.to), today);
        assert_eq!(second, Window { from: date(2026, 2, 4), to: date(2026, 3, 6) });
        assert_eq!(window(start, Some(second.to), today), Window { from: date(2026, 3, 1), to: today });
        assert_eq!(window(start, Some(today), today), Window { from: date(2026, 3, 15), to: today });
        assert_eq!(window(start, Some(start), today).from, start);
        assert_eq!(window(date(2030, 1, 1), None, today), Window { from: today, to: today });
        assert_eq!(window(Date::MIN, Some(Date::MIN), Date::MAX).from, Date::MIN);
    }

    #[test]
    fn every_day_is_fetched_by_going_on_from_window_to_window() {
        let (start, today) = (date(2025, 1, 1), date(2026, 11, 26));
        let mut fetched = None;
        let mut count = 0;
        loop {
            let next = window(start, fetched, today);
            assert!(fetched.is_none_or(|fetched| next.from <= fetched && next.to > fetched), "{next:?}");
            fetched = Some(next.to);
            count += 1;
            if next.to == today {
                break;
            }
        }
        // 31 days at first, then 25 further ones each: 28 requests for 695 days.
        assert_eq!(count, 28);
    }

    #[test]
    fn requests_name_days_and_never_new_only() {
        let window = Window { from: date(2026, 1, 1), to: date(2026, 1, 31) };
        let request = statement_request(&settings(), "REQ_01", window, then()).unwrap();
        let expected = "https://api.bankintegration.dk/report/account?requestId=REQ_01&type=Full&from=2026-01-01&to=2026-01-31";
        assert_eq!(request.url.as_str(), expected);
        assert_eq!(content(&request.headers[AUTHORIZATION])["hash"][0]["hash"], "ve3BdYA0WF9yLiZxchaZBLrNY17PPuER2xSyWhNsa98=");
        let balance = balance_request(&settings(), "REQ_01", then()).unwrap();
        assert_eq!(balance.url.as_str(), "https://api.bankintegration.dk/report/balance?requestId=REQ_01&type=3");
    }

    #[test]
    fn entries_keep_their_bytes_and_are_known_by_account_and_id() {
        let headers = HeaderMap::new();
        let body = r#"{"account":"52470021527478","requestId":"R","entries":[{"id":7,  "amount":-1.10},{"id":"b"},{"amount":1}]}"#;
        let read = entries(&reply(200, &headers, body, false), &settings()).unwrap();
        assert_eq!(read[0], Entry { key: "52470021527478:7".to_owned(), body: br#"{"id":7,  "amount":-1.10}"#.to_vec() });
        assert_eq!(read[1].key, "52470021527478:b");
        assert_eq!(read[2].key.len(), "52470021527478:".len() + 32);
        let body = r#"{"entries":[{"date":"2026-01-01","amount":10.50,"type":1},{"date":"2026-01-01","amount":10.5,"type":1}]}"#;
        let read = balances(&reply(200, &headers, body, false), &settings()).unwrap();
        assert_eq!(read[0].key, "52470021527478:2026-01-01:1:10.50");
        assert_eq!(read.len(), 2);
    }

    #[test]
    fn a_report_is_taken_whole_or_not_at_all() {
        let headers = HeaderMap::new();
        assert_eq!(entries(&reply(204, &headers, "", false), &settings()), Ok(vec![]));
        for (body, truncated) in [
            ("", false),
            ("{}", false),
            (r#"{"entries":{}}"#, false),
            (r#"{"entries":[]}"#, true),
            (r#"{"account":"1","entries":[]}"#, false),
        ] {
            assert!(entries(&reply(200, &headers, body, truncated), &settings()).is_err(), "{body}");
        }
    }
}
