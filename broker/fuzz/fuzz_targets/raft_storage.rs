#![no_main]
//! See `chronik_fuzz::raft_storage`.

libfuzzer_sys::fuzz_target!(|data: &[u8]| chronik_fuzz::raft_storage(data));
