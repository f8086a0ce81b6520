//! Bytes to heads, strictly. Hot path: no allocation once a head has been used.
//!
//! httparse finds the tokens; what it lets pass and we do not (bare LF, repeated or
//! contradictory framing, a second `Host`) is refused here. A head is copied into its own
//! bytes, so the buffer it came from is free at once.

use std::mem::MaybeUninit;

use crate::http::fields::{Fields, Known, Span};
use crate::http::framing::{self, BodyLength, Collected, ConnectionOptions};
use crate::http::head::{Method, RequestHead, ResponseHead, Version};
use crate::http::status::Status;
use crate::http::target::{self, Target};
use crate::http::trailers;

use super::FIELDS_MAX;

/// Options of all `Connection` fields of a head that name other fields.
const NAMED_MAX: usize = 32;
/// What a request line may have beside its target, in bytes: so much for a method, too.
const LINE_MORE_MAX: usize = 64;
/// The spaces of a request line, and its version.
const AROUND_WORDS: usize = "  HTTP/1.1".len();

/// What a head may be at most.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The whole head in bytes, with the empty lines before it.
    pub head: usize,
    /// 1 to [`FIELDS_MAX`].
    pub fields: usize,
    /// The request target in bytes.
    pub uri: usize,
}

/// Whether there was a whole head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// So many bytes were the head.
    Head(usize),
    Incomplete,
}

/// Why bytes are not a head that we serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Syntax(&'static str),
    BareLineFeed,
    Version,
    Method,
    HeadTooLarge,
    TooManyFields,
    UriTooLong,
    Host(&'static str),
    Target(target::Fault),
    Framing(framing::Fault),
    Status,
}

impl Refusal {
    /// The answer to a client; an upstream's fault is always 502.
    pub fn status(self) -> Status {
        match self {
            Refusal::Version => Status::VERSION_NOT_SUPPORTED,
            Refusal::Method => Status::NOT_IMPLEMENTED,
            Refusal::HeadTooLarge | Refusal::TooManyFields => Status::FIELDS_TOO_LARGE,
            Refusal::UriTooLong => Status::URI_TOO_LONG,
            _ => Status::BAD_REQUEST,
        }
    }

    pub fn reason(self) -> &'static str {
        match self {
            Refusal::Syntax(reason) | Refusal::Host(reason) => reason,
            Refusal::BareLineFeed => "line feed without carriage return",
            Refusal::Version => "unsupported HTTP version",
            Refusal::Method => "CONNECT is not supported",
            Refusal::HeadTooLarge => "head too large",
            Refusal::TooManyFields => "too many fields",
            Refusal::UriTooLong => "request target too long",
            Refusal::Target(fault) => fault.reason(),
            Refusal::Framing(fault) => fault.reason(),
            Refusal::Status => "invalid status code",
        }
    }
}

/// Parses the head of a request from the start of `input`; empty lines before it are skipped
/// (RFC 9112 2.2). `head` is worth reading only after [`Parsed::Head`].
pub fn request(input: &[u8], bounds: Bounds, head: &mut RequestHead) -> Result<Parsed, Refusal> {
    let skipped = empty_lines(input);
    let text = &input[skipped..];
    let mut slots = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut []);
    let slots = &mut slots[..bounds.fields.clamp(1, FIELDS_MAX)];
    let len = match parsed.parse_with_uninit_headers(text, slots) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return incomplete(text, skipped, bounds),
        Err(error) => return Err(request_syntax(error, text)),
    };
    let bytes = &text[..len];
    if skipped + len > bounds.head {
        return Err(Refusal::HeadTooLarge);
    }
    check_lines(bytes)?;
    let (method, path) = (parsed.method.unwrap_or_default(), parsed.path.unwrap_or_default());
    if path.len() > bounds.uri || method.len() + path.len() + AROUND_WORDS > bounds.uri + LINE_MORE_MAX {
        return Err(Refusal::UriTooLong);
    }
    head.version = version(parsed.version);
    head.method = Method::of(method.as_bytes());
    head.method_text = Span::within(bytes, method.as_bytes());
    if head.method == Method::Connect {
        return Err(Refusal::Method);
    }
    head.fields.reset(bytes);
    let raw_target = Span::within(bytes, path.as_bytes());
    head.target = Target::parse(&mut head.fields, raw_target, head.method).map_err(Refusal::Target)?;
    request_fields(bytes, parsed.headers, head)?;
    Ok(Parsed::Head(skipped + len))
}

