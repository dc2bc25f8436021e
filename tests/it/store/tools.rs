//! What an operator does from outside: check, repair, copy, stats.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use kurier::model::{EventId, OutcomeKind};
use kurier::store::local::tools::{self, Findings, Lost, Progress};
use kurier::store::local::{LocalOptions, StoreError};
use kurier::store::{EventFilter, NewEvent, ReadError, Store};

use super::make::{at, event, keyed, new, settlement, to};
use super::sim::{SimStore, open, open_with, options, run, segment};
use super::sim_disk::{Faults, SimDisk};

const STORE: &str = "/store";

async fn check(disk: &SimDisk) -> Findings {
    tools::check(disk, Path::new(STORE), &mut |_| {}).await.unwrap()
}

async fn repair(disk: &SimDisk) -> Findings {
    tools::repair(disk, Path::new(STORE), &mut |_| {}).await.unwrap()
}

async fn ids(store: &SimStore) -> BTreeSet<EventId> {
    store.list(&EventFilter::default(), None, 100_000).await.unwrap().0.into_iter().map(|item| item.event.id).collect()
}

/// A store of two used segments: 300 events, every third settled, one replayed, two states.
fn filled() -> SimDisk {
    let disk = SimDisk::new(1);
    run(async {
        let store = open(&disk).await.unwrap();
        for n in 0..300 {
            store.accept(keyed(n, u8::try_from(n % 200).unwrap(), 10)).await.unwrap();
            if n % 3 == 0 {
                let pending = store.pending_after(0, 1).await.unwrap().remove(0);
                store.settle(settlement(&pending, OutcomeKind::Delivered)).await.unwrap();
            }
        }
        store.replay(event(0).id, vec![to("books")]).await.unwrap();
        store.set_state("cursor".to_owned(), Some("1".into())).await.unwrap();
        store.set_state("cursor".to_owned(), Some("2".into())).await.unwrap();
        store.close().await;
    });
    disk
}

/// 600 events that wait, in more than three segments.
fn of_several_segments() -> SimDisk {
    let disk = SimDisk::new(1);
    run(async {
        let store = open(&disk).await.unwrap();
        for n in 0..600 {
            store.accept(new(n)).await.unwrap();
        }
        store.close().await;
    });
    disk
}

/// The same bytes without what a start could read in place of segments.
fn without_footers(disk: &SimDisk) -> SimDisk {
    let disk = disk.copy();
    disk.forget(Path::new("/store/checkpoint"));
    for name in disk.names(Path::new("/store/journal")).iter().filter(|name| name.ends_with(".foot")) {
        disk.forget(&Path::new("/store/journal").join(name));
    }
    disk
}

/// Events that a repair says are gone, and those whose bodies are damaged.
fn named(findings: &Findings) -> (BTreeSet<EventId>, BTreeSet<EventId>) {
    let (mut gone, mut bodies) = (findings.missing.clone(), BTreeSet::new());
    for lost in findings.damage.iter().flat_map(|damage| &damage.lost) {
        if let Lost::Event { id, body_only, .. } = lost {
            if *body_only {
                bodies.insert(*id)
            } else {
                gone.insert(*id)
            };
        }
    }
    (gone, bodies)
}

#[test]
fn a_sound_store_is_found_sound_and_left_as_it_is() {
    let disk = filled();
    let before = disk.bytes(&segment(1));
    run(async {
        let mut last = None;
        let findings = tools::check(&disk, Path::new(STORE), &mut |progress| last = Some(progress)).await.unwrap();
        assert_eq!(findings.damage, []);
        assert!(findings.segments >= 2 && findings.records > 400, "{findings:?}");
        assert!(matches!(last, Some(Progress { done, total }) if done == total && total > 0));
        assert_eq!(repair(&disk).await.damage, []);
    });
    assert_eq!(disk.bytes(&segment(1)), before);
}

