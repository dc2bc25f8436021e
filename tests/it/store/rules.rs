//! The journal's rules, one scenario each, on the simulated disk (docs/data.md numbers them).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kurier::model::{DeadCode, DeliveryState, OutcomeKind};
use kurier::store::local::{LocalOptions, StoreError};
use kurier::store::{CommitError, EventFilter, ReadError, Store};

use super::make::{at, event, keyed, new, settlement, to};
use super::sim::{SEGMENT, SimStore, open, open_with, options, run, segment};
use super::sim_disk::{Faults, SimDisk};

/// Accepts these and leaves the store without closing it, as a kill does.
fn killed_after(disk: &SimDisk, events: std::ops::Range<u64>) {
    run(async {
        let store = open(disk).await.unwrap();
        for n in events {
            store.accept(new(n)).await.unwrap();
        }
    });
}

async fn stored(store: &SimStore) -> usize {
    let (items, next) = store.list(&EventFilter::default(), None, 100_000).await.unwrap();
    assert_eq!(next, None);
    items.len()
}

/// Where in a segment the batch begins that holds these bytes, and where the bytes are.
fn find(bytes: &[u8], needle: &[u8]) -> usize {
    bytes.windows(needle.len()).position(|window| window == needle).unwrap()
}

#[test]
fn a_failed_sync_is_voided_and_never_comes_back() {
    for seed in 0..20 {
        let disk = SimDisk::new(seed);
        run(async {
            let store = open(&disk).await.unwrap();
            store.accept(keyed(1, 1, 1000)).await.unwrap();
            disk.set(Faults { all_fail: true, ..Faults::default() });
            let void = store.accept(keyed(2, 2, 1000));
            let repeat = store.accept(keyed(7, 1, 1000));
            let late = async {
                tokio::time::sleep(Duration::from_secs(3)).await;
                assert!(store.stats().unwritable.is_some());
                let refused = store.accept(new(3)).await;
                assert!(matches!(refused, Err(CommitError::Refused(_))), "{refused:?}");
                disk.set(Faults::default());
            };
            let (void, ()) = tokio::join!(void, late);
            assert!(matches!(void, Err(CommitError::Refused(_))), "{void:?}");
            assert!(matches!(repeat.await, Err(CommitError::Refused(_))), "a repeat needs its own commit");
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(store.stats().unwritable, None, "it heals by itself");
            assert!(!store.accept(keyed(4, 2, 1000)).await.unwrap().is_repeat(), "the key of a voided event is free");
            assert_eq!(store.accept(keyed(5, 1, 1000)).await.unwrap().event(), event(1).id);
        });
        if seed % 2 == 0 {
            disk.cut_power();
        }
        run(async {
            let store = open(&disk).await.unwrap();
            assert_eq!(store.event(event(2).id).await.unwrap(), None);
            assert_eq!(store.event(event(1).id).await.unwrap(), Some(event(1)));
            assert_eq!(stored(&store).await, 2);
        });
    }
}

/// They were not taken yet: nothing of them is written, and they need not wait for the disk.
#[test]
fn what_waits_behind_a_failed_write_is_refused_at_once() {
    let disk = SimDisk::new(1);
    run(async {
        let store = open(&disk).await.unwrap();
        disk.set(Faults { sync_fails: Some(1), sync_takes: Duration::from_secs(1), ..Faults::default() });
        let taken = store.accept(new(1));
        tokio::time::sleep(Duration::from_millis(100)).await;
        let waits = store.accept(new(2));
        let refused = tokio::time::timeout(Duration::from_secs(3), waits).await;
        assert!(matches!(refused, Ok(Err(CommitError::Refused(_)))), "{refused:?}");
        assert_eq!(taken.await, Err(CommitError::Unknown));
    });
}

