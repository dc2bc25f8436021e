//! What a kill leaves half-made: segments being prepared, footers, checkpoints. A start takes none of it for what it is
//! not, and leaves none of it lying about (rules 1, 4, 10, 11).

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use kurier::model::OutcomeKind;
use kurier::store::Store;
use kurier::store::local::{LocalOptions, tools};

use super::make::{event, new, settlement};
use super::sim::{SEGMENT, SimStore, open_with, options, run, segment};
use super::sim_disk::{Faults, SimDisk};

const JOURNAL: &str = "/store/journal";

/// Segments go all the while, and one event stays.
fn short() -> LocalOptions {
    LocalOptions { retention: Duration::ZERO, max_size: 8 * SEGMENT as u64, ..options() }
}

async fn pass(store: &SimStore, events: std::ops::Range<u64>) {
    for n in events {
        if store.accept(new(n)).await.is_err() {
            tokio::time::sleep(Duration::from_secs(1)).await;
            continue;
        }
        let position = *store.newest_position().borrow();
        let pending = store.pending_after(position - 1, 1).await.unwrap().remove(0);
        store.settle(settlement(&pending, OutcomeKind::Delivered)).await.unwrap();
    }
}

/// Nothing lies in the journal but segments, their footers, and a few whole files to write over.
fn tidy(disk: &SimDisk, what: &str) {
    let names = disk.names(Path::new(JOURNAL));
    let pooled = names.iter().filter(|name| name.starts_with("pool-"));
    assert!(pooled.clone().count() <= 3, "{what}: {names:?}");
    for name in pooled {
        assert_eq!(disk.bytes(&Path::new(JOURNAL).join(name)).len(), SEGMENT, "{what}: {name}");
    }
    for name in names.iter().filter(|name| !name.starts_with("pool-")) {
        let is_known = match name.split_once('.') {
            Some((number, "foot")) => names.contains(&format!("{number}.seg")),
            Some((_, "seg")) => true,
            Some(_) | None => false,
        };
        assert!(is_known, "{what}: `{name}` is left over: {names:?}");
    }
}

/// Lets the process end after so many calls of the disk.
fn ends_after(disk: &SimDisk, calls: u64, work: impl Future<Output = ()>) {
    run(async {
        disk.set(Faults { freezes_after: Some(calls), ..Faults::default() });
        tokio::select! {
            biased;
            () = disk.frozen() => {}
            () = work => {}
        }
    });
    disk.set(Faults::default());
}

#[test]
fn a_kill_at_any_call_leaves_nothing_half_made() {
    for is_cut in [false, true] {
        let whole = SimDisk::new(5);
        run(async {
            let store = open_with(&whole, short()).await.unwrap();
            store.accept(new(0)).await.unwrap();
            pass(&store, 1..700).await;
            store.close().await;
        });
        for calls in (0..900).step_by(if is_cut { 31 } else { 23 }) {
            let disk = whole.copy();
            let what = format!("{calls} calls, {}", if is_cut { "power cut" } else { "killed" });
            ends_after(&disk, calls, async {
                let store = open_with(&disk, short()).await.unwrap();
                pass(&store, 1000..1200).await;
                store.close().await;
            });
            if is_cut {
                disk.cut_power();
            }
            run(async {
                let store = open_with(&disk, short()).await.unwrap();
                tokio::time::sleep(Duration::from_secs(60)).await;
                tidy(&disk, &what);
                assert_eq!(store.event(event(0).id).await.unwrap(), Some(event(0)), "{what}");
                store.close().await;
            });
            assert!(run(tools::check(&disk, Path::new("/store"), &mut |_| {})).unwrap().damage.is_empty(), "{what}");
        }
    }
}

/// A start that ends at any call, again and again: what it prepared before is there under its old name or its new one.
#[test]
fn starts_that_end_at_any_call_one_after_the_other_leave_a_store_that_opens() {
    for seed in 0..4 {
        let disk = SimDisk::new(seed);
        run(async {
            let store = open_with(&disk, options()).await.unwrap();
            store.accept(new(0)).await.unwrap();
            tokio::time::sleep(Duration::from_secs(2)).await;
        });
        for calls in 0..90 {
            ends_after(&disk, calls, async {
                open_with(&disk, options()).await.unwrap();
                tokio::time::sleep(Duration::from_secs(1)).await;
            });
            disk.cut_power();
        }
        run(async {
            let store = open_with(&disk, options()).await.unwrap();
            tokio::time::sleep(Duration::from_secs(5)).await;
            tidy(&disk, "after many starts");
            assert_eq!(store.event(event(0).id).await.unwrap(), Some(event(0)));
        });
    }
}

/// As versions before, other sizes, a full disk or a half-done repair may leave it.
#[test]
fn what_is_half_made_goes_at_a_start_and_what_is_nobodys_is_left_alone() {
    let disk = SimDisk::new(1);
    run(async { open_with(&disk, options()).await.unwrap().close().await });
    let journal = Path::new(JOURNAL);
    for name in ["preparing.tmp", "healing.tmp", "pool-00000000000000aa.seg", "00000000000000ff.foot"] {
        disk.plant(&journal.join(name), &[1; 5000]);
    }
    disk.plant(&journal.join("notes.txt"), b"mine");
    disk.plant(Path::new("/store/checkpoint.tmp"), b"KURIERCP");
    run(async {
        let store = open_with(&disk, options()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(disk.bytes(&journal.join("notes.txt")), b"mine");
        disk.forget(&journal.join("notes.txt"));
        tidy(&disk, "planted");
        for name in disk.names(journal).iter().filter(|name| name.ends_with(".seg")) {
            assert_eq!(disk.bytes(&journal.join(name)).len(), SEGMENT, "a short file became a segment: {name}");
        }
        pass(&store, 0..300).await;
        store.close().await;
    });
    assert!(!disk.names(Path::new("/store")).contains(&"checkpoint.tmp".to_owned()));
    assert_eq!(disk.bytes(&segment(1)).len(), SEGMENT);
}

/// On a full disk what could not be made whole takes no room from what frees it.
#[test]
fn a_segment_that_finds_no_room_leaves_nothing_of_itself() {
    let disk = SimDisk::new(1);
    run(async {
        let store = open_with(&disk, options()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let half_a_segment = disk.used() + SEGMENT as u64 / 2;
        disk.set(Faults { capacity: Some(half_a_segment), ..Faults::default() });
        pass(&store, 0..400).await;
        assert!(store.stats().unwritable.is_some());
        tidy(&disk, "full");
    });
}
