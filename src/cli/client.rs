//! Talking to a running server through its admin API.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::Value;
use url::Url;

use super::Context;
use super::exit::{Exit, Failure};
use super::{settings, table};
use crate::config::{Config, Scope};
use crate::egress;
use crate::model::{FaultKind, Secret};

/// The longest time for one call.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Where the admin side listens when no configuration says otherwise.
const ADMIN_URL_DEFAULT: &str = "http://127.0.0.1:9090";

/// Items on one page of the API.
const PAGE_MAX: usize = 500;

/// Items that are listed where nobody says otherwise.
const LIMIT_DEFAULT: usize = 50;

/// Which server, and with what token.
#[derive(clap::Args)]
pub(super) struct Remote {
    /// The server's admin address, such as http://127.0.0.1:9090 [default: from the configuration]
    #[arg(long, global = true, env = "KURIER_ADMIN_URL", hide_env_values = true, value_name = "URL", value_parser = admin_url)]
    admin_url: Option<Url>,

    /// A token of admin.tokens; better given by the variable, which other users can't see
    #[arg(long, global = true, env = "KURIER_ADMIN_TOKEN", value_name = "TOKEN", hide_env_values = true, value_parser = token)]
    token: Option<Secret>,
}

/// A server to call.
pub(super) struct Client {
    base: Url,
    token: Option<Secret>,
}

impl Client {
    /// The server that was named, else the one of the configuration, with a token of the configuration that
    /// has this scope. A token of the configuration goes to no other server.
    pub(super) fn new(remote: Remote, context: &Context, scope: Option<Scope>) -> Result<Self, Failure> {
        // A variable that is set to nothing is how scripts say that there is no token.
        let token = remote.token.filter(|token| !token.expose().is_empty());
        if let Some(base) = remote.admin_url {
            return Ok(Self { base, token });
        }
        if context.config.is_none() && !context.config_path().exists() {
            let base = admin_url(ADMIN_URL_DEFAULT).map_err(Failure::usage)?;
            return Ok(Self { base, token });
        }
        let config = settings::load_quietly(context).map_err(|failure| failure.with_hint("or name the server with --admin-url"))?;
        let base = admin_url(&format!("http://{}", reachable(config.admin.listen))).map_err(Failure::usage)?;
        Ok(Self { base, token: token.or_else(|| scope.and_then(|scope| configured_token(&config, scope))) })
    }

    /// Where it is, for messages.
    pub(super) fn base(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    pub(super) async fn get(&self, path: &[&str], query: &[(&str, String)]) -> Result<Value, Failure> {
        parse(&self.bytes(path, query).await?)
    }

    /// Pages of a list, from this cursor on, until there are `limit` items or no more; and where to go on.
    pub(super) async fn list(
        &self,
        path: &[&str],
        filters: &[(&'static str, Option<&str>)],
        (limit, cursor): (Option<u32>, Option<&str>),
    ) -> Result<(Vec<Value>, Option<String>), Failure> {
        let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(LIMIT_DEFAULT);
        let (mut all, mut cursor): (Vec<Value>, Option<String>) = (Vec::new(), cursor.map(str::to_owned));
        loop {
            let given = filters.iter().copied().chain([("cursor", cursor.as_deref())]);
            let mut query: Vec<_> = given.filter_map(|(name, value)| Some((name, value?.to_owned()))).collect();
            query.push(("limit", limit.saturating_sub(all.len()).clamp(1, PAGE_MAX).to_string()));
            let page = self.get(path, &query).await?;
            all.extend_from_slice(table::items(&page, "items"));
            cursor = page.get("next_cursor").and_then(Value::as_str).map(str::to_owned);
            if cursor.is_none() || all.len() >= limit {
                return Ok((all, cursor));
            }
        }
    }

    /// A reply's bytes as they are.
    pub(super) async fn bytes(&self, path: &[&str], query: &[(&str, String)]) -> Result<Bytes, Failure> {
        let (status, body) = self.call(Method::GET, path, query, None).await?;
        self.accepted(status, body)
    }

    pub(super) async fn post(&self, path: &[&str], body: Option<Value>) -> Result<Value, Failure> {
        let (status, body) = self.call(Method::POST, path, &[], body).await?;
        parse(&self.accepted(status, body)?)
    }

    pub(super) async fn delete(&self, path: &[&str]) -> Result<Value, Failure> {
        let (status, body) = self.call(Method::DELETE, path, &[], None).await?;
        parse(&self.accepted(status, body)?)
    }

    /// Status and body, whatever they are.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
        body: Option<Value>,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let body = body.map(|json| Bytes::from(json.to_string()));
        egress::admin_call(method, url, self.token.as_ref(), body, TIMEOUT).await.map_err(|fault| self.unreachable(&fault))
    }

    fn unreachable(&self, fault: &egress::Fault) -> Failure {
        let base = self.base();
        let failure = Failure::failed(format!("no answer from {base}: {}", fault.detail)).unreachable();
        match fault.kind {
            FaultKind::Connect | FaultKind::Dns => {
                failure.with_hint("is `kurier serve` running? name another server with --admin-url or KURIER_ADMIN_URL")
            }
            FaultKind::Timeout => failure.with_hint("the server is there and does not answer; look at its log"),
            FaultKind::Tls
            | FaultKind::Reset
            | FaultKind::Protocol
            | FaultKind::ForbiddenAddress
            | FaultKind::Interrupted
            | FaultKind::Unsendable => failure.with_hint("is this the admin address (admin.listen) of a Kurier?"),
        }
    }

    fn accepted(&self, status: StatusCode, body: Bytes) -> Result<Bytes, Failure> {
        if status.is_success() {
            return Ok(body);
        }
        let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
        let detail = table::printable(&table::field(&problem, "detail"), false);
        let detail = if detail.is_empty() { format!("{} answered {status}", self.base()) } else { detail };
        let failure = Failure::failed(detail);
        Err(match status {
            // What was typed can't be understood, even if only the server found out.
            StatusCode::BAD_REQUEST => failure.with_exit(Exit::Usage),
            StatusCode::UNAUTHORIZED => failure.with_hint("give a token with KURIER_ADMIN_TOKEN or --token"),
            StatusCode::FORBIDDEN => failure.with_hint("use a token whose scopes allow it (admin.tokens in the configuration)"),
            _ => failure,
        })
    }
}

fn parse(body: &[u8]) -> Result<Value, Failure> {
    let failure = |error| Failure::failed(format!("the answer is no JSON: {error}")).with_hint("is this the admin address of a Kurier?");
    serde_json::from_slice(body).map_err(failure)
}

fn configured_token(config: &Config, scope: Scope) -> Option<Secret> {
    let fits = |token: &&crate::config::AdminToken| token.scopes.contains(&scope) && !token.secret.expose().is_empty();
    config.admin.tokens.iter().find(fits).map(|token| token.secret.clone())
}

/// An address to connect to for one that is listened on: "all addresses" is none.
pub(super) fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => ip.into(),
    };
    SocketAddr::new(ip, listen.port())
}

