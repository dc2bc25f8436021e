//! What is on its way while something else happens to the same thing: both are meant, and the newer one counts.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use kurier::model::OutcomeKind;
use kurier::store::local::LocalOptions;
use kurier::store::{CommitError, Store};

use super::make::{event, new, settlement, to};
use super::sim::{SimStore, open, open_with, options, run, segment};
use super::sim_disk::{Faults, SimDisk};

/// Nothing goes before a minute has passed.
fn minute() -> LocalOptions {
    LocalOptions { retention: Duration::from_secs(60), ..options() }
}

fn exists(disk: &SimDisk, number: u64) -> bool {
    let name = segment(number).file_name().unwrap().to_string_lossy().into_owned();
    disk.names(Path::new("/store/journal")).contains(&name)
}

/// Accepts an event and settles it.
async fn pass(store: &SimStore, n: u64, outcome: OutcomeKind) {
    store.accept(new(n)).await.unwrap();
    let pending = store.pending_after(0, 1).await.unwrap().remove(0);
    store.settle(settlement(&pending, outcome)).await.unwrap();
}

/// Fills the first segments, whose retention has not ended yet.
async fn fill(store: &SimStore, disk: &SimDisk) {
    for n in (1000..3000).take_while(|_| !exists(disk, 5)) {
        pass(store, n, OutcomeKind::Delivered).await;
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(exists(disk, 1));
}

/// The disk stands still while the first segment's retention ends: what is asked for meanwhile waits together.
fn stalled() -> Faults {
    Faults { sync_takes: Duration::from_secs(200), ..Faults::default() }
}

/// The old value is asked to move out of a segment that goes, the new one waits for its batch already.
#[test]
fn a_state_that_moves_does_not_undo_a_newer_one() {
    let disk = SimDisk::new(1);
    run(async {
        let store = open_with(&disk, minute()).await.unwrap();
        store.set_state("cursor".to_owned(), Some(Bytes::from_static(b"old"))).await.unwrap();
        fill(&store, &disk).await;
        disk.set(stalled());
        let taken = store.accept(new(1));
        tokio::time::sleep(Duration::from_secs(1)).await;
        let newer = store.set_state("cursor".to_owned(), Some(Bytes::from_static(b"new")));
        taken.await.unwrap();
        disk.set(Faults::default());
        newer.await.unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(!exists(&disk, 1), "the first segment has gone, so its state was asked to move");
        assert_eq!(store.states("").await.unwrap()["cursor"], "new");
    });
    run(async {
        let store = open(&disk).await.unwrap();
        assert_eq!(store.states("").await.unwrap()["cursor"], "new");
    });
}

/// Its segment is past its time, and has nothing that waits but what the replay is about to add.
#[test]
fn an_event_stays_while_a_replay_of_it_is_on_its_way() {
    let disk = SimDisk::new(1);
    run(async {
        let store = open_with(&disk, minute()).await.unwrap();
        pass(&store, 0, OutcomeKind::Rejected).await;
        fill(&store, &disk).await;
        disk.set(stalled());
        let taken = store.accept(new(1));
        tokio::time::sleep(Duration::from_secs(1)).await;
        let replayed = store.replay(event(0).id, vec![to("erp")]);
        taken.await.unwrap();
        assert_eq!(replayed.await.unwrap().len(), 1);
        disk.set(Faults::default());
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert!(!exists(&disk, 1), "it moved, and its segment has gone");
    });
    run(async {
        let store = open_with(&disk, minute()).await.unwrap();
        assert_eq!(store.event(event(0).id).await.unwrap(), Some(event(0)));
        let pending = store.pending_after(0, 9).await.unwrap();
        assert_eq!(pending.iter().filter(|pending| pending.id.event == event(0).id).count(), 1);
    });
}

/// It was asked to move when nobody wanted a replay yet: it moves afterwards, and keeps its old segment no longer.
#[test]
fn an_event_that_is_about_to_move_waits_for_a_replay_of_it() {
    let disk = SimDisk::new(1);
    run(async {
        let store = open_with(&disk, minute()).await.unwrap();
        store.accept(new(0)).await.unwrap();
        for n in (1000..3000).take_while(|_| !exists(&disk, 5)) {
            store.accept(new(n)).await.unwrap();
            let pending = store.pending_after(1, 1).await.unwrap().remove(0);
            store.settle(settlement(&pending, OutcomeKind::Delivered)).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
        disk.set(stalled());
        let taken = store.accept(new(1));
        tokio::time::sleep(Duration::from_secs(190)).await;
        let replayed = store.replay(event(0).id, vec![to("erp")]);
        taken.await.unwrap();
        disk.set(Faults::default());
        assert_eq!(replayed.await.unwrap().len(), 1);
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert!(!exists(&disk, 1), "its segment is held for ever");
        assert_eq!(store.event(event(0).id).await.unwrap(), Some(event(0)));
        assert_eq!(store.record(event(0).id).await.unwrap().unwrap().deliveries.len(), 2);
    });
}

/// Footers wait for the index, segments for their footers, and memory holds all of that: there is a limit (I10).
#[test]
fn a_store_whose_index_can_not_be_made_refuses_before_memory_fills_and_heals() {
    let disk = SimDisk::new(1);
    run(async {
        disk.indexes.refuse(true);
        let store = open(&disk).await.unwrap();
        let mut accepted = 0;
        let refused = loop {
            match store.accept(new(accepted)).await {
                Ok(_) => accepted += 1,
                Err(error) => break error,
            }
            assert!(!exists(&disk, 20), "it is never refused");
        };
        assert!(matches!(refused, CommitError::Refused("the index is behind")), "{refused:?}");
        assert!(exists(&disk, 8), "{refused:?} after {accepted}");
        // What frees space goes on.
        let pending = store.pending_after(0, 1).await.unwrap().remove(0);
        store.settle(settlement(&pending, OutcomeKind::Delivered)).await.unwrap();
        disk.indexes.refuse(false);
        tokio::time::sleep(Duration::from_secs(5)).await;
        store.accept(new(accepted)).await.unwrap();
        assert_eq!(store.event(event(0).id).await.unwrap(), Some(event(0)));
    });
}

/// What outlived its segment and is done waits for the index in memory: there is a limit to that too, of 100,000 events (I10).
#[test]
fn a_store_whose_index_fails_refuses_before_memory_fills_with_what_is_done_and_heals() {
    const MANY: u64 = 130_000;
    let disk = SimDisk::new(1);
    run(async {
        // It fails as soon as it is needed.
        disk.indexes.break_after(Some(1));
        let store = open_with(&disk, LocalOptions { segment_bytes: 16 * 1024 * 1024, ..options() }).await.unwrap();
        disk.indexes.refuse(true);
        for from in (0..MANY).step_by(1000) {
            let tickets: Vec<_> = (from..from + 1000).map(|n| store.accept(new(n))).collect();
            for ticket in tickets {
                ticket.await.unwrap();
            }
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
        let (mut settled, mut after) = (0, 0);
        let refused = loop {
            let page = store.pending_after(after, 1000).await.unwrap();
            assert!(!page.is_empty(), "it is never refused");
            let tickets: Vec<_> = page.iter().map(|pending| store.settle(settlement(pending, OutcomeKind::Delivered))).collect();
            for ticket in tickets {
                ticket.await.unwrap();
            }
            settled += page.len();
            after = page.last().unwrap().position;
            tokio::time::sleep(Duration::from_secs(1)).await;
            if let Err(error) = store.accept(new(MANY + after)).await {
                break error;
            }
        };
        assert!(matches!(refused, CommitError::Refused("the index is behind")), "{refused:?}");
        assert!((100_000..105_000).contains(&settled), "refused after {settled}");
        assert_eq!(store.stats().unwritable.as_deref(), Some("the index is behind"));
        // What frees memory goes on.
        let pending = store.pending_after(after, 1).await.unwrap().remove(0);
        store.settle(settlement(&pending, OutcomeKind::Delivered)).await.unwrap();
        disk.indexes.refuse(false);
        tokio::time::sleep(Duration::from_secs(60)).await;
        store.accept(new(1_000_000)).await.unwrap();
        assert_eq!(store.record(event(0).id).await.unwrap().unwrap().deliveries.len(), 1);
    });
}
