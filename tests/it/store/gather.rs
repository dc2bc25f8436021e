//! How many share a batch: a committer that many wait for pauses between two of them.

use std::time::Duration;

use kurier::store::Store;
use kurier::store::local::LocalOptions;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::make::new;
use super::sim;
use super::sim_disk::{Faults, SimDisk};

/// How long a sync takes.
const SYNC: Duration = Duration::from_millis(2);

/// Events of each sender.
const EACH: u64 = 50;

/// So many senders accept one event after the other, and take so long between two; how often was synced, and in what time.
fn synced(senders: u64, rest: Duration) -> (u32, Duration) {
    sim::run(async {
        let disk = SimDisk::new(1);
        // One segment holds all of them: no other syncs than those of batches.
        let options = LocalOptions { segment_bytes: 16 * 1024 * 1024, ..sim::options() };
        let store = sim::open_with(&disk, options).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        disk.set(Faults { sync_takes: SYNC, ..Faults::default() });
        let (before, begun) = (disk.syncs(), Instant::now());
        let mut sending = JoinSet::new();
        for sender in 0..senders {
            let store = store.clone();
            sending.spawn(async move {
                // Not all at once.
                tokio::time::sleep(rest * u32::try_from(sender % 16).unwrap() / 16).await;
                for n in 0..EACH {
                    store.accept(new(EACH * sender + n)).await.unwrap();
                    tokio::time::sleep(rest).await;
                }
            });
        }
        sending.join_all().await;
        let (after, took) = (disk.syncs(), begun.elapsed());
        store.close().await;
        (u32::try_from(after - before).unwrap(), took)
    })
}

#[test]
fn a_committer_that_many_wait_for_spends_half_of_its_time_in_syncs() {
    let (syncs, took) = synced(256, Duration::from_millis(16));
    assert!(SYNC * syncs < took * 6 / 10, "{syncs} syncs of {SYNC:?} in {took:?}");
}

/// They would all come with the next batch anyway.
#[test]
fn few_are_not_kept_waiting() {
    let (syncs, took) = synced(8, Duration::ZERO);
    assert!(SYNC * syncs > took * 9 / 10, "{syncs} syncs of {SYNC:?} in {took:?}");
}
