//! A field section line by line (RFC 9112 5), and which fields a proxy keeps to itself.

use super::{Body, Reading};

/// Name and value.
pub type Field = (Vec<u8>, Vec<u8>);

/// The lines of a section up to its empty line, without their ends, and how long it is.
pub fn lines(text: &[u8]) -> Reading<(Vec<&[u8]>, usize)> {
    let (mut lines, mut at) = (Vec::new(), 0);
    loop {
        let Some(end) = text[at..].iter().position(|byte| *byte == b'\n') else {
            return Reading::Incomplete;
        };
        let Some(line) = text[at..at + end].strip_suffix(b"\r") else {
            return Reading::Refused("a line feed without a carriage return");
        };
        at += end + 1;
        if line.is_empty() {
            return Reading::Whole((lines, at));
        }
        if line.contains(&b'\r') {
            return Reading::Refused("a carriage return without a line feed");
        }
        lines.push(line);
    }
}

/// The field that a line is.
pub fn field(line: &[u8]) -> Option<Field> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = (&line[..colon], trim(&line[colon + 1..]));
    let is_field = is_token(name) && value.iter().all(|byte| is_text(*byte));
    is_field.then(|| (name.to_vec(), value.to_vec()))
}

pub fn is_token(text: &[u8]) -> bool {
    let is_tchar = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(is_tchar)
}

/// HTAB, SP, VCHAR and obs-text.
pub fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

fn trim(text: &[u8]) -> &[u8] {
    let is_content = |byte: &u8| !matches!(byte, b' ' | b'\t');
    let Some(start) = text.iter().position(is_content) else { return b"" };
    let end = text.iter().rposition(is_content).map_or(0, |last| last + 1);
    &text[start..end]
}

/// The values of all fields with this name.
pub fn values<'a>(fields: &'a [Field], name: &str) -> Vec<&'a [u8]> {
    let named = fields.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name.as_bytes()));
    named.map(|(_, value)| &value[..]).collect()
}

/// The elements of all lists with this name, in lower case.
pub fn elements(fields: &[Field], name: &str) -> Vec<Vec<u8>> {
    let lists = values(fields, name).into_iter();
    let elements = lists.flat_map(|list| list.split(|byte| *byte == b','));
    elements.map(|one| trim(one).to_ascii_lowercase()).filter(|one| !one.is_empty()).collect()
}

/// What the fields say of the body's length; `absent` if they say nothing.
pub fn framing(fields: &[Field], is_http10: bool, absent: Body) -> Result<Body, &'static str> {
    match (&values(fields, "content-length")[..], &values(fields, "transfer-encoding")[..]) {
        ([], []) => Ok(absent),
        ([], [coding]) if is_http10 || !coding.eq_ignore_ascii_case(b"chunked") => Err("a coding"),
        ([], [_]) => Ok(Body::Chunked),
        ([length], []) if !length.is_empty() && length.iter().all(u8::is_ascii_digit) => {
            let text = String::from_utf8_lossy(length);
            match text.parse::<u64>() {
                Ok(0) => Ok(Body::Empty),
                Ok(length) => Ok(Body::Length(length)),
                Err(_) => Err("a length beyond 64 bits"),
            }
        }
        _ => Err("a length that is not one"),
    }
}

/// Whether the connection may serve another message.
pub fn persists(fields: &[Field], is_http10: bool) -> bool {
    let options = elements(fields, "connection");
    let says = |option: &[u8]| options.iter().any(|one| one == option);
    !says(b"close") && (!is_http10 || says(b"keep-alive"))
}

/// Of one connection, or of the framing that each side has for itself.
const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "content-length",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// Of a request: what WarpDrive answers for, whether written with `-` or with `_`.
pub fn is_owned(name: &[u8]) -> bool {
    let name = &lower(name)[..];
    let exact = ["forwarded", "via"];
    let dashed = name.replace('_', "-");
    let owned = [
        "x-admin-token",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-proto",
        "x-real-ip",
        "x-request-id",
        "x-request-start",
        "x-sendfile",
        "x-sendfile-type",
    ];
    let is_accel = dashed.starts_with("x-accel-") && dashed.len() > "x-accel-".len();
    exact.contains(&name) || owned.contains(&&dashed[..]) || is_accel
}

