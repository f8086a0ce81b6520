//! Heads of requests and responses (RFC 9112 3, 4 and 6).

use super::fields::{self, Field};
use super::target;
use super::{Body, Bounds, Reading};

/// The head of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub method: Vec<u8>,
    /// In normal form.
    pub path: Vec<u8>,
    pub query: Vec<u8>,
    pub host: Vec<u8>,
    pub authority: Vec<u8>,
    pub is_http10: bool,
    pub fields: Vec<Field>,
    pub body: Body,
    pub keep_alive: bool,
    pub expects_continue: bool,
    pub upgrade: Option<Vec<u8>>,
}

/// The head of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub phrase: Vec<u8>,
    pub is_http10: bool,
    pub fields: Vec<Field>,
    pub body: Body,
    pub keep_alive: bool,
    pub upgrade: Option<Vec<u8>>,
}

/// Who sent a request: a proxy says with an empty `Host` that it was told none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    Client,
    Proxy,
}

/// The head of a request after any empty lines, and where it ends.
pub fn request(text: &[u8], bounds: Bounds, sender: Sender) -> Reading<(Request, usize)> {
    let mut skipped = 0;
    while text[skipped..].starts_with(b"\r\n") {
        skipped += 2;
    }
    let (lines, len) = match fields::lines(&text[skipped..]) {
        Reading::Whole(whole) => whole,
        Reading::Incomplete => return Reading::Incomplete,
        Reading::Refused(reason) => return Reading::Refused(reason),
    };
    match whole_request(&lines, bounds, sender) {
        _ if skipped + len > bounds.head => Reading::Refused("a head that is too large"),
        Ok(request) => Reading::Whole((request, skipped + len)),
        Err(reason) => Reading::Refused(reason),
    }
}

fn whole_request(lines: &[&[u8]], bounds: Bounds, sender: Sender) -> Result<Request, &'static str> {
    let [line, rest @ ..] = lines else { return Err("no request line") };
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let &[method, raw, version] = &words[..] else { return Err("not three words") };
    let is_http10 = is_http10(version).ok_or("another version")?;
    if !fields::is_token(method) || method == b"CONNECT" {
        return Err("no method of ours");
    }
    if raw.len() > bounds.uri || line.len() > bounds.uri + target::LINE_MORE_MAX {
        return Err("a target that is too long");
    }
    let fields = read_fields(rest, bounds.fields)?;
    let body = fields::framing(&fields, is_http10, Body::Empty)?;
    let target = target::read(raw, method == b"OPTIONS").ok_or("no target")?;
    let (host, authority) = match (&fields::values(&fields, "host")[..], target.authority) {
        ([], _) if !is_http10 => return Err("no host"),
        ([_, _, ..], _) => return Err("two hosts"),
        ([b""], None) if sender == Sender::Proxy => (Vec::new(), Vec::new()),
        ([host], _) if target::host(host).is_none() => return Err("no such host"),
        (_, Some(authority)) => (target::host(&authority).ok_or("no such host")?, authority),
        ([host], None) => (target::host(host).ok_or("no such host")?, host.to_vec()),
        ([], None) => (Vec::new(), Vec::new()),
    };
    let may_upgrade = !is_http10
        && body == Body::Empty
        && fields::elements(&fields, "connection").contains(&b"upgrade".to_vec());
    let upgrade = fields::values(&fields, "upgrade").last().map(|value| value.to_vec());
    let is_upgrade = |value: &Vec<u8>| {
        let own = [(b"upgrade".to_vec(), value.clone())];
        may_upgrade && !fields::elements(&own, "upgrade").contains(&b"h2c".to_vec())
    };
    let expected = fields::values(&fields, "expect").last().map(|value| value.to_ascii_lowercase());
    Ok(Request {
        method: method.to_vec(),
        path: target.path,
        query: target.query,
        host,
        authority,
        is_http10,
        body,
        keep_alive: fields::persists(&fields, is_http10),
        expects_continue: !is_http10 && expected.as_deref() == Some(b"100-continue"),
        upgrade: upgrade.filter(is_upgrade),
        fields,
    })
}

/// The head of a response to a request with this method, and where it ends.
pub fn response(text: &[u8], bounds: Bounds, to_head_request: bool) -> Reading<(Response, usize)> {
    let (lines, len) = match fields::lines(text) {
        Reading::Whole(whole) => whole,
        Reading::Incomplete => return Reading::Incomplete,
        Reading::Refused(reason) => return Reading::Refused(reason),
    };
    match whole_response(&lines, bounds, to_head_request) {
        _ if len > bounds.head => Reading::Refused("a head that is too large"),
        Ok(response) => Reading::Whole((response, len)),
        Err(reason) => Reading::Refused(reason),
    }
}

fn whole_response(lines: &[&[u8]], bounds: Bounds, to_head_request: bool) -> Result<Response, &'static str> {
    let [line, rest @ ..] = lines else { return Err("no status line") };
    let (version, line) = line.split_at_checked(8).ok_or("a short status line")?;
    let is_http10 = is_http10(version).ok_or("another version")?;
    let line = line.strip_prefix(b" ").ok_or("no space after the version")?;
    let (code, phrase) = line.split_at_checked(3).ok_or("no status")?;
    let status = match code {
        [b'1'..=b'9', b'0'..=b'9', b'0'..=b'9'] => String::from_utf8_lossy(code).parse(),
        _ => return Err("no status"),
    };
    let status = status.map_err(|_| "no status")?;
    let phrase = match phrase {
        [] => &[],
        [b' ', phrase @ ..] if phrase.iter().all(|byte| fields::is_text(*byte)) => phrase,
        _ => return Err("no reason phrase"),
    };
    // A phrase that is not ASCII has no meaning that could be told, and is left out.
    let phrase = if phrase.is_ascii() { phrase } else { &[] };
    let fields = read_fields(rest, bounds.fields)?;
    let framed = fields::framing(&fields, is_http10, Body::UntilClose)?;
    let is_bodiless = to_head_request || status < 200 || status == 204 || status == 304;
    let body = if is_bodiless { Body::Empty } else { framed };
    let upgrades = fields::elements(&fields, "connection").contains(&b"upgrade".to_vec());
    let upgrade = fields::values(&fields, "upgrade").last().map(|value| value.to_vec());
    Ok(Response {
        status,
        phrase: phrase.to_vec(),
        is_http10,
        keep_alive: body != Body::UntilClose && fields::persists(&fields, is_http10),
        body,
        upgrade: upgrade.filter(|_| upgrades),
        fields,
    })
}

fn is_http10(version: &[u8]) -> Option<bool> {
    match version {
        b"HTTP/1.0" => Some(true),
        b"HTTP/1.1" => Some(false),
        _ => None,
    }
}

fn read_fields(lines: &[&[u8]], most: usize) -> Result<Vec<Field>, &'static str> {
    if lines.len() > most {
        return Err("too many fields");
    }
    let read: Result<Vec<Field>, &str> =
        lines.iter().map(|line| fields::field(line).ok_or("no field")).collect();
    match read {
        Ok(fields) if fields::named_by_connection(&fields).len() > fields::NAMED_MAX => {
            Err("too many options")
        }
        read => read,
    }
}
