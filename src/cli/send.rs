//! `kurier send`: a correctly signed sample to the running server, made with the route's own secrets.

use std::fs::File;
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method};
use serde_json::json;
use url::Url;

use super::client::{all_or_failed, reachable};
use super::exit::{Exit, Failure};
use super::table::printable;
use super::{Context, settings};
use crate::config::{Config, PathPattern, Route, Segment};
use crate::egress::{HttpTransport, Outbound, Reach, Transport as _};
use crate::model::{Inbound, Timestamp};

/// The longest time to wait for the answer.
const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(clap::Args)]
pub(super) struct Args {
    /// The route to send to
    #[arg(long, value_name = "NAME")]
    route: String,

    /// A file whose bytes are the body [default: a small JSON sample]
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,

    /// The body's media type
    #[arg(long, default_value = "application/json", value_name = "TYPE")]
    content_type: HeaderValue,

    /// The path to call, for routes whose path has `{…}` segments [default: `sample` for each]
    #[arg(long)]
    path: Option<String>,

    /// Where to send it instead of server.listen: scheme, host and port
    #[arg(long, value_name = "URL")]
    url: Option<Url>,
}

pub(super) async fn run(args: Args, context: &mut Context) -> Result<Exit, Failure> {
    let config = settings::load_quietly(context)?;
    let route = find(&config, &args.route)?;
    let Some(pattern) = &route.path else {
        return Err(Failure::usage(format!("the route `{}` fetches its events: nothing can be sent to it", args.route)));
    };
    let draft = draft(&args, &config, route, pattern, context.now)?;
    let signed = route
        .verifier
        .sample(draft, context.now)
        .map_err(|reason| Failure::failed(format!("no sample can be made for the route `{}`: {reason}", args.route)))?;
    let base = own_base(config.server.listen, config.server.tls.is_some());
    let base = args.url.as_ref().map_or(&*base, |given| given.as_str().trim_end_matches('/'));
    let url = url(base, &signed.target)?;
    // The path's secret stays out of terminals and their logs.
    let path = args.path.as_deref().unwrap_or(&pattern.text);
    let shown = format!("{} {base}{path}", signed.method);
    let request = Outbound {
        method: signed.method,
        url,
        headers: signed.headers,
        body: signed.body,
        timeout: TIMEOUT,
        tls: None,
        reach: Reach::Anywhere,
    };
    let transport = if args.url.is_some() { HttpTransport::new() } else { HttpTransport::to_own_server() };
    let transport = transport.map_err(|error| Failure::failed(error.to_string()))?;
    let reply = transport.send(request).await.map_err(|fault| {
        Failure::failed(format!("no answer to {shown}: {}", fault.detail))
            .with_hint("is `kurier serve` running with this configuration? name another address with --url")
    })?;
    context.out.line(format!("{shown}: {}", reply.status))?;
    if !reply.body.is_empty() {
        context.out.line(printable(&String::from_utf8_lossy(&reply.body), true))?;
    }
    if reply.status.is_success() {
        eprintln!("next: `kurier events list --route {}` says what became of it", args.route);
    } else {
        eprintln!("hint: the server may run with another configuration or other secrets; its log and metrics say why it refused");
    }
    Ok(all_or_failed(reply.status.is_success()))
}

fn find<'a>(config: &'a Config, name: &str) -> Result<&'a Arc<Route>, Failure> {
    config.route(name).ok_or_else(|| {
        let known: Vec<&str> = config.routes.iter().map(|route| &*route.name).collect();
        Failure::usage(format!("there is no route `{name}`")).with_hint(format!("there are: {}", known.join(", ")))
    })
}

fn draft(args: &Args, config: &Config, route: &Route, pattern: &PathPattern, now: Timestamp) -> Result<Inbound, Failure> {
    let method = route.methods.first().cloned().unwrap_or(Method::POST);
    let mut headers = HeaderMap::new();
    let body = if method == Method::GET { Bytes::new() } else { body(args, route.body_limit, now)? };
    if !body.is_empty() {
        headers.insert(CONTENT_TYPE, args.content_type.clone());
    }
    let base = match &config.server.public_url {
        Some(url) => url.clone(),
        None => own_base(config.server.listen, config.server.tls.is_some()).into(),
    };
    let target = args.path.clone().map(String::into_bytes).unwrap_or_else(|| sample_path(pattern));
    if !target.starts_with(b"/") {
        return Err(Failure::usage("--path starts with a slash"));
    }
    Ok(Inbound { method, target: target.into(), base, headers, body, peer: IpAddr::V4(Ipv4Addr::LOCALHOST), received_at: now })
}

