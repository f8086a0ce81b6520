//! libFuzzer's way into `target`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| warpdrive_fuzz::target::check(input));
