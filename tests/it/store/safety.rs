//! Whose folder it is, what it lies on, and what a clock that jumps may not do (rules 17 and 18).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kurier::clock::{Calendar, Clock as _};
use kurier::model::OutcomeKind;
use kurier::store::local::{LocalOptions, StoreError, tools};
use kurier::store::{CommitError, EventFilter, Store};

use super::make::{event, keyed, new, settlement};
use super::sim::{SEGMENT, SimClock, SimStore, open, open_at, open_by, open_with, options, run};
use super::sim_disk::SimDisk;

const NFS: u64 = 0x6969;
const DAY: u64 = 86_400;

#[test]
fn a_network_file_system_is_refused_unless_it_is_allowed_by_name() {
    let disk = SimDisk::new(1);
    disk.set_kind(NFS);
    let error = run(open(&disk)).err().unwrap();
    assert!(matches!(error, StoreError::FileSystem { kind: "nfs", .. }), "{error}");
    assert!(error.to_string().contains("store.allow_file_systems: [nfs]"), "{error}");
    assert!(disk.names(Path::new("/store")).is_empty(), "nothing is left there");
    run(async {
        let allowed = LocalOptions { allow_file_systems: vec!["nfs".into()], ..options() };
        open_with(&disk, allowed).await.unwrap().accept(new(1)).await.unwrap();
    });
    let other = LocalOptions { allow_file_systems: vec!["overlay".into()], ..options() };
    assert!(matches!(run(open_with(&disk, other)).err(), Some(StoreError::FileSystem { .. })), "an existing store too");
}

#[test]
fn a_folder_that_is_replaced_under_a_running_store_gets_no_further_segment() {
    let disk = SimDisk::new(1);
    run(async {
        let store = open(&disk).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        disk.replace(Path::new("/store/format"));
        let mut n = 0;
        let refused = loop {
            match store.accept(new(n)).await {
                Ok(_) => n += 1,
                Err(error) => break error,
            }
            assert!(n < 10_000);
        };
        assert!(matches!(refused, CommitError::Refused(_)), "{refused:?}");
        let reason = store.stats().unwritable.unwrap();
        assert!(reason.contains("moved or replaced"), "{reason}");
    });
}

#[test]
fn a_folder_that_holds_anything_else_is_never_taken_for_a_new_store() {
    let disk = SimDisk::new(1);
    run(async {
        open(&disk).await.unwrap().close().await;
    });
    // The format file and the journal are gone, an unknown file is left: whose is it?
    for name in ["format", "inflight", "checkpoint", "clean"] {
        disk.forget(&Path::new("/store").join(name));
    }
    disk.plant(Path::new("/store/notes.txt"), b"mine");
    assert!(matches!(run(open(&disk)).err(), Some(StoreError::NotAStore { .. })));
}

/// Fills some segments with what is delivered at once.
async fn fill(store: &SimStore, events: std::ops::Range<u64>) {
    for n in events {
        store.accept(new(n)).await.unwrap();
        let pending = store.pending_after(0, 1).await.unwrap().remove(0);
        store.settle(settlement(&pending, OutcomeKind::Delivered)).await.unwrap();
    }
}

async fn stored(store: &SimStore) -> usize {
    store.list(&EventFilter::default(), None, 10_000).await.unwrap().0.len()
}

#[test]
fn a_clock_that_jumps_ahead_drops_nothing_until_it_has_been_steady() {
    let disk = SimDisk::new(1);
    let day = LocalOptions { retention: Duration::from_secs(DAY), ..options() };
    run(async {
        let clock = SimClock::starting_at(0);
        let store = open_at(&disk, day, clock.clone()).await.unwrap();
        fill(&store, 0..600).await;
        assert_eq!(stored(&store).await, 600);
        clock.jump(100 * 86_400);
        tokio::time::sleep(Duration::from_secs(540)).await;
        assert_eq!(stored(&store).await, 600, "the clock is in doubt");
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert!(stored(&store).await < 600, "it has been steady: the date is what it says");
    });
}

#[test]
fn the_operator_may_say_that_the_clock_is_right() {
    let disk = SimDisk::new(1);
    run(async {
        let clock = SimClock::starting_at(0);
        let calendar = Arc::new(Calendar::new(clock.clone()));
        let day = LocalOptions { retention: Duration::from_secs(DAY), ..options() };
        let store = open_by(&disk, day, calendar.clone()).await.unwrap();
        fill(&store, 0..600).await;
        clock.jump(100 * 86_400);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(stored(&store).await, 600);
        calendar.vouch();
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(stored(&store).await < 600);
    });
}

