//! Instructions of one verification and of one accept, counted by valgrind's callgrind: a figure that no other load on the
//! machine changes, so that a rise between two releases is seen. Under valgrind SHA-256 runs without the processor's own
//! instructions for it, in Kurier and in the bare check alike.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, anyhow, bail, ensure};
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderValue, Method};
use kurier::accept::{Acceptor, IdSource};
use kurier::clock::TokioClock;
use kurier::config::{self, LoadOptions, ProcessEnvironment};
use kurier::model::{Inbound, Timestamp};
use kurier::store::memory::MemoryStore;
use sha2::Sha256;

use crate::load::{PATH, SECRET, SIGNATURE_HEADER, compose};

/// What is counted, each with what it needs of the one before: the signature alone, and with what d.velop's preset reads
/// of the body, to know a repeat by.
const WHAT: [&str; 5] = ["request", "hmac", "verify", "preset", "accept"];

/// The signature of d.velop smart invoice and nothing else.
const SIGNATURE_ONLY: &str = "{ algorithm: hmac-sha256, secrets: [{ file: secret }], signed: '{sig.t}.{body}', timestamp: { from: 'sig:t', \
    tolerance: 300 }, signature: { from: 'header:x-smart-invoice-signature', format: kv, split: ',', assign: '=', take: [v1], encoding: hex } }";

/// Two runs differ by so many, so that what a start costs falls out.
const FEW: u64 = 200;
const MANY: u64 = 1200;

/// Prints the counts and their ratio, or why there are none.
pub(crate) fn print() -> anyhow::Result<()> {
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("\ninstructions: not counted, valgrind is not here (apt-get install valgrind)");
        return Ok(());
    }
    let mut counts = Vec::new();
    for what in WHAT {
        let (few, many) = (count(what, FEW)?, count(what, MANY)?);
        counts.push(many.saturating_sub(few) as f64 / (MANY - FEW) as f64);
    }
    let [request, hmac, verify, preset, accept] = counts[..] else { bail!("five counts") };
    let (hmac, verify, preset, accept) = (hmac - request, verify - request, preset - request, accept - request);
    println!("\ninstructions, d.velop-signed, 1 KiB: bare HMAC {hmac:.0}");
    println!("  verify the signature {verify:.0}, {:.2} of it", verify / hmac);
    println!("  and read id and type of the event {preset:.0}; and accept it into a store in memory {accept:.0}");
    Ok(())
}

fn count(what: &str, times: u64) -> anyhow::Result<u64> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(std::env::current_exe()?);
    let ran = command.args(["count", what, &times.to_string()]).output().context("running valgrind")?;
    let said = String::from_utf8_lossy(&ran.stderr);
    ensure!(ran.status.success(), "{what} under valgrind: {said}");
    let line = said.lines().find_map(|line| line.split_once("Collected :")).map(|(_, count)| count.trim());
    line.and_then(|count| count.parse().ok()).with_context(|| format!("a count of valgrind: {said}"))
}

/// Does it so often, on one thread: this is what valgrind looks at.
pub(crate) async fn work(what: &str, times: u64) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("secret"), SECRET)?;
    let text = format!(
        "routes:\n  a: {{ path: {PATH}, verify: {{ preset: dvelop-smart-invoice, secrets: [{{ file: secret }}] }}, deliver: [erp] }}\n  \
         b: {{ path: /b, verify: {SIGNATURE_ONLY}, deliver: [erp] }}\ndestinations:\n  erp: {{ url: 'http://127.0.0.1:1/' }}\n"
    );
    let loaded = config::parse(&text, Path::new("routes.yaml"), folder.path(), &ProcessEnvironment, &LoadOptions::default());
    let config = loaded.map_err(|error| anyhow!("{error}"))?.config;
    let [route, signature_only] = ["a", "b"].map(|name| config.route(name));
    let (route, signature_only) = route.zip(signature_only).context("both routes")?;
    let acceptor = Acceptor::new(Arc::new(MemoryStore::new()), Arc::new(TokioClock::starting_at(now()?)), IdSource::seeded(1));
    let mut raw = Vec::new();
    for serial in 0..times {
        compose(&mut raw, PATH, serial.into(), 1024)?;
        let inbound = inbound(&raw)?;
        match what {
            "request" => drop(std::hint::black_box(inbound)),
            "hmac" => ensure!(std::hint::black_box(is_genuine(&inbound)?), "a signature"),
            "verify" => drop(std::hint::black_box(verified(&signature_only.verifier, inbound)?)),
            "preset" => drop(std::hint::black_box(verified(&route.verifier, inbound)?)),
            "accept" => drop(acceptor.accept(route, verified(&route.verifier, inbound)?).await.map_err(|error| anyhow!("{error}"))?),
            other => bail!("{other} is none of {WHAT:?}"),
        }
    }
    Ok(())
}

fn verified(verifier: &kurier::signature::Verifier, inbound: Inbound) -> anyhow::Result<kurier::signature::Verified> {
    verifier.verify(inbound, now()?).map_err(|refusal| anyhow!("{refusal:?}"))
}

/// The least that anybody has to do: one HMAC over time and body, compared.
fn is_genuine(inbound: &Inbound) -> anyhow::Result<bool> {
    let signature = inbound.headers.get(SIGNATURE_HEADER).context("a signature")?.to_str()?;
    let (time, signature) = signature.trim_start_matches("t=").split_once(",v1=").context("its parts")?;
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET)?;
    mac.update(time.as_bytes());
    mac.update(b".");
    mac.update(&inbound.body);
    Ok(mac.verify_slice(&hex::decode(signature)?).is_ok())
}

/// What time it is, without the kernel's page for it, which valgrind does not have.
fn now() -> anyhow::Result<Timestamp> {
    Ok(Timestamp::from_millis(i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?))
}

/// The request as ingress hands it on.
fn inbound(raw: &[u8]) -> anyhow::Result<Inbound> {
    let head = raw.windows(4).position(|four| four == b"\r\n\r\n").context("a head")?;
    let text = std::str::from_utf8(&raw[..head])?;
    let signature = text.lines().find_map(|line| line.strip_prefix(SIGNATURE_HEADER)?.strip_prefix(": ")).context("a signature")?;
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    headers.insert(SIGNATURE_HEADER, signature.parse()?);
    Ok(Inbound {
        method: Method::POST,
        target: Bytes::from_static(PATH.as_bytes()),
        base: Arc::from("http://localhost"),
        headers,
        body: Bytes::copy_from_slice(&raw[head + 4..]),
        peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
        received_at: now()?,
    })
}
