//! Any text as routes.yaml: problems, never a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    kurier::config::fuzz_routes(data);
});
