//! libFuzzer's way into [`fuzz::split`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::split(data));
