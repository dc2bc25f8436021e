//! The stored format, version 1, for ever (I12): a store written by the first program that had it.
//!
//! `KURIER_WRITE_FIXTURE=1` writes it, into a folder that must not exist: version 1 is written once.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use kurier::model::{DeliveryState, OutcomeKind};
use kurier::store::local::{LocalOptions, LocalStore};
use kurier::store::{EventFilter, NewEvent, Store};

use super::make::{at, clock, event, keyed, new, settlement, to};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/store-v1")
}

async fn open(path: &Path) -> LocalStore {
    let options = LocalOptions { segment_bytes: 64 * 1024, retention: std::time::Duration::MAX, ..LocalOptions::new(path) };
    LocalStore::open(options, clock(), None).await.unwrap()
}

/// Every kind of record, every optional part present and absent.
async fn write(path: &Path) {
    let store = open(path).await;
    for n in 0..16 {
        store.accept(NewEvent { deliveries: vec![to("erp"), to("books")], ..keyed(n, u8::try_from(n).unwrap(), 1 << 40) }).await.unwrap();
    }
    for (n, pending) in store.pending_after(0, 24).await.unwrap().iter().enumerate() {
        store.settle(settlement(pending, [OutcomeKind::Delivered, OutcomeKind::Retry, OutcomeKind::Rejected][n % 3])).await.unwrap();
    }
    store.accept(new(100)).await.unwrap();
    store.accept(keyed(101, 5, 10)).await.unwrap();
    store.replay(event(0).id, vec![to("erp")]).await.unwrap();
    store.set_state("pause/erp".to_owned(), Some(Bytes::from_static(b"410"))).await.unwrap();
    store.set_state("gone".to_owned(), Some(Bytes::from_static(b"x"))).await.unwrap();
    store.set_state("gone".to_owned(), None).await.unwrap();
    store.close().await;
}

#[tokio::test]
async fn a_store_of_version_1_opens() {
    let fixture = folder();
    if std::env::var_os("KURIER_WRITE_FIXTURE").is_some() {
        assert!(!fixture.exists(), "version 1 is written once");
        write(&fixture).await;
        std::fs::remove_dir_all(fixture.join("index")).unwrap();
        std::fs::remove_file(fixture.join("inflight")).unwrap();
        std::fs::remove_file(fixture.join("journal/0000000000000002.seg")).unwrap();
    }
    let copy = tempfile::tempdir().unwrap();
    std::fs::create_dir(copy.path().join("journal")).unwrap();
    for name in ["format", "journal/0000000000000001.seg"] {
        std::fs::copy(fixture.join(name), copy.path().join(name)).unwrap();
    }
    let store = open(copy.path()).await;
    let (items, _) = store.list(&EventFilter::default(), None, 100).await.unwrap();
    let expected: Vec<_> = (0..16).chain([100]).rev().map(|n| event(n).id).collect();
    assert_eq!(items.iter().map(|item| item.event.id).collect::<Vec<_>>(), expected);
    for n in (0..16).chain([100]) {
        assert_eq!(store.event(event(n).id).await.unwrap(), Some(event(n)));
    }
    let record = store.record(event(0).id).await.unwrap().unwrap();
    assert_eq!(record.deliveries.iter().map(|delivery| delivery.state.word()).collect::<Vec<_>>(), ["delivered", "pending", "pending"]);
    assert_eq!(record.deliveries[1].state, DeliveryState::Pending { due: at(60) });
    assert_eq!(record.attempts.len(), 2);
    assert_eq!(store.record(event(5).id).await.unwrap().unwrap().repeats, 1);
    let dead = EventFilter { state: Some("dead".to_owned()), ..EventFilter::default() };
    assert_eq!(store.list(&dead, None, 100).await.unwrap().0.len(), 8);
    let states = store.states("").await.unwrap();
    assert_eq!(states.into_iter().collect::<Vec<_>>(), [("pause/erp".to_owned(), Bytes::from_static(b"410"))]);
    let repeat = store.accept(keyed(200, 7, 10)).await.unwrap();
    assert_eq!((repeat.event(), repeat.answer().body.as_ref()), (event(7).id, b"first was 7".as_slice()));
    store.close().await;
}

/// A segment into which a dedupe key and a waiting event had moved; all older ones are gone.
#[tokio::test]
async fn a_store_of_version_1_with_keys_that_moved_opens() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/store-v1-moved");
    let segment = "journal/0000000000000004.seg";
    if std::env::var_os("KURIER_WRITE_FIXTURE").is_some() && !fixture.exists() {
        let whole = tempfile::tempdir().unwrap();
        write_moved(whole.path()).await;
        std::fs::create_dir_all(fixture.join("journal")).unwrap();
        for name in ["format", segment] {
            std::fs::copy(whole.path().join(name), fixture.join(name)).unwrap();
        }
    }
    let copy = tempfile::tempdir().unwrap();
    std::fs::create_dir(copy.path().join("journal")).unwrap();
    for name in ["format", segment] {
        std::fs::copy(fixture.join(name), copy.path().join(name)).unwrap();
    }
    let store = open(copy.path()).await;
    assert_eq!(store.event(event(1).id).await.unwrap(), None, "it went with its segment");
    let repeat = store.accept(keyed(9000, 1, 10)).await.unwrap();
    assert_eq!((repeat.is_repeat(), repeat.event(), repeat.answer()), (true, event(1).id, &keyed(1, 1, 1).answer));
    let record = store.record(event(2).id).await.unwrap().unwrap();
    assert_eq!((record.event, record.repeats, record.deliveries[0].state.word()), (event(2), 2, "pending"));
    let repeat = store.accept(keyed(9001, 2, 10)).await.unwrap();
    assert_eq!((repeat.is_repeat(), repeat.event(), repeat.answer()), (true, event(2).id, &keyed(2, 2, 1).answer));
    store.close().await;
}

/// Event 1 is delivered, event 2 waits, and both have keys; others pass until their segments have gone.
async fn write_moved(path: &Path) {
    let options = LocalOptions { segment_bytes: 64 * 1024, max_size: 6 * 64 * 1024, ..LocalOptions::new(path) };
    let store = LocalStore::open(options, clock(), None).await.unwrap();
    store.accept(NewEvent { deliveries: Vec::new(), ..keyed(1, 1, 1 << 40) }).await.unwrap();
    store.accept(keyed(2, 2, 1 << 40)).await.unwrap();
    store.accept(keyed(3, 2, 1 << 40)).await.unwrap();
    store.accept(keyed(4, 2, 1 << 40)).await.unwrap();
    let mut n = 100;
    while path.join("journal/0000000000000001.seg").exists() {
        drop(store.accept(NewEvent { deliveries: Vec::new(), ..new(n) }).await);
        n += 1;
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    store.close().await;
}
