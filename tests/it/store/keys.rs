//! Dedupe keys within their windows move out of old segments: a segment goes, and a repeat is still a repeat.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use kurier::model::{Answer, OutcomeKind};
use kurier::store::local::LocalOptions;
use kurier::store::local::tools::{self, Lost};
use kurier::store::{CommitError, DedupeKey, NewEvent, Receipt, Store};

use super::make::{at, event, new, settlement};
use super::sim::{SEGMENT, SimClock, SimStore, open_at, open_with, options, power_cut_after, run, segment};
use super::sim_disk::{Faults, SimDisk};

/// A window that no test outlives.
const WEEK: u64 = 7 * 86_400;

/// So many segments.
fn short(segments: u64) -> LocalOptions {
    LocalOptions { max_size: segments * SEGMENT as u64, ..options() }
}

/// The numbers of the segments that are there.
fn segments(disk: &SimDisk) -> Vec<u64> {
    let names = disk.names(Path::new("/store/journal"));
    names.iter().filter_map(|name| u64::from_str_radix(name.strip_suffix(".seg")?, 16).ok()).collect()
}

fn answer(n: u64) -> Answer {
    Answer { status: 202, content_type: Some("text/plain".into()), body: Bytes::from(format!("first was {n}")) }
}

/// The `n`th event under the `key`th key, received at its own time.
fn keyed(n: u64, key: u64, window: u64) -> NewEvent {
    let mut hash = [0; 16];
    // As of a hash function: spread over all bytes.
    hash[..8].copy_from_slice(&key.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    hash[8..].copy_from_slice(&key.wrapping_mul(0xc2b2_ae3d_27d4_eb4f).to_be_bytes());
    let mut keyed = NewEvent { dedupe: Some(DedupeKey { hash, expires_at: at(n + window) }), answer: answer(n), ..new(n) };
    keyed.event.body = Bytes::from(vec![b'x'; 1500]);
    keyed
}

/// Accepts an event and delivers it.
async fn pass(store: &SimStore, new: NewEvent) {
    let id = new.event.id;
    let receipt = accept(store, new).await;
    assert_eq!((receipt.event(), receipt.is_repeat()), (id, false));
    let pending = store.pending_after(0, 9).await.unwrap();
    let ours = pending.iter().find(|pending| pending.id.event == id).unwrap();
    store.settle(settlement(ours, OutcomeKind::Delivered)).await.unwrap();
}

async fn pass_all(store: &SimStore, events: std::ops::Range<u64>) {
    for n in events {
        pass(store, keyed(n, n, WEEK)).await;
    }
}

/// Accepts an event; while the store refuses, it is asked again.
async fn accept(store: &SimStore, new: NewEvent) -> Receipt {
    let mut last = "";
    for _ in 0..100 {
        match store.accept(new.clone()).await {
            Ok(receipt) => return receipt,
            Err(CommitError::Refused(reason)) => last = reason,
            Err(error) => panic!("{}: {error}", new.event.id),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    panic!("{} is refused for good: {last}", new.event.id)
}

/// A request under the key of event `first` gets that one's answer.
async fn repeat(store: &SimStore, n: u64, first: u64) {
    let receipt = accept(store, keyed(n, first, WEEK)).await;
    assert!(receipt.is_repeat(), "event {first} is stored again");
    assert_eq!((receipt.event(), receipt.answer()), (event(first).id, &answer(first)));
}

#[test]
fn a_store_of_delivered_events_with_keys_of_a_week_goes_on_for_ever() {
    let disk = SimDisk::new(1);
    run(async {
        let store = open_with(&disk, short(24)).await.unwrap();
        pass_all(&store, 0..3000).await;
        assert!(segments(&disk)[0] > 40, "{:?}", segments(&disk));
        assert!(segments(&disk).len() <= 25, "{:?}", segments(&disk));
        assert_eq!(store.event(event(0).id).await.unwrap(), None, "what was delivered went with its segment");
        for first in (0..3000).step_by(7) {
            repeat(&store, 10_000 + first, first).await;
        }
    });
    disk.cut_power();
    run(async {
        let store = open_with(&disk, short(24)).await.unwrap();
        for first in (1..3000).step_by(7) {
            repeat(&store, 20_000 + first, first).await;
        }
        pass_all(&store, 3000..3400).await;
        repeat(&store, 30_000, 0).await;
        store.close().await;
    });
    // After a clean stop, and without anything that can be made anew.
    for name in disk.names(Path::new("/store/journal")).into_iter().filter(|name| name.ends_with(".foot")) {
        disk.forget(&Path::new("/store/journal").join(name));
    }
    disk.forget(Path::new("/store/checkpoint"));
    run(async {
        let store = open_with(&disk, short(24)).await.unwrap();
        for first in (0..3400).step_by(5) {
            repeat(&store, 40_000 + first, first).await;
        }
    });
}

#[test]
fn keys_whose_windows_ended_do_not_move() {
    let disk = SimDisk::new(1);
    run(async {
        let clock = SimClock::starting_at(0);
        let store = open_at(&disk, short(16), clock.clone()).await.unwrap();
        for n in 0..3000 {
            pass(&store, keyed(n, n, 1200)).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let stats = tools::stats(&disk, Path::new("/store"), &mut |_| {}).await.unwrap();
        assert!((1..2500).contains(&stats.keys), "{} keys", stats.keys);
        // A later one has the first one's key.
        pass(&store, keyed(4000, 0, WEEK)).await;
    });
}

/// Received within the window, and judged when the segment that has the key holds none whose window lasts.
#[test]
fn a_slow_request_repeats_a_key_of_a_sealed_segment_whose_windows_just_ended() {
    let disk = SimDisk::new(1);
    run(async {
        let store = open_with(&disk, short(16)).await.unwrap();
        pass(&store, keyed(1, 1, 60)).await;
        for n in 1000..1100 {
            pass(&store, NewEvent { dedupe: None, ..keyed(n, n, 0) }).await;
        }
        assert!(segments(&disk).last() > Some(&2), "{:?}", segments(&disk));
        tokio::time::sleep(Duration::from_secs(300)).await;
        repeat(&store, 30, 1).await;
    });
}

/// What waits and the keys beside it: both move, and repeats are counted on.
#[test]
fn a_waiting_event_and_its_key_move_and_its_repeats_are_all_counted() {
    let disk = SimDisk::new(1);
    let waits = 5;
    let counted = |store: std::sync::Arc<SimStore>| async move { store.record(event(waits).id).await.unwrap().unwrap().repeats };
    run(async {
        let store = open_with(&disk, short(12)).await.unwrap();
        store.accept(keyed(waits, waits, WEEK)).await.unwrap();
        repeat(&store, 100, waits).await;
        repeat(&store, 101, waits).await;
        pass_all(&store, 1000..2000).await;
        assert!(segments(&disk)[0] > 10, "{:?}", segments(&disk));
        assert_eq!(counted(store.clone()).await, 2);
        repeat(&store, 102, waits).await;
        assert_eq!(counted(store.clone()).await, 3);
        pass_all(&store, 2000..2600).await;
    });
    disk.cut_power();
    disk.indexes.lose();
    run(async {
        let store = open_with(&disk, short(12)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(counted(store.clone()).await, 3);
        repeat(&store, 103, waits).await;
        assert_eq!(counted(store.clone()).await, 4);
        let pending = store.pending_after(0, 9).await.unwrap();
        assert_eq!(pending.len(), 1);
        assert_eq!(store.event(event(waits).id).await.unwrap(), Some(keyed(waits, waits, WEEK).event));
        store.settle(settlement(&pending[0], OutcomeKind::Delivered)).await.unwrap();
        pass_all(&store, 3000..4000).await;
        assert_eq!(store.event(event(waits).id).await.unwrap(), None);
        repeat(&store, 104, waits).await;
    });
}

/// A window ended and the key came again, just before its first segment goes: the later event has it.
#[test]
fn a_key_that_moves_behind_a_later_event_with_it_does_not_take_it_back() {
    let disk = SimDisk::new(1);
    let clock = SimClock::starting_at(0);
    run(async {
        let store = open_at(&disk, short(12), clock.clone()).await.unwrap();
        for n in 0..10 {
            pass(&store, keyed(n, n, 30)).await;
        }
        pass_all(&store, 500..600).await;
        assert!(segments(&disk).last() > Some(&3));
        // Received after the end of the first ones' windows, which are kept ten minutes longer.
        for n in 0..10 {
            pass(&store, keyed(n + 100, n, WEEK)).await;
        }
        pass_all(&store, 1000..1100).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        pass_all(&store, 1100..1700).await;
        assert!(segments(&disk)[0] > 5, "{:?}", segments(&disk));
        let receipt = accept(&store, keyed(2000, 0, WEEK)).await;
        assert_eq!((receipt.event(), receipt.answer()), (event(100).id, &answer(100)));
    });
    disk.cut_power();
    run(async {
        let store = open_at(&disk, short(12), clock.clone()).await.unwrap();
        for n in 0..10 {
            let receipt = accept(&store, keyed(3000, n, WEEK)).await;
            assert_eq!((receipt.event(), receipt.answer()), (event(n + 100).id, &answer(n + 100)));
        }
    });
}

/// The power goes after each call in turn, around the moves.
#[test]
fn a_power_cut_at_any_step_of_a_move_forgets_no_key() {
    let begun = SimDisk::new(3);
    run(async {
        let store = open_with(&begun, short(8)).await.unwrap();
        let mut n = 0;
        while segments(&begun).last() < Some(&5) {
            pass(&store, keyed(n, n, WEEK)).await;
            n += 1;
        }
        store.close().await;
    });
    let mut moved = 0;
    for calls in (0..1500).step_by(5) {
        let disk = begun.copy();
        let goes_on = async {
            let store = open_with(&disk, short(8)).await.unwrap();
            pass_all(&store, 2000..2300).await;
        };
        power_cut_after(&disk, calls, goes_on);
        moved += u32::from(!segments(&disk).contains(&1));
        run(async {
            let store = open_with(&disk, short(8)).await.unwrap();
            for first in (0..40).step_by(3) {
                repeat(&store, 5000 + first, first).await;
            }
        });
    }
    assert!((30..270).contains(&moved), "the cuts lie around the move: {moved}");
}

#[test]
fn failing_writes_forget_no_key() {
    for seed in 0..20 {
        let disk = SimDisk::new(seed);
        run(async {
            let store = open_with(&disk, short(12)).await.unwrap();
            pass_all(&store, 0..350).await;
            disk.set(Faults { sync_fails: Some(25), write_fails: Some(25), ..Faults::default() });
            let mut kept = Vec::new();
            for n in 350..900 {
                if store.accept(keyed(n, n, WEEK)).await.is_ok() {
                    kept.push(n);
                }
                for pending in store.pending_after(0, 100).await.unwrap() {
                    drop(store.settle(settlement(&pending, OutcomeKind::Delivered)).await);
                }
            }
            disk.set(Faults::default());
            tokio::time::sleep(Duration::from_secs(30)).await;
            assert!(!segments(&disk).contains(&1), "{:?}", segments(&disk));
            for first in (0..350).chain(kept).step_by(11) {
                repeat(&store, 10_000 + first, first).await;
            }
        });
    }
}

/// More keys than `max_size` can hold: refused, until windows end.
#[test]
fn a_store_full_of_keys_refuses_until_their_windows_end() {
    let disk = SimDisk::new(1);
    run(async {
        let store = open_with(&disk, short(8)).await.unwrap();
        let mut n = 0;
        let refused = loop {
            // Little else than their keys.
            let mut small = keyed(n, n, 3 * 3600);
            small.event.body = Bytes::new();
            match store.accept(small).await {
                Ok(_) => n += 1,
                Err(error) if n > 2000 => break error,
                Err(_) => {}
            }
            for pending in store.pending_after(0, 100).await.unwrap() {
                store.settle(settlement(&pending, OutcomeKind::Delivered)).await.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
            assert!(n < 20_000);
        };
        assert_eq!(refused, CommitError::Refused("the store is full"));
        assert!(segments(&disk).len() <= 9, "{:?}", segments(&disk));
        for first in (0..n).step_by(101) {
            let receipt = store.accept(keyed(first, first, 3 * 3600)).await;
            assert!(matches!(&receipt, Err(CommitError::Refused(_))) || receipt.unwrap().event() == event(first).id);
        }
        tokio::time::sleep(Duration::from_secs(4 * 3600)).await;
        pass_all(&store, 20_000..20_100).await;
    });
}

#[test]
fn a_backup_holds_the_keys_and_a_damaged_one_is_named() {
    let disk = SimDisk::new(1);
    run(async {
        let store = open_with(&disk, short(12)).await.unwrap();
        pass_all(&store, 0..1200).await;
        assert_eq!(store.event(event(0).id).await.unwrap(), None);
        tokio::time::sleep(Duration::from_secs(3)).await;
        tools::copy(&disk, Path::new("/store"), Path::new("/copy"), &mut |_| {}).await.unwrap();
        store.close().await;
    });
    run(async {
        let copy = open_with(&disk, LocalOptions { path: "/copy".into(), ..short(12) }).await.unwrap();
        for first in (0..1200).step_by(9) {
            repeat(&copy, 10_000 + first, first).await;
        }
    });
    // Event 0 has gone: these words are those of its key.
    let holds = |number: &u64| disk.bytes(&segment(*number)).windows(11).any(|window| window == b"first was 0");
    let number = segments(&disk).into_iter().find(|number| holds(number)).unwrap();
    disk.tamper(&segment(number), |bytes| {
        let place = bytes.windows(11).position(|window| window == b"first was 0").unwrap();
        bytes[place] ^= 1;
    });
    run(async {
        let lost = |findings: tools::Findings| findings.damage.into_iter().flat_map(|damage| damage.lost).collect::<Vec<_>>();
        let found = tools::check(&disk, Path::new("/store"), &mut |_| {}).await.unwrap();
        assert_eq!(lost(found), [Lost::Key { event: event(0).id }]);
        tools::repair(&disk, Path::new("/store"), &mut |_| {}).await.unwrap();
        let store = open_with(&disk, short(12)).await.unwrap();
        repeat(&store, 30_000, 9).await;
        assert!(!accept(&store, keyed(30_001, 0, WEEK)).await.is_repeat(), "as it was said");
    });
}
