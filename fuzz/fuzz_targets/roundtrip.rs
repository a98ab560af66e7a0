//! libFuzzer's way into [`fuzz::roundtrip`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::roundtrip(data));
