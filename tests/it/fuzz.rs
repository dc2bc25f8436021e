//! The fuzzers' corpora, replayed on stable: whatever once was interesting stays harmless.

use std::fs;

use crate::harness::repository;

fn replay(target: &str, run: impl Fn(&[u8])) {
    let folder = repository("fuzz/corpus").join(target);
    let mut inputs: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "{} is empty", folder.display());
    for input in inputs {
        run(&fs::read(&input).unwrap());
    }
}

#[test]
fn the_corpus_of_requests_under_any_scheme_is_harmless() {
    replay("request", |data| {
        kurier::signature::fuzz_scheme(data);
    });
}

#[test]
fn the_corpus_of_routes_yaml_is_harmless() {
    replay("routes_yaml", |data| {
        kurier::config::fuzz_routes(data);
    });
}

#[test]
fn the_corpus_of_journal_batches_is_harmless() {
    replay("journal_batch", |data| {
        kurier::store::local::fuzz_batches(data);
    });
}
