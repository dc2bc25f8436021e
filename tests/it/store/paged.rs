//! Deliveries that leave memory while they wait (rule 15): what is far from its turn is known from the footers alone.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kurier::model::{DeliveryKind, DeliveryState, OutcomeKind};
use kurier::store::local::LocalOptions;
use kurier::store::{CommitError, EventFilter, NewEvent, PendingDelivery, Store};

use super::bytes::with_older_pages;
use super::make::{at, event, keyed, new, settlement, to};
use super::sim::{Lives, SEGMENT, SimStore, open_with, options, patiently, run};
use super::sim_disk::{Faults, SimDisk};
use crate::seeds::each_seed;

/// Deliveries that may wait in memory.
const IN_MEMORY: usize = 50;

fn few() -> LocalOptions {
    LocalOptions { waiting_in_memory: IN_MEMORY, ..options() }
}

/// Gives the librarian time.
async fn settle_down() {
    tokio::time::sleep(Duration::from_secs(5)).await;
}

async fn accept(store: &SimStore, events: std::ops::Range<u64>) {
    for n in events {
        store.accept(new(n)).await.unwrap();
    }
}

/// All that waits, read in pages.
async fn all(store: &SimStore) -> Vec<PendingDelivery> {
    let mut found: Vec<PendingDelivery> = Vec::new();
    loop {
        let after = found.last().map_or(0, |last| last.position);
        let page = patiently(async || store.pending_after(after, 77).await).await;
        if page.is_empty() {
            return found;
        }
        found.extend(page);
    }
}

/// These events wait for `erp`, in this order, wherever one looks.
async fn wait(store: &SimStore, events: impl Iterator<Item = u64> + Clone) {
    let found: Vec<_> = all(store).await.into_iter().map(|pending| pending.id.event).collect();
    assert_eq!(found, events.clone().map(|n| event(n).id).collect::<Vec<_>>());
    let counts = store.counts()["erp"];
    assert_eq!((counts.pending, counts.oldest_pending), (found.len() as u64, events.clone().next().map(at)));
    let (mut listed, mut before) = (Vec::new(), None);
    loop {
        let filter = EventFilter { state: Some("pending".to_owned()), ..EventFilter::default() };
        let (items, next) = patiently(async || store.list(&filter, before, 200).await).await;
        listed.extend(items.into_iter().map(|item| item.event.id));
        before = next;
        if before.is_none() {
            break;
        }
    }
    listed.reverse();
    assert_eq!(listed, found, "what is listed as pending is what waits");
    for n in events.step_by(97) {
        assert_eq!(patiently(async || store.event(event(n).id).await).await, Some(event(n)));
    }
}

#[test]
fn what_left_memory_while_it_waits_is_neither_lost_nor_undone() {
    let seen = AtomicU64::new(0);
    each_seed("paged", |seed| {
        let (may_fail, is_short) = (seed % 2 == 1, seed % 3 == 2);
        let in_memory = Some(usize::try_from(seed % 7 * 10).unwrap());
        let (kept, paged_out) = Lives { may_fail, is_short, in_memory, ..Lives::of(seed) }.play_paged();
        seen.fetch_add(paged_out, Ordering::Relaxed);
        kept
    });
    assert!(seen.into_inner() > 0, "nothing ever left memory");
}

/// How a life ends, and what is gone afterwards.
#[derive(Debug, Clone, Copy)]
enum End {
    Kill,
    PowerCut,
    Stop,
    IndexLost,
    CheckpointLost,
    FootersLost,
}

