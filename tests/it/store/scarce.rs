//! A full disk: new events are refused, and what frees space still commits (rule 13).

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use kurier::model::OutcomeKind;
use kurier::store::local::LocalOptions;
use kurier::store::{CommitError, EventFilter, ReadError, Store};

use super::make::{event, new, settlement, to};
use super::sim::{self, SEGMENT, SimStore, open_with, options};
use super::sim_disk::{Faults, SimDisk};

const FULL: CommitError = CommitError::Refused("the disk has no room for further segments");

/// A life that comes to its end: on a full disk it is easy to wait for ever.
fn run<T>(life: impl Future<Output = T>) -> T {
    let day = Duration::from_secs(24 * 60 * 60);
    sim::run(async { tokio::time::timeout(day, life).await.expect("nothing goes on, after a day") })
}

fn names(disk: &SimDisk, ends: &str) -> usize {
    disk.names(Path::new("/store/journal"))
        .iter()
        .filter(|name| name.starts_with("pool-") != (ends == "seg") && name.ends_with(".seg"))
        .count()
}

/// Accepts until that is refused; how many were accepted.
async fn fill(store: &SimStore, from: u64) -> u64 {
    for n in from..from + 20_000 {
        match store.accept(new(n)).await {
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error, FULL);
                return n - from;
            }
        }
    }
    panic!("the disk never fills");
}

/// So many bytes for all files.
fn room(segments: u64) -> Faults {
    Faults { capacity: Some(segments * SEGMENT as u64), ..Faults::default() }
}

fn long() -> LocalOptions {
    LocalOptions { max_size: 1 << 30, ..options() }
}

