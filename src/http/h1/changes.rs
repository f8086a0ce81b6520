//! Fields that the operator removes from a head, sets or replaces, after all else was written.
//!
//! Only routes that ask for it pay for it: the finished head is gone through once more.
//! Hot path, where a route has some: no allocation once the output has grown.

use crate::http::fields::{Known, is_same_name};

/// Fields that say how a message is framed, or belong to one connection: never the operator's.
pub fn is_fixed(name: &str) -> bool {
    let known = Known::of_any_spelling(name.as_bytes());
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

/// Removes the fields with one of these names, in whatever case and with `_` for `-`, from the head that `out` ends with, from `start`
/// on, and appends `lines`, whole fields with their line ends. The first line stays, and so does
/// the empty one at the end.
pub fn change(out: &mut Vec<u8>, start: usize, removed: &[impl AsRef<str>], lines: &[u8]) {
    debug_assert!(out.ends_with(b"\r\n\r\n"));
    if !removed.is_empty() {
        remove(out, start, removed);
    }
    if !lines.is_empty() {
        out.truncate(out.len() - 2);
        out.extend_from_slice(lines);
        out.extend_from_slice(b"\r\n");
    }
}

fn remove(out: &mut Vec<u8>, start: usize, names: &[impl AsRef<str>]) {
    let mut read = start + line_len(&out[start..]);
    let mut write = read;
    while read < out.len() {
        let len = line_len(&out[read..]);
        let line = &out[read..read + len];
        if !names.iter().any(|name| is_named(line, name.as_ref())) {
            out.copy_within(read..read + len, write);
            write += len;
        }
        read += len;
    }
    out.truncate(write);
}

fn line_len(head: &[u8]) -> usize {
    memchr::memchr(b'\n', head).map_or(head.len(), |at| at + 1)
}

fn is_named(line: &[u8], name: &str) -> bool {
    line.get(name.len()) == Some(&b':') && is_same_name(&line[..name.len()], name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_removed_by_name_and_appended() {
        let table: [(&str, &[&str], &str, &str); 6] = [
            (
                "GET / HTTP/1.1\r\nA: 1\r\nb: 2\r\na: 3\r\n\r\n",
                &["a"],
                "A: x\r\n",
                "GET / HTTP/1.1\r\nb: 2\r\nA: x\r\n\r\n",
            ),
            ("A: / HTTP/1.1\r\n\r\n", &["a"], "A: x\r\n", "A: / HTTP/1.1\r\nA: x\r\n\r\n"),
            (
                "GET / HTTP/1.1\r\nAb: 1\r\nC: 2\r\n\r\n",
                &["a", "C"],
                "A: x\r\nC: y\r\n",
                "GET / HTTP/1.1\r\nAb: 1\r\nA: x\r\nC: y\r\n\r\n",
            ),
            ("GET / HTTP/1.1\r\nA: 1\r\n\r\n", &[], "B: 2\r\n", "GET / HTTP/1.1\r\nA: 1\r\nB: 2\r\n\r\n"),
            (
                "GET / HTTP/1.1\r\nA_b: 1\r\nA-B: 2\r\nAb: 3\r\n\r\n",
                &["a-B"],
                "",
                "GET / HTTP/1.1\r\nAb: 3\r\n\r\n",
            ),
            ("GET / HTTP/1.1\r\nA: 1\r\n\r\n", &["A"], "", "GET / HTTP/1.1\r\n\r\n"),
        ];
        for (head, removed, lines, expected) in table {
            let mut out = b"before\r\n\r\n".to_vec();
            let start = out.len();
            out.extend_from_slice(head.as_bytes());
            change(&mut out, start, removed, lines.as_bytes());
            assert_eq!(String::from_utf8_lossy(&out[start..]), expected);
            assert!(out.starts_with(b"before\r\n\r\n"));
        }
    }

    #[test]
    fn framing_is_not_the_operators() {
        for name in [
            "Connection",
            "content-length",
            "Transfer-Encoding",
            "TE",
            "upgrade",
            "Trailer",
            "Content_Length",
        ] {
            assert!(is_fixed(name), "{name}");
        }
        for name in ["Host", "X-Forwarded-For", "Server", "Date", "Cookie"] {
            assert!(!is_fixed(name), "{name}");
        }
    }
}