/// One flipped byte after the other: what a start refuses a check finds, and a repair contains it so that all else
/// is still there and what is not is named.
#[test]
fn a_flipped_byte_is_found_contained_and_what_is_lost_to_it_is_named() {
    let disk = filled();
    let all: BTreeSet<EventId> = (0..300).filter(|n| *n < 200 || n % 200 + 10 < *n).map(|n| event(n).id).collect();
    let bytes = disk.bytes(&segment(1));
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    let (mut found, mut bodies_lost, mut events_lost, mut named_right) = (0, 0, 0, 0);
    for offset in (0..160).step_by(13).chain((4096..used).step_by(509)) {
        let disk = disk.copy();
        disk.tamper(&segment(1), |bytes| bytes[offset] ^= 0x40);
        let is_refused = matches!(run(open(&without_footers(&disk))).err(), Some(StoreError::Damaged { .. }));
        run(async {
            let findings = check(&disk).await;
            assert_eq!(!findings.damage.is_empty(), is_refused, "byte {offset}: {findings:?}");
            if !is_refused {
                return;
            }
            found += 1;
            let repaired = repair(&disk).await;
            assert_eq!(repaired, findings, "a check says what a repair would do");
            assert_eq!(check(&disk).await.damage, [], "byte {offset}");
            let (gone, bodies) = named(&repaired);
            events_lost += gone.len();
            bodies_lost += bodies.len();
            let store = open(&disk).await.unwrap_or_else(|error| panic!("byte {offset}: {error}\n{repaired:?}"));
            let there = ids(&store).await;
            let missing: BTreeSet<EventId> = all.difference(&there).copied().collect();
            // The flipped byte may be one of the id itself.
            let can_be_nameless = repaired.damage.iter().flat_map(|damage| &damage.lost).any(|lost| matches!(lost, Lost::Bytes { .. }));
            assert!(missing.len() <= gone.len() || can_be_nameless, "byte {offset}: {missing:?} {repaired:?}");
            named_right += missing.intersection(&gone).count();
            assert!(missing.len() <= 1, "byte {offset}: one flipped byte takes one record: {missing:?}");
            for n in (0..300).filter(|n| there.contains(&event(*n).id)) {
                match store.event(event(n).id).await {
                    Ok(read) => assert_eq!(read, Some(event(n)), "byte {offset}"),
                    Err(ReadError::Damaged) => assert!(bodies.contains(&event(n).id), "byte {offset}: event {n}"),
                    Err(error) => panic!("{error}"),
                }
            }
            assert_eq!(store.states("").await.unwrap()["cursor"], "2");
            store.accept(new(1000)).await.unwrap();
            store.close().await;
            drop(store);
            let again = open(&disk).await.unwrap();
            assert!(ids(&again).await.is_superset(&there), "byte {offset}: what was repaired stays so");
            assert_eq!(again.event(event(1000).id).await.unwrap(), Some(event(1000)));
        });
    }
    assert!(found > 40 && bodies_lost > 0 && named_right > events_lost / 2, "{found}: {bodies_lost} {events_lost} {named_right}");
}

#[test]
fn a_wiped_page_and_a_lost_format_file_are_contained() {
    let disk = filled();
    disk.tamper(&segment(1), |bytes| bytes[12_288..16_384].fill(0xaa));
    disk.tamper(Path::new("/store/format"), |bytes| bytes[20] ^= 1);
    run(async {
        let findings = repair(&disk).await;
        assert!(findings.damage.len() >= 2, "{findings:?}");
        assert_eq!(check(&disk).await.damage, []);
        let store = open(&disk).await.unwrap();
        let there = ids(&store).await.len();
        assert!((270..299).contains(&there), "{there}");
    });
}

/// Its header and every batch: the oldest one, which others follow, and the newest one, which a prepared one follows.
#[test]
fn a_segment_of_which_nothing_can_be_read_is_set_aside_and_the_rest_opens() {
    let disk = of_several_segments();
    let names = disk.names(Path::new("/store/journal"));
    let prepared = names.iter().filter(|name| name.ends_with(".seg") && !name.starts_with("pool-")).count() as u64;
    assert!(prepared > 3, "{names:?}");
    for (number, kept) in [(1, 599), (prepared - 1, 0)] {
        let disk = disk.copy();
        disk.tamper(&segment(number), |bytes| bytes.fill(0xaa));
        run(async {
            assert!(open(&disk).await.is_err());
            let findings = check(&disk).await;
            assert!(findings.damage.iter().any(|damage| damage.lost == [Lost::Segment { number }]), "{findings:?}");
            assert!(open(&disk).await.is_err(), "a check changes nothing");
            repair(&disk).await;
            assert_eq!(check(&disk).await.damage, [], "segment {number}");
            let store = open(&disk).await.unwrap();
            let there = ids(&store).await;
            assert!(
                there.contains(&event(kept).id) && there.contains(&event(300).id) && there.len() < 600,
                "segment {number}: {}",
                there.len()
            );
            store.accept(new(1000)).await.unwrap();
            store.close().await;
        });
        let aside = segment(number).with_extension("seg.damaged");
        assert!(disk.bytes(&aside).iter().all(|byte| *byte == 0xaa), "nothing is destroyed");
    }
}

