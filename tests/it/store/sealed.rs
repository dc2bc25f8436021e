//! Sealed states: nothing obtained stands in the clear, what is durable is found again, and an intent outlives a crash
//! with the value that it was about.

use std::path::Path;
use std::sync::Arc;

use kurier::model::Secret;
use kurier::store::local::tools;
use kurier::store::memory::{MemoryStore, Mood};
use kurier::store::{CommitError, SEALED_BYTES_MAX, Sealed, SealedError, SealedStates, Store};

use super::make::at;
use super::sim::{SimStore, open, open_with, options, run, segment};
use super::sim_disk::{Faults, SimDisk};

fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec())
}

fn key(number: u8) -> Secret {
    Secret::new(vec![number; 32])
}

fn shown(sealed: &Sealed) -> (Option<&str>, Option<kurier::model::Timestamp>) {
    (sealed.secret.as_ref().map(|secret| std::str::from_utf8(secret.expose()).unwrap()), sealed.intent)
}

async fn states(disk: &SimDisk) -> (Arc<SimStore>, SealedStates) {
    let store = open(disk).await.unwrap();
    (store.clone(), SealedStates::new(store, Some(&key(1))))
}

#[test]
fn a_secret_is_found_again_and_stands_nowhere_in_the_clear() {
    let disk = SimDisk::new(1);
    run(async {
        let (store, states) = states(&disk).await;
        assert_eq!(shown(&states.get("oauth/bank").await.unwrap()), (None, None));
        states.put("oauth/bank", &secret("first-token")).await.unwrap();
        states.put("oauth/shop", &secret("other-token")).await.unwrap();
        states.put("oauth/bank", &secret("token-of-today")).await.unwrap();
        store.close().await;
    });
    for needle in ["first-token", "other-token", "token-of-today"] {
        for folder in ["/store", "/store/journal"] {
            for name in disk.names(Path::new(folder)) {
                let bytes = disk.bytes(&Path::new(folder).join(&name));
                assert!(!bytes.windows(needle.len()).any(|window| window == needle.as_bytes()), "{needle} in {name}");
            }
        }
    }
    disk.cut_power();
    run(async {
        let (_store, states) = states(&disk).await;
        assert_eq!(shown(&states.get("oauth/bank").await.unwrap()), (Some("token-of-today"), None));
        states.remove("oauth/bank").await.unwrap();
        assert_eq!(shown(&states.get("oauth/bank").await.unwrap()), (None, None));
        assert_eq!(shown(&states.get("oauth/shop").await.unwrap()), (Some("other-token"), None));
    });
}

#[test]
fn the_same_secret_is_never_sealed_to_the_same_bytes() {
    let disk = SimDisk::new(1);
    run(async {
        let (store, states) = states(&disk).await;
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..50 {
            states.put("a", &secret("token")).await.unwrap();
            assert!(seen.insert(store.states("sealed/a").await.unwrap()["sealed/a"].clone()));
        }
    });
}

#[test]
fn a_crash_between_intent_and_token_leaves_both_the_intent_and_the_old_token() {
    for after in 0..40 {
        let disk = SimDisk::new(after);
        run(async {
            let (_store, states) = states(&disk).await;
            states.put("oauth/bank", &secret("old")).await.unwrap();
        });
        let (mut begun, mut stored) = (false, false);
        run(async {
            let (_store, states) = states(&disk).await;
            disk.set(Faults { freezes_after: Some(after), ..Faults::default() });
            let refresh = async {
                states.begin("oauth/bank", at(7)).await.unwrap();
                begun = true;
                // Here the old token is used up.
                states.put("oauth/bank", &secret("new")).await.unwrap();
                stored = true;
                std::future::pending::<()>().await;
            };
            tokio::select! {
                biased;
                () = disk.frozen() => {}
                () = refresh => {}
                () = tokio::time::sleep(std::time::Duration::from_millis(500)) => {}
            }
        });
        disk.set(Faults::default());
        disk.cut_power();
        run(async {
            let (_store, states) = states(&disk).await;
            let held = states.get("oauth/bank").await.unwrap();
            match (begun, stored) {
                (false, _) => assert!([(Some("old"), None), (Some("old"), Some(at(7)))].contains(&shown(&held)), "{after}"),
                (true, false) => assert!([(Some("old"), Some(at(7))), (Some("new"), None)].contains(&shown(&held)), "{after}"),
                (true, true) => assert_eq!(shown(&held), (Some("new"), None), "{after}"),
            }
        });
    }
}

