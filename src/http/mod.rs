//! HTTP messages: bytes to types and back. No I/O, no clock, nothing of the plan.
//!
//! `head` and `fields` are what a message says, whatever version carried it; `known` and `trailers`
//! are what names of fields mean; `target` is the forms of host and path, `readings` what else
//! programs read out of a path; `framing` is where a body ends; `forwarding` is what a proxy changes on
//! the way, `told` a request's fields after that, `trace_context` its place in a trace,
//! `server_timing` what it tells of it; `h1` is HTTP/1.1's syntax.

pub mod date;
pub mod fields;
pub mod forwarding;
pub mod framing;
pub mod h1;
pub mod head;
pub mod known;
pub mod query;
pub mod readings;
pub mod server_timing;
pub mod status;
pub mod target;
pub mod told;
pub mod trace_context;
pub mod trailers;

use std::time::Duration;

/// Appends `number` in decimal digits.
pub fn push_decimal(out: &mut Vec<u8>, number: u64) {
    if number < 10 {
        out.push(b'0' + number as u8);
        return;
    }
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = number;
    while rest >= 100 {
        at -= 2;
        digits[at..at + 2].copy_from_slice(&two_digits(rest % 100));
        rest /= 100;
    }
    if rest >= 10 {
        at -= 2;
        digits[at..at + 2].copy_from_slice(&two_digits(rest));
    } else {
        at -= 1;
        digits[at] = b'0' + rest as u8;
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends a duration in milliseconds with three decimals.
pub fn push_millis(out: &mut Vec<u8>, duration: Duration) {
    let micros = duration.as_micros() as u64;
    push_decimal(out, micros / 1000);
    out.push(b'.');
    push_fraction(out, micros % 1000);
}

/// Appends a number below 1000 in three digits.
pub fn push_fraction(out: &mut Vec<u8>, thousandths: u64) {
    let digit = |n: u64| b'0' + (n % 10) as u8;
    out.extend([digit(thousandths / 100), digit(thousandths / 10), digit(thousandths)]);
}

/// The digits of a number below 100.
pub fn two_digits(number: u64) -> [u8; 2] {
    const PAIRS: [[u8; 2]; 100] = {
        let mut pairs = [[0; 2]; 100];
        let mut n = 0;
        while n < 100 {
            pairs[n] = [b'0' + (n / 10) as u8, b'0' + (n % 10) as u8];
            n += 1;
        }
        pairs
    };
    PAIRS[number as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_those_of_the_standard_library() {
        for number in [0, 7, 10, 99, 100, 12_345, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            push_decimal(&mut out, number);
            assert_eq!(out, number.to_string().into_bytes());
        }
    }
}
