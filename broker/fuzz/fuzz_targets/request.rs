#![no_main]
//! See `chronik_fuzz::request`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| chronik_fuzz::request(data));
