//! Fetching transfers, page by page. Each is kept byte for byte; it stays listed until its result is reported, so its key
//! is what tells a new one from one that was seen before.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use url::Url;

use super::settings::Pull;
use crate::connectors::{Outcome, Reply, Request, json, text};
use crate::signature::fingerprint;

/// Most transfers of one page: a page with more is not d.velop's.
pub const PAGE_TRANSFERS_MAX: usize = 1000;

const PATH: &str = "smartinvoice/api/v1/transfers";

/// A transfer that waits for its result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// Its bytes, as listed.
    pub body: Vec<u8>,
    /// What it is known by: the report link, else workflow and step, else its bytes.
    pub key: Vec<u8>,
}

/// One poll: from the first page to the last, never in a circle and never to another host.
pub struct Walk {
    next: Option<Url>,
    pages_left: u32,
    visited: BTreeSet<String>,
    keys: BTreeSet<Vec<u8>>,
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(default, rename = "_links")]
    links: Option<Links>,
    #[serde(borrow)]
    transfers: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Links {
    #[serde(default)]
    next: Option<Link>,
}

#[derive(Deserialize)]
struct Link {
    #[serde(default)]
    href: Option<String>,
}

impl Walk {
    /// A poll that has not begun.
    pub fn new(settings: &Pull) -> Self {
        let first = settings.base_url.join(PATH).ok().map(|mut url| {
            url.query_pairs_mut().append_pair("integration_key", &settings.integration_key);
            url
        });
        Self { next: first, pages_left: settings.max_pages, visited: BTreeSet::new(), keys: BTreeSet::new() }
    }

    /// The request for the next page; none after the last, or after as many as the settings allow. The caller adds
    /// `auth`.
    pub fn request(&self) -> Option<Request> {
        self.next.clone().filter(|_| self.pages_left > 0).map(Request::get)
    }

    /// Whether pages were left out because of `max_pages`. They come with a later poll, once these are reported.
    pub fn is_cut(&self) -> bool {
        self.next.is_some() && self.pages_left == 0
    }

    /// Takes the answer to [`request`](Self::request): the transfers of the page that were not on an earlier one.
    ///
    /// # Errors
    /// What to do instead. The walk stands where it stood; a page is taken whole or not at all.
    pub fn take(&mut self, reply: &Reply<'_>) -> Result<Vec<Transfer>, Outcome> {
        let Some(here) = self.next.clone() else { return Ok(Vec::new()) };
        let page = read(reply)?;
        let next = page.links.and_then(|links| links.next).and_then(|link| link.href);
        let next = next.map(|href| self.follow(&here, &href)).transpose()?;
        let transfers: Vec<Transfer> = page.transfers.iter().map(|raw| Transfer::new(raw.get())).collect();
        self.visited.insert(here.into());
        self.next = next;
        self.pages_left = self.pages_left.saturating_sub(1);
        Ok(transfers.into_iter().filter(|transfer| self.keys.insert(transfer.key.clone())).collect())
    }

    /// Credentials go along to every page, so a page may only name another of the same host.
    fn follow(&self, here: &Url, href: &str) -> Result<Url, Outcome> {
        let next = here.join(href.trim()).map_err(|_error| Outcome::retry("the link to the next page is not a URL"))?;
        let plain = next.username().is_empty() && next.password().is_none();
        if next.origin() != here.origin() || !plain {
            let host = next.host_str().unwrap_or_default();
            return Err(Outcome::retry(format!("the next page is at `{}`, not at `base_url`: not followed", text::quoted(host))));
        }
        if next == *here || self.visited.contains(next.as_str()) {
            return Err(Outcome::retry("the pages go round in a circle"));
        }
        Ok(next)
    }
}

fn read<'a>(reply: &Reply<'a>) -> Result<Page<'a>, Outcome> {
    match reply.status.as_u16() {
        200 => {}
        401 | 403 => return Err(Outcome::pause(format!("d.velop refuses the credentials ({}): check `auth`", reply.status))),
        300..=399 => return Err(Outcome::retry(format!("d.velop redirects ({}), which is not followed", reply.status))),
        _ => return Err(Outcome::retry(text::with_excerpt(&format!("d.velop answers {}", reply.status), reply.body))),
    }
    if reply.truncated {
        return Err(Outcome::retry("the page is longer than what is read of an answer, or broke off"));
    }
    let page: Page<'a> =
        serde_json::from_slice(reply.body).map_err(|error| Outcome::retry(format!("the page is not a list of transfers: {error}")))?;
    if page.transfers.len() > PAGE_TRANSFERS_MAX {
        return Err(Outcome::retry(format!("the page has more than {PAGE_TRANSFERS_MAX} transfers")));
    }
    Ok(page)
}

