//! Fields of Protocol Buffers, as far as spans need them.
//!
//! Hot path: nothing is allocated once the output has grown.

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const LENGTH: u32 = 2;
const FIXED32: u32 = 5;

/// Bytes of the length of a nested message, which is known only when it was written. A number
/// may have more bytes than it needs.
const LENGTH_BYTES: usize = 4;

/// The most that such a length can say.
const LENGTH_MAX: usize = (1 << (7 * LENGTH_BYTES)) - 1;

pub fn push_varint(out: &mut Vec<u8>, field: u32, value: u64) {
    push_number(out, u64::from(field << 3 | VARINT));
    push_number(out, value);
}

pub fn push_fixed32(out: &mut Vec<u8>, field: u32, value: u32) {
    push_number(out, u64::from(field << 3 | FIXED32));
    out.extend_from_slice(&value.to_le_bytes());
}

pub fn push_fixed64(out: &mut Vec<u8>, field: u32, value: u64) {
    push_number(out, u64::from(field << 3 | FIXED64));
    out.extend_from_slice(&value.to_le_bytes());
}

pub fn push_double(out: &mut Vec<u8>, field: u32, value: f64) {
    push_fixed64(out, field, value.to_bits());
}

pub fn push_str(out: &mut Vec<u8>, field: u32, value: &str) {
    push_number(out, u64::from(field << 3 | LENGTH));
    push_number(out, value.len() as u64);
    out.extend_from_slice(value.as_bytes());
}

/// A string, which has to be UTF-8, of who knows what.
pub fn push_text(out: &mut Vec<u8>, field: u32, value: &[u8]) {
    match std::str::from_utf8(value) {
        Ok(value) => push_str(out, field, value),
        Err(_) => push_nested(out, field, |out| push_utf8(out, value)),
    }
}

/// Text with U+FFFD for what is not UTF-8.
pub fn push_utf8(out: &mut Vec<u8>, value: &[u8]) {
    for chunk in value.utf8_chunks() {
        out.extend_from_slice(chunk.valid().as_bytes());
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

/// A message, or whatever else has a length that is not known before.
pub fn push_nested(out: &mut Vec<u8>, field: u32, content: impl FnOnce(&mut Vec<u8>)) {
    push_number(out, u64::from(field << 3 | LENGTH));
    let start = out.len() + LENGTH_BYTES;
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    content(out);
    // Heads have less by far; a length that says less than there is would be another message.
    let length = (out.len() - start).min(LENGTH_MAX);
    out.truncate(start + length);
    for (at, byte) in out[start - LENGTH_BYTES..start].iter_mut().enumerate() {
        let more = if at + 1 < LENGTH_BYTES { 0x80 } else { 0 };
        *byte = (length >> (7 * at)) as u8 & 0x7f | more;
    }
}

fn push_number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