#[test]
fn an_intent_stays_until_the_secret_is_replaced_or_the_intent_withdrawn() {
    let disk = SimDisk::new(1);
    run(async {
        let (_store, states) = states(&disk).await;
        states.begin("a", at(1)).await.unwrap();
        assert_eq!(shown(&states.get("a").await.unwrap()), (None, Some(at(1))), "the first one is being obtained");
        states.put("a", &secret("one")).await.unwrap();
        assert_eq!(shown(&states.get("a").await.unwrap()), (Some("one"), None));
        states.begin("a", at(2)).await.unwrap();
        states.begin("a", at(3)).await.unwrap();
        assert_eq!(shown(&states.get("a").await.unwrap()), (Some("one"), Some(at(2))), "since the first whose outcome is not known");
        states.withdraw("a").await.unwrap();
        assert_eq!(shown(&states.get("a").await.unwrap()), (Some("one"), None));
    });
}

#[test]
fn another_key_opens_nothing_says_what_to_do_and_leaves_everything() {
    let disk = SimDisk::new(1);
    run(async {
        let (store, states) = states(&disk).await;
        states.put("oauth/bank", &secret("token")).await.unwrap();
        let other = SealedStates::new(store.clone(), Some(&key(2)));
        let error = other.get("oauth/bank").await.err().unwrap();
        assert!(matches!(error, SealedError::OtherKey { .. }), "{error}");
        assert!(error.to_string().contains("put the former key back"), "{error}");
        assert!(matches!(other.begin("oauth/bank", at(1)).await, Err(SealedError::OtherKey { .. })));
        let without = SealedStates::new(store.clone(), None);
        let error = without.put("oauth/bank", &secret("x")).await.err().unwrap();
        assert!(error.to_string().contains("set `store.key`"), "{error}");
        assert!(matches!(without.get("oauth/bank").await, Err(SealedError::NoKey { .. })));
        assert_eq!(shown(&states.get("oauth/bank").await.unwrap()), (Some("token"), None));
        // A person authorized anew: the new key replaces what it can't open.
        other.put("oauth/bank", &secret("newer")).await.unwrap();
        assert!(matches!(states.get("oauth/bank").await, Err(SealedError::OtherKey { .. })));
    });
}

#[test]
fn a_value_opens_only_unchanged_under_its_own_name_and_in_its_own_store() {
    let disk = SimDisk::new(1);
    run(async {
        let (store, states) = states(&disk).await;
        states.put("a", &secret("token")).await.unwrap();
        let value = store.states("sealed/a").await.unwrap()["sealed/a"].to_vec();
        let is_unreadable = async |store: &Arc<SimStore>, name: &str, value: Vec<u8>| {
            store.set_state(format!("sealed/{name}"), Some(value.into())).await.unwrap();
            let held = SealedStates::new(store.clone(), Some(&key(1))).get(name).await;
            matches!(held, Err(SealedError::Unreadable { .. } | SealedError::OtherKey { .. }))
        };
        assert!(is_unreadable(&store, "b", value.clone()).await, "another name");
        for at in 0..value.len() {
            let mut flipped = value.clone();
            flipped[at] ^= 1;
            assert!(is_unreadable(&store, "a", flipped).await, "byte {at}");
        }
        for length in 0..value.len() {
            assert!(is_unreadable(&store, "a", value[..length].to_vec()).await, "{length} bytes");
        }
        let other = open_with(&SimDisk::new(2), options()).await.unwrap();
        assert!(is_unreadable(&other, "a", value.clone()).await, "another store");
        assert!(!is_unreadable(&store, "a", value).await);
    });
}

#[test]
fn a_restored_backup_opens_its_secrets() {
    let disk = SimDisk::new(1);
    run(async {
        let (store, states) = states(&disk).await;
        states.put("a", &secret("token")).await.unwrap();
        store.close().await;
        tools::copy(&disk, Path::new("/store"), Path::new("/copy"), &mut |_| {}).await.unwrap();
        let copy = open_with(&disk, kurier::store::local::LocalOptions { path: "/copy".into(), ..options() }).await.unwrap();
        assert_eq!(shown(&SealedStates::new(copy, Some(&key(1))).get("a").await.unwrap()), (Some("token"), None));
    });
    assert!(!disk.bytes(&segment(1)).is_empty());
}

#[tokio::test]
async fn what_is_not_durable_is_an_error() {
    let store = Arc::new(MemoryStore::new());
    let states = SealedStates::new(store.clone(), Some(&key(1)));
    states.put("a", &secret("one")).await.unwrap();
    store.set_mood(Mood::Refusing);
    assert!(matches!(states.begin("a", at(1)).await, Err(SealedError::Commit { error: CommitError::Refused(_), .. })));
    store.set_mood(Mood::Unknowing);
    assert!(matches!(states.put("a", &secret("two")).await, Err(SealedError::Commit { error: CommitError::Unknown, .. })));
    store.set_mood(Mood::Willing);
    let long = Secret::new(vec![7; SEALED_BYTES_MAX + 1]);
    assert!(matches!(states.put("a", &long).await, Err(SealedError::TooLong { .. })));
    states.put("a", &Secret::new(vec![7; SEALED_BYTES_MAX])).await.unwrap();
    assert_eq!(states.get("a").await.unwrap().secret.unwrap().expose().len(), SEALED_BYTES_MAX);
}