#[test]
fn a_backlog_beyond_the_limit_leaves_memory_and_comes_back_after_any_end() {
    for end in [End::Kill, End::PowerCut, End::Stop, End::IndexLost, End::CheckpointLost, End::FootersLost] {
        let disk = SimDisk::new(1);
        run(async {
            let store = open_with(&disk, few()).await.unwrap();
            accept(&store, 0..3000).await;
            settle_down().await;
            assert!(store.paged_out() > 2000, "{end:?}: {} left memory", store.paged_out());
            wait(&store, 0..3000).await;
            assert!(store.paged_out() > 2000, "looking brings nothing back");
            if matches!(end, End::Stop | End::IndexLost) {
                store.close().await;
            }
        });
        match end {
            End::PowerCut => disk.cut_power(),
            End::IndexLost => disk.indexes.lose(),
            End::CheckpointLost => disk.forget(Path::new("/store/checkpoint")),
            End::FootersLost => {
                let journal = Path::new("/store/journal");
                let footers = disk.names(journal).into_iter().filter(|name| name.ends_with(".foot"));
                footers.for_each(|name| disk.forget(&journal.join(name)));
            }
            End::Kill | End::Stop => {}
        }
        run(async {
            let store = open_with(&disk, few()).await.unwrap();
            assert!(store.paged_out() > 2000, "{end:?}: a start takes in no more than the limit");
            wait(&store, 0..3000).await;
            // Out of its order, and all of one place.
            for pending in store.pending_after(1500, 300).await.unwrap() {
                store.settle(settlement(&pending, OutcomeKind::Delivered)).await.unwrap();
            }
            wait(&store, (0..1500).chain(1800..3000)).await;
        });
        run(async {
            let store = open_with(&disk, few()).await.unwrap();
            wait(&store, (0..1500).chain(1800..3000)).await;
            for pending in all(&store).await {
                store.settle(settlement(&pending, OutcomeKind::Delivered)).await.unwrap();
            }
            settle_down().await;
            assert_eq!((store.paged_out(), store.counts()["erp"].pending, all(&store).await), (0, 0, vec![]), "{end:?}");
            for n in (0..3000).step_by(61) {
                let record = store.record(event(n).id).await.unwrap().unwrap();
                assert_eq!((record.event, record.deliveries[0].state.word()), (event(n), "delivered"), "{end:?}");
            }
            store.close().await;
        });
    }
}

/// Of deliveries that left memory some come back and are tried; then it starts again. `forges`: the checkpoint says that
/// they are still out of it, as their footers tell them.
pub(crate) fn what_came_back_is_tried(seed: u64, forges: bool) {
    let disk = SimDisk::new(seed);
    let checkpoint = Path::new("/store/checkpoint");
    run(async {
        let store = open_with(&disk, few()).await.unwrap();
        accept(&store, 0..2000).await;
        settle_down().await;
        assert!(store.paged_out() > 1000);
        store.close().await;
    });
    let older = disk.bytes(checkpoint);
    run(async {
        let store = open_with(&disk, few()).await.unwrap();
        for pending in store.pending_after(1000, 100).await.unwrap() {
            store.settle(settlement(&pending, OutcomeKind::Retry)).await.unwrap();
        }
        store.close().await;
    });
    // What is said in the checkpoint's own segment would be read again.
    run(async {
        let store = open_with(&disk, few()).await.unwrap();
        settle_down().await;
        store.close().await;
    });
    if forges {
        disk.plant(checkpoint, &with_older_pages(&disk.bytes(checkpoint), &older));
    }
    run(async {
        let store = open_with(&disk, few()).await.unwrap();
        let tried = store.pending_after(1000, 100).await.unwrap();
        assert!(tried.iter().all(|pending| pending.version == 1), "a settlement is lost");
        assert_eq!(tried.len(), 100);
    });
}