#[test]
fn a_store_of_which_no_segment_can_be_read_is_left_as_it_is() {
    let disk = SimDisk::new(1);
    run(async { open(&disk).await.unwrap().close().await });
    disk.tamper(&segment(1), |bytes| bytes[4] ^= 1);
    run(async {
        assert_eq!(check(&disk).await.damage[1].lost, [Lost::Segment { number: 1 }]);
        let before = disk.names(Path::new("/store/journal"));
        let refused = tools::repair(&disk, Path::new(STORE), &mut |_| {}).await.unwrap_err();
        assert!(refused.to_string().contains("restore a backup"), "{refused}");
        assert_eq!(disk.names(Path::new("/store/journal")), before);
    });
}

#[test]
fn a_missing_segment_is_named_and_the_rest_opens() {
    let disk = of_several_segments();
    disk.forget(&segment(2));
    run(async {
        assert!(open(&disk).await.is_err());
        let findings = check(&disk).await;
        assert_eq!(findings.damage[0].lost, [Lost::Segment { number: 2 }]);
        assert!(open(&disk).await.is_err(), "a check changes nothing");
        repair(&disk).await;
        let store = open(&disk).await.unwrap();
        let there = ids(&store).await;
        assert!(there.contains(&event(0).id) && there.contains(&event(599).id) && there.len() < 600);
        assert_eq!(store.pending_after(0, 1000).await.unwrap().len(), there.len());
    });
}

#[test]
fn a_store_in_use_is_neither_checked_nor_repaired() {
    let disk = SimDisk::new(1);
    run(async {
        let store = open(&disk).await.unwrap();
        let refused = tools::check(&disk, Path::new(STORE), &mut |_| {}).await;
        assert!(matches!(refused, Err(StoreError::InUse { .. })), "{refused:?}");
        store.close().await;
        assert_eq!(check(&disk).await.damage, []);
    });
}

#[test]
fn a_backup_made_under_load_holds_what_was_acknowledged_before_it_and_nothing_refused() {
    for seed in 0..10 {
        let disk = SimDisk::new(seed);
        let (before, refused, target) = run(async {
            // Segments go while the copy is made.
            let short = LocalOptions { retention: Duration::from_secs(20), ..options() };
            let store = open_with(&disk, short).await.unwrap();
            let load = async {
                let (mut n, mut acknowledged, mut refused) = (0, Vec::new(), Vec::new());
                loop {
                    disk.set(Faults { sync_fails: Some(60), sync_takes: Duration::from_millis(20), ..Faults::default() });
                    let new = NewEvent { deliveries: Vec::new(), ..new(n) };
                    match store.accept(new).await {
                        Ok(_) => acknowledged.push((n, tokio::time::Instant::now())),
                        Err(_) => refused.push(n),
                    }
                    n += 1;
                    if n == 1500 {
                        return (acknowledged, refused);
                    }
                }
            };
            let copy = async {
                tokio::time::sleep(Duration::from_secs(15)).await;
                for attempt in 0.. {
                    let begun = tokio::time::Instant::now();
                    let target = format!("/backup-{attempt}");
                    match tools::copy(&disk, Path::new(STORE), Path::new(&target), &mut |_| {}).await {
                        Ok(_) => return (begun, target),
                        // The target lies on the same failing disk.
                        Err(error @ StoreError::Io { .. }) => assert!(attempt < 50, "{error}"),
                        Err(error) => panic!("{error}"),
                    }
                }
                unreachable!()
            };
            let ((acknowledged, refused), (begun, target)) = tokio::join!(load, copy);
            let before: Vec<u64> =
                acknowledged.iter().filter(|(_, at)| *at + Duration::from_millis(100) < begun).map(|(n, _)| *n).collect();
            (before, refused, target)
        });
        disk.set(Faults::default());
        run(async {
            let backup = open_with(&disk, LocalOptions { path: target.clone().into(), ..options() }).await.unwrap();
            let there = ids(&backup).await;
            assert!(there.len() > 20, "seed {seed}: {}", there.len());
            let oldest = before.iter().copied().find(|n| there.contains(&event(*n).id)).unwrap_or(u64::MAX);
            for n in before.into_iter().filter(|n| *n >= oldest) {
                assert_eq!(backup.event(event(n).id).await.unwrap(), Some(event(n)), "seed {seed}");
            }
            assert!(!refused.is_empty());
            for n in refused {
                assert!(!there.contains(&event(n).id), "seed {seed}: event {n} was refused");
            }
        });
    }
}

