//! Planted faults: what the rules forbid, done at the seams, and a seed of the simulation that turns red with it.
//! Nothing in the program can be switched to do any of this.
//!
//! | fault | rule | planted in |
//! |---|---|---|
//! | a sync is left out | 2 | the disk says OK to it |
//! | the header that voids a failed batch is not synced | 6 | the disk says OK to that sync |
//! | a settlement is believed before it is durable | 8 | whoever asked |
//! | a repeat is answered from memory | 7 | whoever asked |
//! | a stale frame is accepted, a checksum does not depend on the nonce | 2 | every incarnation draws the same nonce |
//! | the clock is believed | 17 | the boot clock jumps along |

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kurier::clock::Clock;
use kurier::model::{OutcomeKind, Timestamp};
use kurier::store::local::{LocalOptions, LocalStore, Run, Seams, StoreError};
use kurier::store::{EventFilter, Store};

use super::make::{event, new, settlement};
use super::sim::{Believes, Lives, SEGMENT, SimClock, options, run};
use super::sim_disk::{Lie, SimDisk};

/// The first seed that turns red.
fn first_red(seeds: u64, play: impl Fn(u64) -> u64) -> Option<u64> {
    (0..seeds).find(|seed| catch_unwind(AssertUnwindSafe(|| play(*seed))).is_err())
}

#[test]
fn leaving_a_sync_out_turns_red() {
    assert!(first_red(20, |seed| Lives { lie: Some(Lie::Syncs), ..Lives::of(seed) }.play()).is_some());
}

#[test]
fn not_syncing_the_header_that_voids_turns_red() {
    assert!(first_red(200, |seed| Lives { may_fail: true, lie: Some(Lie::HeaderSyncs), ..Lives::of(seed) }.play()).is_some());
}

#[test]
fn believing_a_settlement_before_it_is_durable_turns_red() {
    assert!(first_red(40, |seed| Lives { believes: Believes::QueuedSettlements, ..Lives::of(seed) }.play()).is_some());
}

#[test]
fn answering_a_repeat_from_memory_turns_red() {
    assert!(first_red(40, |seed| Lives { believes: Believes::QueuedRepeats, ..Lives::of(seed) }.play()).is_some());
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
fn a_nonce_that_is_drawn_twice_turns_red_and_fresh_ones_do_not() {
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
fn believing_the_clock_turns_red_and_doubting_it_does_not() {
    let kept = |believes: bool| {
        let disk = SimDisk::new(1);
        run(async {
            let clock = SimClock::starting_at(0);
            let wall: Arc<dyn Clock> = if believes { Arc::new(OneClock(clock.clone())) } else { Arc::new(clock.clone()) };
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
