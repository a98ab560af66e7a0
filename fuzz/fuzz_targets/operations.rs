//! libFuzzer's way into [`fuzz::operations`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::operations(data));