#[test]
fn a_restore_wants_an_empty_folder_and_gives_back_what_the_backup_held() {
    let disk = filled();
    run(async {
        let store = open(&disk).await.unwrap();
        let before = (ids(&store).await, store.pending_after(0, 1000).await.unwrap());
        store.close().await;
        tools::copy(&disk, Path::new(STORE), Path::new("/backup"), &mut |_| {}).await.unwrap();
        let refused = tools::copy(&disk, Path::new("/backup"), Path::new(STORE), &mut |_| {}).await;
        assert!(matches!(refused, Err(StoreError::NotAStore { .. })), "{refused:?}");
        tools::copy(&disk, Path::new("/backup"), Path::new("/restored"), &mut |_| {}).await.unwrap();
        let restored = open_with(&disk, LocalOptions { path: "/restored".into(), ..options() }).await.unwrap();
        assert_eq!((ids(&restored).await, restored.pending_after(0, 1000).await.unwrap()), before);
        assert_eq!(restored.states("").await.unwrap()["cursor"], "2");
    });
}

#[test]
fn a_backup_of_a_damaged_store_is_refused_and_is_no_store() {
    let disk = filled();
    disk.tamper(&segment(1), |bytes| bytes[9000] ^= 1);
    run(async {
        let refused = tools::copy(&disk, Path::new(STORE), Path::new("/backup"), &mut |_| {}).await;
        assert!(matches!(refused, Err(StoreError::Damaged { .. })), "{refused:?}");
        let half = open_with(&disk, LocalOptions { path: "/backup".into(), ..options() }).await;
        assert!(matches!(half.err(), Some(StoreError::NotAStore { .. })));
    });
}

#[test]
fn stats_of_a_running_store_say_what_it_holds() {
    let disk = SimDisk::new(1);
    run(async {
        let store = open(&disk).await.unwrap();
        for n in 0..300 {
            store.accept(NewEvent { deliveries: vec![to("erp"), to("books")], ..new(n) }).await.unwrap();
        }
        for (n, pending) in store.pending_after(0, 60).await.unwrap().iter().enumerate() {
            let outcome = if n % 3 == 0 { OutcomeKind::Rejected } else { OutcomeKind::Delivered };
            store.settle(settlement(pending, outcome)).await.unwrap();
        }
        let stats = tools::stats(&disk, Path::new(STORE), &mut |_| {}).await.unwrap();
        let counts = store.counts();
        assert_eq!(stats.events, 300);
        for (name, count) in counts {
            assert_eq!((stats.pending[&name], stats.dead[&name]), (count.pending, count.dead), "{name}");
        }
        let pending: u64 = stats.segments.iter().map(|segment| segment.pending).sum();
        assert_eq!(pending, 540);
        assert!(stats.segments.len() >= 2 && stats.segments[0].used > 60_000, "{:?}", stats.segments);
    });
}

#[test]
fn a_backup_says_of_which_commit_it_is_the_end() {
    let disk = SimDisk::new(1);
    run(async {
        let store = open(&disk).await.unwrap();
        store.accept(new(1)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        store.accept(new(2)).await.unwrap();
        // The last batch's sync is not proven: the backup ends before it, and says so.
        let copied = tools::copy(&disk, Path::new("/store"), Path::new("/early"), &mut |_| {}).await.unwrap();
        assert_eq!(copied.until, Some(at(0)));
        tokio::time::sleep(Duration::from_secs(2)).await;
        let copied = tools::copy(&disk, Path::new("/store"), Path::new("/late"), &mut |_| {}).await.unwrap();
        assert!(copied.until >= Some(at(1)), "the seal tells that all is there: {:?}", copied.until);
        let early = open_with(&disk, LocalOptions { path: "/early".into(), ..options() }).await.unwrap();
        assert_eq!(early.event(event(1).id).await.unwrap(), Some(event(1)));
        assert_eq!(early.event(event(2).id).await.unwrap(), None);
    });
}
