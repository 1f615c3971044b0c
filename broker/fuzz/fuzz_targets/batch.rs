#![no_main]
//! See `chronik_fuzz::batch`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| chronik_fuzz::batch(data));
