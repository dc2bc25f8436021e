//! How much room a store takes: little more than what it must keep, and once that is gone as much as a new one
//! (rules 1 and 12).

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use kurier::model::OutcomeKind;
use kurier::store::local::{LocalOptions, tools};
use kurier::store::{NewEvent, Store};

use super::make::{SEGMENT, new, settlement};
use super::sim::{SimStore, open_with, options, run};
use super::sim_disk::SimDisk;

const RETENTION: Duration = Duration::from_secs(3600);

/// What a store that was used takes more than a new one: one more segment in use, one more that waits to be written over,
/// the footer of one, and a checkpoint.
const LEFT_MAX: u64 = 3 * SEGMENT as u64;

/// Nothing goes for want of room.
fn hour() -> LocalOptions {
    LocalOptions { segment_bytes: SEGMENT, retention: RETENTION, max_size: 1 << 30, ..options() }
}

/// An event like those of a shop: 2 KiB.
fn order(n: u64) -> NewEvent {
    let mut order = new(n);
    order.event.body = Bytes::from(vec![b'x'; 2048]);
    order
}

/// Sixteen at a time, as a relay does.
async fn settle(store: &SimStore, is_over: impl Fn(u64) -> bool) {
    let pending = store.pending_after(0, usize::MAX).await.unwrap();
    for some in pending.iter().filter(|pending| is_over(pending.position)).collect::<Vec<_>>().chunks(16) {
        let tickets: Vec<_> = some.iter().map(|pending| store.settle(settlement(pending, OutcomeKind::Delivered))).collect();
        for ticket in tickets {
            ticket.await.unwrap();
        }
    }
}

#[test]
fn a_store_takes_little_more_than_it_keeps_and_as_much_as_a_new_one_once_a_backlog_is_gone() {
    const EVENTS: u64 = 6000;
    let disk = SimDisk::new(1);
    run(async {
        let store = open_with(&disk, hour()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let fresh = disk.used();
        store.accept(order(0)).await.unwrap();
        let used = async || tools::stats(&disk, Path::new("/store"), &mut |_| {}).await.unwrap().segments[0].used;
        let one = used().await;
        store.accept(order(1)).await.unwrap();
        let record = used().await - one;
        // Of the bytes that must be kept.
        let percent = |events: u64| disk.used().saturating_sub(fresh + 2 * SEGMENT as u64) * 100 / (events * record);
        for n in 2..EVENTS {
            store.accept(order(n)).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
        let waiting = percent(EVENTS);
        // Nobody takes it for longer than anything is kept.
        tokio::time::sleep(2 * RETENTION).await;
        let old = percent(EVENTS);
        // A third is delivered, one here and one there: what it leaves behind in its segments goes too.
        settle(&store, |position| position % 3 == 0).await;
        tokio::time::sleep(2 * RETENTION).await;
        let holed = percent(EVENTS / 3 * 2);
        settle(&store, |position| position % 3 == 1).await;
        tokio::time::sleep(2 * RETENTION).await;
        let mostly_gone = percent(EVENTS / 3);
        settle(&store, |_| true).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        let delivered = percent(EVENTS / 3);
        tokio::time::sleep(2 * RETENTION).await;
        let left = disk.used().saturating_sub(fresh);
        eprintln!(
            "growth, of {record} bytes an event: {waiting} % waiting, {old} % past retention, {holed} % a third gone, {mostly_gone} % two \
             thirds gone, {delivered} % delivered, {left} bytes left"
        );
        for (what, percent) in [("waiting", waiting), ("old", old), ("holed", holed), ("mostly gone", mostly_gone)] {
            assert!(percent <= 130, "{what}: {percent} %");
        }
        assert!(left <= LEFT_MAX, "{left} bytes more than a new store takes");
    });
}

#[test]
fn what_is_let_go_by_age_is_not_hoarded() {
    let disk = SimDisk::new(2);
    run(async {
        let store = open_with(&disk, hour()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let fresh = disk.used();
        for round in 0..3_u64 {
            for n in round * 1000..round * 1000 + 500 {
                store.accept(order(n)).await.unwrap();
            }
            settle(&store, |_| true).await;
            tokio::time::sleep(2 * RETENTION).await;
            let left = disk.used().saturating_sub(fresh);
            assert!(left <= LEFT_MAX, "round {round}: {left} bytes more than a new store takes");
        }
    });
}
