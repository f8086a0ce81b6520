//! libFuzzer's way into `connection`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| warpdrive_fuzz::connection::check(input));