/// Of a request: what applications believe, and strangers may not say; and what looks like that,
/// or like framing, but for `_` and `-`.
pub fn is_withheld(name: &[u8]) -> bool {
    let name = &lower(name)[..];
    let dashed = &name.replace('_', "-")[..];
    let believed = [
        "client-ip",
        "forwarded-for",
        "front-end-https",
        "path-info",
        "proxy",
        "script-name",
        "true-client-ip",
        "x-client-ip",
        "x-cluster-client-ip",
        "x-forwarded",
        "x-original-url",
        "x-rewrite-url",
        "x-scheme",
        "x-script-name",
        "x-url-scheme",
    ];
    let is_forwarded = dashed.starts_with("x-forwarded-") && dashed.len() > "x-forwarded-".len();
    let is_like_framing = name != dashed && HOP_BY_HOP.contains(&dashed);
    !is_owned(name.as_bytes()) && (believed.contains(&dashed) || is_forwarded || is_like_framing)
}

fn lower(name: &[u8]) -> String {
    String::from_utf8_lossy(name).to_ascii_lowercase()
}

/// As many fields may be named as those of one connection.
pub const NAMED_MAX: usize = 32;

/// The options of a connection that are names of fields.
pub fn named_by_connection(fields: &[Field]) -> Vec<Vec<u8>> {
    let options: [&[u8]; 3] = [b"close", b"keep-alive", b"upgrade"];
    let mut named = elements(fields, "connection");
    named.retain(|one| !options.contains(&&one[..]));
    named
}

/// Without the fields of this connection: those that it names, but for `Host`, and the known.
pub fn end_to_end(fields: &[Field]) -> Vec<Field> {
    let named = named_by_connection(fields);
    let stays = |(name, _): &&Field| {
        let name = lower(name);
        let is_named = named.iter().any(|one| one == name.as_bytes());
        !HOP_BY_HOP.contains(&&name[..]) && (!is_named || name == "host")
    };
    fields.iter().filter(stays).cloned().collect()
}

/// The fields of a request that an upstream gets as they were, whoever sent it.
pub fn forwarded(fields: &[Field]) -> Vec<Field> {
    let mut passed = end_to_end(fields);
    passed.retain(|(name, _)| {
        let name = lower(name);
        let is_passed = !is_owned(name.as_bytes()) && !is_withheld(name.as_bytes());
        is_passed && name != "host" && name != "expect"
    });
    passed
}

/// The trailers that are passed on: nothing that matters to framing, routing, a connection, or
/// that a proxy reads in a head.
pub fn trailers(fields: &[Field]) -> Vec<Field> {
    const HEAD_ONLY: [&str; 8] =
        ["date", "expect", "host", "referer", "traceparent", "tracestate", "trailer", "user-agent"];
    const NEVER: &str = " accept age allow authorization cache-control cookie cookie2 early-data expires \
                         location max-forwards origin pragma range refresh retry-after set-cookie \
                         set-cookie2 status strict-transport-security vary warning www-authenticate \
                         x-http-method-override ";
    const NEVER_WITH: [&str; 6] = ["accept-", "access-control-", "content-", "if-", "proxy-", "sec-"];
    let stays = |(name, _): &&Field| {
        let name = lower(name);
        let dashed = &name.replace('_', "-")[..];
        let is_of_head = HOP_BY_HOP.contains(&&name[..]) || HEAD_ONLY.contains(&&name[..]);
        let is_of_content = NEVER_WITH.iter().any(|start| dashed.starts_with(start));
        let is_digest = ["content-digest", "content-md5"].contains(&dashed);
        let is_never = NEVER.contains(&format!(" {dashed} ")) || is_of_content && !is_digest;
        !is_of_head && !is_never && !is_owned(name.as_bytes()) && !is_withheld(name.as_bytes())
    };
    fields.iter().filter(stays).cloned().collect()
}
