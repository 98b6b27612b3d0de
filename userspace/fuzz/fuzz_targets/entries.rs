//! Any bytes are read as the value of a queue entry.
//!
//! Decides nothing: what must hold is in `understudy_fuzz`, where `cargo test` runs it too.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| understudy_fuzz::entries(input));
