//! Fields that the operator removes from a head, sets or replaces, after all else was written.
//!
//! Only routes that ask for it pay for it: the finished head is gone through once more.

use crate::http::fields::{Known, push_field};

/// Fields that say how a message is framed, or belong to one connection: never the operator's.
pub fn is_fixed(name: &str) -> bool {
    let known = Known::of(name.as_bytes());
    matches!(
        known,
        Known::Connection
            | Known::ContentLength
            | Known::Expect
            | Known::Http2Settings
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::Te
            | Known::Trailer
            | Known::TransferEncoding
            | Known::Upgrade
    )
}

/// Removes the fields of this name from the head that `out` ends with, from `start` on; its
/// first line stays, and so does the empty one at its end.
pub fn remove(out: &mut Vec<u8>, start: usize, name: &str) {
    let mut read = start + line_len(&out[start..]);
    let mut write = read;
    while read < out.len() {
        let len = line_len(&out[read..]);
        if !is_named(&out[read..read + len], name) {
            out.copy_within(read..read + len, write);
            write += len;
        }
        read += len;
    }
    out.truncate(write);
}

/// Appends a field to the head that `out` ends with.
pub fn append(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    debug_assert!(out.ends_with(b"\r\n\r\n"));
    out.truncate(out.len() - 2);
    push_field(out, name.as_bytes(), value);
    out.extend_from_slice(b"\r\n");
}

fn line_len(head: &[u8]) -> usize {
    memchr::memchr(b'\n', head).map_or(head.len(), |at| at + 1)
}

fn is_named(line: &[u8], name: &str) -> bool {
    line.get(name.len()) == Some(&b':') && line[..name.len()].eq_ignore_ascii_case(name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_removed_by_name_and_appended() {
        let table = [
            ("GET / HTTP/1.1\r\nA: 1\r\nb: 2\r\na: 3\r\n\r\n", "a", "GET / HTTP/1.1\r\nb: 2\r\nA: x\r\n\r\n"),
            ("A: / HTTP/1.1\r\n\r\n", "a", "A: / HTTP/1.1\r\nA: x\r\n\r\n"),
            ("GET / HTTP/1.1\r\nAb: 1\r\n\r\n", "a", "GET / HTTP/1.1\r\nAb: 1\r\nA: x\r\n\r\n"),
        ];
        for (head, name, expected) in table {
            let mut out = b"before\r\n\r\n".to_vec();
            let start = out.len();
            out.extend_from_slice(head.as_bytes());
            remove(&mut out, start, name);
            append(&mut out, "A", b"x");
            assert_eq!(String::from_utf8_lossy(&out[start..]), expected);
            assert!(out.starts_with(b"before\r\n\r\n"));
        }
    }

    #[test]
    fn framing_is_not_the_operators() {
        for name in ["Connection", "content-length", "Transfer-Encoding", "TE", "upgrade", "Trailer"] {
            assert!(is_fixed(name), "{name}");
        }
        for name in ["Host", "X-Forwarded-For", "Server", "Date", "Cookie"] {
            assert!(!is_fixed(name), "{name}");
        }
    }
}
