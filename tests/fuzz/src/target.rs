//! Request targets and hosts. The input is a target and, after a line feed, a `Host`.

use warpdrive::http::fields::{Fields, Span};
use warpdrive::http::head::Method;
use warpdrive::http::readings;
use warpdrive::http::target::{Target, canonicalise, normalise};

use crate::reference::target;
use crate::shown;

/// What is matched and forwarded.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    path: Vec<u8>,
    query: Vec<u8>,
    host: Vec<u8>,
    authority: Vec<u8>,
}

pub fn check(input: &[u8]) {
    let line = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (raw, host) = (&input[..line], input.get(line + 1..).unwrap_or(b"a"));
    for method in [Method::Get, Method::Options] {
        let ours = parsed(raw, host, method);
        assert_eq!(ours, reference(raw, host, method), "{}", shown(input));
        if let Some(read) = ours {
            check_normal(&read);
            let again = [&read.path[..], &read.query].concat();
            assert_eq!(parsed(&again, &read.authority, method), Some(read), "forwarded as matched");
        }
    }
    if raw.starts_with(b"/") {
        assert_eq!(normalise(raw).ok(), target::normal(raw).or_else(|| not_text(raw)), "{}", shown(raw));
    }
}

/// The reference takes text only; what is not is refused before its path is looked at.
fn not_text(raw: &[u8]) -> Option<Vec<u8>> {
    if std::str::from_utf8(raw).is_ok() { None } else { normalise(raw).ok() }
}

fn parsed(raw: &[u8], host: &[u8], method: Method) -> Option<Read> {
    let mut fields = Fields::default();
    let raw = fields.push_bytes(raw);
    let host = fields.push_bytes(host);
    let mut target = Target::parse(&mut fields, raw, method).ok()?;
    target.take_host(&mut fields, host).ok()?;
    let text = |span: Span| fields.bytes(span).to_vec();
    Some(Read {
        path: text(target.path),
        query: text(target.query),
        host: text(target.host),
        authority: text(target.authority),
    })
}

fn reference(raw: &[u8], host: &[u8], method: Method) -> Option<Read> {
    let read = target::read(raw, method == Method::Options)?;
    target::host(host)?;
    let authority = read.authority.unwrap_or_else(|| host.to_vec());
    Some(Read { path: read.path, query: read.query, host: target::host(&authority)?, authority })
}

fn check_normal(read: &Read) {
    let path = &read.path[..];
    if path == b"*" {
        return;
    }
    assert!(path.starts_with(b"/"), "{}", shown(path));
    assert!(path.split(|byte| *byte == b'/').all(|segment| segment != b"." && segment != b".."));
    assert!(path.iter().all(u8::is_ascii_graphic) && !path.contains(&b'?') && !path.contains(&b'#'));
    assert_eq!(normalise(path).as_deref(), Ok(path), "a normal form is a fixed point");
    let canonical = canonicalise(path);
    assert_eq!(canonicalise(&canonical), canonical, "a canonical form is a fixed point");
    assert_eq!(normalise(&canonical).as_ref(), Ok(&canonical), "{}", shown(path));
    assert!(!canonical.windows(2).any(|two| two == b"//"), "{}", shown(&canonical));
    let mut readings = 0;
    readings::any(path, |reading| {
        readings += 1;
        assert!(reading.path.starts_with(b"/"), "{}", shown(reading.path));
        assert_eq!(normalise(reading.path).as_deref(), Ok(reading.path), "{}", shown(path));
        readings > 31
    });
    assert!(readings <= 31, "{readings} of {}", shown(path));
    for escape in path.split(|byte| *byte == b'%').skip(1) {
        let digits = std::str::from_utf8(&escape[..2]).expect("digits");
        let byte = u8::from_str_radix(digits, 16).expect("digits");
        assert!(!byte.is_ascii_alphanumeric() && !b"-._~\0".contains(&byte), "{}", shown(path));
        assert_eq!(digits, digits.to_ascii_uppercase());
    }
    assert_eq!(read.host, read.host.to_ascii_lowercase());
    assert!(!read.host.is_empty() && !read.host.ends_with(b"."));
}
