//! Polling a list, page by page. An item that changed is another event, so its key is its id with the hash of its bytes.

use http::header::AUTHORIZATION;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::settings::Settings;
use crate::connectors::{Outcome, Reply, Request, bearer, json};
use crate::model::Secret;
use crate::signature::fingerprint;

/// Most items of one page: the vendor's maximum of `limit`.
pub const PAGE_ITEMS_MAX: usize = 200;

/// Most pages of one poll.
const PAGES_MAX: usize = 10_000;

/// An item of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What it is known by: list, id and the hash of its bytes.
    pub key: String,
    /// Its bytes, as sent.
    pub body: Vec<u8>,
}

/// One poll of the list of these settings.
pub struct Poll<'a> {
    settings: &'a Settings,
    list: &'a str,
    offset: usize,
    pages: usize,
    done: bool,
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    items: Vec<&'a RawValue>,
    #[serde(default)]
    pagination: Option<Pagination>,
}

#[derive(Deserialize)]
struct Pagination {
    #[serde(default)]
    total: Option<Value>,
}

impl<'a> Poll<'a> {
    /// A poll that has not begun; `None` when the settings name no list.
    pub fn new(settings: &'a Settings) -> Option<Self> {
        let list = settings.list.as_deref()?;
        Some(Self { settings, list, offset: 0, pages: 0, done: false })
    }

    /// The request for the next page; `None` after the last.
    ///
    /// # Errors
    /// When the token can't stand in a header.
    pub fn request(&self, access: &Secret) -> Result<Option<Request>, String> {
        if self.done {
            return Ok(None);
        }
        let mut url =
            self.settings.base_url.join(&format!("./{}", self.list)).map_err(|_error| "the list's url can't be built".to_owned())?;
        url.query_pairs_mut()
            .append_pair("limit", &PAGE_ITEMS_MAX.to_string())
            .append_pair("offset", &self.offset.to_string())
            // By id, so that what is added meanwhile does not push items from one page to the other.
            .append_pair("sort", "id");
        let mut request = Request::get(url);
        request.headers.insert(AUTHORIZATION, bearer(access).map_err(|_error| "the access token can't stand in a header".to_owned())?);
        Ok(Some(request))
    }

    /// Takes the answer, which the caller has judged: the items of the page.
    ///
    /// # Errors
    /// What to do instead. The poll stands where it stood.
    pub fn take(&mut self, reply: &Reply<'_>) -> Result<Vec<Item>, Outcome> {
        if reply.truncated {
            return Err(Outcome::retry("the page is longer than what is read of an answer, or broke off"));
        }
        let page: Page<'_> =
            serde_json::from_slice(reply.body).map_err(|error| Outcome::retry(format!("the answer is not a list of items: {error}")))?;
        let count = page.items.len();
        if count > PAGE_ITEMS_MAX {
            return Err(Outcome::retry(format!("the page has more than {PAGE_ITEMS_MAX} items")));
        }
        let total = page.pagination.and_then(|pagination| pagination.total).as_ref().and_then(json::whole);
        self.offset += count;
        self.pages += 1;
        let all = total.and_then(|total| usize::try_from(total).ok()).is_some_and(|total| self.offset >= total);
        self.done = count == 0 || all || (total.is_none() && count < PAGE_ITEMS_MAX) || self.pages >= PAGES_MAX;
        Ok(page.items.iter().map(|raw| self.item(raw.get())).collect())
    }

    fn item(&self, raw: &str) -> Item {
        let id = serde_json::from_str::<Value>(raw).ok().and_then(|item| json::at(&item, "/id")).unwrap_or_default();
        Item { key: format!("{}:{id}:{}", self.list, hex::encode(fingerprint(&[raw.as_bytes()]))), body: raw.as_bytes().to_vec() }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode};

    use super::super::SettingsDraft;
    use super::*;

    fn draft() -> SettingsDraft {
        SettingsDraft {
            client_id: Some("id".to_owned()),
            client_secret: Some(Secret::new(b"secret".to_vec())),
            list: Some("/receivables/invoices".to_owned()),
            ..SettingsDraft::default()
        }
    }

    fn take(poll: &mut Poll<'_>, body: &str, truncated: bool) -> Result<Vec<Item>, Outcome> {
        poll.take(&Reply { status: StatusCode::OK, headers: &HeaderMap::new(), body: body.as_bytes(), truncated })
    }

    fn page(items: usize, total: Option<usize>) -> String {
        let total = total.map(|total| format!(r#","pagination":{{"total":{total}}}"#)).unwrap_or_default();
        format!(r#"{{"items":[{}]{total}}}"#, vec![r#"{"id":1}"#; items].join(","))
    }

    #[test]
    fn pages_are_fetched_to_the_last_with_or_without_a_total() {
        let settings = Settings::new(draft()).ok().unwrap();
        let token = Secret::new(b"t".to_vec());
        for (pages, requests) in [
            (vec![page(200, Some(250)), page(50, Some(250))], 2),
            (vec![page(200, None), page(200, None), page(0, None)], 3),
            (vec![page(3, None)], 1),
            (vec![page(0, Some(250))], 1),
        ] {
            let mut poll = Poll::new(&settings).unwrap();
            for body in &pages {
                assert!(poll.request(&token).unwrap().is_some());
                take(&mut poll, body, false).unwrap();
            }
            assert!(poll.request(&token).unwrap().is_none());
            assert_eq!(pages.len(), requests);
        }
        let mut poll = Poll::new(&settings).unwrap();
        take(&mut poll, &page(200, None), false).unwrap();
        let url = poll.request(&token).unwrap().unwrap().url;
        assert_eq!(url.as_str(), "https://api-smartbusiness.postfinance.ch/v2/receivables/invoices?limit=200&offset=200&sort=id");
    }

    #[test]
    fn an_item_that_changed_has_another_key_and_keeps_its_bytes() {
        let settings = Settings::new(draft()).ok().unwrap();
        let mut poll = Poll::new(&settings).unwrap();
        let items = take(&mut poll, r#"{"items":[{"id":7, "paid":0.10},{"id":7, "paid":0.10},{"id":7, "paid":1}]}"#, false).unwrap();
        assert_eq!(items[0].body, br#"{"id":7, "paid":0.10}"#);
        assert!(items[0].key.starts_with("receivables/invoices:7:"));
        assert!(items[0].key == items[1].key && items[0].key != items[2].key);
    }

    #[test]
    fn a_page_is_taken_whole_or_not_at_all() {
        let settings = Settings::new(draft()).ok().unwrap();
        let mut poll = Poll::new(&settings).unwrap();
        for (body, truncated) in [("", false), ("{}", false), (r#"{"item":{}}"#, false), (&page(201, None), false), (&page(1, None), true)]
        {
            assert!(take(&mut poll, body, truncated).is_err(), "{body:.40}");
        }
        assert_eq!((poll.offset, poll.pages), (0, 0));
    }

    #[test]
    fn settings_are_checked_whole() {
        let keys = |draft| Settings::new(draft).err().unwrap().iter().map(|problem| problem.key).collect::<Vec<_>>();
        assert_eq!(keys(SettingsDraft::default()), ["client_id", "client_secret", "request"]);
        let wrong = SettingsDraft {
            client_secret: Some(Secret::new(vec![])),
            scopes: vec!["invoice contact".to_owned()],
            by_person: true,
            request: Some("GET /x".to_owned()),
            list: Some("/../x".to_owned()),
            ..draft()
        };
        assert_eq!(keys(wrong), ["client_secret", "scopes", "redirect_path", "request", "list"]);
    }
}
