//! A scheme text and a request from the same bytes: compile, verify, never panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    kurier::signature::fuzz_scheme(data);
});
