#![no_main]
//! See `chronik_fuzz::journal`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| chronik_fuzz::journal(data));
