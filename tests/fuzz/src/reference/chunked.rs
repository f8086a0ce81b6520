//! The chunked coding (RFC 9112 7.1), one body from bytes that are all here.

use super::Reading;
use super::fields::{self, Field};

/// A size line with its end, and a trailer section, in bytes; and its fields.
const LINE_MAX: usize = 4096;
/// What all size lines may have beyond 16 bytes each and twice the data of their chunks.
const EXCESS_MAX: u64 = 16 * 1024;
const TRAILERS_MAX: usize = 16 * 1024;
const TRAILER_FIELDS_MAX: usize = 64;

/// A body, and how much of the bytes it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunked {
    pub data: Vec<u8>,
    /// As they were sent.
    pub trailers: Vec<Field>,
    pub len: usize,
}

pub fn body(text: &[u8]) -> Reading<Chunked> {
    let (data, end) = data_and_end(text);
    end.map(|(trailers, len)| Chunked { data, trailers, len })
}

/// The data as far as it is here, and the trailers with the length of it all.
pub fn data_and_end(text: &[u8]) -> (Vec<u8>, Reading<(Vec<Field>, usize)>) {
    let (mut data, mut at, mut excess) = (Vec::new(), 0, 0_u64);
    let end = loop {
        let (size, line) = match size_line(&text[at..]) {
            Reading::Whole(whole) => whole,
            Reading::Incomplete => break Reading::Incomplete,
            Reading::Refused(reason) => break Reading::Refused(reason),
        };
        at += line;
        if size == 0 {
            break trailer_section(&text[at..]).map(|(trailers, len)| (trailers, at + len));
        }
        excess = (excess + line as u64).saturating_sub(size.saturating_mul(2).saturating_add(16));
        if excess > EXCESS_MAX {
            break Reading::Refused("extensions that outweigh the data");
        }
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let (chunk, after) = text[at..].split_at(size.min(text.len() - at));
        data.extend_from_slice(chunk);
        if chunk.len() < size {
            break Reading::Incomplete;
        }
        match after {
            [b'\r', b'\n', ..] => at += size + 2,
            [] | [b'\r'] => break Reading::Incomplete,
            _ => break Reading::Refused("a chunk that does not end where it should"),
        }
    };
    (data, end)
}

/// The size that a line says, and the line's length.
fn size_line(text: &[u8]) -> Reading<(u64, usize)> {
    let Some(end) = text.iter().position(|byte| *byte == b'\n') else {
        return if text.len() > LINE_MAX { Reading::Refused("a long line") } else { Reading::Incomplete };
    };
    if end + 1 > LINE_MAX {
        return Reading::Refused("a long line");
    }
    let Some(line) = text[..end].strip_suffix(b"\r") else { return Reading::Refused("a bare line feed") };
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let is_extended = match &line[digits..] {
        [] => true,
        [b';', extension @ ..] => extension.iter().all(|byte| fields::is_text(*byte)),
        _ => false,
    };
    if digits == 0 || digits > 15 || !is_extended {
        return Reading::Refused("no chunk size");
    }
    let size = String::from_utf8_lossy(&line[..digits]);
    match u64::from_str_radix(&size, 16) {
        Ok(size) => Reading::Whole((size, end + 1)),
        Err(_) => Reading::Refused("no chunk size"),
    }
}

fn trailer_section(text: &[u8]) -> Reading<(Vec<Field>, usize)> {
    let (lines, len) = match fields::lines(text) {
        Reading::Whole(whole) => whole,
        Reading::Incomplete if text.len() > TRAILERS_MAX => return Reading::Refused("long trailers"),
        Reading::Incomplete => return Reading::Incomplete,
        Reading::Refused(reason) => return Reading::Refused(reason),
    };
    if len > TRAILERS_MAX || lines.len() > TRAILER_FIELDS_MAX {
        return Reading::Refused("long trailers");
    }
    let read: Option<Vec<Field>> = lines.iter().map(|line| fields::field(line)).collect();
    match read {
        Some(fields) => Reading::Whole((fields, len)),
        None => Reading::Refused("no trailer"),
    }
}