#[test]
fn what_can_not_be_voided_within_ten_seconds_is_unknown() {
    let disk = SimDisk::new(1);
    run(async {
        let store = open(&disk).await.unwrap();
        store.accept(new(1)).await.unwrap();
        let pending = store.pending_after(0, 1).await.unwrap().remove(0);
        disk.set(Faults { all_fail: true, ..Faults::default() });
        let settled = store.settle(settlement(&pending, OutcomeKind::Delivered));
        let begun = tokio::time::Instant::now();
        let unknown = store.accept(new(2)).await;
        assert_eq!(unknown, Err(CommitError::Unknown));
        assert!((9..12).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
        disk.set(Faults::default());
        settled.await.unwrap();
        assert_eq!(store.pending_after(0, 9).await.unwrap(), [], "the settlement waited and was kept");
        assert_eq!(store.event(event(2).id).await.unwrap(), None);
    });
}

#[test]
fn a_torn_tail_is_dropped_whole() {
    let disk = SimDisk::new(1);
    killed_after(&disk, 1..4);
    disk.tamper(&segment(1), |bytes| {
        let last = find(bytes, &event(3).body);
        bytes[last] ^= 1;
    });
    run(async {
        let store = open(&disk).await.unwrap();
        assert_eq!(stored(&store).await, 2);
        assert_eq!(store.event(event(3).id).await.unwrap(), None);
        store.close().await;
    });
}

#[test]
fn a_flipped_byte_before_the_end_refuses_to_open() {
    let disk = SimDisk::new(1);
    killed_after(&disk, 1..4);
    disk.tamper(&segment(1), |bytes| {
        let middle = find(bytes, &event(2).body);
        bytes[middle] ^= 1;
    });
    let Err(error) = run(open(&disk)) else { panic!("it opened") };
    assert!(matches!(error, StoreError::Damaged { .. }));
    assert!(error.to_string().contains("kurier store repair"), "{error}");
    assert!(error.to_string().contains("0000000000000001.seg"), "{error}");
}

#[test]
fn a_sealed_last_batch_that_is_flipped_is_damage_and_no_torn_tail() {
    let disk = SimDisk::new(1);
    run(async {
        let store = open(&disk).await.unwrap();
        store.accept(new(9)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let syncs = disk.syncs();
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert_eq!(disk.syncs(), syncs, "nothing is written while idle");
    });
    disk.tamper(&segment(1), |bytes| {
        let last = find(bytes, &event(9).body);
        bytes[last] ^= 1;
    });
    assert!(matches!(run(open(&disk)).err(), Some(StoreError::Damaged { .. })));
}

/// Every byte that was written, one at a time: the store refuses, or holds what it held. Never less, never else.
#[test]
fn no_flipped_byte_of_a_closed_store_is_silent() {
    let disk = SimDisk::new(1);
    run(async {
        let store = open(&disk).await.unwrap();
        for n in 0..40 {
            store.accept(new(n)).await.unwrap();
        }
        store.close().await;
    });
    let bytes = disk.bytes(&segment(1));
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    let (mut refused, mut same) = (0, 0);
    for offset in (0..used).step_by(37) {
        disk.tamper(&segment(1), |now| {
            now.clone_from(&bytes);
            now[offset] ^= 0x40;
        });
        let opened = run(async {
            let store = open(&disk).await?;
            assert_eq!(stored(&store).await, 40, "byte {offset}");
            for n in 0..40 {
                assert_eq!(store.event(event(n).id).await.unwrap(), Some(event(n)), "byte {offset}");
            }
            Ok(())
        });
        match opened {
            Err(StoreError::Damaged { .. }) => refused += 1,
            Err(error) => panic!("{error}"),
            Ok(()) => same += 1,
        }
        // Each opening makes a fresh segment behind: it must not count for the next.
        disk.forget(&segment(2));
        disk.forget(&segment(3));
    }
    // The rest of the header's page means nothing, and the last batch is an empty seal.
    assert!(refused > 400 && same < 120, "{refused} refused, {same} the same");
}

#[test]
fn frames_of_a_recycled_segment_never_read_as_live() {
    let disk = SimDisk::new(3);
    let options = || LocalOptions { retention: Duration::ZERO, max_size: 8 * SEGMENT as u64, ..options() };
    let mut n = 0;
    for life in 0..6 {
        let last = n + 400;
        run(async {
            let store = open_with(&disk, options()).await.unwrap();
            store.set_state("kept".to_owned(), Some(bytes::Bytes::from(life.to_string()))).await.unwrap();
            while n < last {
                let receipt = store.accept(new(n)).await.unwrap();
                let pending = store.pending_after(0, 1).await.unwrap().remove(0);
                assert_eq!(pending.id.event, receipt.event());
                store.settle(settlement(&pending, OutcomeKind::Delivered)).await.unwrap();
                n += 1;
            }
            tokio::time::sleep(Duration::from_secs(61)).await;
        });
        run(async {
            let store = open_with(&disk, options()).await.unwrap();
            tokio::time::sleep(Duration::from_secs(5)).await;
            let (items, _) = store.list(&EventFilter::default(), None, 10_000).await.unwrap();
            assert!(items.is_sorted_by(|a, b| a.sequence > b.sequence));
            let newest: Vec<_> = (n - items.len() as u64..n).rev().map(|n| event(n).id).collect();
            assert_eq!(items.iter().map(|item| item.event.id).collect::<Vec<_>>(), newest, "the newest without a gap, none twice");
            assert_eq!(store.pending_after(0, 9).await.unwrap(), []);
            assert_eq!(store.states("").await.unwrap()["kept"], life.to_string(), "a state outlives its segment");
            assert_eq!(store.stats().events, items.len() as u64);
        });
    }
    let names = disk.names(Path::new("/store/journal"));
    assert!(names.len() <= 9, "{names:?}");
    assert!(names.iter().any(|name| name.as_str() > "0000000000000014.seg"), "many segments were used: {names:?}");
}

#[test]
fn a_store_that_is_full_of_pending_deliveries_refuses_and_goes_on_once_they_are_settled() {
    let disk = SimDisk::new(3);
    let options = || LocalOptions { max_size: 6 * SEGMENT as u64, ..options() };
    run(async {
        let store = open_with(&disk, options()).await.unwrap();
        let mut n = 0;
        let refused = loop {
            match store.accept(new(n)).await {
                Ok(_) => n += 1,
                Err(error) => break error,
            }
            assert!(n < 10_000);
        };
        assert_eq!(refused, CommitError::Refused("the store is full"));
        assert!(store.stats().unwritable.is_some());
        assert_eq!(stored(&store).await as u64, n, "nothing pending was dropped");
        while let Some(pending) = store.pending_after(0, 1).await.unwrap().pop() {
            store.settle(settlement(&pending, OutcomeKind::Delivered)).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        store.accept(new(n)).await.unwrap();
        assert!((stored(&store).await as u64) < n, "the oldest were dropped before the size was exceeded");
    });
}

#[test]
fn a_full_disk_refuses_and_heals_when_there_is_room_again() {
    let disk = SimDisk::new(3);
    run(async {
        let store = open(&disk).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        disk.set(Faults { capacity: Some(2 * SEGMENT as u64 + 8192), ..Faults::default() });
        let mut n = 0;
        while store.accept(new(n)).await.is_ok() {
            n += 1;
            assert!(n < 10_000);
        }
        assert!(n > 100, "the segments that were prepared could be used");
        disk.set(Faults::default());
        tokio::time::sleep(Duration::from_secs(3)).await;
        store.accept(new(n + 1)).await.unwrap();
        assert_eq!(stored(&store).await as u64, n + 1);
        assert_eq!(store.event(event(n).id).await.unwrap(), None);
    });
}

#[test]
fn a_second_opener_is_refused_until_the_first_has_closed() {
    let disk = SimDisk::new(1);
    run(async {
        let first = open(&disk).await.unwrap();
        let Err(error) = open(&disk).await else { panic!("both opened") };
        assert!(matches!(error, StoreError::InUse { .. }), "{error}");
        first.close().await;
        open(&disk).await.unwrap();
    });
}

#[test]
fn a_folder_of_something_else_is_refused_and_so_is_another_version() {
    let disk = SimDisk::new(1);
    killed_after(&disk, 0..1);
    disk.tamper(Path::new("/store/format"), |bytes| bytes[8] = 2);
    let error = run(open(&disk)).err().unwrap();
    assert!(matches!(error, StoreError::Version { version: 2, .. }), "{error}");
    disk.forget(Path::new("/store/format"));
    let error = run(open(&disk)).err().unwrap();
    assert!(matches!(error, StoreError::NotAStore { .. }), "{error}");
}

#[test]
fn a_missing_segment_is_refused() {
    let disk = SimDisk::new(1);
    killed_after(&disk, 0..400);
    disk.forget(&segment(2));
    let error = run(open(&disk)).err().unwrap();
    assert!(error.to_string().contains("a segment before it is missing"), "{error}");
    for name in disk.names(Path::new("/store/journal")) {
        disk.forget(&Path::new("/store/journal").join(name));
    }
    assert!(matches!(run(open(&disk)).err(), Some(StoreError::Damaged { .. })), "an empty journal is not an empty store");
}

#[test]
fn a_commit_that_was_called_off_is_never_stored() {
    let disk = SimDisk::new(1);
    run(async {
        let store = open(&disk).await.unwrap();
        disk.set(Faults { sync_takes: Duration::from_secs(1), ..Faults::default() });
        let taken = store.accept(new(1));
        tokio::time::sleep(Duration::from_millis(100)).await;
        let called_off = store.accept(keyed(2, 2, 100));
        drop(store.accept(new(3)));
        assert!(!taken.cancel(), "the committer has it");
        assert!(called_off.cancel());
        assert!(!store.accept(keyed(4, 2, 100)).await.unwrap().is_repeat(), "its key is free");
        taken.await.unwrap();
        assert_eq!(stored(&store).await, 2);
    });
    run(async {
        let store = open(&disk).await.unwrap();
        assert_eq!(stored(&store).await, 2);
    });
}

/// K5: senders give up after 8 s while the disk stands still for 20.
#[test]
fn a_stalled_disk_stores_nothing_of_those_who_were_refused() {
    let disk = SimDisk::new(1);
    run(async {
        let store = open(&disk).await.unwrap();
        disk.set(Faults { sync_takes: Duration::from_secs(20), ..Faults::default() });
        let mut clients = Vec::new();
        for n in 0..32 {
            let store = store.clone();
            clients.push(tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(n * 50)).await;
                let mut ticket = store.accept(new(n));
                match tokio::time::timeout(Duration::from_secs(8), &mut ticket).await {
                    Ok(outcome) => outcome.is_ok(),
                    Err(_elapsed) => !ticket.cancel() && ticket.await.is_ok(),
                }
            }));
        }
        let mut kept = 0;
        for (n, client) in (0..).zip(clients) {
            let is_kept = client.await.unwrap();
            kept += usize::from(is_kept);
            assert_eq!(store.event(event(n).id).await.unwrap().is_some(), is_kept, "event {n}");
        }
        assert!((1..32).contains(&kept), "{kept}");
        assert_eq!(stored(&store).await, kept);
    });
}

