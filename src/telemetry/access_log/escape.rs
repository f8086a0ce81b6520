//! Whatever a client sent, as a part of a line that it cannot end, colour or leave.
//!
//! What is written is visible ASCII, without bare quotes and backslashes: no control character of
//! any kind, C1 and terminals' included, no text that runs from right to left.
//! Hot path: text without anything of that is one append.

/// Between quotes of JSON: what is UTF-8 stays what it is, other bytes are U+FFFD.
pub fn push_json(out: &mut Vec<u8>, value: &[u8]) {
    if is_plain(value) {
        out.extend_from_slice(value);
    } else {
        push_json_escapes(out, value);
    }
}

/// Between quotes of the combined format: bytes as `\xhh`, as Apache writes them.
pub fn push_combined(out: &mut Vec<u8>, value: &[u8]) {
    if is_plain(value) {
        out.extend_from_slice(value);
    } else {
        push_combined_escapes(out, value);
    }
}

#[cold]
fn push_json_escapes(out: &mut Vec<u8>, value: &[u8]) {
    let push_unit = |out: &mut Vec<u8>, unit: u16| {
        out.extend_from_slice(b"\\u");
        let [high, low] = unit.to_be_bytes();
        out.extend(digits(high).into_iter().chain(digits(low)));
    };
    for chunk in value.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' | '\\' => out.extend([b'\\', character as u8]),
                ' '..='~' => out.push(character as u8),
                _ => character.encode_utf16(&mut [0; 2]).iter().for_each(|unit| push_unit(out, *unit)),
            }
        }
        if !chunk.invalid().is_empty() {
            push_unit(out, 0xfffd);
        }
    }
}

#[cold]
fn push_combined_escapes(out: &mut Vec<u8>, value: &[u8]) {
    for &byte in value {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', byte]),
            b' '..=b'~' => out.push(byte),
            _ => {
                out.extend_from_slice(b"\\x");
                out.extend(digits(byte));
            }
        }
    }
}

fn digits(byte: u8) -> [u8; 2] {
    let digit = |n: u8| b"0123456789abcdef"[usize::from(n)];
    [digit(byte >> 4), digit(byte & 15)]
}

/// Whether nothing in it needs an escape: 16 bytes at a time, or 8, of which the last may have
/// been looked at before.
fn is_plain(value: &[u8]) -> bool {
    if let Some(last) = value.last_chunk::<16>() {
        let (chunks, _) = value.as_chunks::<16>();
        return chunks.iter().fold(are_plain(last), |plain, chunk| plain & are_plain(chunk));
    }
    match (value.first_chunk::<8>(), value.last_chunk::<8>()) {
        (Some(first), Some(last)) => are_plain(first) & are_plain(last),
        _ => value.iter().all(|&byte| are_plain(&[byte])),
    }
}

/// Without a branch in it, the loop is one vector operation for each test.
fn are_plain<const N: usize>(bytes: &[u8; N]) -> bool {
    let mut needs_escape = false;
    for &byte in bytes {
        needs_escape |= !(b' '..=b'~').contains(&byte) | (byte == b'"') | (byte == b'\\');
    }
    !needs_escape
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escape_is_found_wherever_it_is_needed() {
        for len in 0..40 {
            let plain = vec![b'~'; len];
            assert!(is_plain(&plain), "{len}");
            for (at, byte) in
                (0..len).flat_map(|at| [0, 0x1f, b'"', b'\\', 0x7f, 0xff].map(|byte| (at, byte)))
            {
                let mut odd = plain.clone();
                odd[at] = byte;
                assert!(!is_plain(&odd), "{byte:#x} at {at} of {len}");
            }
        }
    }

    #[test]
    fn no_text_leaves_its_place() {
        let cases: [(&[u8], &str, &str); 7] = [
            (b"plain text", "plain text", "plain text"),
            (b"\"}\\\n", r#"\"}\\\u000a"#, r#"\"}\\\x0a"#),
            (b"\x1b[31m\x00\x7f", r"\u001b[31m\u0000\u007f", r"\x1b[31m\x00\x7f"),
            ("\u{fc}\u{1f600}".as_bytes(), r"\u00fc\ud83d\ude00", r"\xc3\xbc\xf0\x9f\x98\x80"),
            // CSI as one character, and an override of the direction.
            ("\u{9b}2J\u{202e}".as_bytes(), r"\u009b2J\u202e", r"\xc2\x9b2J\xe2\x80\xae"),
            (b"\xff\xc3", r"\ufffd\ufffd", r"\xff\xc3"),
            (b"", "", ""),
        ];
        for (value, json, combined) in cases {
            let mut out = Vec::new();
            push_json(&mut out, value);
            assert_eq!(out, json.as_bytes(), "{}", value.escape_ascii());
            out.clear();
            push_combined(&mut out, value);
            assert_eq!(out, combined.as_bytes(), "{}", value.escape_ascii());
        }
    }
}
