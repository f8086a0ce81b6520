//! A request's target and host, and the forms of its path.
//!
//! - The *normal* form is forwarded: percent-encoding of unreserved characters undone, the digits
//!   of other escapes in upper case, dot segments removed (RFC 3986 6.2.2).
//! - The *canonical* form is matched: the normal one with every escape undone whose character may
//!   stand in a path literally, and without empty segments. Applications take `//admin` and
//!   `/%61dmin` for `/admin`, so a rule about `/admin` has to as well.
//!
//! Hosts are in lower case, without port and final dot. Hot path: a path without `%`, `//` and `/.`
//! has all its forms in one place.

use std::ops::Range;

use super::fields::{Fields, Span};
use super::head::Method;

/// Spans into the bytes of the request's fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// In normal form; starts with `/`, or is `*`.
    pub path: Span,
    /// In canonical form.
    pub canonical: Span,
    /// Something in the path is not read alike by all programs: see [`super::readings`].
    pub has_readings: bool,
    /// With its `?`; empty if there is none.
    pub query: Span,
    /// What is matched; empty if an HTTP/1.0 client named no host.
    pub host: Span,
    /// Host and port as the client gave them, for `Host`.
    pub authority: Span,
    /// The target named the host itself (absolute form), so that `Host` does not count.
    pub is_absolute: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Character,
    Form,
    Escape,
    NulEscape,
    SlashEscape,
    /// Another common reading of the path leads to a route with guards that its own has not.
    Ambiguous,
    Host,
}

/// What becomes of an encoded slash, `%2F`, in a path. It is no border between segments, but
/// what is behind us may take it for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodedSlash {
    /// It stays what it is, a part of its segment.
    Keep,
    /// The request is refused.
    Reject,
}

impl EncodedSlash {
    /// Looks at a path in normal form.
    ///
    /// # Errors
    /// It has an encoded slash, and must not.
    pub fn check(self, path: &[u8]) -> Result<(), Fault> {
        match self {
            EncodedSlash::Reject if memchr::memmem::find(path, b"%2F").is_some() => Err(Fault::SlashEscape),
            EncodedSlash::Keep | EncodedSlash::Reject => Ok(()),
        }
    }
}

impl Fault {
    pub fn reason(self) -> &'static str {
        match self {
            Fault::Character => "invalid character in the request target",
            Fault::Form => "invalid form of the request target",
            Fault::Escape => "malformed percent-encoding in the path",
            Fault::NulEscape => "NUL in the path",
            Fault::SlashEscape => "encoded slash in the path",
            Fault::Ambiguous => "ambiguous path",
            Fault::Host => "invalid host",
        }
    }
}

impl Target {
    /// Parses the target that lies at `raw` of the bytes of `fields`. A normal form that
    /// differs is appended to them.
    pub fn parse(fields: &mut Fields, raw: Span, method: Method) -> Result<Target, Fault> {
        let text = fields.bytes(raw);
        let mut target = Target::default();
        let rest = match text {
            b"*" if method == Method::Options => {
                target.path = raw;
                target.canonical = raw;
                return Ok(target);
            }
            [b'/', ..] => raw,
            _ => {
                let scheme = scheme_len(text).ok_or(Fault::Form)?;
                let after = &text[scheme..];
                let end = after.iter().position(|byte| matches!(byte, b'/' | b'?'));
                let end = end.unwrap_or(after.len());
                target.authority = raw.skip(scheme).take(end);
                target.is_absolute = true;
                raw.skip(scheme + end)
            }
        };
        let shape = Shape::of(fields.bytes(rest))?;
        target.path = rest.take(shape.path_len);
        target.query = rest.skip(shape.path_len);
        target.has_readings = shape.has_readings;
        if target.path.is_empty() {
            target.path = fields.push_bytes(b"/");
        } else if !shape.is_normal {
            let normal = normalise(fields.bytes(target.path))?;
            target.path = fields.push_bytes(&normal);
        }
        target.canonical = target.path;
        if !shape.is_canonical {
            let canonical = canonicalise(fields.bytes(target.path));
            target.canonical = fields.push_bytes(&canonical);
        }
        if target.is_absolute {
            target.host = host(fields, target.authority)?;
        }
        Ok(target)
    }