impl Transfer {
    fn new(raw: &str) -> Self {
        let document: Value = serde_json::from_str(raw).unwrap_or(Value::Null);
        let pair = |id: &str, step: &str| Some(format!("{}:{}", json::at(&document, id)?, json::at(&document, step)?));
        // An older version of the format has the workflow's fields at the top.
        let key = json::at(&document, "/_links/report_results_async/href")
            .or_else(|| pair("/workflow/id", "/workflow/step/id"))
            .or_else(|| pair("/id", "/step/id"))
            .map_or_else(|| fingerprint(&[raw.as_bytes()]).to_vec(), String::into_bytes);
        Self { body: raw.as_bytes().to_vec(), key }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode};

    use super::*;
    use crate::connectors::Verdict;
    use crate::connectors::dvelop::PullDraft;

    fn walk(max_pages: u32) -> Walk {
        let settings = Pull::new(PullDraft {
            base_url: Some("https://test.d-velop.cloud".parse().unwrap()),
            integration_key: Some("a&b c".to_owned()),
            max_pages: Some(max_pages),
        });
        Walk::new(&settings.unwrap())
    }

    fn take(walk: &mut Walk, status: u16, body: &str) -> Result<Vec<Transfer>, Outcome> {
        let status = StatusCode::from_u16(status).unwrap();
        walk.take(&Reply { status, headers: &HeaderMap::new(), body: body.as_bytes(), truncated: false })
    }

    fn page(next: Option<&str>, transfers: &str) -> String {
        let next = next.map(|href| format!(r#""next":{{"href":"{href}"}}"#)).unwrap_or_default();
        format!(r#"{{"_links":{{{next}}},"transfers":[{transfers}]}}"#)
    }

    #[test]
    fn pages_are_followed_to_the_last_and_a_repeated_transfer_comes_once() {
        let mut walk = walk(10);
        let url = walk.request().unwrap().url;
        assert_eq!(url.as_str(), "https://test.d-velop.cloud/smartinvoice/api/v1/transfers?integration_key=a%26b+c");
        let (a, b) = (r#"{"_links":{"report_results_async":{"href":"/r/1"}},  "x":1.10}"#, r#"{"workflow":{"id":7,"step":{"id":"2"}}}"#);
        let got = take(&mut walk, 200, &page(Some("https://test.d-velop.cloud/smartinvoice/api/v1/transfers/p2"), a)).unwrap();
        assert_eq!((got[0].body.as_slice(), got[0].key.as_slice()), (a.as_bytes(), &b"/r/1"[..]));
        assert_eq!(walk.request().unwrap().url.path(), "/smartinvoice/api/v1/transfers/p2");
        let got = take(&mut walk, 200, &page(None, &format!("{a},{b},{{}}"))).unwrap();
        assert_eq!(got.iter().map(|transfer| transfer.key.len()).collect::<Vec<_>>(), [3, 16]);
        assert_eq!(got[0].key, b"7:2");
        assert!(walk.request().is_none() && !walk.is_cut());
    }

    #[test]
    fn a_page_leads_neither_elsewhere_nor_round_in_a_circle() {
        for next in [
            "https://evil.example/x",
            "http://test.d-velop.cloud/x",
            "https://test.d-velop.cloud:444/x",
            "//evil.example/x",
            "https://us@test.d-velop.cloud/x",
            "?integration_key=a%26b+c",
        ] {
            let mut walk = walk(10);
            let before = walk.request().unwrap().url;
            assert!(matches!(take(&mut walk, 200, &page(Some(next), "")).unwrap_err().verdict, Verdict::Retry { .. }), "{next}");
            assert_eq!(walk.request().unwrap().url, before);
        }
        let mut walk = walk(10);
        take(&mut walk, 200, &page(Some("/p2"), "")).unwrap();
        take(&mut walk, 200, &page(Some("/p3"), "")).unwrap();
        assert!(take(&mut walk, 200, &page(Some("/p2"), "")).unwrap_err().reason.contains("circle"));
    }

    #[test]
    fn a_poll_ends_after_as_many_pages_as_allowed() {
        let mut walk = walk(2);
        take(&mut walk, 200, &page(Some("/p2"), "")).unwrap();
        take(&mut walk, 200, &page(Some("/p3"), "")).unwrap();
        assert!(walk.request().is_none() && walk.is_cut());
    }

    #[test]
    fn a_fault_leaves_the_poll_where_it_was() {
        let mut walk = walk(2);
        for (status, body, pause) in [
            (401, "", true),
            (403, "", true),
            (302, "", false),
            (500, "", false),
            (404, "", false),
            (204, "", false),
            (200, "", false),
            (200, "{}", false),
            (200, "<html>", false),
            (200, r#"{"transfers":{}}"#, false),
        ] {
            let outcome = take(&mut walk, status, body).unwrap_err();
            assert_eq!(outcome.verdict == Verdict::Pause, pause, "{status} {body}");
            assert!(!outcome.reason.is_empty());
        }
        let headers = HeaderMap::new();
        let body = page(None, "");
        let cut = Reply { status: StatusCode::OK, headers: &headers, body: body.as_bytes(), truncated: true };
        assert!(walk.take(&cut).is_err());
        assert!(take(&mut walk, 200, &page(None, &vec!["{}"; PAGE_TRANSFERS_MAX + 1].join(","))).is_err());
        assert_eq!(walk.pages_left, 2);
    }
}
