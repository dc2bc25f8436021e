//! Tails: what only a copy or a note in the side file still says.

use std::path::Path;
use std::time::Duration;

use kurier::model::{DeliveryId, DeliveryState, OutcomeKind};
use kurier::store::Store;
use kurier::store::local::LocalOptions;

use super::make::{event, new, settlement};
use super::sim::{SEGMENT, open, open_with, options, run, segment};
use super::sim_disk::{Faults, SimDisk};

/// A batch whose sync never returned is copied by a start; then it is lost, and only the copy is left.
#[test]
fn a_batch_that_only_its_copy_still_says_outlives_its_segment() {
    let mut only_copies = 0;
    for seed in 0..6 {
        let disk = SimDisk::new(seed);
        run(async {
            let store = open(&disk).await.unwrap();
            store.set_state("pause".to_owned(), Some("old".into())).await.unwrap();
            disk.set(Faults { sync_takes: Duration::from_secs(1000), ..Faults::default() });
            let ticket = store.accept(new(1));
            let pause = store.set_state("pause".to_owned(), Some("new".into()));
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop((ticket, pause));
        });
        disk.set(Faults::default());
        let short = || LocalOptions { retention: Duration::ZERO, max_size: 100 * SEGMENT as u64, ..options() };
        run(async {
            let store = open_with(&disk, short()).await.unwrap();
            assert!(store.event(event(1).id).await.unwrap().is_some());
            assert_eq!(store.states("").await.unwrap()["pause"], "new");
        });
        // The batch itself rots away, and so does whatever was made of it.
        disk.tamper(&segment(1), |bytes| {
            let body = bytes.windows(7).position(|bytes| bytes == b"{\"n\":1}").unwrap();
            bytes[body..].fill(0);
        });
        for name in ["journal/0000000000000001.foot", "checkpoint"] {
            disk.forget(&Path::new("/store").join(name));
        }
        let is_gone = run(async {
            let store = open_with(&disk, short()).await.unwrap();
            assert!(store.event(event(1).id).await.unwrap().is_some(), "it was shown to be durable");
            // Segments are filled until the first one goes, if nothing of it is needed.
            let is_gone = || !disk.names(Path::new("/store/journal")).contains(&"0000000000000001.seg".to_owned());
            for n in 0..50_000_u32 {
                store.set_state("cursor".to_owned(), Some(n.to_string().into())).await.unwrap();
                if n % 500 == 0 {
                    tokio::time::sleep(Duration::from_secs(31)).await;
                }
                if is_gone() {
                    break;
                }
            }
            is_gone()
        });
        only_copies += u32::from(is_gone);
        run(async {
            let store = open_with(&disk, short()).await.unwrap();
            assert_eq!(store.event(event(1).id).await.unwrap(), Some(event(1)), "seed {seed}");
            assert_eq!(store.pending_after(0, 9).await.unwrap().len(), 1);
            assert_eq!(store.states("").await.unwrap()["pause"], "new");
        });
    }
    assert!(only_copies > 0, "the first segment never went, so nothing was shown");
}

#[test]
fn an_attempt_that_was_settled_before_the_end_counts_as_no_interrupted_one() {
    let disk = SimDisk::new(1);
    run(async {
        let store = open(&disk).await.unwrap();
        store.accept(new(1)).await.unwrap();
        let pending = store.pending_after(0, 9).await.unwrap().remove(0);
        store.attempt_begins(pending.id);
        store.settle(settlement(&pending, OutcomeKind::Retry)).await.unwrap();
        // The process ends here, before it noted that the attempt is over.
    });
    run(async {
        let store = open(&disk).await.unwrap();
        let record = store.record(event(1).id).await.unwrap().unwrap();
        assert_eq!(record.deliveries[0].attempts, 1);
        assert!(matches!(record.deliveries[0].state, DeliveryState::Pending { .. }));
        assert_eq!(record.deliveries[0].id, DeliveryId::new(event(1).id, 0));
    });
}
