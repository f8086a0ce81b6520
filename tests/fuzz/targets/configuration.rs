//! libFuzzer's way into `configuration`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| warpdrive_fuzz::configuration::check(input));
