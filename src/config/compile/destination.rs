//! `destinations`.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{HeaderMap, HeaderName, header};
use url::{Host, Url};

use super::{Compiler, shared};
use crate::config::limits::{CONCURRENCY_DEFAULT, TIMEOUT_DEFAULT};
use crate::config::scalar;
use crate::config::section::{Section, in_memory};
use crate::config::units::show_duration;
use crate::config::wrong::Wrong;
use crate::config::{Auth, Breaker, Destination, Format, Retry, Target};
use crate::connectors::payjoe;
use crate::document::Node;
use crate::model::{Name, Secret, is_metadata, literal};
use crate::signature::Signer;

impl Compiler<'_> {
    /// The destinations that could be built; those that could not have been reported.
    pub(super) fn destinations(&mut self, section: &Section<'_>) -> BTreeMap<Name, Destination> {
        let mut destinations = BTreeMap::new();
        for entry in section.entries() {
            let destination = self.destination(&entry.key, &Section::new(&entry.value, section.path(&entry.key)));
            if let Some(destination) = destination {
                destinations.insert(destination.name.clone(), destination);
            }
        }
        destinations
    }

    fn destination(&mut self, name: &str, section: &Section<'_>) -> Option<Destination> {
        let limits = section.section("limits");
        let url = section.text("url").and_then(|text| scalar::url(text).ok());
        let uploads = in_memory(limits.integer("concurrency").unwrap_or(CONCURRENCY_DEFAULT));
        let target = self.target(section, url.clone(), uploads);
        let signer = self.signer(&section.section("sign"));
        let auth = self.auth(&section.section("auth"));
        let headers = self.headers(&section.section("headers"), auth.as_ref());
        let retry = self.retry(&section.section("retry"));
        let tls = self.client_tls(&section.section("tls"));
        let breaker = section.section("breaker");
        let address = target.as_ref().and_then(Target::url).cloned();
        if let (Some(url), Some(_)) = (&address, &tls)
            && url.scheme() != "https"
        {
            self.report.error(Wrong::new("`tls` needs an https URL"), section.span("tls"), section.path("tls"));
        }
        if let Some(address) = address.as_ref().and_then(literal).filter(|address| is_metadata(*address)) {
            let wrong = Wrong::new(format!("{address} is a cloud metadata address, which is never called"));
            self.report.error(wrong.hint("it hands out the machine's own credentials"), section.span("url"), section.path("url"));
        }
        if auth.is_some() && url.as_ref().is_some_and(is_open) {
            self.report.warn(Wrong::new("the credentials go over plain http"), section.span("auth"), section.path("auth"));
        }
        let target = target?;
        let timeout = if matches!(target, Target::PayJoe { .. }) { payjoe::TIMEOUT } else { TIMEOUT_DEFAULT };
        Some(Destination {
            name: shared(name),
            concurrency: target.concurrency(uploads),
            target,
            format: match section.text("as") {
                Some("json") => Format::Json,
                Some("cloudevents") => Format::CloudEvents,
                Some(_) | None => Format::Original,
            },
            signer,
            auth,
            headers,
            timeout: section.duration("timeout").unwrap_or(timeout),
            retry,
            rate: limits.rate("rate"),
            breaker: Breaker {
                failures: breaker
                    .integer("failures")
                    .and_then(|failures| u32::try_from(failures).ok())
                    .unwrap_or(Breaker::default().failures),
                cool_down: breaker.duration("cool_down").unwrap_or(Breaker::default().cool_down),
            },
            tls,
        })
    }

    fn signer(&mut self, section: &Section<'_>) -> Option<Signer> {
        let items = section.items("secrets");
        let mut secrets = Vec::with_capacity(items.len());
        for (node, path) in &items {
            let secret = self.plain_secret(node, path)?;
            // One at a time first, so that the message stands at the one that is wrong.
            if let Err(text) = Signer::new(std::slice::from_ref(&secret)) {
                self.report.error(Wrong::new(text).hint("make one with `kurier secret new`"), node.span, path);
                return None;
            }
            secrets.push(secret);
        }
        if secrets.is_empty() {
            return None;
        }
        match Signer::new(&secrets) {
            Ok(signer) => Some(signer),
            Err(text) => {
                self.report.error(Wrong::new(text), section.span("secrets"), section.path("secrets"));
                None
            }
        }
    }

    pub(super) fn auth(&mut self, section: &Section<'_>) -> Option<Auth> {
        if !section.exists() {
            return None;
        }
        let mut auth = None;
        if let Some(node) = section.get("bearer") {
            let path = section.path("bearer");
            auth = self.header_secret(node, &path).map(Auth::Bearer);
        }
        if section.get("basic").is_some() {
            auth = self.basic(&section.section("basic"));
        }
        if section.get("oauth2").is_some() {
            auth = self.oauth2(&section.section("oauth2"));
        }
        if section.get("header").is_some() {
            let header = section.section("header");
            let mut headers: Vec<(HeaderName, Secret)> = Vec::new();
            for entry in header.entries() {
                let path = header.path(&entry.key);
                let Ok(name) = scalar::header_name(&entry.key) else { continue };
                if let Some(wrong) = forbidden(&name) {
                    self.report.error(wrong, entry.key_span, &path);
                }
                if headers.iter().any(|(other, _)| *other == name) {
                    self.report.error(Wrong::new("the header occurs twice"), entry.key_span, &path);
                }
                if let Some(secret) = self.header_secret(&entry.value, &path) {
                    headers.push((name, secret));
                }
            }
            auth = Some(Auth::Headers(headers));
        }
        auth
    }

    fn basic(&mut self, section: &Section<'_>) -> Option<Auth> {
        let user = section.get("user").and_then(|node| self.text_or_secret(node, &section.path("user")));
        let password = section.get("password").and_then(|node| self.plain_secret(node, &section.path("password")));
        let user = user?;
        if user.expose().contains(&b':') {
            self.report.error(Wrong::new("a user name can't hold a colon (RFC 7617)"), section.span("user"), section.path("user"));
        }
        Some(Auth::Basic { user, password: password? })
    }

    /// A secret that is to stand in a header.
    fn header_secret(&mut self, node: &Node, path: &str) -> Option<Secret> {
        let secret = self.plain_secret(node, path)?;
        let fits = std::str::from_utf8(secret.expose()).is_ok_and(|text| scalar::header_value(text).is_ok());
        if !fits {
            let wrong = Wrong::new("the secret can't stand in a header").hint("printable ASCII without line breaks");
            self.report.error(wrong, node.span, path);
        }
        fits.then_some(secret)
    }

    fn headers(&mut self, section: &Section<'_>, auth: Option<&Auth>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for entry in section.entries() {
            let path = section.path(&entry.key);
            let Ok(name) = scalar::header_name(&entry.key) else { continue };
            let Ok(value) = scalar::header_value(entry.value.as_str().unwrap_or_default()) else { continue };
            if let Some(wrong) = forbidden(&name).or_else(|| credential(&name)) {
                self.report.error(wrong, entry.key_span, path);
            } else if matches!(auth, Some(Auth::Headers(secret)) if secret.iter().any(|(other, _)| *other == name)) {
                self.report.error(Wrong::new("stands under `auth` too"), entry.key_span, path);
            } else if headers.insert(name, value).is_some() {
                self.report.error(Wrong::new("the header occurs twice"), entry.key_span, path);
            }
        }
        headers
    }

    pub(super) fn retry(&mut self, section: &Section<'_>) -> Retry {
        let default = Retry::default();
        let mut never: Vec<u16> = section.items("never").iter().filter_map(|(node, _)| u16::try_from(node.as_u64()?).ok()).collect();
        if section.get("never").is_none() {
            never.clone_from(&default.never);
        }
        never.sort_unstable();
        never.dedup();
        let factor = section.get("factor").and_then(|node| scalar::factor(node, 1.0, f64::MAX).ok());
        let retry = Retry {
            first: section.duration("first").unwrap_or(default.first),
            factor: factor.unwrap_or(default.factor),
            min: section.duration("min").unwrap_or(default.min),
            max: section.duration("max").unwrap_or(default.max),
            max_age: section.duration("max_age").unwrap_or(default.max_age),
            max_attempts: section.integer("max_attempts").and_then(|number| u32::try_from(number).ok()),
            never,
        };
        let bounds =
            [("min", retry.min, "max", retry.max), ("first", retry.first, "max", retry.max), ("min", retry.min, "max_age", retry.max_age)];
        for (small, lower, large, upper) in bounds {
            if lower > upper {
                let show = |time: Duration| show_duration(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
                let wrong = Wrong::new(format!("`{small}` ({}) is longer than `{large}` ({})", show(lower), show(upper)));
                let at = if section.get(small).is_some() { small } else { large };
                self.report.error(wrong, section.span(at), section.path(at));
            }
        }
        retry
    }
}

