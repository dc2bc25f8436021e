//! Callers that commit for themselves, on threads: one at a time they do, beside others they leave it to the committer's.

use std::sync::Arc;
use std::time::Duration;

use kurier::clock::{Calendar, SystemClock};
use kurier::model::Event;
use kurier::store::local::{LocalOptions, LocalStore, Run, Seams};
use kurier::store::{CommitError, NewEvent, Store};
use tokio::task::JoinSet;

use super::make::{event, keyed, new};
use super::sim::{self, SimStore};
use super::sim_disk::{Faults, SimDisk};
use crate::harness::PATIENCE;

/// The thread that commits otherwise.
const COMMITTER: &str = "kurier-commits";

/// A thread of the runtime that callers run on.
const CALLER: &str = "caller";

/// More than enough events in a row for callers to commit for themselves.
const MANY: u64 = 100;

fn on_threads(life: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name(CALLER).enable_time().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, life).await.expect("nobody waits for ever") });
}

/// Opens the store on threads of its own.
async fn open(disk: &SimDisk) -> Arc<SimStore> {
    let random = {
        let disk = disk.clone();
        Arc::new(move || disk.nonce())
    };
    let seams = Seams { disk: disk.clone(), indexes: Arc::new(disk.indexes.clone()), run: Run::Threads, random };
    let clock = Arc::new(Calendar::new(SystemClock));
    let store = Arc::new(LocalStore::open_on(seams, options(), clock, None).await.unwrap());
    // Faults are meant for the callers' syncs, not for those of the thread that sets segments aside.
    let mut syncs = 0;
    while syncs != disk.syncs() {
        syncs = disk.syncs();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    store
}

/// One segment holds all that happens here.
fn options() -> LocalOptions {
    LocalOptions { segment_bytes: 4 * 1024 * 1024, ..sim::options() }
}

/// Accepts one event after the other, each in a task as a connection's.
async fn accept_alone(store: &Arc<SimStore>, numbers: impl Iterator<Item = u64>) {
    for n in numbers {
        let store = store.clone();
        tokio::spawn(async move { store.accept(new(n)).await }).await.unwrap().unwrap();
    }
}

/// A start finds these events and no others.
fn assert_stored(disk: &SimDisk, numbers: impl Iterator<Item = u64>) {
    sim::run(async {
        let store = sim::open_with(disk, options()).await.unwrap();
        let pending = store.pending_after(0, 1000).await.unwrap();
        let stored: Vec<_> = pending.iter().map(|pending| pending.id.event).collect();
        assert_eq!(stored, numbers.map(|n| event(n).id).collect::<Vec<_>>());
    });
}

#[test]
fn one_after_the_other_is_committed_by_its_caller() {
    let disk = SimDisk::new(1);
    on_threads(async {
        let store = open(&disk).await;
        accept_alone(&store, 0..MANY).await;
        let (callers, committers) = (disk.syncs_by(CALLER), disk.syncs_by(COMMITTER));
        assert!(callers > MANY / 2, "{callers} syncs are the callers', {committers} the committer's");
        store.close().await;
    });
    assert_stored(&disk, 0..MANY);
}

#[test]
fn many_at_a_time_share_the_committers_batches() {
    let disk = SimDisk::new(1);
    on_threads(async {
        let store = open(&disk).await;
        accept_alone(&store, 0..MANY).await;
        disk.set(Faults { sync_takes: Duration::from_millis(2), ..Faults::default() });
        let before = disk.syncs_by(COMMITTER);
        let mut senders = JoinSet::new();
        for sender in 1..=16 {
            let store = store.clone();
            senders.spawn(async move {
                for n in 0..20 {
                    store.accept(new(1000 * sender + n)).await.unwrap();
                }
            });
        }
        senders.join_all().await;
        let committers = disk.syncs_by(COMMITTER) - before;
        assert!((10..160).contains(&committers), "{committers} syncs for 320 events of 16 senders");
        store.close().await;
    });
}

/// Who commits proves its last batch by a seal when a second was silent, whoever made that batch.
#[test]
fn one_that_comes_now_and_then_is_committed_by_its_caller_and_sealed_by_the_committer() {
    let disk = SimDisk::new(1);
    on_threads(async {
        let store = open(&disk).await;
        accept_alone(&store, 0..MANY).await;
        for n in MANY..MANY + 2 {
            let committers = disk.syncs_by(COMMITTER);
            let callers = disk.syncs_by(CALLER);
            accept_alone(&store, n..n + 1).await;
            assert_eq!(disk.syncs_by(CALLER), callers + 1, "the caller's batch");
            while disk.syncs_by(COMMITTER) == committers {
                // The seal comes a second later.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        store.close().await;
    });
    assert_stored(&disk, 0..MANY + 2);
}

/// A footer is read for it, which may take longer than a connection's thread can be spared.
#[test]
fn a_key_of_a_sealed_segment_is_looked_up_by_the_committer() {
    let disk = SimDisk::new(1);
    on_threads(async {
        let store = open(&disk).await;
        let keyed = || keyed(0, 7, 1 << 40);
        store.accept(keyed()).await.unwrap();
        accept_alone(&store, 1..MANY).await;
        let large = |n| NewEvent { event: Event { body: vec![b'x'; 700 * 1024].into(), ..event(n) }, ..new(n) };
        for n in MANY..MANY + 7 {
            store.accept(large(n)).await.unwrap();
        }
        // Memory may tell the key for a while after the footer could.
        let (callers, committers) = (disk.reads_by(CALLER), disk.reads_by(COMMITTER));
        for _ in 0..400 {
            let repeat = store.clone();
            let receipt = tokio::spawn(async move { repeat.accept(keyed()).await }).await.unwrap().unwrap();
            assert!(receipt.is_repeat());
            if disk.reads_by(COMMITTER) > committers {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(disk.reads_by(COMMITTER) > committers, "the footer was never asked");
        assert_eq!(disk.reads_by(CALLER), callers);
        store.close().await;
    });
}

/// What follows a failure takes long: the caller hears of it as of any other.
#[test]
fn a_failure_under_a_caller_is_healed_by_the_committer() {
    let disk = SimDisk::new(1);
    on_threads(async {
        let store = open(&disk).await;
        accept_alone(&store, 0..MANY).await;
        let (callers, committers) = (disk.syncs_by(CALLER), disk.syncs_by(COMMITTER));
        disk.set(Faults { sync_fails: Some(1), once: true, ..Faults::default() });
        let asked = store.clone();
        let outcome = tokio::spawn(async move { asked.accept(new(MANY)).await }).await.unwrap();
        assert_eq!(outcome.unwrap_err(), CommitError::Refused("the store could not commit"));
        assert_eq!(disk.syncs_by(CALLER), callers + 1, "the sync that fails is the caller's");
        assert!(disk.syncs_by(COMMITTER) > committers);
        accept_alone(&store, MANY + 1..MANY + 40).await;
        store.close().await;
    });
    assert_stored(&disk, (0..MANY).chain(MANY + 1..MANY + 40));
}

/// A bug in the committer's work must end the store, whoever does that work.
#[test]
fn a_caller_that_panics_leaves_a_store_that_refuses_and_closes() {
    let disk = SimDisk::new(1);
    on_threads(async {
        let store = open(&disk).await;
        accept_alone(&store, 0..MANY).await;
        disk.set(Faults { sync_panics: true, ..Faults::default() });
        let asked = store.clone();
        assert!(tokio::spawn(async move { asked.accept(new(MANY)).await }).await.unwrap_err().is_panic());
        assert_eq!(store.accept(new(MANY + 1)).await.unwrap_err(), CommitError::Refused("stopping"));
        assert!(store.stats().unwritable.is_some());
        store.close().await;
    });
    disk.cut_power_keeping(|_| false);
    assert_stored(&disk, 0..MANY);
}

/// Nobody waits for ever for what it had taken from the queue and not yet begun with.
#[test]
fn a_committer_that_panics_answers_those_who_wait() {
    let disk = SimDisk::new(1);
    on_threads(async {
        let store = open(&disk).await;
        disk.set(Faults { sync_takes: Duration::from_secs(1), ..Faults::default() });
        let first = store.accept(new(1));
        tokio::time::sleep(Duration::from_millis(100)).await;
        // A batch takes a quarter of a segment: these two come together and are not committed together.
        let large = |n| NewEvent { event: Event { body: vec![b'x'; 700 * 1024].into(), ..event(n) }, ..new(n) };
        let (second, third) = (store.accept(large(2)), store.accept(large(3)));
        first.await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        disk.set(Faults { sync_panics: true, ..Faults::default() });
        assert_eq!(second.await.unwrap_err(), CommitError::Unknown);
        assert_eq!(third.await.unwrap_err(), CommitError::Unknown);
        assert!(store.accept(new(4)).await.is_err(), "refused, or unknown while the store is about to stop");
        store.close().await;
    });
    disk.cut_power_keeping(|_| false);
    assert_stored(&disk, 1..2);
}