fn request_fields(
    bytes: &[u8],
    headers: &[httparse::Header<'_>],
    head: &mut RequestHead,
) -> Result<(), Refusal> {
    let mut section = Section::default();
    section.read(bytes, headers, &mut head.fields)?;
    match (section.host, section.hosts) {
        (_, 2..) => return Err(Refusal::Host("repeated host")),
        (Some(host), _) => {
            head.target.take_host(&mut head.fields, host).map_err(Refusal::Target)?;
        }
        (None, _) if head.version == Version::Http11 => return Err(Refusal::Host("missing host")),
        (None, _) => {}
    }
    let body = section.length.decide(head.version, BodyLength::Empty);
    head.body = body.map_err(Refusal::Framing)?;
    head.keep_alive = section.options.is_persistent(head.version);
    head.expects_continue = section.expects_continue && head.version == Version::Http11;
    // A request that upgrades has no body of its own here, and never leads to cleartext
    // HTTP/2: requests inside that tunnel would go unseen.
    let may_upgrade =
        section.options.upgrade && head.version == Version::Http11 && head.body == BodyLength::Empty;
    head.upgrade = section.upgrade.filter(|&span| {
        may_upgrade
            && !crate::http::fields::list(head.fields.bytes(span))
                .any(|token| token.eq_ignore_ascii_case(b"h2c"))
    });
    Ok(())
}

/// Parses the head of a response to a request with this method.
pub fn response(
    input: &[u8],
    bounds: Bounds,
    method: Method,
    head: &mut ResponseHead,
) -> Result<Parsed, Refusal> {
    let mut slots = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let slots = &mut slots[..bounds.fields.clamp(1, FIELDS_MAX)];
    let len = match config.parse_response_with_uninit_headers(&mut parsed, input, slots) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if input.len() > bounds.head => return Err(Refusal::HeadTooLarge),
        Ok(httparse::Status::Partial) => return Ok(Parsed::Incomplete),
        Err(error) => return Err(response_syntax(error)),
    };
    let bytes = &input[..len];
    if bytes.starts_with(b"\r") || bytes.starts_with(b"\n") {
        return Err(Refusal::Syntax("empty line before the status line"));
    }
    if len > bounds.head {
        return Err(Refusal::HeadTooLarge);
    }
    check_lines(bytes)?;
    head.version = version(parsed.version);
    head.status = Status(parsed.code.unwrap_or_default());
    if head.status.0 < 100 {
        return Err(Refusal::Status);
    }
    head.fields.reset(bytes);
    head.phrase = match parsed.reason {
        Some(phrase) if !phrase.is_empty() => Span::within(bytes, phrase.as_bytes()),
        _ => Span::default(),
    };
    let mut section = Section::default();
    section.read(bytes, parsed.headers, &mut head.fields)?;
    let body = section.length.decide(head.version, BodyLength::UntilClose).map_err(Refusal::Framing)?;
    let bodiless =
        method == Method::Head || head.status.is_informational() || matches!(head.status.0, 204 | 304);
    head.body = if bodiless { BodyLength::Empty } else { body };
    head.keep_alive = section.options.is_persistent(head.version) && head.body != BodyLength::UntilClose;
    head.upgrade = section.upgrade.filter(|_| section.options.upgrade);
    Ok(Parsed::Head(len))
}

/// Parses a trailer section that ends with its empty line; fields that may not be trailers are left
/// out.
pub fn trailers(input: &[u8], fields: &mut Fields) -> Result<(), Refusal> {
    let mut slots = [httparse::EMPTY_HEADER; 64];
    let headers = match httparse::parse_headers(input, &mut slots) {
        Ok(httparse::Status::Complete((_, headers))) => headers,
        Ok(httparse::Status::Partial) => return Err(Refusal::Syntax("malformed trailer section")),
        Err(httparse::Error::TooManyHeaders) => return Err(Refusal::TooManyFields),
        Err(_) => return Err(Refusal::Syntax("malformed trailer section")),
    };
    check_lines(input)?;
    fields.clear();
    for header in headers {
        if trailers::may_be(header.name.as_bytes()) {
            fields.push(header.name.as_bytes(), header.value);
        }
    }
    Ok(())
}

/// What the fields of a head say about the message.
#[derive(Default)]
struct Section {
    host: Option<Span>,
    hosts: usize,
    length: Collected,
    options: ConnectionOptions,
    upgrade: Option<Span>,
    expects_continue: bool,
}

