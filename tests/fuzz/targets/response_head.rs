//! libFuzzer's way into `response_head`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| warpdrive_fuzz::response_head::check(input));