    /// Takes the value of `Host`, unless the target named the host itself.
    pub fn take_host(&mut self, fields: &mut Fields, authority: Span) -> Result<(), Fault> {
        let host = host(fields, authority)?;
        if !self.is_absolute {
            self.host = host;
            self.authority = authority;
        }
        Ok(())
    }
}

/// The length of `http://` or `https://`, if more follows it.
fn scheme_len(text: &[u8]) -> Option<usize> {
    let starts =
        |scheme: &&[u8]| text.len() > scheme.len() && text[..scheme.len()].eq_ignore_ascii_case(scheme);
    [&b"http://"[..], &b"https://"[..]].into_iter().find(starts).map(<[u8]>::len)
}

struct Shape {
    path_len: usize,
    is_normal: bool,
    is_canonical: bool,
    has_readings: bool,
}

impl Shape {
    /// Path and query are visible ASCII without a fragment. Without a branch in them, the loops
    /// are vectorised.
    fn of(text: &[u8]) -> Result<Shape, Fault> {
        let mut is_invalid = false;
        for &byte in text {
            is_invalid |= (byte <= b' ') | (byte >= 0x7f) | (byte == b'#');
        }
        if is_invalid {
            return Err(Fault::Character);
        }
        let path_len = memchr::memchr(b'?', text).unwrap_or(text.len());
        let path = &text[..path_len];
        let (mut has_escape, mut has_dot, mut has_empty, mut has_other) = (false, false, false, false);
        for (before, &byte) in path.iter().zip(path.get(1..).unwrap_or_default()) {
            has_escape |= byte == b'%';
            has_dot |= (byte == b'.') & (*before == b'/');
            has_empty |= (byte == b'/') & (*before == b'/');
            has_other |= (byte == b';') | (byte == b'\\');
        }
        Ok(Shape {
            path_len,
            is_normal: !(has_escape | has_dot),
            is_canonical: !(has_escape | has_empty),
            // An escape may be that of a separator.
            has_readings: has_escape | has_empty | has_other,
        })
    }
}

/// The normal form of a path that starts with `/`.
pub fn normalise(path: &[u8]) -> Result<Vec<u8>, Fault> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        if *byte != b'%' {
            decoded.push(*byte);
            continue;
        }
        let (value, tail) = escaped(rest).ok_or(Fault::Escape)?;
        match value {
            0 => return Err(Fault::NulEscape),
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => decoded.push(value),
            _ => {
                decoded.push(b'%');
                decoded.extend(rest[..2].iter().map(u8::to_ascii_uppercase));
            }
        }
        rest = tail;
    }
    Ok(remove_dot_segments(&decoded))
}

/// The canonical form of a path in normal form that starts with `/`.
pub fn canonicalise(normal: &[u8]) -> Vec<u8> {
    let mut canonical = Vec::with_capacity(normal.len());
    push_canonical(&mut canonical, normal, true);
    canonical
}

/// Appends the canonical form; without `merges`, empty segments stay.
pub(super) fn push_canonical(canonical: &mut Vec<u8>, normal: &[u8], merges: bool) {
    let mut rest = normal;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match byte {
            b'%' => match escaped(rest) {
                Some((value, tail)) if is_literal(value) => {
                    canonical.push(value);
                    rest = tail;
                }
                _ => canonical.push(b'%'),
            },
            b'/' if merges && canonical.last() == Some(&b'/') => {}
            _ => canonical.push(*byte),
        }
    }
}

/// For each byte of the canonical form of a path, where in its normal form it comes from. Of several
/// slashes the first remains, and the others come from nowhere.
pub fn sources(normal: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    let mut was_slash = false;
    std::iter::from_fn(move || {
        while was_slash && normal.get(at) == Some(&b'/') {
            at += 1;
        }
        let start = at;
        let first = *normal.get(start)?;
        was_slash = first == b'/';
        let is_escape =
            first == b'%' && escaped(&normal[start + 1..]).is_some_and(|(value, _)| is_literal(value));
        at += if is_escape { 3 } else { 1 };
        Some(start..at)
    })
}