fn admin_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("{error}; write it like {ADMIN_URL_DEFAULT}"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(format!("it is no http or https address; write it like {ADMIN_URL_DEFAULT}"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err("scheme, host, port and path only; tokens go into KURIER_ADMIN_TOKEN".to_owned());
    }
    Ok(url)
}

fn token(text: &str) -> Result<Secret, String> {
    Ok(Secret::new(text.trim().as_bytes().to_vec()))
}

/// The exit of a command whose parts may each have failed.
pub(super) fn all_or_failed(all: bool) -> Exit {
    if all { Exit::Done } else { Exit::Failed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admin_url_is_http_and_carries_no_credentials() {
        assert!(admin_url("http://127.0.0.1:9090").is_ok());
        assert!(admin_url("https://kurier.example/admin").is_ok());
        for bad in ["127.0.0.1:9090", "ftp://x", "http://user:pw@x", "http://x/?token=1", ""] {
            assert!(admin_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_server_that_does_not_run_is_met_with_how_to_start_it() {
        let client = Client { base: admin_url(ADMIN_URL_DEFAULT).unwrap(), token: None };
        let fault = egress::Fault { kind: FaultKind::Connect, detail: "connection refused".to_owned() };
        assert_eq!(
            client.unreachable(&fault).to_string(),
            "error: no answer from http://127.0.0.1:9090: connection refused\n\
             hint: is `kurier serve` running? name another server with --admin-url or KURIER_ADMIN_URL\n"
        );
    }

    #[test]
    fn a_refusal_shows_the_servers_detail_and_what_to_do() {
        let client = Client { base: admin_url(ADMIN_URL_DEFAULT).unwrap(), token: None };
        let refused = |status, body: &'static [u8]| client.accepted(status, Bytes::from_static(body)).unwrap_err().to_string();
        assert_eq!(
            refused(StatusCode::UNAUTHORIZED, br#"{"detail":"a token is needed\u001b"}"#),
            "error: a token is needed\\u{1b}\nhint: give a token with KURIER_ADMIN_TOKEN or --token\n"
        );
        assert_eq!(refused(StatusCode::BAD_GATEWAY, b"<html>"), "error: http://127.0.0.1:9090 answered 502 Bad Gateway\n");
    }

    #[test]
    fn an_address_that_means_all_is_reached_on_loopback() {
        assert_eq!(reachable("0.0.0.0:9090".parse().unwrap()).to_string(), "127.0.0.1:9090");
        assert_eq!(reachable("[::]:9090".parse().unwrap()).to_string(), "[::1]:9090");
        assert_eq!(reachable("10.1.2.3:9090".parse().unwrap()).to_string(), "10.1.2.3:9090");
    }
}
