//! What a start believes and what it does not: a marker, a checkpoint, a clock; and what it proves before it goes on
//! (rules 4, 7, 8, 11, 17).

use std::path::Path;
use std::time::Duration;

use kurier::model::OutcomeKind;
use kurier::store::Store;
use kurier::store::local::LocalOptions;

use super::make::{event, keyed, new, settlement};
use super::sim::{SEGMENT, SimClock, SimStore, open, open_at, options, power_cut_after, run, segment};
use super::sim_disk::{Faults, SimDisk};

const DAY: u64 = 86_400;

/// The newest segment that was ever written to.
fn newest(disk: &SimDisk) -> u64 {
    let names = disk.names(Path::new("/store/journal"));
    let numbers = names.iter().filter_map(|name| u64::from_str_radix(name.strip_suffix(".seg")?, 16).ok());
    // The state of a header that is in use.
    numbers.filter(|number| disk.bytes(&segment(*number))[12] == 2).max().unwrap()
}

/// Accepts an event and delivers it.
async fn pass(store: &SimStore, n: u64) {
    store.accept(new(n)).await.unwrap();
    let position = *store.newest_position().borrow();
    let pending = store.pending_after(position - 1, 1).await.unwrap().remove(0);
    store.settle(settlement(&pending, OutcomeKind::Delivered)).await.unwrap();
}

/// Passes events until so many segments have begun since.
async fn pass_segments(store: &SimStore, disk: &SimDisk, first: u64, segments: u64) {
    let until = newest(disk) + segments;
    for n in (first..first + 10_000).take_while(|_| newest(disk) < until) {
        pass(store, n).await;
    }
    assert_eq!(newest(disk), until);
    tokio::time::sleep(Duration::from_secs(3)).await;
}

/// How the one delivery of the event stands, and how many attempts are told of it.
async fn stands(store: &SimStore, n: u64) -> (&'static str, usize) {
    let record = store.record(event(n).id).await.unwrap().unwrap();
    (record.deliveries[0].state.word(), record.attempts.len())
}

/// Marker and index of an earlier stop come back, as from a backup of those files; the journal went on.
#[test]
fn an_index_of_an_earlier_stop_is_not_trusted() {
    let disk = SimDisk::new(1);
    let clean = Path::new("/store/clean");
    run(async {
        let store = open(&disk).await.unwrap();
        store.accept(new(0)).await.unwrap();
        pass_segments(&store, &disk, 1000, 2).await;
        store.close().await;
    });
    let earlier = disk.bytes(clean);
    run(async {
        // It ends after its footer was written, so the index tells it, and after a checkpoint only that does.
        let store = open(&disk).await.unwrap();
        let pending = store.pending_after(0, 1).await.unwrap().remove(0);
        assert_eq!(pending.id.event, event(0).id);
        store.settle(settlement(&pending, OutcomeKind::Rejected)).await.unwrap();
        pass_segments(&store, &disk, 20_000, 20).await;
        assert_eq!(stands(&store, 0).await, ("dead", 1));
    });
    disk.indexes.turn_back();
    disk.plant(clean, &earlier);
    run(async {
        let store = open(&disk).await.unwrap();
        assert_eq!(stands(&store, 0).await, ("dead", 1));
    });
}

/// A checkpoint tells what memory knew when it was written, and the segment that it names is read all the same.
#[test]
fn a_settlement_that_the_checkpoint_knows_of_counts_once() {
    let disk = SimDisk::new(1);
    run(async {
        let store = open(&disk).await.unwrap();
        for n in 0..4 {
            store.accept(new(n)).await.unwrap();
        }
        pass_segments(&store, &disk, 1000, 2).await;
        let pending = store.pending_after(0, 9).await.unwrap();
        store.settle(settlement(&pending[0], OutcomeKind::Retry)).await.unwrap();
        store.settle(settlement(&pending[1], OutcomeKind::Retry)).await.unwrap();
        let again = store.pending_after(0, 9).await.unwrap();
        store.settle(settlement(&again[1], OutcomeKind::Rejected)).await.unwrap();
        store.settle(settlement(&pending[2], OutcomeKind::Retry)).await.unwrap();
        store.close().await;
    });
    run(async {
        let store = open(&disk).await.unwrap();
        assert_eq!(stands(&store, 0).await, ("pending", 1));
        assert_eq!(stands(&store, 1).await, ("dead", 2));
        assert_eq!(stands(&store, 2).await, ("pending", 1));
        assert_eq!(stands(&store, 3).await, ("pending", 0));
        let waiting = store.pending_after(0, 9).await.unwrap();
        assert_eq!(waiting.iter().map(|pending| pending.attempts).collect::<Vec<_>>(), [1, 1, 0]);
        let erp = store.counts()["erp"];
        assert_eq!((erp.pending, erp.dead), (3, 1));
    });
}