/// What a percent sign and the digits that `rest` begins with stand for, and what follows them.
pub(super) fn escaped(rest: &[u8]) -> Option<(u8, &[u8])> {
    let [high, low, tail @ ..] = rest else { return None };
    Some((hex(*high)? << 4 | hex(*low)?, tail))
}

/// Whether an escape of this character says no more than the character itself: all that we take
/// in a path, but for those that would divide it, end it, or begin an escape.
fn is_literal(value: u8) -> bool {
    value.is_ascii_graphic() && !matches!(value, b'/' | b'%' | b'?' | b'#')
}

/// RFC 3986 5.2.4, for a path that starts with `/`; `..` above the root stays at the root.
pub(super) fn remove_dot_segments(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut segments = path[1..].split(|&byte| byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            b"." | b".." => {
                if segment == b".." {
                    let parent = out.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
                    out.truncate(parent);
                }
                if is_last {
                    out.push(b'/');
                }
            }
            _ => {
                out.push(b'/');
                out.extend_from_slice(segment);
            }
        }
    }
    out
}

/// The value of a hexadecimal digit.
pub(super) fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// The host of `host [":" port]` in normal form. Names are letters, digits, `-`, `.`, `_`;
/// an IPv6 address stands in brackets.
fn host(fields: &mut Fields, authority: Span) -> Result<Span, Fault> {
    let text = fields.bytes(authority);
    let host_len = match text {
        [b'[', ..] => text.iter().position(|&byte| byte == b']').ok_or(Fault::Host)? + 1,
        _ => memchr::memchr(b':', text).unwrap_or(text.len()),
    };
    let (name, port) = text.split_at(host_len);
    if !is_host(name) || !is_port(port) {
        return Err(Fault::Host);
    }
    let kept = name.len() - usize::from(name.ends_with(b"."));
    if kept == 0 || name[..kept].ends_with(b".") {
        return Err(Fault::Host);
    }
    let mut has_upper = false;
    for byte in name {
        has_upper |= byte.is_ascii_uppercase();
    }
    if !has_upper {
        return Ok(authority.take(kept));
    }
    let lower = name[..kept].to_ascii_lowercase();
    Ok(fields.push_bytes(&lower))
}

/// Whether it is a host, with or without a port.
pub fn is_authority(text: &[u8]) -> bool {
    let mut fields = Fields::default();
    let authority = fields.push_bytes(text);
    host(&mut fields, authority).is_ok()
}

fn is_host(name: &[u8]) -> bool {
    match name {
        [] => false,
        [b'[', address @ .., b']'] => {
            std::str::from_utf8(address).is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok())
        }
        _ => {
            let mut is_valid = true;
            for &byte in name {
                let letter = (byte | 0x20).wrapping_sub(b'a') < 26;
                let digit = byte.wrapping_sub(b'0') < 10;
                is_valid &= letter | digit | (byte == b'-') | (byte == b'.') | (byte == b'_');
            }
            is_valid
        }
    }
}

