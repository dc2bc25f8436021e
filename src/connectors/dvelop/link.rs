//! The link to which a result is reported. It comes out of a payload, so it is believed only as far as the operator's
//! list of hosts goes.

use http::HeaderMap;
use serde_json::Value;
use url::{Host, Url};

use super::settings::Acknowledge;
use crate::connectors::text;
use crate::model::{is_public, literal};

/// Where a payload names the link.
const POINTER: &str = "/_links/report_results_async/href";

/// The gateway's header with the tenant's address.
const BASE_HEADER: &str = "x-dv-baseuri";

/// Longest link.
const LINK_BYTES_MAX: usize = 2048;

/// Hosts that a link may name: exact names, or `*.` before a name for everything below it.
#[derive(Debug, Clone)]
pub struct AllowedHosts(Vec<Pattern>);

#[derive(Debug, Clone)]
enum Pattern {
    Exact(Host<String>),
    /// Below this name; it starts with the dot.
    Below(String),
}

impl AllowedHosts {
    /// Reads the patterns.
    ///
    /// # Errors
    /// What is wrong with one of them.
    pub fn new(patterns: &[String]) -> Result<Self, String> {
        if patterns.is_empty() {
            return Err("is empty: no report could be sent".to_owned());
        }
        patterns.iter().map(|pattern| Pattern::new(pattern)).collect::<Result<_, _>>().map(Self)
    }

    /// Whether a link to this host may be called.
    pub fn allow(&self, host: &Host<&str>) -> bool {
        self.0.iter().any(|pattern| match (pattern, host) {
            (Pattern::Exact(exact), host) => exact == host,
            (Pattern::Below(suffix), Host::Domain(name)) => name.len() > suffix.len() && name.ends_with(suffix.as_str()),
            (Pattern::Below(_), Host::Ipv4(_) | Host::Ipv6(_)) => false,
        })
    }
}

impl Pattern {
    fn new(pattern: &str) -> Result<Self, String> {
        let shown = text::quoted(pattern);
        let host = |name: &str| match Host::parse(name) {
            Ok(host) if !name.contains('*') => Ok(host),
            Ok(_) | Err(_) => Err(format!("`{shown}` is not a host name; write `*.example.ch` or a name")),
        };
        match pattern.strip_prefix("*.") {
            Some(name) => match host(name)? {
                Host::Domain(name) if name.contains('.') => Ok(Self::Below(format!(".{name}"))),
                Host::Domain(_) | Host::Ipv4(_) | Host::Ipv6(_) => Err(format!("`{shown}` allows a whole top-level domain, or addresses")),
            },
            None => host(pattern).map(Self::Exact),
        }
    }
}

/// Why a result can't be reported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The payload has none.
    #[error("the payload names no report link (`_links.report_results_async.href`)")]
    Missing,
    /// It can't be called.
    #[error("the report link can't be used: {0}")]
    Unusable(&'static str),
    /// Its host is not on the list.
    #[error("the report link leads to `{0}`, which is not on `allowed_hosts`")]
    HostNotAllowed(String),
}

/// The report link of this payload (a webhook's body, or a pulled transfer), once it is one that may be called. A
/// relative one starts at `base`, the tenant's address.
///
/// # Errors
/// Why there is none.
pub fn report_link(payload: &[u8], base: Option<&Url>, settings: &Acknowledge) -> Result<Url, LinkError> {
    let document: Value = serde_json::from_slice(payload).map_err(|_error| LinkError::Missing)?;
    let href = document.pointer(POINTER).and_then(Value::as_str).map(str::trim).filter(|href| !href.is_empty());
    let href = href.ok_or(LinkError::Missing)?;
    if href.len() > LINK_BYTES_MAX {
        return Err(LinkError::Unusable("it is longer than 2048 bytes"));
    }
    let link = match (Url::parse(href), base) {
        (Ok(link), _) => link,
        (Err(url::ParseError::RelativeUrlWithoutBase), Some(base)) => {
            base.join(href).map_err(|_error| LinkError::Unusable("it is not a URL"))?
        }
        (Err(url::ParseError::RelativeUrlWithoutBase), None) => {
            return Err(LinkError::Unusable("it is relative, and the tenant's address is not known"));
        }
        (Err(_), _) => return Err(LinkError::Unusable("it is not a URL")),
    };
    check(link, settings)
}

fn check(mut link: Url, settings: &Acknowledge) -> Result<Url, LinkError> {
    let host = link.host().ok_or(LinkError::Unusable("it has no host"))?;
    if !settings.allowed_hosts.allow(&host) {
        return Err(LinkError::HostNotAllowed(text::quoted(&host.to_string())));
    }
    if !link.username().is_empty() || link.password().is_some() {
        return Err(LinkError::Unusable("it holds credentials"));
    }
    let address = literal(&link);
    if address.is_some_and(|address| !settings.may_connect(address)) {
        return Err(LinkError::Unusable("its address is not public; see `allow_private`"));
    }
    // The API key goes along: unencrypted only to a private address, which `may_connect` has allowed by name.
    let private = address.is_some_and(|address| !is_public(address));
    if link.scheme() != "https" && !(link.scheme() == "http" && private) {
        return Err(LinkError::Unusable("it is not https"));
    }
    link.set_fragment(None);
    Ok(link)
}