fn body(args: &Args, body_limit: usize, now: Timestamp) -> Result<Bytes, Failure> {
    let Some(path) = &args.body else {
        let sample = json!({ "sample": true, "route": args.route, "sent_at": now.to_string() });
        return Ok(sample.to_string().into());
    };
    let shown = path.display();
    let file = File::open(path).map_err(|error| Failure::failed(format!("opening {shown}: {error}")))?;
    // One byte over the route's limit is enough for the server's 413, which may be what is to be seen.
    let limit = u64::try_from(body_limit).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes).map_err(|error| Failure::failed(format!("reading {shown}: {error}")))?;
    Ok(bytes.into())
}

fn own_base(listen: SocketAddr, has_tls: bool) -> String {
    let scheme = if has_tls { "https" } else { "http" };
    format!("{scheme}://{}", reachable(listen))
}

fn url(base: &str, target: &[u8]) -> Result<Url, Failure> {
    let text = format!("{base}{}", String::from_utf8_lossy(target));
    Url::parse(&text).map_err(|error| Failure::usage(format!("`{text}` is no address to send to: {error}")))
}

/// A path that the route matches, its secret included.
fn sample_path(pattern: &PathPattern) -> Vec<u8> {
    let segment = |segment: &Segment| match segment {
        Segment::Literal(text) => text.as_bytes().to_vec(),
        Segment::Any(_) => b"sample".to_vec(),
        Segment::Secret(secret) => secret.expose().to_vec(),
    };
    pattern.segments.iter().flat_map(|part| [vec![b'/'], segment(part)].concat()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &[&str]) -> Args {
        let Ok(cli) = <crate::cli::Cli as clap::Parser>::try_parse_from([&["kurier", "send", "--route", "a"], line].concat()) else {
            panic!("{line:?}")
        };
        let crate::cli::Command::Send(args) = cli.command else { panic!("another command") };
        args
    }

    #[test]
    fn a_sample_fills_the_open_segments_of_a_path_and_knows_its_secret() {
        let segments = vec![
            Segment::Literal("in".into()),
            Segment::Any("tenant".into()),
            Segment::Secret(crate::model::Secret::new(b"s3cret".to_vec())),
        ];
        assert_eq!(sample_path(&PathPattern { text: "/in/{tenant}/{secret}".into(), segments }), b"/in/sample/s3cret");
    }

    #[test]
    fn a_sample_goes_to_the_address_that_the_server_listens_on() {
        let listen = "0.0.0.0:8080".parse().unwrap();
        assert_eq!(url(&own_base(listen, false), b"/x?y=1").unwrap().as_str(), "http://127.0.0.1:8080/x?y=1");
        assert_eq!(url(&own_base(listen, true), b"/x?y=1").unwrap().as_str(), "https://127.0.0.1:8080/x?y=1");
    }

    #[test]
    fn a_body_is_the_files_bytes_or_a_sample_with_the_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("body.bin");
        std::fs::write(&path, [0xff, 0, 1, 2]).unwrap();
        let shown = path.to_str().unwrap();
        assert_eq!(body(&args(&["--body", shown]), 10, Timestamp::default()).unwrap(), &[0xff, 0, 1, 2][..]);
        assert_eq!(body(&args(&["--body", shown]), 2, Timestamp::default()).unwrap().len(), 3, "one over the limit is enough");
        let sample: serde_json::Value = serde_json::from_slice(&body(&args(&[]), 10, Timestamp::default()).unwrap()).unwrap();
        assert_eq!(sample["sent_at"], "1970-01-01T00:00:00.000Z");
        assert!(body(&args(&["--body", "no/such/file"]), 10, Timestamp::default()).is_err());
    }
}