#[test]
fn two_segments_are_set_aside_and_made_again() {
    let disk = SimDisk::new(1);
    run(async {
        let store = open_with(&disk, long()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!((names(&disk, "seg"), names(&disk, "pool")), (2, 2), "the current one, the next one, and two");
        for n in 0..500 {
            store.accept(new(n)).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(names(&disk, "pool"), 2);
    });
    disk.cut_power();
    run(async {
        let store = open_with(&disk, long()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(names(&disk, "pool"), 2);
        store.close().await;
    });
}

/// A backlog fills the disk. Everything is delivered out of what was set aside, and then there is room again.
#[test]
fn on_a_full_disk_a_backlog_is_delivered_and_space_comes_back() {
    for seed in 0..10 {
        let disk = SimDisk::new(seed);
        run(async {
            let store = open_with(&disk, long()).await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
            disk.set(room(24));
            let accepted = fill(&store, 0).await;
            assert!(accepted > 1000, "{accepted}");
            assert!(store.stats().unwritable.unwrap().contains("no further segment can be prepared"));
            // Hours pass, with every attempt failing once: those are settlements too.
            for pending in store.pending_after(0, usize::MAX).await.unwrap().iter().step_by(20) {
                store.settle(settlement(pending, OutcomeKind::Retry)).await.unwrap();
            }
            store.set_state("pause/erp".to_owned(), Some(Bytes::from_static(b"x"))).await.unwrap();
            store.replay(event(1).id, vec![to("books")]).await.unwrap();
            assert_eq!(store.accept(new(50_000)).await, Err(FULL));
            for pending in store.pending_after(0, usize::MAX).await.unwrap() {
                store.settle(settlement(&pending, OutcomeKind::Delivered)).await.unwrap();
            }
            tokio::time::sleep(Duration::from_secs(30)).await;
            assert_eq!(store.stats().unwritable, None, "it recovers by itself");
            for n in 60_000..60_400 {
                let mut tries = 0;
                while let Err(error) = store.accept(new(n)).await {
                    tries += 1;
                    assert!(tries < 100, "{n}: {error}");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                let pending = store.pending_after(0, 1).await.unwrap().remove(0);
                store.settle(settlement(&pending, OutcomeKind::Delivered)).await.unwrap();
            }
            assert_eq!(store.states("").await.unwrap().len(), 1);
        });
        if seed % 2 == 0 {
            disk.cut_power();
        }
        run(async {
            let store = open_with(&disk, long()).await.unwrap();
            assert_eq!(store.pending_after(0, 9).await.unwrap(), []);
            assert_eq!(store.event(event(60_399).id).await.unwrap(), Some(event(60_399)));
            assert_eq!(store.event(event(50_000).id).await.unwrap(), None, "what was refused never comes back");
        });
    }
}

/// Files for later are made in pieces, with pauses. That there is no room for one is known before the other is used up.
#[test]
fn a_disk_that_fills_faster_than_files_are_made_for_later_still_has_one_for_settlements() {
    const SEGMENT: usize = 4 * 1024 * 1024;
    let large = |n: u64| {
        let mut large = new(n);
        large.event.body = Bytes::from(vec![b'x'; SEGMENT / 16]);
        large
    };
    for segments in 6..12 {
        let disk = SimDisk::new(1);
        run(async {
            let store = open_with(&disk, LocalOptions { segment_bytes: SEGMENT, ..long() }).await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
            // And a half, as there is in the midst of making one.
            let capacity = Some((segments * SEGMENT + SEGMENT / 2) as u64);
            disk.set(Faults { capacity, ..Faults::default() });
            let mut accepted = 0;
            let refused = loop {
                match store.accept(large(accepted)).await {
                    Ok(_) => accepted += 1,
                    Err(error) => break error,
                }
            };
            assert!(matches!(refused, CommitError::Refused(_)), "{refused}");
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(store.accept(large(50_000)).await, Err(FULL));
            // The one that is written, and one behind it.
            let begun = accepted.div_ceil(15);
            assert!((names(&disk, "seg") + names(&disk, "pool")) as u64 > begun, "{segments}: none is left");
            for pending in store.pending_after(0, usize::MAX).await.unwrap() {
                store.settle(settlement(&pending, OutcomeKind::Delivered)).await.unwrap();
            }
            tokio::time::sleep(Duration::from_secs(30)).await;
            store.accept(large(50_001)).await.unwrap();
        });
    }
}

/// The process ends on the full disk, and starts on it.
#[test]
fn a_store_opens_on_a_full_disk_and_delivers_there() {
    let disk = SimDisk::new(1);
    run(async {
        let store = open_with(&disk, long()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        disk.set(room(24));
        fill(&store, 0).await;
    });
    disk.cut_power();
    run(async {
        let store = open_with(&disk, long()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(store.accept(new(50_000)).await, Err(FULL));
        for pending in store.pending_after(0, usize::MAX).await.unwrap() {
            store.settle(settlement(&pending, OutcomeKind::Delivered)).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(30)).await;
        store.accept(new(50_001)).await.unwrap();
    });
}

/// Somebody else fills the disk and makes room again: only as much history goes as is needed.
#[test]
fn a_disk_that_somebody_else_fills_costs_little_history_and_recovers() {
    let disk = SimDisk::new(1);
    run(async {
        let store = open_with(&disk, long()).await.unwrap();
        for n in 0..2000 {
            store.accept(new(n)).await.unwrap();
            let pending = store.pending_after(0, 1).await.unwrap().remove(0);
            store.settle(settlement(&pending, OutcomeKind::Delivered)).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
        let stored = async || store.list(&EventFilter::default(), None, 10_000).await.unwrap().0.len();
        assert_eq!(stored().await, 2000);
        disk.set(Faults { capacity: Some(0), ..Faults::default() });
        for n in 10_000..10_100 {
            drop(store.accept(new(n)).await);
        }
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert!(stored().await > 1500, "{}", stored().await);
        disk.set(Faults::default());
        tokio::time::sleep(Duration::from_secs(3)).await;
        store.accept(new(20_000)).await.unwrap();
    });
}

/// What was taken in before the disk was full must not use up what is set aside for settlements.
#[test]
fn what_waited_when_the_disk_became_full_is_refused_and_settlements_go_on() {
    let disk = SimDisk::new(1);
    run(async {
        let store = open_with(&disk, long()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let set_aside = names(&disk, "pool");
        disk.set(Faults { capacity: Some(disk.used()), sync_takes: Duration::from_secs(3), ..Faults::default() });
        let large = |n: u64| {
            let mut large = new(n);
            large.event.body = Bytes::from(vec![b'x'; 4096]);
            large
        };
        let tickets: Vec<_> = (0..150).map(|n| store.accept(large(n))).collect();
        let mut accepted = 0;
        for ticket in tickets {
            match ticket.await {
                Ok(_) => accepted += 1,
                Err(error) => assert!(matches!(error, CommitError::Refused(_)), "{error}"),
            }
        }
        assert!((20..40).contains(&accepted), "{accepted}: two segments of fourteen");
        assert_eq!(names(&disk, "pool"), set_aside - 1, "what was set aside is left, one of it prepared");
        for pending in store.pending_after(0, usize::MAX).await.unwrap() {
            store.settle(settlement(&pending, OutcomeKind::Delivered)).await.unwrap();
        }
    });
}

/// A footer is made anew where there is room for it: settlements need the last segment that is set aside more.
#[test]
fn the_last_segment_that_is_set_aside_makes_no_room_for_a_footer() {
    let disk = SimDisk::new(1);
    run(async {
        // Room for one.
        let store = open_with(&disk, LocalOptions { max_size: 8 * SEGMENT as u64, ..options() }).await.unwrap();
        for n in 0..300 {
            store.accept(new(n)).await.unwrap();
            let pending = store.pending_after(0, 1).await.unwrap().remove(0);
            store.settle(settlement(&pending, OutcomeKind::Delivered)).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(names(&disk, "pool"), 1);
        disk.forget(Path::new("/store/journal/0000000000000001.foot"));
        disk.set(Faults { capacity: Some(disk.used()), ..Faults::default() });
        // Whoever looks for what it told finds out that it is gone.
        assert!(matches!(store.event(event(0).id).await, Err(ReadError::Io(_))));
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(names(&disk, "pool"), 1);
        store.accept(new(1000)).await.unwrap();
        disk.set(Faults::default());
        assert_eq!(store.event(event(0).id).await.unwrap(), Some(event(0)));
    });
}
