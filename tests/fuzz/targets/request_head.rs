//! libFuzzer's way into `request_head`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| warpdrive_fuzz::request_head::check(input));