/// The tenant's address: what the d.velop gateway says in a header, else what the payload says.
pub fn tenant_base(headers: &HeaderMap, payload: &[u8]) -> Option<Url> {
    let header = headers.get(BASE_HEADER).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let said = header.or_else(|| {
        let document: Value = serde_json::from_slice(payload).ok()?;
        document.pointer("/tenant/base_uri")?.as_str().map(str::to_owned)
    })?;
    let url = Url::parse(said.trim()).ok()?;
    (url.has_host() && matches!(url.scheme(), "http" | "https")).then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::dvelop::AcknowledgeDraft;

    fn settings(hosts: &[&str], private: &[&str]) -> Acknowledge {
        Acknowledge::new(AcknowledgeDraft {
            allowed_hosts: Some(hosts.iter().map(|host| (*host).to_owned()).collect()),
            allow_private: private.iter().map(|net| net.parse().unwrap()).collect(),
            ..AcknowledgeDraft::default()
        })
        .unwrap()
    }

    fn link(href: &str, settings: &Acknowledge) -> Result<String, LinkError> {
        let payload = serde_json::json!({ "_links": { "report_results_async": { "href": href } } }).to_string();
        let base = Url::parse("https://acme.d-velop.cloud/").unwrap();
        report_link(payload.as_bytes(), Some(&base), settings).map(String::from)
    }

    #[test]
    fn a_link_below_an_allowed_name_is_called_and_nothing_else() {
        let settings = Acknowledge::new(AcknowledgeDraft::default()).unwrap();
        let good = "https://acme.d-velop.cloud/smartinvoice/api/v1/transfers/1";
        assert_eq!(link(good, &settings).as_deref(), Ok(good));
        assert_eq!(link(" /smartinvoice/api/v1/transfers/1#x ", &settings).as_deref(), Ok(good));
        assert!(link("https://a.b.d-velop.de/x", &settings).is_ok());
        assert!(link("https://ACME.D-Velop.Cloud/x", &settings).is_ok());
        for bad in [
            "http://acme.d-velop.cloud/x",
            "https://d-velop.cloud/x",
            "https://evild-velop.cloud/x",
            "https://acme.d-velop.cloud.evil.example/x",
            "https://acme.d-velop.cloud@evil.example/x",
            "https://us:pw@acme.d-velop.cloud/x",
            "https://acme.d-velop.cloud./x",
            "https://127.0.0.1/x",
            "https://[::1]/x",
            "//evil.example/x",
            "ftp://acme.d-velop.cloud/x",
            "javascript:alert(1)",
            "",
        ] {
            assert!(link(bad, &settings).is_err(), "{bad}");
        }
        assert!(link(&format!("https://acme.d-velop.cloud/{}", "x".repeat(LINK_BYTES_MAX)), &settings).is_err());
    }

    #[test]
    fn an_address_is_called_only_where_the_operator_allows_it() {
        let open = settings(&["127.0.0.1", "169.254.169.254", "8.8.8.8"], &["127.0.0.0/8", "169.254.0.0/16"]);
        assert!(link("http://127.0.0.1:8080/x", &open).is_ok());
        assert!(link("http://169.254.169.254/x", &open).is_err());
        assert!(link("http://8.8.8.8/x", &open).is_err() && link("https://8.8.8.8/x", &open).is_ok());
        assert!(link("http://127.0.0.1:8080/x", &settings(&["127.0.0.1"], &[])).is_err());
    }

    #[test]
    fn a_pattern_never_allows_a_whole_top_level_domain() {
        for pattern in ["*", "*.cloud", "*.127.0.0.1", "a b", "", "*."] {
            assert!(AllowedHosts::new(&[pattern.to_owned()]).is_err(), "{pattern}");
        }
        assert!(AllowedHosts::new(&[]).is_err());
        assert!(AllowedHosts::new(&["*.d-velop.cloud".to_owned(), "müller.example".to_owned()]).is_ok());
    }

    #[test]
    fn a_payload_without_a_link_says_so_and_the_tenant_is_found_in_header_or_body() {
        let settings = Acknowledge::new(AcknowledgeDraft::default()).unwrap();
        for payload in ["", "{}", "[]", r#"{"_links":{"report_results_async":{"href":5}}}"#] {
            assert_eq!(report_link(payload.as_bytes(), None, &settings), Err(LinkError::Missing), "{payload}");
        }
        let body = br#"{"tenant":{"id":"a","base_uri":"https://body.d-velop.cloud"}}"#;
        let mut headers = HeaderMap::new();
        assert_eq!(tenant_base(&headers, body).unwrap().as_str(), "https://body.d-velop.cloud/");
        headers.insert(BASE_HEADER, "https://header.d-velop.cloud".parse().unwrap());
        assert_eq!(tenant_base(&headers, body).unwrap().as_str(), "https://header.d-velop.cloud/");
        assert_eq!(tenant_base(&HeaderMap::new(), b"{}"), None);
    }
}
