//! Reading the query of a list: filters, limits, times and cursors. What is not understood is refused, since
//! a filter with a typing mistake would otherwise show everything.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::problem::Problem;
use crate::model::Timestamp;

/// Items on a page where nobody says otherwise.
pub(super) const PAGE_DEFAULT: usize = 50;

/// Most items on a page.
pub(super) const PAGE_MAX: usize = 500;

/// The longest value of a filter; a cursor holds a name at most.
pub(super) const VALUE_BYTES_MAX: usize = 1024;

/// The parameters of a query, each at most once.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a raw query that may have these parameters.
    pub(super) fn parse(raw: &str, known: &[&str]) -> Result<Self, Problem> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for (name, value) in url::form_urlencoded::parse(raw.as_bytes()) {
            if !known.contains(&name.as_ref()) {
                let detail = format!("unknown parameter `{}`; there are {}", shortened(&name), known.join(", "));
                return Err(Problem::bad_request("parameter", detail));
            }
            if pairs.iter().any(|(earlier, _)| *earlier == name) {
                return Err(Problem::bad_request("parameter", format!("the parameter `{name}` is given twice")));
            }
            if value.len() > VALUE_BYTES_MAX {
                return Err(Problem::bad_request("parameter", format!("`{name}` is longer than {VALUE_BYTES_MAX} bytes")));
            }
            pairs.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self(pairs))
    }

    /// The parameter's value; an empty one counts as none, as forms send it so.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, value)| known == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    pub(super) fn owned(&self, name: &str) -> Option<String> {
        self.get(name).map(str::to_owned)
    }

    /// `limit`: how many items the page may have.
    pub(super) fn limit(&self) -> Result<usize, Problem> {
        let Some(text) = self.get("limit") else { return Ok(PAGE_DEFAULT) };
        match text.parse() {
            Ok(limit @ 1..=PAGE_MAX) => Ok(limit),
            _ => Err(Problem::bad_request("limit", format!("`limit` is a number from 1 to {PAGE_MAX}"))),
        }
    }

    /// A time: RFC 3339, or how long ago.
    pub(super) fn time(&self, name: &str, now: Timestamp) -> Result<Option<Timestamp>, Problem> {
        self.get(name).map(|text| time(name, text, now)).transpose()
    }

    /// `cursor`, as [`cursor`] made it for this kind of list.
    pub(super) fn cursor(&self, kind: char) -> Result<Option<String>, Problem> {
        self.get("cursor").map(|text| place(kind, text)).transpose()
    }
}

/// The place in a list of this kind that a cursor stands for.
pub(super) fn place(kind: char, text: &str) -> Result<String, Problem> {
    let decoded = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    decoded.as_deref().and_then(|decoded| decoded.strip_prefix(kind)).map(str::to_owned).ok_or_else(bad_cursor)
}

/// A time: RFC 3339, or how long ago.
pub(super) fn time(name: &str, text: &str, now: Timestamp) -> Result<Timestamp, Problem> {
    let parsed = text.parse().ok().or_else(|| ago(text).map(|ago| now.saturating_sub(ago)));
    let detail =
        || format!("`{name}` is an RFC 3339 time such as 2026-11-24T08:00:00Z, or how long ago, such as 2h; not `{}`", shortened(text));
    parsed.ok_or_else(|| Problem::bad_request("time", detail()))
}

pub(super) fn bad_cursor() -> Problem {
    Problem::bad_request("cursor", "the cursor is none of this list; start again without one")
}

/// An opaque cursor for a place in a list of this kind.
pub(super) fn cursor(kind: char, place: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("{kind}{place}"))
}

/// One page of a list that is in memory, by name: what follows the cursor, and the next cursor.
pub(super) fn page_by_name<T>(
    query: &Query,
    items: impl IntoIterator<Item = T>,
    name: impl Fn(&T) -> String,
) -> Result<(Vec<T>, Option<String>), Problem> {
    let (limit, after) = (query.limit()?, query.cursor('n')?);
    let mut items: Vec<T> = items.into_iter().filter(|item| after.as_ref().is_none_or(|after| name(item) > *after)).collect();
    items.sort_by_key(&name);
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(|item| cursor('n', &name(item)));
    Ok((items, next))
}

/// A duration such as `500ms`, `15s`, `30m`, `2h` or `3d`.
fn ago(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" | "min" => 60 * 1000,
        "h" => 3600 * 1000,
        "d" => 24 * 3600 * 1000,
        _ => return None,
    };
    number.checked_mul(unit_ms).map(Duration::from_millis)
}

fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(raw: &str) -> Query {
        Query::parse(raw, &["limit", "since", "cursor", "q"]).unwrap_or_else(|_| panic!("{raw}"))
    }

    #[test]
    fn unknown_and_repeated_parameters_are_refused() {
        assert!(Query::parse("stat=dead", &["state"]).is_err());
        assert!(Query::parse("state=dead&state=pending", &["state"]).is_err());
        assert!(Query::parse(&format!("state={}", "x".repeat(VALUE_BYTES_MAX + 1)), &["state"]).is_err());
        assert_eq!(query("q=a%20b+c").get("q"), Some("a b c"));
        assert_eq!(query("q=").get("q"), None);
    }

    #[test]
    fn a_limit_is_1_to_500_and_50_by_default() {
        assert_eq!(query("").limit().unwrap(), 50);
        assert_eq!(query("limit=500").limit().unwrap(), 500);
        for bad in ["limit=0", "limit=501", "limit=-1", "limit=ten", "limit=99999999999999999999999"] {
            assert!(query(bad).limit().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_time_is_rfc_3339_or_how_long_ago() {
        let now = Timestamp::from_millis(10_000_000);
        let time = |raw: &str| query(raw).time("since", now);
        assert_eq!(time("since=2h").unwrap(), Some(Timestamp::from_millis(2_800_000)));
        assert_eq!(time("since=30m").unwrap(), Some(Timestamp::from_millis(8_200_000)));
        assert_eq!(time("since=1970-01-01T00:00:05Z").unwrap(), Some(Timestamp::from_millis(5000)));
        assert_eq!(time("").unwrap(), None);
        for bad in ["since=2", "since=h", "since=-2h", "since=2weeks", "since=yesterday", "since=99999999999999999d"] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_cursor_belongs_to_its_kind_of_list() {
        let text = cursor('e', "42");
        assert_eq!(query(&format!("cursor={text}")).cursor('e').unwrap().as_deref(), Some("42"));
        assert!(query(&format!("cursor={text}")).cursor('n').is_err());
        assert!(query("cursor=42").cursor('e').is_err());
    }

    #[test]
    fn a_list_by_name_pages_through_every_item_once() {
        let names = ["d", "b", "a", "c", "e"];
        let mut seen = Vec::new();
        let mut next = String::new();
        loop {
            let (items, cursor) = page_by_name(&query(&format!("limit=2&cursor={next}")), names, |name| (*name).to_owned()).unwrap();
            seen.extend(items);
            let Some(cursor) = cursor else { break };
            next = cursor;
        }
        assert_eq!(seen, ["a", "b", "c", "d", "e"]);
    }
}
