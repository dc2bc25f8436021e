//! The usual single things that are wrong, each tried for itself.

use bytes::Bytes;
use percent_encoding::percent_decode;

use super::super::Verifier;
use super::super::algorithm::Algorithm;
use super::super::encoding::Encoding;
use super::super::extract::Carrier;
use super::super::keeper::{Context, NoKeys};
use super::super::key::{Key, KeyEncoding};
use super::super::request::{Document, Request, Scope};
use super::super::scheme::Plan;
use super::rewritten::reserialised;
use crate::model::{Inbound, Secret, Timestamp};

const CHANGED: &str = "something in front of Kurier changes bodies";
const OTHER_URL: &str = "set `server.public_url` to what the sender calls";

/// Every single change under which the request verifies.
pub(super) fn findings(verifier: &Verifier, inbound: &Inbound, now: Timestamp) -> Vec<String> {
    if verifier.verify_timeless(inbound) {
        return vec![of_time(verifier, inbound, now)];
    }
    let mut found: Vec<String> = Vec::new();
    for (what, request) in bodies(inbound).into_iter().chain(urls(inbound)) {
        if verifier.verify_timeless(&request) && !found.contains(&what) {
            found.push(what);
        }
    }
    let request = Request::of_inbound(inbound);
    let json = Document::new(&inbound.body, verifier.pointers());
    let bare = Scope::new(&request, &json);
    for scheme in verifier.check().schemes() {
        let plans = scheme.plans.iter().filter(|plan| plan.when.holds(&bare) || scheme.plans.len() == 1);
        found.extend(plans.flat_map(|plan| of_plan(plan, &bare)));
    }
    found
}

/// The signature is right: then it is the time, or the time of its key.
fn of_time(verifier: &Verifier, inbound: &Inbound, now: Timestamp) -> String {
    let request = Request::of_inbound(inbound);
    let json = Document::new(&inbound.body, verifier.pointers());
    for scheme in verifier.check().schemes() {
        let Ok((plan, extracted)) = scheme.choose(&Scope::new(&request, &json)) else { continue };
        let scope = Scope::new(&request, &json).with_tags(&extracted.tags);
        let Ok(candidates) = extracted.candidates(plan.carrier.all) else { continue };
        let counting = plan.keys.select(&scope, Context { now: Some(now), keys: &NoKeys }).unwrap_or_default();
        let counting: Vec<&Key> = counting.iter().map(|key| &**key).collect();
        if !plan.matches(&scope, candidates, &counting).unwrap_or(false) {
            return "the signature is right under a secret whose `not_after` has passed: the sender still uses the old one".to_owned();
        }
        if let Some(freshness) = &plan.freshness {
            if let Some(unit) = freshness.other_unit(&scope, now) {
                return format!("the signature is right, and its time would be fresh with `timestamp.unit: {unit}`");
            }
            if let Some(age) = freshness.age(&scope, Some(now)) {
                return format!("the signature is right, and its time is {age}: the request is old, or one of the two clocks is wrong");
            }
        }
    }
    "the signature is right, and something about its time is not".to_owned()
}

/// The request with one thing about its body changed.
fn bodies(inbound: &Inbound) -> Vec<(String, Inbound)> {
    let body = &inbound.body[..];
    if body.is_empty() {
        return Vec::new();
    }
    let bom = b"\xef\xbb\xbf";
    let unified = replaced(body, b"\r\n", b"\n");
    let mut bodies = vec![
        ("the body had no trailing newline", body.strip_suffix(b"\n").map(<[u8]>::to_vec)),
        ("the body had no trailing CRLF", body.strip_suffix(b"\r\n").map(<[u8]>::to_vec)),
        ("the body ended in a newline", Some([body, b"\n"].concat())),
        ("the body ended in CRLF", Some([body, b"\r\n"].concat())),
        ("the body had LF in place of CRLF", Some(unified.clone())),
        ("the body had CRLF in place of LF", Some(replaced(&unified, b"\n", b"\r\n"))),
        ("the body had no byte order mark", body.strip_prefix(bom).map(<[u8]>::to_vec)),
        ("the body began with a byte order mark", Some([&bom[..], body].concat())),
    ];
    bodies.extend(reserialised(body).into_iter().map(|(form, body)| (form, Some(body))));
    let changed = bodies.into_iter().filter_map(|(what, body)| Some((what, body.filter(|body| **body != *inbound.body)?)));
    let with = |(what, body)| (format!("it verifies if {what}: {CHANGED}"), Inbound { body: Bytes::from(body), ..inbound.clone() });
    changed.map(with).collect()
}

