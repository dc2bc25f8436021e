//! What is pending moves out of old segments, so that it holds nothing but itself.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kurier::model::{DeliveryState, OutcomeKind};
use kurier::store::local::LocalOptions;
use kurier::store::{CommitError, EventFilter, Store};

use super::make::{event, new, settlement, to};
use super::sim::{SEGMENT, SimStore, open_with, options, power_cut_after, run};
use super::sim_disk::{Faults, SimDisk};

/// The waiting event.
const WAITS: u64 = 7;

/// So many segments.
fn short(segments: u64) -> LocalOptions {
    LocalOptions { max_size: segments * SEGMENT as u64, ..options() }
}

/// The numbers of the segments that are there.
fn segments(disk: &SimDisk) -> Vec<u64> {
    let names = disk.names(Path::new("/store/journal"));
    names.iter().filter_map(|name| u64::from_str_radix(name.strip_suffix(".seg")?, 16).ok()).collect()
}

/// Accepts an event and delivers it; while the store is full it is asked again.
async fn pass(store: &SimStore, n: u64) {
    for attempt in 0.. {
        match store.accept(new(n)).await {
            Ok(_) => break,
            Err(CommitError::Refused("the store is full")) => assert!(attempt < 100, "event {n} is refused for good"),
            Err(error) => panic!("event {n}: {error}"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let pending = store.pending_after(0, 9).await.unwrap();
    let ours = pending.iter().find(|pending| pending.id.event == event(n).id).unwrap();
    store.settle(settlement(ours, OutcomeKind::Delivered)).await.unwrap();
}

/// Passes events until this holds.
async fn pass_until(store: &SimStore, first: u64, holds: impl Fn() -> bool) {
    for n in (first..first + 1000).take_while(|_| !holds()) {
        pass(store, n).await;
    }
    assert!(holds());
}

/// The waiting one is all there, and can be delivered.
async fn deliver(store: &SimStore, attempts: u32) {
    let pending = store.pending_after(0, 9).await.unwrap();
    assert_eq!(pending.iter().map(|pending| (pending.id.event, pending.attempts)).collect::<Vec<_>>(), [(event(WAITS).id, attempts)]);
    assert_eq!(store.event(event(WAITS).id).await.unwrap(), Some(event(WAITS)));
    store.settle(settlement(&pending[0], OutcomeKind::Delivered)).await.unwrap();
    let record = store.record(event(WAITS).id).await.unwrap().unwrap();
    assert_eq!((record.event, record.deliveries[0].state.clone()), (event(WAITS), DeliveryState::Delivered));
}

#[test]
fn a_delivery_that_waits_for_ever_holds_no_segment() {
    let disk = SimDisk::new(1);
    let waiting = |store: Arc<SimStore>| async move {
        store.accept(new(WAITS)).await.unwrap();
        let pending = store.pending_after(0, 1).await.unwrap().remove(0);
        store.settle(settlement(&pending, OutcomeKind::Retry)).await.unwrap();
    };
    run(async {
        let store = open_with(&disk, short(8)).await.unwrap();
        waiting(store.clone()).await;
        for n in 1000..4000 {
            pass(&store, n).await;
        }
        assert!(segments(&disk)[0] > 10, "{:?}", segments(&disk));
        assert_eq!(store.event(event(1000).id).await.unwrap(), None, "what was delivered went with its segment");
    });
    disk.cut_power();
    run(async {
        let store = open_with(&disk, short(8)).await.unwrap();
        for n in 4000..5000 {
            pass(&store, n).await;
        }
        store.close().await;
    });
    run(async {
        let store = open_with(&disk, short(8)).await.unwrap();
        deliver(&store, 1).await;
        let position = store.accept(new(9000)).await.unwrap();
        let (items, _) = store.list(&EventFilter::default(), None, 100_000).await.unwrap();
        assert_eq!((items[0].event.id, items.last().unwrap().event.id), (position.event(), event(WAITS).id), "the oldest is last");
        assert!(items.is_sorted_by(|a, b| a.sequence > b.sequence));
        // Finished, it goes like any other.
        for n in 10_000..12_000 {
            pass(&store, n).await;
        }
        assert_eq!(store.event(event(WAITS).id).await.unwrap(), None);
    });
}

#[test]
fn what_moved_is_found_through_the_index_once_it_is_finished_and_replayed_from_there() {
    let disk = SimDisk::new(1);
    run(async {
        let store = open_with(&disk, short(8)).await.unwrap();
        store.accept(new(WAITS)).await.unwrap();
        // It moves when its first segment goes, into one of the newest.
        pass_until(&store, 1000, || segments(&disk)[0] > 1).await;
        let newest = *segments(&disk).last().unwrap();
        let pending = store.pending_after(0, 1).await.unwrap().remove(0);
        store.settle(settlement(&pending, OutcomeKind::Rejected)).await.unwrap();
        // Its new segment is sealed, and still there.
        pass_until(&store, 2500, || segments(&disk).last() > Some(&(newest + 1))).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(store.event(event(WAITS).id).await.unwrap(), Some(event(WAITS)));
        let dead = EventFilter { state: Some("dead".to_owned()), ..EventFilter::default() };
        let (items, _) = store.list(&dead, None, 10).await.unwrap();
        assert_eq!(items.iter().map(|item| item.event.id).collect::<Vec<_>>(), [event(WAITS).id]);
        store.replay(event(WAITS).id, vec![to("erp")]).await.unwrap();
        for n in 3000..5000 {
            pass(&store, n).await;
        }
    });
    disk.cut_power();
    disk.indexes.lose();
    run(async {
        let store = open_with(&disk, short(8)).await.unwrap();
        let record = store.record(event(WAITS).id).await.unwrap().unwrap();
        assert_eq!(record.deliveries.iter().map(|delivery| delivery.state.word()).collect::<Vec<_>>(), ["dead", "pending"]);
        deliver_second(&store).await;
    });
}

async fn deliver_second(store: &SimStore) {
    let pending = store.pending_after(0, 9).await.unwrap().remove(0);
    assert_eq!(pending.id.ordinal, 1);
    assert_eq!(store.event(event(WAITS).id).await.unwrap(), Some(event(WAITS)));
    store.settle(settlement(&pending, OutcomeKind::Delivered)).await.unwrap();
}

/// The power goes after each call in turn, around the moves.
#[test]
fn a_power_cut_at_any_step_of_a_move_loses_nothing() {
    let begun = SimDisk::new(3);
    run(async {
        let store = open_with(&begun, short(8)).await.unwrap();
        store.accept(new(WAITS)).await.unwrap();
        let pending = store.pending_after(0, 1).await.unwrap().remove(0);
        store.settle(settlement(&pending, OutcomeKind::Retry)).await.unwrap();
        pass_until(&store, 1000, || segments(&begun).last() >= Some(&5)).await;
        store.close().await;
    });
    let mut moved = 0;
    for calls in (0..1500).step_by(3) {
        let disk = begun.copy();
        let goes_on = async {
            let store = open_with(&disk, short(8)).await.unwrap();
            for n in 2000..2300 {
                pass(&store, n).await;
            }
        };
        power_cut_after(&disk, calls, goes_on);
        moved += u32::from(!segments(&disk).contains(&1));
        run(async {
            let store = open_with(&disk, short(8)).await.unwrap();
            let pending = store.pending_after(0, 9).await.unwrap();
            let waits = pending.iter().find(|pending| pending.id.event == event(WAITS).id).unwrap_or_else(|| panic!("after {calls} calls"));
            assert_eq!(waits.attempts, 1);
            assert_eq!(store.event(event(WAITS).id).await.unwrap(), Some(event(WAITS)), "after {calls} calls");
            store.settle(settlement(waits, OutcomeKind::Delivered)).await.unwrap();
        });
    }
    assert!((50..450).contains(&moved), "the cuts lie around the move: {moved}");
}

/// The documented minimum: four segments.
#[test]
fn the_smallest_store_goes_on_for_ever() {
    let disk = SimDisk::new(1);
    run(async {
        let store = open_with(&disk, short(4)).await.unwrap();
        store.accept(new(WAITS)).await.unwrap();
        for n in 1000..4000 {
            pass(&store, n).await;
        }
        assert!(segments(&disk).len() <= 5, "{:?}", segments(&disk));
        deliver(&store, 0).await;
    });
}

/// The batch that should move an event can't be written: the event stays where it is, and is asked to move again.
#[test]
fn a_move_that_fails_is_asked_for_again() {
    for seed in 0..10 {
        let disk = SimDisk::new(seed);
        let minute = LocalOptions { retention: Duration::from_secs(60), ..options() };
        run(async {
            let store = open_with(&disk, minute).await.unwrap();
            store.accept(new(WAITS)).await.unwrap();
            for n in 1000..1600 {
                pass(&store, n).await;
            }
            tokio::time::sleep(Duration::from_secs(5)).await;
            let first = segments(&disk)[0];
            // Nobody asks for anything: the next batch that is written is the one that moves it.
            disk.set(Faults { write_fails: Some(1), once: true, ..Faults::default() });
            tokio::time::sleep(Duration::from_secs(240)).await;
            assert!(segments(&disk)[0] > first, "the segment still holds");
            deliver(&store, 0).await;
        });
    }
}

#[test]
fn a_store_full_of_what_waits_refuses_delivers_and_takes_more() {
    let disk = SimDisk::new(1);
    run(async {
        let store = open_with(&disk, short(6)).await.unwrap();
        let large = |n: u64| {
            let mut new = new(n);
            new.event.body = Bytes::from(vec![b'x'; 4000]);
            new
        };
        let mut accepted = 0;
        let refused = loop {
            match store.accept(large(accepted)).await {
                Ok(_) => accepted += 1,
                Err(error) => break error,
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
        };
        assert_eq!(refused, CommitError::Refused("the store is full"));
        let pending = store.pending_after(0, usize::MAX).await.unwrap();
        assert_eq!(pending.len() as u64, accepted);
        // Every tenth goes on waiting: no segment is ever free.
        for pending in pending.iter().filter(|pending| pending.position % 10 != 0) {
            store.settle(settlement(pending, OutcomeKind::Delivered)).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        for n in 10_000..10_010 {
            store.accept(large(n)).await.unwrap();
        }
        let waiting = store.pending_after(0, usize::MAX).await.unwrap();
        assert!(waiting.is_sorted_by(|a, b| a.position < b.position));
        for pending in waiting {
            let read = store.event(pending.id.event).await.unwrap().unwrap();
            assert_eq!((read.id, read.body.len()), (pending.id.event, 4000));
        }
    });
}

/// The oldest segment opens with a copy of an event that moved into it later: what is said behind counts for both.
#[test]
fn a_footer_made_anew_tells_what_became_of_an_event_that_lies_in_its_segment_twice() {
    let disk = SimDisk::new(1);
    let options = || LocalOptions { retention: Duration::ZERO, ..options() };
    run(async {
        let store = open_with(&disk, options()).await.unwrap();
        store.accept(new(WAITS)).await.unwrap();
    });
    run(async {
        // The second segment opens with a copy of the event, and so does the third, after a failed write.
        let store = open_with(&disk, options()).await.unwrap();
        disk.set(Faults { all_fail: true, ..Faults::default() });
        let void = store.accept(new(8));
        tokio::time::sleep(Duration::from_secs(3)).await;
        disk.set(Faults::default());
        void.await.unwrap_err();
        tokio::time::sleep(Duration::from_secs(2)).await;
        pass(&store, 9).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(segments(&disk).last(), Some(&4), "the fourth is prepared");
        // The first one goes: the event moves into the third.
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(segments(&disk)[0], 2);
        let pending = store.pending_after(0, 1).await.unwrap().remove(0);
        store.settle(settlement(&pending, OutcomeKind::Rejected)).await.unwrap();
        pass_until(&store, 1000, || segments(&disk)[0] == 3).await;
    });
    disk.forget(Path::new("/store/journal/0000000000000003.foot"));
    disk.forget(Path::new("/store/checkpoint"));
    run(async {
        let store = open_with(&disk, options()).await.unwrap();
        assert_eq!(segments(&disk)[0], 3);
        let record = store.record(event(WAITS).id).await.unwrap().unwrap();
        assert_eq!(record.deliveries.iter().map(|delivery| delivery.state.word()).collect::<Vec<_>>(), ["dead"]);
        assert!(store.pending_after(0, 9).await.unwrap().iter().all(|pending| pending.id.event != event(WAITS).id));
    });
}
