//! The store's figures, measured on this machine: `cargo run --release --example store_figures -- FOLDER EVENTS
//! [pending|paged]`. FOLDER must be missing or empty; each step runs in a process of its own, so that memory and start
//! times are those of a fresh one.
//!
//! Without a word it fills a store with delivered events, and holds the rate beside them to that of an empty store and
//! to raw appends in the same rounds; `pending` measures memory and starts with as many pending, `paged` with a tenth
//! of them in memory.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program that measures and prints")]

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kurier::clock::{Clock, SystemClock};
use kurier::model::{Answer, DeliveryState, Event, EventId, Name};
use kurier::store::local::{LocalOptions, LocalStore};
use kurier::store::{DedupeKey, NewDelivery, NewEvent, Settlement, Store};
use tokio::time::Instant;

const BODY: usize = 1024;
const WRITERS: u64 = 64;

/// How often the rate beside stored events is held to that of an empty store, and by how many events.
const ROUNDS: usize = 15;
const ROUND_EVENTS: u64 = 200_000;

/// Raw appends: bytes of one, which is about what a batch of all writers takes, and how many.
const APPEND: usize = 96 * 1024;
const APPENDS: usize = 640;

fn memory(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024
}

/// Processor time that this process has taken.
fn processor() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks: u64 =
        stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

fn new(n: u64, body: usize) -> NewEvent {
    let now = SystemClock.now();
    let event = Event {
        id: EventId::new(now, rand::random::<u128>() >> 48),
        route: Name::from("route"),
        received_at: now,
        peer: None,
        source_id: Some(n.to_string().into()),
        event_type: None,
        method: http::Method::POST,
        target: Bytes::from_static(b"/callbacks/route"),
        base: Arc::from("https://hooks.example.ch"),
        headers: http::HeaderMap::new(),
        body: Bytes::from(vec![b'x'; body]),
    };
    let dedupe =
        Some(DedupeKey { hash: rand::random::<u128>().to_le_bytes(), expires_at: now.saturating_add(Duration::from_secs(3 * 86_400)) });
    let due = now.saturating_add(Duration::from_secs(3600));
    NewEvent { event, dedupe, answer: Answer::ok(), deliveries: vec![NewDelivery { destination: Name::from("erp"), lane: None, due }] }
}

async fn open(path: &Path) -> Arc<LocalStore> {
    let mut options = LocalOptions { max_size: 200 << 30, ..LocalOptions::new(path) };
    if let Some(waiting) = std::env::var("KURIER_WAITING_IN_MEMORY").ok().and_then(|waiting| waiting.parse().ok()) {
        options.waiting_in_memory = waiting;
    }
    Arc::new(LocalStore::open(options, Arc::new(SystemClock), None).await.unwrap())
}

