#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| seedring_fuzz::run("tracker_query", input));