/// The second segment begins with a batch whose sync never returns, and the process is killed.
fn killed_at_a_new_segment(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    run(async {
        let store = open(&disk).await.unwrap();
        let mut large = new(1);
        large.event.body = vec![b'x'; 12_000].into();
        for n in 1..=4 {
            large.event.id = event(n).id;
            store.accept(large.clone()).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        disk.set(Faults { sync_takes: Duration::from_secs(1000), ..Faults::default() });
        large.event.id = event(5).id;
        let taken = store.accept(large);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(newest(&disk), 2);
        drop(taken);
    });
    disk.set(Faults::default());
    disk
}

/// Once a third segment names the second, that one's header must not say any more that it was only prepared.
#[test]
fn a_start_at_a_segment_whose_header_is_not_durable_may_end_at_any_call() {
    for seed in 0..3 {
        let killed = killed_at_a_new_segment(seed);
        for calls in 0..60 {
            let disk = killed.copy();
            power_cut_after(&disk, calls, async {
                open(&disk).await.unwrap();
            });
            run(async {
                let store = open(&disk).await.unwrap_or_else(|error| panic!("after {calls} calls: {error}"));
                assert!(store.event(event(4).id).await.unwrap().is_some(), "after {calls} calls");
            });
        }
    }
}

/// A start that ends between the fresh segment and the proof of the one before leaves that to the next.
#[test]
fn a_segment_that_is_given_its_footer_by_a_start_is_durable_before() {
    let killed = SimDisk::new(1);
    run(async {
        let store = open(&killed).await.unwrap();
        store.accept(new(1)).await.unwrap();
        killed.set(Faults { sync_takes: Duration::from_secs(1000), ..Faults::default() });
        let taken = store.accept(new(2));
        tokio::time::sleep(Duration::from_millis(100)).await;
        drop(taken);
    });
    let mut halfway = 0;
    for calls in 0..60 {
        let disk = killed.copy();
        let has_ended = run(async {
            disk.set(Faults { freezes_after: Some(calls), ..Faults::default() });
            tokio::select! {
                biased;
                () = disk.frozen() => true,
                opened = open(&disk) => opened.is_err(),
            }
        });
        disk.set(Faults::default());
        halfway += u32::from(has_ended && newest(&disk) == 2);
        run(async {
            let store = open(&disk).await.unwrap();
            assert_eq!(store.event(event(2).id).await.unwrap(), Some(event(2)), "after {calls} calls");
        });
        // Of the footer its first page, which is not synced by itself; of the batch nothing.
        disk.cut_power_keeping(|page| page == 0);
        run(async {
            let store = open(&disk).await.unwrap();
            assert_eq!(store.event(event(2).id).await.unwrap(), Some(event(2)), "after {calls} calls: it was there before the power went");
        });
    }
    assert!(halfway > 1, "no start ended behind its fresh segment");
}

/// The machine comes up with a clock that is days ahead, and is set right afterwards.
#[test]
fn a_key_outlives_a_start_by_a_clock_that_is_ahead() {
    let disk = SimDisk::new(1);
    run(async {
        let store = open(&disk).await.unwrap();
        store.accept(keyed(1, 1, DAY)).await.unwrap();
        pass_segments(&store, &disk, 1000, 2).await;
        store.accept(keyed(2, 2, DAY)).await.unwrap();
    });
    run(async {
        let clock = SimClock::starting_at(3 * DAY);
        let store = open_at(&disk, options(), clock.clone()).await.unwrap();
        clock.jump(-3 * 86_400);
        for key in [1, 2] {
            let receipt = store.accept(keyed(100 + u64::from(key), key, DAY)).await.unwrap();
            assert_eq!((receipt.is_repeat(), receipt.event()), (true, event(u64::from(key)).id), "key {key}");
        }
    });
}

/// The simulation's seed 346: what was written last under a wrong clock is no witness for another wrong clock.
#[test]
fn a_key_outlives_a_start_by_a_clock_that_is_years_ahead_after_one_that_was_months_ahead() {
    let disk = SimDisk::new(1);
    run(async {
        open(&disk).await.unwrap().accept(new(1)).await.unwrap();
    });
    run(async {
        let store = open_at(&disk, options(), SimClock::starting_at(200 * DAY)).await.unwrap();
        store.accept(new(2)).await.unwrap();
        store.accept(keyed(3, 3, DAY)).await.unwrap();
        pass_segments(&store, &disk, 1000, 2).await;
        store.accept(keyed(4, 4, DAY)).await.unwrap();
    });
    for lose_checkpoint in [false, true] {
        let disk = disk.copy();
        if lose_checkpoint {
            disk.forget(Path::new("/store/checkpoint"));
        }
        run(async {
            let store = open_at(&disk, options(), SimClock::starting_at(25_000 * DAY)).await.unwrap();
            for key in [3, 4] {
                let receipt = store.accept(keyed(100 + u64::from(key), key, DAY)).await.unwrap();
                assert_eq!((receipt.is_repeat(), receipt.event()), (true, event(u64::from(key)).id), "key {key}, {lose_checkpoint}");
            }
        });
    }
}

/// What the first of them writes must not be the second one's witness.
#[test]
fn a_key_outlives_two_starts_by_the_same_wrong_clock() {
    let disk = SimDisk::new(1);
    run(async {
        open(&disk).await.unwrap().accept(keyed(1, 1, DAY)).await.unwrap();
    });
    for life in 2..5 {
        run(async {
            let store = open_at(&disk, options(), SimClock::starting_at(200 * DAY + 60 * life)).await.unwrap();
            let receipt = store.accept(keyed(100 + life, 1, DAY)).await.unwrap();
            assert_eq!((receipt.is_repeat(), receipt.event()), (true, event(1).id), "life {life}");
            // What a failed write held and can't be refused is written anew, into the next segment (seed 129).
            disk.set(Faults { sync_fails: (life == 2).then_some(1), once: true, ..Faults::default() });
            store.set_state("x".to_owned(), Some("y".into())).await.unwrap();
            pass_segments(&store, &disk, 1000 * life, 1).await;
            // As a crash finds it, or an idle minute.
            tokio::time::sleep(Duration::from_secs(if life == 3 { 60 } else { 0 })).await;
        });
    }
}

/// Its batches are dated by what was written last, until the clock is believed.
#[test]
fn what_is_written_behind_a_pause_that_was_real_is_kept_for_as_long_as_anything() {
    let disk = SimDisk::new(1);
    let week = || LocalOptions { retention: Duration::from_secs(7 * DAY), ..options() };
    run(async {
        open(&disk).await.unwrap().accept(new(1)).await.unwrap();
    });
    run(async {
        let store = open_at(&disk, week(), SimClock::starting_at(30 * DAY)).await.unwrap();
        pass_segments(&store, &disk, 1000, 6).await;
        tokio::time::sleep(Duration::from_secs(1200)).await;
        pass_segments(&store, &disk, 2000, 2).await;
        assert!(store.event(event(1000).id).await.unwrap().is_some(), "it came twenty minutes ago");
        tokio::time::sleep(Duration::from_secs(8 * DAY)).await;
        pass_segments(&store, &disk, 3000, 2).await;
        assert_eq!(store.event(event(1000).id).await.unwrap(), None);
    });
}

/// No checkpoint tells of it: the marker alone names the segment, and the last batch in it.
#[test]
fn a_marker_alone_tells_that_the_newest_commits_are_missing() {
    let stopped = SimDisk::new(1);
    run(async {
        let store = open(&stopped).await.unwrap();
        pass_segments(&store, &stopped, 1000, 1).await;
        store.accept(new(1)).await.unwrap();
        store.close().await;
    });
    stopped.forget(Path::new("/store/checkpoint"));
    let last = newest(&stopped);
    let without_segment = stopped.copy();
    for number in last..last + 3 {
        without_segment.forget(&segment(number));
    }
    // As if what was appended last had never been written: nothing in the journal tells.
    let without_batch = stopped.copy();
    without_batch.tamper(&segment(last), |bytes| {
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        let batch = bytes[..used].windows(4).rposition(|window| window == b"KBT1").unwrap();
        bytes[batch..].fill(0);
    });
    for disk in [without_segment, without_batch] {
        let Err(error) = run(open(&disk)) else { panic!("it opened") };
        let error = error.to_string();
        assert!(error.contains("`clean` tells of newer commits") && error.contains("put its newest segments back"), "{error}");
    }
    assert!(run(open(&stopped)).is_ok());
    assert_eq!(stopped.bytes(&segment(last)).len(), SEGMENT);
}