/// Whether anybody on the way can read along.
pub(super) fn is_open(url: &Url) -> bool {
    let here = match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    url.scheme() == "http" && !here
}

/// Headers that are the connection's, the event's or our own to say.
fn forbidden(name: &HeaderName) -> Option<Wrong> {
    const CONNECTION: [HeaderName; 10] = [
        header::HOST,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::CONNECTION,
        header::TE,
        header::TRAILER,
        header::UPGRADE,
        header::EXPECT,
        header::PROXY_AUTHORIZATION,
        header::PROXY_AUTHENTICATE,
    ];
    let text = name.as_str();
    if CONNECTION.contains(name) || matches!(text, "keep-alive" | "proxy-connection" | "http2-settings") {
        return Some(Wrong::new(format!("the header `{text}` is the connection's own and can't be set")));
    }
    if text.starts_with("webhook-") || text.starts_with("kurier-") {
        return Some(Wrong::new(format!("the header `{text}` is set by Kurier")));
    }
    None
}

/// Headers whose values are secrets.
fn credential(name: &HeaderName) -> Option<Wrong> {
    const CREDENTIALS: [HeaderName; 2] = [header::AUTHORIZATION, header::COOKIE];
    CREDENTIALS
        .contains(name)
        .then(|| Wrong::new(format!("the header `{name}` holds credentials")).hint("put it under `auth`: bearer, basic or header"))
}
