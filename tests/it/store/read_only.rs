//! A disk that takes no write any more from some moment on: after an error ext4 makes its file system read-only
//! (`errors=remount-ro`), and every write, sync and change of a name fails with `EROFS` (rules 6 and 13).

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kurier::model::OutcomeKind;
use kurier::store::local::tools;
use kurier::store::{CommitError, EventFilter, Store};
use kurier::telemetry::logs;
use parking_lot::Mutex;

use super::make::{event, new, settlement};
use super::sim::{open, run};
use super::sim_disk::{Faults, SimDisk};

const EVENTS: u64 = 300;

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn read_only() -> Faults {
    Faults { read_only_after: Some(0), ..Faults::default() }
}

fn pooled(disk: &SimDisk) -> usize {
    disk.names(Path::new("/store/journal")).iter().filter(|name| name.starts_with("pool-")).count()
}

/// How it ends: the disk is made writable again under the running store, or after a kill or a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Heals,
    Kill,
    PowerCut,
}

#[test]
fn a_disk_that_becomes_read_only_refuses_says_what_to_do_and_loses_nothing_acknowledged() {
    for (seed, end) in (0..12).zip([End::Heals, End::Kill, End::PowerCut].into_iter().cycle()) {
        let disk = SimDisk::new(seed);
        let captured = Captured::default();
        let writer = captured.clone();
        let log = logs::subscriber(logs::Format::Text, "info", move || writer.clone()).unwrap();
        let _logged = tracing::subscriber::set_default(log);
        // While there is only one subscriber, a line that another thread's test reaches first is switched off for all.
        let _other = tracing::Dispatch::new(logs::subscriber(logs::Format::Text, "info", io::sink).unwrap());
        run(async {
            let store = open(&disk).await.unwrap();
            for n in 0..EVENTS {
                store.accept(new(n)).await.unwrap();
            }
            let pending = store.pending_after(0, usize::MAX).await.unwrap();
            store.settle(settlement(&pending[0], OutcomeKind::Delivered)).await.unwrap();
            tokio::time::sleep(Duration::from_secs(3)).await;
            let set_aside = pooled(&disk);
            // Half of them say first that an error happened.
            disk.set(if seed % 2 == 1 { Faults { all_fail: true, ..Faults::default() } } else { read_only() });
            let unknown = store.accept(new(1000));
            tokio::time::sleep(Duration::from_secs(2)).await;
            disk.set(read_only());
            // Whether it landed nobody can know before it is voided by a write.
            assert_eq!(unknown.await, Err(CommitError::Unknown));
            let delivered = store.settle(settlement(&pending[1], OutcomeKind::Delivered));
            for n in 2000..2100 {
                assert!(matches!(store.accept(new(n)).await, Err(CommitError::Refused(_))));
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            let reason = store.stats().unwritable.unwrap();
            assert!(reason.contains("read-only") && reason.contains("mount it writable again"), "{reason}");
            let said = String::from_utf8(captured.0.lock().clone()).unwrap();
            assert!(said.contains("ERROR") && said.contains("mount it writable again"), "{said}");
            // What is stored can be read, old and new, listed and copied.
            for n in 0..EVENTS {
                assert_eq!(store.event(event(n).id).await.unwrap(), Some(event(n)));
            }
            assert_eq!(store.list(&EventFilter::default(), None, 1000).await.unwrap().0.len() as u64, EVENTS);
            if end == End::Heals {
                disk.set(Faults::default());
                delivered.await.unwrap();
                store.accept(new(3000)).await.unwrap();
                tokio::time::sleep(Duration::from_secs(3)).await;
                assert_eq!((store.stats().unwritable, pooled(&disk)), (None, set_aside), "nothing is left over of all those tries");
            }
        });
        if end == End::PowerCut {
            disk.cut_power();
        }
        disk.set(Faults::default());
        run(async {
            let store = open(&disk).await.unwrap();
            for n in 0..EVENTS {
                assert_eq!(store.event(event(n).id).await.unwrap(), Some(event(n)), "{end:?}");
            }
            for n in 2000..2100 {
                assert_eq!(store.event(event(n).id).await.unwrap(), None, "what was refused never comes back");
            }
            let (pending, is_healed) = (store.pending_after(0, usize::MAX).await.unwrap(), end == End::Heals);
            let waits = |n: u64| pending.iter().any(|pending| pending.id.event == event(n).id);
            assert_eq!((waits(0), waits(1), waits(2), waits(3000)), (false, !is_healed, true, is_healed), "{end:?}");
            assert!(!is_healed || !waits(1000), "it was voided");
            store.accept(new(4000)).await.unwrap();
            store.close().await;
        });
        assert!(run(tools::check(&disk, Path::new("/store"), &mut |_| {})).unwrap().damage.is_empty());
    }
}

/// Its copy goes to another disk.
#[test]
fn a_store_is_not_opened_on_a_read_only_disk_but_says_why() {
    let disk = SimDisk::new(1);
    run(async {
        let store = open(&disk).await.unwrap();
        store.accept(new(1)).await.unwrap();
        store.close().await;
        disk.set(read_only());
        let error = open(&disk).await.err().unwrap().to_string();
        assert!(error.contains("read-only") && error.contains("mount it writable again"), "{error}");
        assert!(tools::check(&disk, Path::new("/store"), &mut |_| {}).await.unwrap().damage.is_empty());
    });
}
