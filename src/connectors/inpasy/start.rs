//! Fetching a transaction id, and starting an order.

use http::header::{ACCEPT, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderValue, Method};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use serde_json::Value;
use url::Url;

use super::order::{Lid, Order};
use super::settings::Settings;
use crate::connectors::{Outcome, Reply, Request, json, text};

/// Longest url of a start: common servers refuse longer ones.
const URL_BYTES_MAX: usize = 8000;

/// Longest status page that is handed back.
const PAGE_BYTES_MAX: usize = 1024 * 1024;

const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The request for a fresh transaction id; `None` where ids are made here.
pub fn id_request(settings: &Settings) -> Option<Request> {
    let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json, text/plain;q=0.9, */*;q=0.1"))]);
    settings.id_url.clone().map(|url| Request { method: Method::GET, url, headers, body: bytes::Bytes::new() })
}

/// The id in the answer to [`id_request`].
///
/// # Errors
/// What to do instead.
pub fn judge_id(reply: &Reply<'_>, settings: &Settings) -> Result<Lid, Outcome> {
    if !reply.status.is_success() {
        return Err(Outcome::retry(text::with_excerpt(&format!("InPaSy answers {} to the request for an id", reply.status), reply.body)));
    }
    let said = match &settings.id_pointer {
        None => Some(settings.charset.decode(reply.body).trim().trim_matches('"').to_owned()),
        Some(pointer) => serde_json::from_slice::<Value>(reply.body).ok().and_then(|document| json::at(&document, pointer)),
    };
    let lid = said.as_deref().filter(|_| !reply.truncated).and_then(Lid::parse);
    lid.ok_or_else(|| {
        Outcome::retry(text::with_excerpt("InPaSy's answer holds no id of 12 digits: check `id_url` and `id_pointer`", reply.body))
    })
}

/// The request that starts this order. The caller has stored it as open under this id before.
///
/// # Errors
/// Why there is none.
pub fn start(settings: &Settings, order: &Order, lid: &Lid) -> Result<Request, String> {
    let mut query: Vec<u8> = settings.start_url.query().unwrap_or_default().as_bytes().to_vec();
    let own = [("vkz", settings.vkz.as_str()), ("lid", lid.as_str())];
    let posted = order.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in own.into_iter().chain(posted) {
        let encoded =
            |text| settings.charset.encode(text).map_err(|foreign| format!("`{foreign}` can't be written in the route's charset"));
        if !query.is_empty() {
            query.push(b'&');
        }
        query.extend(percent_encode(&encoded(name)?, ESCAPED).to_string().bytes());
        query.push(b'=');
        query.extend(percent_encode(&encoded(value)?, ESCAPED).to_string().bytes());
    }
    let mut url = settings.start_url.clone();
    // Nothing but ASCII is left after escaping.
    url.set_query(std::str::from_utf8(&query).ok());
    if url.as_str().len() > URL_BYTES_MAX {
        return Err(format!("the order is longer than the {URL_BYTES_MAX} bytes that fit into a url"));
    }
    Ok(Request { method: Method::GET, url, headers: HeaderMap::new(), body: bytes::Bytes::new() })
}

/// How a start was answered. Nothing of it is followed or believed: it goes back to whoever posted the order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Started {
    /// The payer goes on there.
    Redirect(Url),
    /// A status page.
    Page {
        /// Its `content-type`.
        content_type: Option<String>,
        /// Its bytes.
        body: Vec<u8>,
    },
}

/// What the answer to [`start`] is.
///
/// # Errors
/// What to do instead. After `Retry` the order stays open: it may have been started, and its callback counts.
pub fn judge_start(reply: &Reply<'_>, settings: &Settings) -> Result<Started, Outcome> {
    match reply.status.as_u16() {
        200..=299 if reply.truncated || reply.body.len() > PAGE_BYTES_MAX => {
            Err(Outcome::retry("InPaSy's status page is longer than what is read of an answer, or broke off"))
        }
        200..=299 => {
            let content_type = reply.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::to_owned);
            Ok(Started::Page { content_type, body: reply.body.to_vec() })
        }
        301 | 302 | 303 | 307 | 308 => {
            let location = reply.headers.get(LOCATION).map(|value| settings.charset.decode(value.as_bytes()));
            let url = location.and_then(|location| settings.start_url.join(location.trim()).ok());
            let usable = |url: &Url| matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none();
            url.filter(usable)
                .map(Started::Redirect)
                .ok_or_else(|| Outcome::rejected("InPaSy redirects without an address that can be used"))
        }
        408 | 425 | 429 | 500..=599 => Err(Outcome::retry(text::with_excerpt(&format!("InPaSy answers {}", reply.status), reply.body))),
        _ => Err(Outcome::rejected(text::with_excerpt(&format!("InPaSy refuses the order ({})", reply.status), reply.body))),
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::super::SettingsDraft;
    use super::*;

    fn settings(charset: &str, pointer: Option<&str>) -> Settings {
        Settings::new(SettingsDraft {
            start_url: Some("https://inpasy.example/app/start?x=1".parse().unwrap()),
            id_url: Some("https://inpasy.example/id".parse().unwrap()),
            id_pointer: pointer.map(str::to_owned),
            vkz: Some("575488".to_owned()),
            present: Some("paid".to_owned()),
            charset: Some(charset.to_owned()),
            ..SettingsDraft::default()
        })
        .unwrap()
    }

    fn query(charset: &str) -> String {
        let parameters = vec![("Name".to_owned(), "Müller & Söhne+1".to_owned())];
        let order = Order { lid: None, method: super::super::Method::Invoice, parameters };
        let lid = Lid::parse("123456789012").unwrap();
        start(&settings(charset, None), &order, &lid).unwrap().url.query().unwrap().to_owned()
    }

    fn reply<'a>(status: u16, headers: &'a HeaderMap, body: &'a [u8]) -> Reply<'a> {
        Reply { status: StatusCode::from_u16(status).unwrap(), headers, body, truncated: false }
    }

    #[test]
    fn parameters_are_escaped_in_the_routes_charset() {
        assert_eq!(query("utf-8"), "x=1&vkz=575488&lid=123456789012&Name=M%C3%BCller%20%26%20S%C3%B6hne%2B1");
        assert_eq!(query("ISO-8859-1"), "x=1&vkz=575488&lid=123456789012&Name=M%FCller%20%26%20S%F6hne%2B1");
        let long = Order { lid: None, method: super::super::Method::Free, parameters: vec![("a".repeat(9000), String::new())] };
        assert!(start(&settings("utf-8", None), &long, &Lid::from_random(0)).is_err());
    }

    #[test]
    fn an_id_is_read_as_text_or_by_pointer_and_must_have_twelve_digits() {
        let headers = HeaderMap::new();
        let read = |body: &str, pointer| judge_id(&reply(200, &headers, body.as_bytes()), &settings("utf-8", pointer));
        assert_eq!(read(" 123456789012\r\n", None).unwrap().as_str(), "123456789012");
        assert_eq!(read(r#"{"data":{"id":123456789012}}"#, Some("/data/id")).unwrap().as_str(), "123456789012");
        for (body, pointer) in [("", None), ("<html>", None), ("1234567890123", None), ("{}", Some("/data/id")), ("x", Some("/id"))] {
            assert!(read(body, pointer).is_err(), "{body}");
        }
        assert!(judge_id(&reply(500, &headers, b"123456789012"), &settings("utf-8", None)).is_err());
    }

    #[test]
    fn a_redirect_and_a_page_are_handed_back_and_nothing_is_followed() {
        let judge = |status, location: Option<&str>, body: &str| {
            let mut headers = HeaderMap::new();
            if let Some(location) = location {
                headers.insert(LOCATION, location.parse().unwrap());
            }
            judge_start(&reply(status, &headers, body.as_bytes()), &settings("utf-8", None)).map_err(|outcome| outcome.verdict)
        };
        use crate::connectors::Verdict;
        assert_eq!(
            judge(302, Some("https://kasse.example/pay?t=1"), "").unwrap(),
            Started::Redirect("https://kasse.example/pay?t=1".parse().unwrap())
        );
        assert_eq!(judge(303, Some("/status"), "").unwrap(), Started::Redirect("https://inpasy.example/status".parse().unwrap()));
        assert_eq!(judge(200, None, "<p>ok").unwrap(), Started::Page { content_type: None, body: b"<p>ok".to_vec() });
        for bad in [None, Some("javascript:alert(1)"), Some("https://a:b@x.example/")] {
            assert_eq!(judge(302, bad, ""), Err(Verdict::Rejected), "{bad:?}");
        }
        assert_eq!(judge(503, None, ""), Err(Verdict::Retry { after: None }));
        assert_eq!(judge(400, None, "betrag fehlt"), Err(Verdict::Rejected));
    }
}