/// The request called at another url.
fn urls(inbound: &Inbound) -> Vec<(String, Inbound)> {
    let mut changed = Vec::new();
    let (scheme, authority) = inbound.base.split_once("://").unwrap_or(("https", &inbound.base));
    let (host, port) = authority.rsplit_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
    let port = port.unwrap_or(if scheme == "https" { "443" } else { "80" });
    let mut bases = vec![format!("https://{authority}"), format!("http://{authority}"), format!("{scheme}://{host}")];
    bases.push(format!("{scheme}://{host}:{port}"));
    for name in ["host", "x-forwarded-host"] {
        if let Some(seen) = inbound.headers.get(name).and_then(|value| value.to_str().ok()) {
            bases.extend([format!("https://{seen}"), format!("http://{seen}")]);
        }
    }
    for base in bases.into_iter().filter(|base| **base != *inbound.base) {
        let what = format!("it verifies if the sender called {base}, not {}: {OTHER_URL}", inbound.base);
        changed.push((what, Inbound { base: base.into(), ..inbound.clone() }));
    }
    let (path, query) = (inbound.path().to_vec(), inbound.query().map(|query| [b"?", query].concat()).unwrap_or_default());
    let decoded: Vec<u8> = percent_decode(&path).collect();
    let slashed = path.strip_suffix(b"/").map_or_else(|| [&path[..], b"/"].concat(), <[u8]>::to_vec);
    for (what, target) in [
        ("it verifies if the path was percent-decoded: the sender signs the decoded path", [&decoded[..], &query].concat()),
        (
            "it verifies with the slash at the path's end the other way: something in front of Kurier rewrites paths",
            [&slashed[..], &query].concat(),
        ),
        ("it verifies without the query: the sender signs the path only, or something added a query", path.clone()),
    ] {
        if *target != *inbound.target && target.starts_with(b"/") {
            changed.push((what.to_owned(), Inbound { target: Bytes::from(target), ..inbound.clone() }));
        }
    }
    changed
}

fn replaced(body: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len());
    let mut rest = body;
    while let Some(at) = rest.windows(from.len()).position(|window| window == from) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    out.extend_from_slice(rest);
    out
}

/// The scheme with one thing changed: how the secret is decoded, how the signature is.
fn of_plan(plan: &Plan, bare: &Scope<'_, '_, '_>) -> Vec<String> {
    let mut found = Vec::new();
    for (what, key) in other_keys(plan) {
        if fits(plan, &plan.carrier, &[&key], bare) {
            found.push(what);
        }
    }
    let own = plan.keys.own();
    let own: Vec<&Key> = own.iter().map(|(_, key)| *key).collect();
    for (word, encoding) in [("hex", Encoding::Hex), ("base64", Encoding::Base64), ("base64url", Encoding::Base64Url)] {
        if encoding != plan.carrier.encoding && fits(plan, &Carrier { encoding, ..plan.carrier.clone() }, &own, bare) {
            found.push(format!("it verifies if the signature is read as {word}: set `signature.encoding: {word}`"));
        }
    }
    found
}

fn fits(plan: &Plan, carrier: &Carrier, keys: &[&Key], bare: &Scope<'_, '_, '_>) -> bool {
    let Ok(extracted) = carrier.extract(bare) else { return false };
    let scope = bare.with_tags(&extracted.tags);
    extracted.candidates(carrier.all).is_ok_and(|candidates| plan.matches(&scope, candidates, keys).unwrap_or(false))
}

/// The configured secrets, decoded otherwise.
fn other_keys(plan: &Plan) -> Vec<(String, Key)> {
    let mut keys = Vec::new();
    if !matches!(plan.algorithm, Algorithm::Hmac(_) | Algorithm::Digest(_)) {
        return keys;
    }
    for (index, (id, key)) in plan.keys.own().into_iter().enumerate() {
        let name = id.map_or_else(|| format!("secret number {}", index + 1), |id| format!("the secret `{id}`"));
        let words =
            [("utf8", KeyEncoding::Utf8), ("hex", KeyEncoding::Hex), ("base64", KeyEncoding::Base64), ("whsec", KeyEncoding::Whsec)];
        for (word, encoding) in words {
            if let Ok(other) = Key::new(&key.text, None, plan.algorithm, encoding) {
                keys.push((format!("it verifies if {name} is read as {word}: set `key.encoding: {word}`"), other));
            }
        }
        let trimmed = Secret::new(key.text.expose().trim_ascii().to_vec());
        if let Ok(other) = Key::new(&trimmed, None, plan.algorithm, KeyEncoding::Utf8)
            && trimmed.expose() != key.text.expose()
        {
            keys.push((format!("it verifies if {name} had no blanks or newlines at its ends: its file or variable has some"), other));
        }
    }
    keys
}