impl Section {
    fn read(
        &mut self,
        bytes: &[u8],
        headers: &[httparse::Header<'_>],
        fields: &mut Fields,
    ) -> Result<(), Refusal> {
        let mut named = 0;
        for header in headers {
            let known = Known::of(header.name.as_bytes());
            let value = Span::within(bytes, header.value);
            fields.index(known, Span::within(bytes, header.name.as_bytes()), value);
            match known {
                Known::Other => {}
                Known::Host => {
                    self.host = Some(value);
                    self.hosts += 1;
                }
                Known::Connection => self.options.take(header.value, |_| named += 1),
                Known::Upgrade => self.upgrade = Some(value),
                Known::Expect => self.expects_continue = header.value.eq_ignore_ascii_case(b"100-continue"),
                _ => self.length.take(known, header.value).map_err(Refusal::Framing)?,
            }
        }
        match named {
            0 => Ok(()),
            1..=NAMED_MAX => {
                mark_named(headers, fields);
                Ok(())
            }
            // Each is compared with every field.
            _ => Err(Refusal::Syntax("too many connection options")),
        }
    }
}

#[cold]
fn mark_named(headers: &[httparse::Header<'_>], fields: &mut Fields) {
    for header in headers {
        if Known::of(header.name.as_bytes()) == Known::Connection {
            ConnectionOptions::default().take(header.value, |name| fields.mark_hop_by_hop(name));
        }
    }
}

fn version(minor: Option<u8>) -> Version {
    if minor == Some(0) { Version::Http10 } else { Version::Http11 }
}

/// How many bytes of empty lines `input` starts with.
fn empty_lines(input: &[u8]) -> usize {
    2 * input.chunks_exact(2).take_while(|pair| *pair == b"\r\n").count()
}

/// What to say when the head of a request, after so many bytes of empty lines, is not whole:
/// wait for more, unless it is already too large.
fn incomplete(text: &[u8], skipped: usize, bounds: Bounds) -> Result<Parsed, Refusal> {
    // Without its line feed, but perhaps with the carriage return before it.
    let line = memchr::memchr(b'\n', text).unwrap_or(text.len());
    match line {
        line if line > bounds.uri + LINE_MORE_MAX + 1 => Err(Refusal::UriTooLong),
        _ if skipped + text.len() > bounds.head => Err(Refusal::HeadTooLarge),
        _ => Ok(Parsed::Incomplete),
    }
}

/// httparse takes a bare LF for a line's end; others do not, and see other requests. Without a
/// branch in it, the loop is vectorised.
fn check_lines(bytes: &[u8]) -> Result<(), Refusal> {
    let mut has_bare = bytes.first() == Some(&b'\n');
    for (before, byte) in bytes.iter().zip(bytes.get(1..).unwrap_or_default()) {
        has_bare |= (*byte == b'\n') & (*before != b'\r');
    }
    if has_bare { Err(Refusal::BareLineFeed) } else { Ok(()) }
}

#[cold]
fn request_syntax(error: httparse::Error, text: &[u8]) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::TooManyFields,
        httparse::Error::HeaderName => Refusal::Syntax("malformed field name"),
        httparse::Error::HeaderValue => Refusal::Syntax("malformed field value"),
        httparse::Error::Version if names_other_version(text) => Refusal::Version,
        httparse::Error::NewLine => Refusal::Syntax("malformed line end"),
        _ => Refusal::Syntax("malformed request line"),
    }
}

/// The request line is well-formed but for a version that we do not speak.
fn names_other_version(text: &[u8]) -> bool {
    let line = text.split(|&byte| byte == b'\n').next().unwrap_or_default().trim_ascii_end();
    let mut words = line.split(|&byte| byte == b' ');
    match (words.next(), words.next(), words.next(), words.next()) {
        (Some([_, ..]), Some([_, ..]), Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor]), None) => {
            major.is_ascii_digit() && minor.is_ascii_digit()
        }
        _ => false,
    }
}

#[cold]
fn response_syntax(error: httparse::Error) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::TooManyFields,
        httparse::Error::HeaderName | httparse::Error::HeaderValue => Refusal::Syntax("malformed field"),
        httparse::Error::Version => Refusal::Syntax("not an HTTP/1 status line"),
        _ => Refusal::Syntax("malformed status line"),
    }
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