/// There is no commit that the clock could disagree with.
#[test]
fn a_store_that_is_still_empty_at_its_second_start_believes_the_clock() {
    let disk = SimDisk::new(1);
    run(async { open(&disk).await.unwrap().close().await });
    run(async {
        let store = open(&disk).await.unwrap();
        store.accept(keyed(1, 1, 10)).await.unwrap();
        assert!(!store.accept(keyed(100, 1, 10)).await.unwrap().is_repeat(), "the window has ended, and nothing says otherwise");
    });
}

#[test]
fn a_key_does_not_end_by_a_clock_in_doubt() {
    let disk = SimDisk::new(1);
    run(async {
        let clock = SimClock::starting_at(0);
        let store = open_at(&disk, options(), clock.clone()).await.unwrap();
        store.accept(keyed(1, 7, DAY)).await.unwrap();
        clock.jump(2 * 86_400);
        let later = keyed(2 * DAY + 2, 7, DAY);
        assert_eq!(store.accept(later.clone()).await.unwrap().event(), event(1).id, "the window has not really ended");
        tokio::time::sleep(Duration::from_secs(601)).await;
        store.accept(new(3)).await.unwrap();
        assert!(!store.accept(later).await.unwrap().is_repeat(), "the date is what it says");
    });
}

#[test]
fn numbers_only_grow_even_when_everything_that_had_them_is_gone() {
    let disk = SimDisk::new(1);
    let short = LocalOptions { retention: Duration::from_secs(60), max_size: 40 * SEGMENT as u64, ..options() };
    let last = run(async {
        let store = open_with(&disk, short.clone()).await.unwrap();
        fill(&store, 0..400).await;
        let last = store.list(&EventFilter::default(), None, 1).await.unwrap().0[0].sequence;
        // States alone fill the journal until every event has left it.
        for n in 0..2000_u32 {
            store.set_state("cursor".to_owned(), Some(vec![7; 100].into())).await.unwrap();
            if n % 200 == 0 {
                tokio::time::sleep(Duration::from_secs(100)).await;
            }
        }
        assert_eq!(stored(&store).await, 0);
        last
    });
    run(async {
        let clock = SimClock::starting_at(2000);
        let store = open_at(&disk, short, clock).await.unwrap();
        let position = *store.newest_position().borrow();
        store.accept(new(9)).await.unwrap();
        let item = &store.list(&EventFilter::default(), None, 1).await.unwrap().0[0];
        assert!(item.sequence > last, "{} after {last}", item.sequence);
        assert!(store.pending_after(0, 9).await.unwrap()[0].position > position && position > 0);
    });
}

#[test]
fn missing_newest_segments_are_refused_where_anything_tells_of_them() {
    let disk = SimDisk::new(1);
    run(async {
        let store = open(&disk).await.unwrap();
        fill(&store, 0..400).await;
        store.close().await;
    });
    // After a clean stop the marker names the last batch.
    let stopped = disk.copy();
    let newest = |disk: &SimDisk| {
        let names = disk.names(Path::new("/store/journal")).into_iter().filter(|name| name.ends_with(".seg") && !name.starts_with("pool-"));
        Path::new("/store/journal").join(names.max().unwrap())
    };
    stopped.forget(&newest(&stopped));
    stopped.forget(&newest(&stopped));
    let error = run(open(&stopped)).err().unwrap();
    assert!(error.to_string().contains("put its newest segments back"), "{error}");
    assert!(run(open(&stopped)).is_err(), "nothing was changed");
    // Told to, it goes on without them.
    run(async {
        let found = tools::check(&stopped, Path::new("/store"), &mut |_| {}).await.unwrap();
        let files: Vec<_> = found.damage.iter().map(|finding| finding.file.to_str().unwrap()).collect();
        assert_eq!(files, ["clean", "checkpoint"]);
        assert_eq!(tools::repair(&stopped, Path::new("/store"), &mut |_| {}).await.unwrap().damage, found.damage);
        assert_eq!(tools::check(&stopped, Path::new("/store"), &mut |_| {}).await.unwrap().damage, []);
        open(&stopped).await.unwrap().accept(new(1000)).await.unwrap();
    });
    // A checkpoint tells of a segment that was begun, also after a kill.
    run(async {
        let store = open(&disk).await.unwrap();
        fill(&store, 500..3500).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
    });
    for _ in 0..40 {
        if run(async { open(&disk.copy()).await.map(drop) }).is_err() {
            return;
        }
        disk.forget(&newest(&disk));
    }
    panic!("the newest segments went unnoticed");
}
