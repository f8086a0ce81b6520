//! libFuzzer's way into `chunked`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| warpdrive_fuzz::chunked::check(input));
