//! `key.source`: where a request's key is fetched from. A url out of a request is believed only when its host
//! is on the scheme's list and nothing in it could be read in two ways.

use regex::Regex;
use url::Url;

use super::Refusal;
use super::algorithm::Algorithm;
use super::certificate::Certificate;
use super::jwk::Jwk;
use super::keeper::{Context, KeyState, WantedKey};
use super::key::{Key, KeyEncoding};
use super::limits::{KEY_ID_BYTES_MAX, KEY_URL_BYTES_MAX};
use super::request::Scope;
use super::source::Source;
use super::template::Program;
use crate::model::Secret;

/// Keys that are fetched.
pub(super) struct Remote {
    pub(super) place: Place,
    pub(super) algorithm: Algorithm,
    pub(super) encoding: KeyEncoding,
}

/// Where they are.
pub(super) enum Place {
    /// At a url that the request may name; with `by`, in a set there.
    Url { url: Program, hosts: Vec<Host>, by: Option<Source> },
    /// At a source of the configuration.
    Named { source: Box<str>, by: Source },
}

/// One of `allow_hosts`.
pub(super) enum Host {
    Exact(Box<str>),
    Pattern(Regex),
}

impl Host {
    /// A name, or a regular expression that starts with `^` and ends with `$`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with('^') {
            if !text.ends_with('$') || text.ends_with("\\$") {
                return Err(format!("the pattern `{text}` has no `$` at its end, so it would fit longer names too"));
            }
            return Regex::new(text).map(Self::Pattern).map_err(|_error| format!("`{text}` is no regular expression"));
        }
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
        let name = text.contains('.') && text.bytes().all(plain) && !text.starts_with('.') && !text.ends_with('.');
        if name { Ok(Self::Exact(text.into())) } else { Err(format!("`{text}` is no host name in lower case")) }
    }

    fn fits(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => **name == *host,
            Self::Pattern(pattern) => pattern.find(host).is_some_and(|found| found.len() == host.len()),
        }
    }
}

impl Remote {
    /// Which key the request wants.
    pub(super) fn wanted(&self, scope: &Scope<'_, '_, '_>) -> Result<WantedKey, Refusal> {
        match &self.place {
            Place::Url { url, hosts, by } => {
                let url = checked(&url.bytes(scope)?, hosts).ok_or(Refusal::UnknownKey)?;
                match by {
                    None => Ok(WantedKey::Url(url)),
                    Some(by) => Ok(WantedKey::InSet { url, id: id(scope, by)? }),
                }
            }
            Place::Named { source, by } => Ok(WantedKey::Named { source: source.clone(), id: id(scope, by)? }),
        }
    }

    pub(super) fn source_name(&self) -> Option<&str> {
        match &self.place {
            Place::Named { source, .. } => Some(source),
            Place::Url { .. } => None,
        }
    }

    /// The key itself, from what its keeper has.
    pub(super) fn key(&self, scope: &Scope<'_, '_, '_>, context: Context<'_>) -> Result<Key, Refusal> {
        let wanted = self.wanted(scope)?;
        let text = match context.keys.look(&wanted) {
            KeyState::Known(text) => text,
            KeyState::Unknown => return Err(Refusal::UnknownKey),
            KeyState::Unavailable => return Err(Refusal::KeyFetch),
        };
        if let WantedKey::InSet { id, .. } = &wanted {
            let jwk = Jwk::of_set(&text, id.as_bytes()).ok_or(Refusal::UnknownKey)?;
            return Key::of_jwk(&jwk, self.algorithm).map_err(|_reason| Refusal::UnknownKey);
        }
        if let (KeyEncoding::X509, Some(now)) = (self.encoding, context.now) {
            let certificate = Certificate::parse(&text).map_err(|_reason| Refusal::UnknownKey)?;
            if !certificate.is_valid(now) {
                return Err(Refusal::UnknownKey);
            }
        }
        Key::new(&Secret::new(text.to_vec()), None, self.algorithm, self.encoding).map_err(|_reason| Refusal::UnknownKey)
    }
}

fn id(scope: &Scope<'_, '_, '_>, by: &Source) -> Result<Box<str>, Refusal> {
    let id = scope.look(by)?.ok_or(Refusal::MissingHeader)?;
    let plain = (1..=KEY_ID_BYTES_MAX).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic);
    let text = std::str::from_utf8(&id).ok().filter(|_| plain);
    text.map(Into::into).ok_or(Refusal::UnknownKey)
}

/// The url, when it is `https`, its host is allowed, and it means to every parser what it says.
pub(super) fn checked(text: &[u8], hosts: &[Host]) -> Option<Box<str>> {
    let text = std::str::from_utf8(text).ok().filter(|text| text.len() <= KEY_URL_BYTES_MAX)?;
    let (host, _) = text.strip_prefix("https://")?.split_once('/')?;
    if !hosts.iter().any(|allowed| allowed.fits(host)) {
        return None;
    }
    let parsed = Url::parse(text).ok()?;
    // What the parser would have to mend is refused: another one might mend it otherwise.
    let same = parsed.as_str() == text && parsed.host_str() == Some(host);
    let bare = parsed.port().is_none() && parsed.username().is_empty() && parsed.password().is_none() && parsed.fragment().is_none();
    (same && bare && matches!(parsed.host(), Some(url::Host::Domain(_)))).then(|| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_https_url_of_an_allowed_host_is_believed() {
        let hosts = [Host::parse("api.paypal.com").unwrap(), Host::parse(r"^sns\.[a-z0-9-]{3,}\.amazonaws\.com(\.cn)?$").unwrap()];
        for good in ["https://api.paypal.com/v1/certs/x", "https://sns.eu-central-1.amazonaws.com/SimpleNotificationService-0.pem?a=b"] {
            assert!(checked(good.as_bytes(), &hosts).is_some(), "{good}");
        }
        for bad in [
            "http://api.paypal.com/x",
            "https://api.paypal.com",
            "https://api.paypal.com:443/x",
            "https://api.paypal.com:8443/x",
            "https://user@api.paypal.com/x",
            "https://api.paypal.com@evil.example/x",
            "https://api.paypal.com.evil.example/x",
            "https://evil.example/api.paypal.com/x",
            "https://API.paypal.com/x",
            "https://api.paypal.com./x",
            "https://api.paypal.com/x#y",
            "https://api.paypal.com/../x",
            "https://api.paypal.com\\@evil.example/x",
            "https://api.paypal.com/x\n",
            "HTTPS://api.paypal.com/x",
            "https:/api.paypal.com/x",
            "https://sns.eu-central-1.amazonaws.com.evil.example/x",
            "https://xsns.eu-central-1.amazonaws.com/x",
            "https://sns.s3.amazonaws.com/x",
            "https://sns-eu.amazonaws.com/x",
            "https://bucket.s3.eu-central-1.amazonaws.com/x",
            "https://sns.eu\u{2024}west.amazonaws.com/x",
            "https://127.0.0.1/x",
            "",
        ] {
            assert!(checked(bad.as_bytes(), &hosts).is_none(), "{bad}");
        }
        assert!(checked(b"https://169.254.169.254/x", &[Host::parse("^.*$").unwrap()]).is_none());
    }

    #[test]
    fn a_host_is_a_name_or_an_anchored_pattern() {
        for bad in ["", "localhost", "*.example.com", "^a\\.example", "^a\\.example\\$", "Api.example", "a.example.", "a.example/x", "^([$"]
        {
            assert!(Host::parse(bad).is_err(), "{bad}");
        }
    }
}
