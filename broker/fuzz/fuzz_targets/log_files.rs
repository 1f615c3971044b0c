#![no_main]
//! See `chronik_fuzz::log_files`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| chronik_fuzz::log_files(data));
