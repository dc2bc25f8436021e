//! What a disk does to a store at the worst moment, one scenario each: what the simulation plays at random, for certain.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kurier::model::{DeliveryState, OutcomeKind};
use kurier::store::local::{LocalOptions, LocalStore, Run, Seams, StoreError};
use kurier::store::{CommitError, ReadError, Store};

use super::bytes::forged;
use super::make::{event, new, settlement};
use super::sim::{SEGMENT, SimClock, SimStore, open, open_with, options, run};
use super::sim_disk::{Faults, Lie, SimDisk};

/// What is finished goes as soon as it may.
fn short() -> LocalOptions {
    LocalOptions { retention: Duration::ZERO, max_size: 8 * SEGMENT as u64, ..options() }
}

/// Accepts an event and delivers it, as soon as the store lets it.
async fn pass(store: &SimStore, n: u64) {
    while let Err(error) = store.accept(new(n)).await {
        assert!(matches!(error, CommitError::Refused(_)), "{error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let pending = store.pending_after(0, 9).await.unwrap();
    let ours = pending.iter().find(|pending| pending.id.event == event(n).id).unwrap();
    store.settle(settlement(ours, OutcomeKind::Delivered)).await.unwrap();
}

/// Of the pages of one batch only later ones landed, or only the first, where it begins.
#[test]
fn a_cut_that_keeps_some_pages_of_a_batch_drops_all_of_it() {
    for (pages, keeps_first) in (2..6).flat_map(|pages| [(pages, false), (pages, true)]) {
        let disk = SimDisk::new(1);
        let mut large = new(2);
        large.event.body = Bytes::from(vec![b'x'; pages * 4096]);
        run(async {
            let store = open(&disk).await.unwrap();
            store.accept(new(1)).await.unwrap();
            disk.set(Faults { sync_takes: Duration::from_secs(1000), ..Faults::default() });
            let ticket = store.accept(large.clone());
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(ticket);
        });
        disk.set(Faults::default());
        // The header's page is page 0; both batches begin in page 1.
        disk.cut_power_keeping(|page| (page > 1) != keeps_first);
        run(async {
            let store = open(&disk).await.unwrap();
            assert_eq!(store.event(event(1).id).await.unwrap(), Some(event(1)));
            assert_eq!(store.event(event(2).id).await.unwrap(), None);
            // What is left of it lies where the next batches come.
            store.accept(new(3)).await.unwrap();
            store.close().await;
        });
        run(async {
            let store = open(&disk).await.unwrap();
            let pending = store.pending_after(0, 9).await.unwrap();
            assert_eq!(pending.iter().map(|pending| pending.id.event).collect::<Vec<_>>(), [event(1).id, event(3).id]);
        });
    }
}

/// Somebody sends frames of the journal in a body, and the power goes so that only they are left of their batch.
/// Whether the store opens again; `nonces` are those that its segments get, `known` the one that the sender knows.
pub(super) fn frames_in_a_body(known: u128, nonces: impl Fn() -> u128 + Send + Sync + 'static) -> Result<(), StoreError> {
    let disk = SimDisk::new(1);
    let mut new = new(2);
    // At every alignment, over some pages.
    let frames = (0..250).flat_map(|n| std::iter::repeat_n(b' ', n % 8).chain(forged(known)));
    new.event.body = frames.collect();
    let random: Arc<dyn Fn() -> u128 + Send + Sync> = Arc::new(nonces);
    let open = || {
        let seams = Seams { disk: disk.clone(), indexes: Arc::new(disk.indexes.clone()), run: Run::Tasks, random: random.clone() };
        LocalStore::open_on(seams, options(), Arc::new(SimClock::starting_at(0)), None)
    };
    run(async {
        let store = open().await.unwrap();
        disk.set(Faults { sync_takes: Duration::from_secs(1000), ..Faults::default() });
        let ticket = store.accept(new);
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(ticket);
    });
    disk.set(Faults::default());
    disk.cut_power_keeping(|page| page > 1);
    run(async { open().await.map(drop) })
}

/// Segments are recycled while what lies in them is read slowly. How often something was read that has gone by then;
/// what is read is whole.
pub(super) fn reads_while_segments_go(seed: u64, lie: Option<Lie>) -> u32 {
    let disk = SimDisk::new(seed);
    run(async {
        let store = open_with(&disk, short()).await.unwrap();
        disk.set(Faults { reads_stall: Some(2), read_takes: Duration::from_secs(8), lie, ..Faults::default() });
        let mut readers = tokio::task::JoinSet::new();
        for reader in 0..32 {
            let store = store.clone();
            readers.spawn(async move {
                let mut gone = 0;
                for look in 0.. {
                    let position = *store.newest_position().borrow();
                    let n = position.saturating_sub(100 + reader * 10 + look % 10);
                    match store.event(event(n).id).await {
                        Ok(Some(read)) => {
                            assert_eq!(read, event(n));
                            gone += u32::from(matches!(store.event(event(n).id).await, Ok(None)));
                        }
                        Ok(None) | Err(ReadError::Io(_)) => {}
                        Err(ReadError::Damaged) => panic!("event {n} is read as damaged while its segment goes"),
                    }
                    if position > 1400 {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                gone
            });
        }
        for n in 0..1500 {
            pass(&store, n).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        readers.join_all().await.into_iter().sum()
    })
}

#[test]
fn what_is_read_while_its_segment_is_recycled_is_whole_or_not_there() {
    let gone: u32 = (0..2).map(|seed| reads_while_segments_go(seed, None)).sum();
    assert!(gone > 3, "nothing went while it was read, so nothing was shown: {gone}");
}

/// An event that waits moves out of its first segment, which goes; what is known of it is in its copy alone.
pub(super) fn a_waiting_event_moves(seed: u64, lie: Option<Lie>) {
    let disk = SimDisk::new(seed);
    disk.set(Faults { lie, ..Faults::default() });
    run(async {
        let store = open_with(&disk, short()).await.unwrap();
        store.accept(new(0)).await.unwrap();
        let pending = store.pending_after(0, 1).await.unwrap().remove(0);
        store.settle(settlement(&pending, OutcomeKind::Retry)).await.unwrap();
        let first = "0000000000000001.seg".to_owned();
        for n in 1..2000 {
            pass(&store, n).await;
            if !disk.names(Path::new("/store/journal")).contains(&first) {
                break;
            }
            assert!(n < 1999, "it never moved");
        }
    });
    disk.cut_power();
    run(async {
        let store = open_with(&disk, short()).await.unwrap();
        let pending = store.pending_after(0, 1).await.unwrap().remove(0);
        assert_eq!((pending.id.event, pending.attempts), (event(0).id, 1));
        assert!(pending.version == 1, "a settlement is lost");
    });
}

/// A folder in which names can't be changed for a while: segments go in their order, or a start would find a gap.
#[test]
fn a_segment_that_can_not_go_holds_up_those_behind_it() {
    for seed in 0..20 {
        let disk = SimDisk::new(seed);
        let mut n = 0;
        run(async {
            let store = open_with(&disk, short()).await.unwrap();
            for troubled in [false, true, true, true] {
                disk.set(Faults { names_fail: troubled.then_some(2), ..Faults::default() });
                for _ in 0..150 {
                    pass(&store, n).await;
                    n += 1;
                }
            }
            disk.set(Faults::default());
        });
        if seed % 2 == 0 {
            disk.cut_power();
        }
        run(async {
            let store = open_with(&disk, short()).await.unwrap();
            for n in n..n + 300 {
                pass(&store, n).await;
            }
            let names = disk.names(Path::new("/store/journal"));
            let files = names.iter().filter(|name| name.ends_with(".seg")).count();
            assert!(files <= 9, "seed {seed}: what could not go is taken away later: {names:?}");
        });
    }
}

/// A sync fails once and the next one says OK, although nothing of the first was written: the kernel took the pages for
/// clean. Then the process is killed and comes back, and only later the power goes. How many were refused.
pub(super) fn a_sync_fails_once(seed: u64, lie: Option<Lie>) -> usize {
    let disk = SimDisk::new(seed);
    let told = run(async {
        let store = open(&disk).await.unwrap();
        store.accept(new(1)).await.unwrap();
        let pending = store.pending_after(0, 1).await.unwrap().remove(0);
        // The next segment is prepared by then, so the sync that fails is that of a commit.
        tokio::time::sleep(Duration::from_secs(3)).await;
        disk.set(Faults { sync_fails: Some(1), once: true, lie, ..Faults::default() });
        let (accepted, settled) = tokio::join!(store.accept(new(2)), store.settle(settlement(&pending, OutcomeKind::Delivered)));
        settled.unwrap();
        let mut told = vec![(2, accepted.is_ok())];
        if seed.is_multiple_of(2) {
            told.push((3, store.accept(new(3)).await.is_ok()));
        }
        told
    });
    disk.set(Faults::default());
    for ending in 0..3 {
        if ending == seed % 3 {
            disk.cut_power();
        }
        run(async {
            let store = open(&disk).await.unwrap();
            let pending: Vec<_> = store.pending_after(0, 9).await.unwrap().into_iter().map(|pending| pending.id.event).collect();
            for &(n, is_kept) in &told {
                assert_eq!(pending.contains(&event(n).id), is_kept, "event {n} was {}", if is_kept { "acknowledged" } else { "refused" });
            }
            assert!(!pending.contains(&event(1).id), "a settlement is lost");
        });
    }
    told.into_iter().filter(|(_, is_kept)| !is_kept).count()
}

#[test]
fn a_sync_that_fails_once_and_then_says_ok_loses_nothing_even_at_a_later_power_cut() {
    let refused: usize = (0..60).map(|seed| a_sync_fails_once(seed, None)).sum();
    assert!(refused >= 60, "{refused}");
}

/// Events are finished after their segments were sealed, so that the index tells it of them, and nothing else once there
/// is a later checkpoint; then the power goes.
pub(super) fn a_power_cut_tears_the_index(seed: u64, lie: Option<Lie>) {
    let disk = SimDisk::new(seed);
    run(async {
        let store = open(&disk).await.unwrap();
        for n in 0..400 {
            store.accept(new(n)).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
        for pending in store.pending_after(0, usize::MAX).await.unwrap() {
            store.settle(settlement(&pending, OutcomeKind::Delivered)).await.unwrap();
        }
        for n in 400..3000 {
            pass(&store, n).await;
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(disk.names(Path::new("/store")).contains(&"checkpoint".to_owned()));
    });
    disk.set(Faults { lie, ..Faults::default() });
    disk.cut_power();
    run(async {
        let store = open(&disk).await.unwrap();
        for n in 0..400 {
            let record = store.record(event(n).id).await.unwrap();
            let record = record.unwrap_or_else(|| panic!("event {n} is not found"));
            assert!(record.deliveries[0].state == DeliveryState::Delivered, "event {n} is told as it stood before");
        }
    });
}

#[test]
fn an_index_that_a_power_cut_tore_is_made_anew() {
    (0..3).for_each(|seed| a_power_cut_tears_the_index(seed, None));
}

/// A commit fails, there is no room for a fresh segment, and the store is closed: what still waits must not go behind the
/// pages that failed.
#[test]
fn a_store_that_closes_without_having_healed_writes_nothing_more() {
    for seed in 0..20 {
        let disk = SimDisk::new(seed);
        disk.set(Faults { capacity: Some(SEGMENT as u64 + 16 * 1024), ..Faults::default() });
        run(async {
            let store = open(&disk).await.unwrap();
            store.accept(new(1)).await.unwrap();
            let pending = store.pending_after(0, 1).await.unwrap().remove(0);
            disk.set(Faults { capacity: Some(0), sync_fails: Some(1), once: true, ..Faults::default() });
            let unknown = store.set_state("pause/erp".to_owned(), Some(Bytes::from_static(b"{}")));
            tokio::time::sleep(Duration::from_secs(2)).await;
            let waits = store.settle(settlement(&pending, OutcomeKind::Delivered));
            let (unknown, waits, ()) = tokio::join!(unknown, waits, store.close());
            assert_eq!(unknown, Err(CommitError::Unknown));
            assert!(waits.is_err(), "{waits:?}");
        });
        disk.set(Faults::default());
        if seed % 2 == 0 {
            disk.cut_power();
        }
        run(async {
            let store = open(&disk).await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            let pending: Vec<_> = store.pending_after(0, 9).await.unwrap().into_iter().map(|pending| pending.id.event).collect();
            assert_eq!(pending[0], event(1).id, "seed {seed}: its settlement was refused");
        });
    }
}
