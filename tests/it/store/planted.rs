//! Planted faults: what the rules forbid, done at the seams, and a seed of the simulation that turns red with it and
//! is green without. Nothing in the program can be switched to do any of this. docs/simulation.md has the table.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kurier::clock::{Calendar, Clock};
use kurier::model::{OutcomeKind, Timestamp};
use kurier::store::local::{LocalOptions, LocalStore, Run, Seams, StoreError};
use kurier::store::{EventFilter, Store};

use super::faults::{a_power_cut_tears_the_index, a_sync_fails_once, a_waiting_event_moves, frames_in_a_body, reads_while_segments_go};
use super::make::{event, new, settlement};
use super::paged::what_came_back_is_tried;
use super::sim::{Believes, Lives, SEGMENT, SimClock, options, run};
use super::sim_disk::{Lie, SimDisk};

/// What is seen of a fault, where it is seen at all.
fn seen(play: impl Fn()) -> Option<String> {
    let panic = catch_unwind(AssertUnwindSafe(play)).err()?;
    let words = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|words| (*words).to_owned()));
    Some(words.unwrap_or_else(|| "a panic without words".to_owned()))
}

/// With the fault planted the recorded seed turns red, in these words; without it the same seed is green.
fn turns_red(fault: &str, recorded: u64, words: &str, play: impl Fn(u64, bool)) {
    play(recorded, false);
    let is_red = |seed: &u64| seen(|| play(*seed, true)).is_some_and(|seen| seen.contains(words));
    if !is_red(&recorded) {
        let instead = (0..1000).find(is_red);
        panic!("`{fault}`: seed {recorded} shows it no more; the first that does is {instead:?}: record it here and in docs/simulation.md");
    }
}

#[test]
fn fault_1_a_sync_that_is_left_out_turns_red() {
    turns_red("a sync left out", 11, "was acknowledged, and is lost", |seed, is_planted| {
        Lives { lie: is_planted.then_some(Lie::Syncs), ..Lives::of(seed) }.play();
    });
}

#[test]
fn fault_4_a_header_that_voids_without_a_sync_turns_red() {
    turns_red("void header not synced", 33, "a settlement is lost", |seed, is_planted| {
        a_sync_fails_once(seed, is_planted.then_some(Lie::HeaderSyncs));
    });
}

#[test]
fn fault_5_a_settlement_that_is_believed_before_it_is_durable_turns_red() {
    turns_red("settlement not durable", 8, "a settlement is lost", |seed, is_planted| {
        Lives { believes: if is_planted { Believes::QueuedSettlements } else { Believes::Tickets }, ..Lives::of(seed) }.play();
    });
}

#[test]
fn fault_6_a_copy_without_its_version_turns_red() {
    turns_red("copy without version", 0, "a settlement is lost", |seed, is_planted| {
        a_waiting_event_moves(seed, is_planted.then_some(Lie::Versions));
    });
}

#[test]
fn fault_7_a_repeat_that_is_answered_from_memory_turns_red() {
    turns_red("repeat from memory", 0, "is not found while it is kept", |seed, is_planted| {
        Lives { believes: if is_planted { Believes::QueuedRepeats } else { Believes::Tickets }, ..Lives::of(seed) }.play();
    });
}

#[test]
fn fault_8_an_index_that_is_trusted_after_a_power_cut_turns_red() {
    turns_red("index trusted after a power cut", 0, "is not found", |seed, is_planted| {
        a_power_cut_tears_the_index(seed, is_planted.then_some(Lie::Marker));
    });
}

#[test]
fn fault_9_a_segment_that_is_recycled_while_it_is_read_turns_red() {
    turns_red("recycle without pin", 0, "is read as damaged while its segment goes", |seed, is_planted| {
        reads_while_segments_go(seed, is_planted.then_some(Lie::Pins));
    });
}

#[test]
fn fault_11_what_is_paged_out_above_what_its_footer_tells_turns_red() {
    turns_red("paged out above the footer", 0, "a settlement is lost", what_came_back_is_tried);
}

/// Settles whatever waits, and accepts events from `from` on.
async fn work(store: &LocalStore<SimDisk>, events: std::ops::Range<u64>) {
    for n in events {
        store.accept(new(n)).await.unwrap();
        let pending = store.pending_after(0, 1).await.unwrap().remove(0);
        store.settle(settlement(&pending, OutcomeKind::Delivered)).await.unwrap();
    }
}