#[test]
fn a_settlement_alone_is_durable_within_a_tenth_of_a_second() {
    let disk = SimDisk::new(1);
    run(async {
        let store = open(&disk).await.unwrap();
        store.accept(new(1)).await.unwrap();
        let pending = store.pending_after(0, 1).await.unwrap().remove(0);
        tokio::time::sleep(Duration::from_secs(5)).await;
        let begun = tokio::time::Instant::now();
        store.settle(settlement(&pending, OutcomeKind::Delivered)).await.unwrap();
        assert!(begun.elapsed() < Duration::from_millis(100));
    });
    disk.cut_power();
    run(async {
        let store = open(&disk).await.unwrap();
        assert_eq!(store.pending_after(0, 9).await.unwrap(), []);
    });
}

#[test]
fn a_delivery_that_kills_the_process_three_times_is_dead() {
    let disk = SimDisk::new(1);
    killed_after(&disk, 1..3);
    for life in 1..=3 {
        run(async {
            let store = open(&disk).await.unwrap();
            let pending = store.pending_after(0, 9).await.unwrap();
            let id = pending.iter().find(|pending| pending.id.event == event(1).id).unwrap().id;
            assert_eq!(pending.len(), 2);
            store.attempt_begins(id);
            let other = pending.iter().find(|pending| pending.id.event == event(2).id).unwrap().id;
            store.attempt_begins(other);
            store.attempt_ends(other);
            assert_eq!(pending[0].attempts, life - 1, "each interrupted attempt counts");
            let waits = pending.iter().find(|pending| pending.id == id).unwrap().due.since(at(0)).as_secs();
            assert!([0..1, 5..6, 30..31][usize::try_from(life).unwrap() - 1].contains(&waits), "{life}: {waits} s");
        });
    }
    run(async {
        let store = open(&disk).await.unwrap();
        let record = store.record(event(1).id).await.unwrap().unwrap();
        let DeliveryState::Dead(reason) = &record.deliveries[0].state else { panic!("{record:?}") };
        assert_eq!(reason.code, DeadCode::Interrupted);
        assert_eq!(record.attempts.len(), 3);
        let left = store.pending_after(0, 9).await.unwrap();
        assert_eq!((left.len(), left[0].id.event, left[0].attempts), (1, event(2).id, 0));
    });
}