#[test]
fn whatever_may_become_of_a_waiting_event_may_become_of_one_that_left_memory() {
    let disk = SimDisk::new(2);
    run(async {
        let store = open_with(&disk, few()).await.unwrap();
        for n in 0..2000 {
            store
                .accept(NewEvent { deliveries: vec![to("erp"), to("books")], ..keyed(n, u8::try_from(n % 200).unwrap(), 0) })
                .await
                .unwrap();
            if n % 2 == 0 {
                // Half of them are delivered to one of both before their segment is sealed.
                let position = *store.newest_position().borrow();
                let pending = store.pending_after(position - 1, 1).await.unwrap().remove(0);
                store.settle(settlement(&pending, [OutcomeKind::Delivered, OutcomeKind::Rejected][usize::from(n % 4 == 0)])).await.unwrap();
            }
        }
        settle_down().await;
        assert!(store.paged_out() > 2000);
        let dead = || store.counts()["books"].dead;
        assert_eq!(dead(), 500);
        let pending = store.pending_after(2000, 1).await.unwrap().remove(0);
        // It is tried, and waits again.
        store.attempt_begins(pending.id);
        store.settle(settlement(&pending, OutcomeKind::Retry)).await.unwrap();
        store.attempt_ends(pending.id);
        let again = store.pending_after(pending.position - 1, 1).await.unwrap().remove(0);
        assert_eq!((again.id, again.version, again.attempts), (pending.id, 1, 1));
        assert_eq!(store.settle(settlement(&pending, OutcomeKind::Delivered)).await, Err(CommitError::Stale));
        // An operator replays another one, and a third one is acknowledged.
        let replayed = store.replay(event(1500).id, vec![to("erp")]).await.unwrap();
        assert_eq!(replayed[0].ordinal, 2);
        assert_eq!(store.acknowledge(event(1200).id, to("source")).await.unwrap().len(), 1);
        assert_eq!(store.acknowledge(event(1200).id, to("source")).await.unwrap(), []);
        assert_eq!(dead(), 500);
        settle_down().await;
        store.close().await;
    });
    run(async {
        let store = open_with(&disk, few()).await.unwrap();
        assert_eq!(store.counts()["books"].dead, 500);
        assert_eq!(store.counts()["erp"].pending, 2001);
        assert_eq!(store.counts()["books"].pending, 1000);
        let replayed = store.record(event(1500).id).await.unwrap().unwrap();
        assert_eq!(replayed.deliveries.last().map(|delivery| delivery.kind), Some(DeliveryKind::Replay));
        for pending in all(&store).await {
            store.settle(settlement(&pending, OutcomeKind::Delivered)).await.unwrap();
        }
        let counts = store.counts();
        assert_eq!((counts["books"].pending, counts["books"].dead, counts["erp"].pending), (0, 500, 0));
    });
}

#[test]
fn what_was_tried_or_replayed_before_its_segment_was_sealed_stays_in_memory() {
    let disk = SimDisk::new(6);
    let tried = |n: u64| n % 10 == 5;
    let id = run(async {
        let store = open_with(&disk, few()).await.unwrap();
        for n in 0..1500 {
            store.accept(new(n)).await.unwrap();
            if tried(n) {
                let position = *store.newest_position().borrow();
                let pending = store.pending_after(position - 1, 1).await.unwrap().remove(0);
                store.settle(settlement(&pending, OutcomeKind::Retry)).await.unwrap();
            } else if n % 10 == 9 {
                // It waits behind those that came after its event.
                store.replay(event(n - 7).id, vec![to("erp")]).await.unwrap();
            }
        }
        settle_down().await;
        assert!(store.paged_out() > 800 && store.paged_out() < 1200, "{}", store.paged_out());
        let found = all(&store).await;
        assert_eq!(found.len(), 1650);
        assert!(found.is_sorted_by(|a, b| a.position < b.position));
        let pending = found.iter().find(|pending| pending.id.event == event(705).id).unwrap().clone();
        assert_eq!(pending.version, 1);
        store.attempt_begins(pending.id);
        settle_down().await;
        pending.id
    });
    run(async {
        let store = open_with(&disk, few()).await.unwrap();
        let record = store.record(id.event).await.unwrap().unwrap();
        assert_eq!(record.deliveries[0].attempts, 2, "the attempt that was cut off counts");
        assert_eq!(all(&store).await.len(), 1650);
    });
}

#[test]
fn an_attempt_on_a_delivery_that_left_memory_counts_if_the_process_ends() {
    let disk = SimDisk::new(3);
    let id = run(async {
        let store = open_with(&disk, few()).await.unwrap();
        accept(&store, 0..1500).await;
        settle_down().await;
        let pending = store.pending_after(900, 1).await.unwrap().remove(0);
        store.attempt_begins(pending.id);
        settle_down().await;
        pending.id
    });
    run(async {
        let store = open_with(&disk, few()).await.unwrap();
        let record = store.record(id.event).await.unwrap().unwrap();
        assert_eq!((record.deliveries[0].attempts, record.deliveries[0].version), (1, 1), "interrupted");
        assert!(matches!(record.deliveries[0].state, DeliveryState::Pending { .. }));
        assert!(store.paged_out() > 0);
    });
}