/// An older journal is put beside newer pool files: what lies in those continues its numbers. Only the nonce tells
/// that it is no part of it.
#[test]
fn fault_2_a_stale_frame_that_is_accepted_turns_red() {
    let is_red = |nonces: fn() -> u128| {
        let disk = SimDisk::new(3);
        let journal = Path::new("/store/journal");
        let open = |options: LocalOptions| {
            let seams = Seams { disk: disk.clone(), indexes: Arc::new(disk.indexes.clone()), run: Run::Tasks, random: Arc::new(nonces) };
            async { LocalStore::open_on(seams, options, Arc::new(SimClock::starting_at(0)), None).await }
        };
        let short = || LocalOptions { retention: Duration::ZERO, max_size: 40 * SEGMENT as u64, ..options() };
        let segments = |disk: &SimDisk| disk.names(journal).into_iter().filter(|name| name.ends_with(".seg")).collect::<Vec<_>>();
        run(async { work(&open(short()).await.unwrap(), 0..20).await });
        let older: Vec<(String, Vec<u8>)> =
            segments(&disk).into_iter().map(|name| (name.clone(), disk.bytes(&journal.join(name)))).collect();
        run(async {
            let store = open(short()).await.unwrap();
            work(&store, 20..800).await;
            tokio::time::sleep(Duration::from_secs(200)).await;
        });
        for name in disk.names(journal).into_iter().filter(|name| !name.starts_with("pool-")) {
            disk.forget(&journal.join(name));
        }
        disk.forget(Path::new("/store/checkpoint"));
        assert!(!segments(&disk).is_empty(), "there is a newer pool file");
        older.iter().for_each(|(name, bytes)| disk.plant(&journal.join(name), bytes));
        // The pool's frames continue where the restored journal ends, until the process is killed.
        for round in 0..6 {
            let played = run(async {
                let store = open(short()).await?;
                let there: BTreeSet<_> =
                    store.list(&EventFilter::default(), None, 10_000).await.unwrap().0.into_iter().map(|item| item.event.id).collect();
                let expected: BTreeSet<_> = (0..20).chain(5000..5000 + round * 40).map(|n| event(n).id).collect();
                if !there.is_subset(&expected) {
                    return Ok(true);
                }
                work(&store, 5000 + round * 40..5040 + round * 40).await;
                Ok::<bool, StoreError>(false)
            });
            if !matches!(played, Ok(false)) {
                return true;
            }
        }
        false
    };
    static NEXT: AtomicU64 = AtomicU64::new(1);
    assert!(!is_red(|| u128::from(NEXT.fetch_add(1, Ordering::Relaxed)) << 64 | 1));
    assert!(is_red(|| 7));
}

/// A batch whose checksums anybody can make: here its sender knows the nonce that they are seeded with.
#[test]
fn fault_3_a_batch_whose_checksum_does_not_depend_on_a_secret_nonce_turns_red() {
    let next = AtomicU64::new(1);
    frames_in_a_body(7, move || u128::from(next.fetch_add(1, Ordering::Relaxed)) << 64 | 1).unwrap();
    let error = frames_in_a_body(7, || 7).unwrap_err();
    assert!(error.to_string().contains("a batch is unreadable, and a later one is there"), "{error}");
}

/// A boot clock that goes along with whatever somebody sets the wall clock to.
struct OneClock(SimClock);

impl Clock for OneClock {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn boot(&self) -> Duration {
        self.0.now().since(Timestamp::default())
    }
}

#[test]
fn fault_10_a_clock_that_is_believed_turns_red() {
    let kept = |believes: bool| {
        let disk = SimDisk::new(1);
        run(async {
            let clock = SimClock::starting_at(0);
            let wall: Arc<dyn Clock> =
                if believes { Arc::new(Calendar::new(OneClock(clock.clone()))) } else { Arc::new(Calendar::new(clock.clone())) };
            let seams =
                Seams { disk: disk.clone(), indexes: Arc::new(disk.indexes.clone()), run: Run::Tasks, random: Arc::new(rand::random) };
            let day = LocalOptions { retention: Duration::from_secs(86_400), ..options() };
            let store = LocalStore::open_on(seams, day, wall, None).await.unwrap();
            for n in 0..400 {
                store.accept(new(n)).await.unwrap();
                let pending = store.pending_after(0, 1).await.unwrap().remove(0);
                store.settle(settlement(&pending, OutcomeKind::Delivered)).await.unwrap();
            }
            clock.jump(100 * 86_400);
            tokio::time::sleep(Duration::from_secs(120)).await;
            store.list(&EventFilter::default(), None, 1000).await.unwrap().0.len()
        })
    };
    assert_eq!(kept(false), 400);
    assert!(kept(true) < 400, "history was thrown away by a date that was never true");
}
