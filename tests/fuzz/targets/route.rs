//! libFuzzer's way into `route`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| warpdrive_fuzz::route::check(input));