#[test]
fn what_left_memory_comes_back_to_move_out_of_a_segment_that_is_to_go() {
    let disk = SimDisk::new(4);
    let short = || LocalOptions { retention: Duration::ZERO, max_size: 8 * SEGMENT as u64, waiting_in_memory: 5, ..options() };
    run(async {
        let store = open_with(&disk, short()).await.unwrap();
        for n in 0..4000 {
            let mut tries = 0;
            while let Err(error) = store.accept(new(n)).await {
                tries += 1;
                assert!(tries < 100, "{n}: {error}");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            if n % 40 != 0 {
                let position = *store.newest_position().borrow();
                let pending = store.pending_after(position - 1, 1).await.unwrap().remove(0);
                store.settle(settlement(&pending, OutcomeKind::Delivered)).await.unwrap();
            }
        }
        settle_down().await;
        wait(&store, (0..4000).step_by(40)).await;
    });
    disk.cut_power();
    run(async {
        let store = open_with(&disk, short()).await.unwrap();
        wait(&store, (0..4000).step_by(40)).await;
    });
}

/// Every look takes several steps, and between two of them an event may go from where was not looked yet to where was.
#[test]
fn whoever_looks_while_events_leave_memory_and_come_back_misses_none() {
    const EVENTS: u64 = 1200;
    for seed in 0..2 {
        let disk = SimDisk::new(seed);
        run(async {
            let store = open_with(&disk, few()).await.unwrap();
            accept(&store, 0..EVENTS).await;
            settle_down().await;
            assert!(store.paged_out() > 600);
            disk.set(Faults { footers_stall: Some(6), read_takes: Duration::from_millis(300), ..Faults::default() });
            let ended = Cell::new(0);
            let waiting = async {
                loop {
                    let most = EVENTS - ended.get();
                    let found = store.pending_after(0, usize::MAX).await.unwrap().len() as u64;
                    assert!((EVENTS - ended.get()..=most).contains(&found), "of what waits: {found} of {most}");
                }
            };
            let listed = async {
                loop {
                    let (items, _) = store.list(&EventFilter::default(), None, usize::MAX).await.unwrap();
                    assert_eq!(items.len() as u64, EVENTS, "of what is listed");
                }
            };
            let read = async {
                for n in (0..).map(|n| n * 61 % EVENTS) {
                    assert_eq!(store.event(event(n).id).await.unwrap(), Some(event(n)), "what is read");
                    assert!(store.record(event(n).id).await.unwrap().is_some());
                }
            };
            let tried = async {
                for after in (0..50).map(|n| (seed + n) * 397 % EVENTS) {
                    let pending = store.pending_after(after, 1).await.unwrap().remove(0);
                    let outcome = if after % 2 == 0 { OutcomeKind::Retry } else { OutcomeKind::Delivered };
                    ended.set(ended.get() + after % 2);
                    store.settle(settlement(&pending, outcome)).await.unwrap();
                    for _ in 0..after % 50 {
                        tokio::task::yield_now().await;
                    }
                }
            };
            tokio::select! {
                () = tried => {}
                () = waiting => {}
                () = listed => {}
                () = read => {}
            }
        });
    }
}

/// Segments' footers are lost while what they tell of is not in memory.
#[test]
fn a_footer_that_is_lost_or_damaged_is_made_anew_for_what_left_memory() {
    for damages in [false, true] {
        let disk = SimDisk::new(5);
        let footers = |disk: &SimDisk| -> Vec<PathBuf> {
            let journal = Path::new("/store/journal");
            disk.names(journal).into_iter().filter(|name| name.ends_with(".foot")).map(|name| journal.join(name)).collect()
        };
        run(async {
            let store = open_with(&disk, few()).await.unwrap();
            accept(&store, 0..2000).await;
            settle_down().await;
            for path in footers(&disk) {
                let mut bytes = disk.bytes(&path);
                disk.forget(&path);
                if damages {
                    let middle = bytes.len() / 2;
                    bytes[middle] ^= 1;
                    disk.plant(&path, &bytes);
                }
            }
            wait(&store, 0..2000).await;
            let mut pending = store.pending_after(700, 1).await.unwrap().remove(0);
            while let Err(error) = store.settle(settlement(&pending, OutcomeKind::Retry)).await {
                assert!(matches!(error, CommitError::Refused(_)), "{error}");
                tokio::time::sleep(Duration::from_secs(1)).await;
                pending = patiently(async || store.pending_after(700, 1).await).await.remove(0);
            }
            wait(&store, 0..2000).await;
        });
        disk.set(Faults::default());
    }
}
