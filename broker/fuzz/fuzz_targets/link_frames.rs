#![no_main]
//! See `chronik_fuzz::link_frames`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| chronik_fuzz::link_frames(data));