/// Accepts events, and settles each at once if `delivers`.
async fn write(store: &Arc<LocalStore>, events: u64, body: usize, delivers: bool) -> Duration {
    let begun = Instant::now();
    let writers = (0..WRITERS).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            for n in (writer..events).step_by(usize::try_from(WRITERS).unwrap()) {
                let event = loop {
                    match store.accept(new(n, body)).await {
                        Ok(receipt) => break receipt.event(),
                        // The index is behind: slow down, as a sender that hears 503 does.
                        Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                    }
                };
                if delivers {
                    let delivery = kurier::model::DeliveryId::new(event, 0);
                    let state = DeliveryState::Delivered;
                    store
                        .settle(Settlement { delivery, version: 0, attempt: None, attempts: 1, state, acknowledgement: None })
                        .await
                        .unwrap();
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    begun.elapsed()
}

async fn fill(path: &Path, events: u64, body: usize, delivers: bool, closes: bool) {
    let store = open(path).await;
    let took = write(&store, events, body, delivers).await;
    let rate = events as f64 / took.as_secs_f64();
    println!("fill: {events} events in {took:.1?} ({rate:.0}/s), RSS {} MiB, peak {} MiB", memory("VmRSS"), memory("VmHWM"));
    if closes {
        let begun = Instant::now();
        store.close().await;
        println!("clean stop in {:.2?}", begun.elapsed());
    } else {
        std::process::exit(0);
    }
}

async fn start(path: &Path) {
    let begun = Instant::now();
    let store = open(path).await;
    let opened = begun.elapsed();
    let (mut after, mut pending) = (0, 0);
    loop {
        let page = store.pending_after(after, 1000).await.unwrap();
        let Some(last) = page.last() else { break };
        after = last.position;
        pending += page.len();
    }
    let paged = begun.elapsed();
    println!("start: open {opened:.2?}, {pending} pending paged by {paged:.2?}, RSS {} MiB, peak {} MiB", memory("VmRSS"), memory("VmHWM"));
    let begun = Instant::now();
    let (items, _) = store.list(&Default::default(), None, 50).await.unwrap();
    println!(
        "newest {} listed in {:.2?}; {} events, {} MiB on disk",
        items.len(),
        begun.elapsed(),
        store.stats().events,
        store.stats().bytes >> 20
    );
    let events = 100_000;
    let took = write(&store, events, BODY, true).await;
    let (rate, out) = (events as f64 / took.as_secs_f64(), store.paged_out());
    println!(
        "{events} more events delivered at {rate:.0}/s, RSS {} MiB, peak {} MiB; {out} out of memory",
        memory("VmRSS"),
        memory("VmHWM")
    );
    store.close().await;
}

/// Delivers everything that waits, in its order.
async fn deliver(path: &Path) {
    let store = open(path).await;
    let (begun, mut delivered) = (Instant::now(), 0);
    loop {
        let page = store.pending_after(0, 1000).await.unwrap();
        if page.is_empty() {
            break;
        }
        delivered += page.len();
        let settled = page.into_iter().map(|pending| {
            let state = DeliveryState::Delivered;
            store.settle(Settlement { delivery: pending.id, version: 0, attempt: None, attempts: 1, state, acknowledgement: None })
        });
        for ticket in settled.collect::<Vec<_>>() {
            ticket.await.unwrap();
        }
    }
    let rate = delivered as f64 / begun.elapsed().as_secs_f64();
    println!("{delivered} that waited delivered at {rate:.0}/s, RSS {} MiB, peak {} MiB", memory("VmRSS"), memory("VmHWM"));
    store.close().await;
}

/// Accepts and delivers for one round.
async fn round(path: &Path) {
    let store = open(path).await;
    let before = processor();
    let took = write(&store, ROUND_EVENTS, BODY, true).await;
    let each = processor().saturating_sub(before).as_secs_f64() * 1e6 / ROUND_EVENTS as f64;
    println!("{:.0} events/s, {each:.1} µs of processor time each", ROUND_EVENTS as f64 / took.as_secs_f64());
    store.close().await;
}

/// What the disk gives: appends to a file that is written through already, each synced.
fn append(path: &Path) {
    let file = std::fs::File::create(path).unwrap();
    file.write_all_at(&vec![0; APPEND * APPENDS], 0).unwrap();
    file.sync_all().unwrap();
    let (begun, bytes) = (Instant::now(), vec![1; APPEND]);
    for n in 0..APPENDS {
        file.write_all_at(&bytes, (n * APPEND) as u64).unwrap();
        file.sync_data().unwrap();
    }
    println!("{:.0} raw appends of {} KiB/s", APPENDS as f64 / begun.elapsed().as_secs_f64(), APPEND / 1024);
    std::fs::remove_file(path).unwrap();
}

/// Takes turns between an empty store, the full one and the bare disk; which of the stores is first changes, since what
/// one round leaves to the disk is felt by the next.
fn beside(path: &Path) {
    let empty = path.with_extension("empty");
    let mut ratios = Vec::new();
    for n in 0..ROUNDS {
        drop(std::fs::remove_dir_all(&empty));
        let stores = if n % 2 == 0 { [empty.as_path(), path] } else { [path, empty.as_path()] };
        let [first, second] = stores.map(rate);
        let (of_empty, of_full) = if n % 2 == 0 { (first, second) } else { (second, first) };
        println!("events/s of an empty store {of_empty:.0}, of the full one {of_full:.0}: {:.2}", of_full / of_empty);
        ratios.push(of_full / of_empty);
        append(&path.with_extension("raw"));
    }
    drop(std::fs::remove_dir_all(&empty));
    ratios.sort_by(f64::total_cmp);
    println!("in {ROUNDS} rounds: median {:.2}, quarters {:.2} to {:.2}", ratios[ROUNDS / 2], ratios[ROUNDS / 4], ratios[ROUNDS * 3 / 4]);
}

/// Events/s of one round in this store, which a process of its own plays.
fn rate(path: &Path) -> f64 {
    let program = std::env::current_exe().unwrap();
    let output = Command::new(program).arg(path).arg("0").arg("round").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    print!("  {}: {said}", path.display());
    said.split_whitespace().next().and_then(|rate| rate.parse().ok()).expect("a rate")
}

/// Takes away what can be made anew.
fn lose(path: &Path, names: &[&str]) {
    for name in names {
        let path = path.join(name);
        drop(std::fs::remove_file(&path));
        drop(std::fs::remove_dir_all(&path));
    }
}

fn step(path: &Path, step: &str, events: u64) {
    let program = std::env::current_exe().unwrap();
    let status = Command::new(program).arg(path).arg(events.to_string()).arg(step).status().unwrap();
    assert!(status.success(), "{step}");
}

fn main() {
    // As in the binary: it links mimalloc in.
    std::hint::black_box(mimalloc::MiMalloc.version());
    let mut arguments = std::env::args().skip(1);
    let path = PathBuf::from(arguments.next().expect("a folder"));
    let events: u64 = arguments.next().map_or(100_000, |events| events.parse().unwrap());
    let what = arguments.next().unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    match what.as_str() {
        "fill-delivered" => runtime.block_on(fill(&path, events, BODY, true, true)),
        "fill-pending" => runtime.block_on(fill(&path, events, BODY, false, true)),
        "fill-and-die" => runtime.block_on(fill(&path, events, BODY, false, false)),
        "start" => runtime.block_on(start(&path)),
        "deliver" => runtime.block_on(deliver(&path)),
        "round" => runtime.block_on(round(&path)),
        "beside" => beside(&path),
        "pending" => {
            step(&path, "fill-pending", events / 2);
            step(&path, "fill-and-die", events / 2);
            println!("after a crash:");
            step(&path, "start", 0);
            println!("after a clean stop:");
            step(&path, "start", 0);
            println!("without the index:");
            lose(&path, &["index", "clean"]);
            step(&path, "start", 0);
            println!("without index and checkpoint:");
            lose(&path, &["index", "clean", "checkpoint"]);
            step(&path, "start", 0);
            step(&path, "deliver", 0);
        }
        "paged" => {
            let program = std::env::current_exe().unwrap();
            let some = (events / 10).to_string();
            let status =
                Command::new(program).arg(&path).arg(events.to_string()).arg("pending").env("KURIER_WAITING_IN_MEMORY", some).status();
            assert!(status.unwrap().success());
        }
        _ => {
            step(&path, "fill-delivered", events);
            step(&path, "start", 0);
            beside(&path);
        }
    }
}