fn is_port(port: &[u8]) -> bool {
    match port {
        [] => true,
        [b':', digits @ ..] => {
            digits.len() <= 5
                && digits.iter().all(u8::is_ascii_digit)
                && digits.iter().fold(0, |port, digit| port * 10 + u32::from(digit - b'0')) < 65_536
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(raw: &str, host: &str) -> Result<(String, String, String), Fault> {
        let mut fields = Fields::default();
        let target_span = fields.push_bytes(raw.as_bytes());
        let host_span = fields.push_bytes(host.as_bytes());
        let mut target = Target::parse(&mut fields, target_span, Method::Options)?;
        target.take_host(&mut fields, host_span)?;
        let text = |span| String::from_utf8_lossy(fields.bytes(span)).into_owned();
        Ok((text(target.path), text(target.query), text(target.host)))
    }

    #[test]
    fn targets_come_in_three_forms() {
        let table: [(&str, &str, [&str; 3]); 8] = [
            ("/", "a", ["/", "", "a"]),
            ("/x?y=/../%zz", "A.example:80", ["/x", "?y=/../%zz", "a.example"]),
            ("/?", "a.", ["/", "?", "a"]),
            ("*", "a", ["*", "", "a"]),
            ("http://B.org:81/x", "a", ["/x", "", "b.org"]),
            ("HTTPS://b.org", "a", ["/", "", "b.org"]),
            ("http://b.org?q", "a", ["/", "?q", "b.org"]),
            ("/", "[::1]:8080", ["/", "", "[::1]"]),
        ];
        for (raw, host, [path, query, name]) in table {
            assert_eq!(parse(raw, host), Ok((path.into(), query.into(), name.into())), "{raw} {host}");
        }
    }

    #[test]
    fn what_is_not_a_target_or_host_is_refused() {
        let table = [
            ("x", "a", Fault::Form),
            ("ftp://x/", "a", Fault::Form),
            ("http://", "a", Fault::Form),
            ("/a#b", "a", Fault::Character),
            ("/a b", "a", Fault::Character),
            ("/\u{e9}", "a", Fault::Character),
            ("/%", "a", Fault::Escape),
            ("/%4", "a", Fault::Escape),
            ("/%g0", "a", Fault::Escape),
            ("/%00", "a", Fault::NulEscape),
            ("/", "", Fault::Host),
            ("/", ".", Fault::Host),
            ("/", "a..", Fault::Host),
            ("/", "a b", Fault::Host),
            ("/", "a,b", Fault::Host),
            ("/", "u@a", Fault::Host),
            ("/", "a:x", Fault::Host),
            ("/", "a:65536", Fault::Host),
            ("/", "[::1", Fault::Host),
            ("/", "[zz]", Fault::Host),
            ("http://u@b/", "a", Fault::Host),
        ];
        for (raw, host, expected) in table {
            assert_eq!(parse(raw, host), Err(expected), "{raw} {host}");
        }
    }

    #[test]
    fn paths_are_matched_in_canonical_form() {
        let table = [
            ("/", "/"),
            ("//", "/"),
            ("/a//b///", "/a/b/"),
            ("/.//admin", "/admin"),
            ("/%40admin", "/@admin"),
            ("/a%3Bb%5Cc", "/a;b\\c"),
            ("/%7Bid%7D", "/{id}"),
            ("/a%2fb", "/a%2Fb"),
            ("/a%20b%25%3F%23%C3%A9", "/a%20b%25%3F%23%C3%A9"),
            ("/%2540", "/%2540"),
            ("/a/%2E%2E//%2e/b%21", "/b!"),
        ];
        for (raw, expected) in table {
            let mut fields = Fields::default();
            let span = fields.push_bytes(raw.as_bytes());
            let target = Target::parse(&mut fields, span, Method::Get).unwrap();
            let canonical = fields.bytes(target.canonical);
            assert_eq!(String::from_utf8_lossy(canonical), expected, "{raw}");
            assert_eq!(canonicalise(canonical), canonical, "canonical forms are fixed points");
            let normal = fields.bytes(target.path);
            let pieces: Vec<u8> = sources(normal).flat_map(|range| canonicalise(&normal[range])).collect();
            assert_eq!(pieces, canonical, "each byte comes from somewhere");
        }
    }

    #[test]
    fn paths_have_one_normal_form() {
        let table = [
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("/..", "/"),
            ("/../../x", "/x"),
            ("/%61dmin", "/admin"),
            ("/a/%2e%2E/b", "/b"),
            ("/a%2fb", "/a%2Fb"),
            ("/%7Euser", "/~user"),
            ("/a//b", "/a//b"),
            ("/.hidden", "/.hidden"),
            ("/a/...", "/a/..."),
            ("/%252e", "/%252e"),
        ];
        for (path, expected) in table {
            let normal = normalise(path.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(normal.clone()).unwrap(), expected, "{path}");
            assert_eq!(normalise(&normal).unwrap(), normal, "normal forms are fixed points");
        }
    }
}
