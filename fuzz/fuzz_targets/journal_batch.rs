//! Any bytes as a journal segment: damage, never a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    kurier::store::local::fuzz_batches(data);
});