#[test]
fn a_replay_of_an_event_that_is_only_in_the_index_outlives_a_kill() {
    let disk = SimDisk::new(1);
    run(async {
        let store = open(&disk).await.unwrap();
        store.accept(new(1)).await.unwrap();
        let pending = store.pending_after(0, 1).await.unwrap().remove(0);
        store.settle(settlement(&pending, OutcomeKind::Rejected)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(store.unindexed(), 0);
        assert_eq!(store.settle(settlement(&pending, OutcomeKind::Rejected)).await, Err(CommitError::Stale));
        let ids = store.replay(event(1).id, vec![to("erp")]).await.unwrap();
        assert_eq!(ids[0].ordinal, 1);
    });
    disk.cut_power();
    run(async {
        let store = open(&disk).await.unwrap();
        let pending = store.pending_after(0, 9).await.unwrap();
        assert_eq!(pending.iter().map(|pending| pending.id.ordinal).collect::<Vec<_>>(), [1]);
        assert_eq!(store.record(event(1).id).await.unwrap().unwrap().deliveries.len(), 2);
    });
}

#[test]
fn starting_again_and_again_does_not_use_up_segments() {
    let disk = SimDisk::new(1);
    killed_after(&disk, 0..3);
    for _ in 0..20 {
        killed_after(&disk, 0..0);
    }
    let names = disk.names(Path::new("/store/journal"));
    assert!(names.len() <= 6, "{names:?}");
    run(async {
        let store = open(&disk).await.unwrap();
        assert_eq!(stored(&store).await, 3);
    });
}

#[test]
fn what_is_too_large_is_refused_at_once() {
    let disk = SimDisk::new(1);
    run(async {
        let store: Arc<SimStore> = open(&disk).await.unwrap();
        let mut large = new(1);
        large.event.body = bytes::Bytes::from(vec![7; SEGMENT / 2]);
        assert_eq!(store.accept(large.clone()).await, Err(CommitError::Refused("the event is larger than the store can hold")));
        large.event.body = bytes::Bytes::from(vec![7; SEGMENT / 4]);
        store.accept(large).await.unwrap();
        store.accept(new(2)).await.unwrap();
        assert_eq!(stored(&store).await, 2);
        assert_eq!(at(2), event(2).received_at);
    });
}

/// A wrong place, a flipped bit: an error, never another event's bytes (rule 14).
#[test]
fn what_is_read_by_its_place_is_checked_and_is_the_event_that_was_asked_for() {
    let disk = SimDisk::new(1);
    run(async {
        let store = open(&disk).await.unwrap();
        for n in [121, 181, 1, 2] {
            store.accept(new(n)).await.unwrap();
        }
        let record = |bytes: &[u8], n: u64| {
            let body = find(bytes, &event(n).body);
            let batch = bytes[..body].windows(4).rposition(|window| window == b"KBT1").unwrap();
            batch + 72..body + event(n).body.len()
        };
        disk.tamper(&segment(1), |bytes| {
            // Another event's record, sound in itself; a byte of a head; a byte of a body.
            let (from, to) = (record(bytes, 181), record(bytes, 121));
            assert_eq!(from.len(), to.len());
            bytes.copy_within(from, to.start);
            let body = find(bytes, &event(1).body);
            bytes[body - 1] ^= 1;
            let end = record(bytes, 2).end;
            bytes[end - 1] ^= 1;
        });
        for n in [121, 1, 2] {
            assert!(matches!(store.event(event(n).id).await, Err(ReadError::Damaged)), "{n}");
        }
        assert_eq!(store.event(event(181).id).await.unwrap(), Some(event(181)));
    });
}
