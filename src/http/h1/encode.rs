//! Heads to bytes. Hot path: no allocation once the output has grown, no formatting.
//!
//! Everything is written from what was parsed: field by field, framing from what was decided.
//! Nothing of a received head is copied through unseen.

use crate::http::fields::{Field, Fields, Known, KnownSet, push_field};
use crate::http::forwarding::{self, Stamp};
use crate::http::framing::BodyLength;
use crate::http::head::{RequestHead, ResponseHead, Version};
use crate::http::push_decimal;
use crate::http::server_timing::Timing;
use crate::http::status::Status;
use crate::http::trace_context::Span;

/// Fields of one connection (RFC 9110 7.6.1), and those that framing rewrites.
const HOP_BY_HOP: KnownSet = KnownSet::of(&[
    Known::HopByHop,
    Known::Connection,
    Known::ContentLength,
    Known::Http2Settings,
    Known::KeepAlive,
    Known::ProxyConnection,
    Known::Te,
    Known::TransferEncoding,
    Known::Upgrade,
]);

/// Fields of a request that are dropped, or written anew after the others.
const NOT_FORWARDED: KnownSet = HOP_BY_HOP.and(KnownSet::of(&[Known::Host, Known::Expect]));

/// What a 401 has to say (RFC 9110 11.6.1). The scheme is ours and named after its field.
const CHALLENGE: &[u8] = b"WWW-Authenticate: X-Admin-Token realm=\"warpdrive\"\r\n";

/// Writes the head of a request as it goes to an upstream.
pub fn request(out: &mut Vec<u8>, head: &RequestHead, path: &[u8], peer: &forwarding::Peer, stamp: &Stamp) {
    out.extend_from_slice(head.text(head.method_text));
    out.push(b' ');
    out.extend_from_slice(path);
    out.extend_from_slice(head.text(head.target.query));
    out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    out.extend_from_slice(head.text(head.target.authority));
    out.extend_from_slice(b"\r\n");
    let replaced = stamp.span.as_ref().map(Span::replaces).unwrap_or_default();
    let not_forwarded = NOT_FORWARDED.and(peer.withheld()).and(replaced);
    for field in head.fields.iter() {
        if !not_forwarded.contains(field.known) {
            field.write(out);
        }
    }
    match head.body {
        BodyLength::Known(length) => push_length(out, length),
        BodyLength::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        // A method that may have a body says so when it has none (RFC 9110 8.6).
        _ if head.fields.value(Known::ContentLength).is_some() => push_length(out, 0),
        _ => {}
    }
    if head.expects_continue {
        out.extend_from_slice(b"Expect: 100-continue\r\n");
    }
    if let Some(upgrade) = head.upgrade {
        out.extend_from_slice(b"Connection: upgrade\r\n");
        push_field(out, b"Upgrade", head.text(upgrade));
    }
    forwarding::write(out, head, peer, stamp);
    out.extend_from_slice(b"\r\n");
}

/// The fields of a response that are not of its connection, nor of how its body is framed.
pub fn end_to_end(head: &ResponseHead) -> impl Iterator<Item = Field<'_>> {
    head.fields.iter().filter(|field| !HOP_BY_HOP.contains(field.known))
}

/// How a response's body is framed for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// No body, and no word of one: 1xx, 204.
    Nothing,
    /// No body, but the length that there would be: the answer to HEAD, 304.
    LengthAsReceived,
    Length(u64),
    Chunked,
    UntilClose,
}

impl Framing {
    /// For a response with this head to a client of this version.
    pub fn of(head: &ResponseHead, to_head_request: bool, client: Version) -> Framing {
        match head.body {
            _ if head.status.is_informational() || head.status.0 == 204 => Framing::Nothing,
            _ if to_head_request || head.status.0 == 304 => Framing::LengthAsReceived,
            BodyLength::Empty => Framing::Length(0),
            BodyLength::Known(length) => Framing::Length(length),
            BodyLength::Chunked | BodyLength::UntilClose if client == Version::Http11 => Framing::Chunked,
            BodyLength::Chunked | BodyLength::UntilClose => Framing::UntilClose,
        }
    }
}

/// What is said of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    KeepAlive,
    /// An HTTP/1.0 client has to be told.
    KeepAliveSaid,
    Close,
    Upgrade,
}

impl Persistence {
    /// What a client of this version is told.
    pub fn of(may_persist: bool, client: Version) -> Persistence {
        match (may_persist, client) {
            (false, _) => Persistence::Close,
            (true, Version::Http10) => Persistence::KeepAliveSaid,
            (true, Version::Http11) => Persistence::KeepAlive,
        }
    }
}

/// Writes the head of a response as it goes to the client.
pub fn response(
    out: &mut Vec<u8>,
    head: &ResponseHead,
    framing: Framing,
    persistence: Persistence,
    date: &[u8; 29],
    timing: Option<Timing<'_>>,
) {
    push_status(out, head.status);
    out.extend_from_slice(head.fields.bytes(head.phrase));
    out.extend_from_slice(b"\r\n");
    let mut has_date = head.status.is_informational();
    for field in head.fields.iter() {
        if HOP_BY_HOP.contains(field.known) {
            if field.known == Known::ContentLength && framing == Framing::LengthAsReceived {
                field.write(out);
            }
            continue;
        }
        has_date |= field.known == Known::Date;
        field.write(out);
    }
    if !has_date {
        push_field(out, b"Date", date);
    }
    match framing {
        Framing::Length(length) => push_length(out, length),
        Framing::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        Framing::Nothing | Framing::LengthAsReceived | Framing::UntilClose => {}
    }
    push_persistence(out, persistence);
    if persistence == Persistence::Upgrade
        && let Some(upgrade) = head.upgrade
    {
        push_field(out, b"Upgrade", head.fields.bytes(upgrade));
    }
    if let Some(timing) = timing {
        timing.write(out);
    }
    out.extend_from_slice(b"\r\n");
}

/// A response of our own.
#[derive(Clone, Copy, Debug)]
pub struct OwnHead<'a> {
    pub status: Status,
    /// Bytes of its body, which is text.
    pub length: usize,
    /// Why nothing better is answered; otherwise what the operator has us say.
    pub is_refusal: bool,
    /// Seconds after which it may be worth another try.
    pub retry_after: Option<u16>,
    /// Where the client is sent; empty if it is not.
    pub location: &'a [u8],
}

/// Writes the head of a response of our own.
pub fn own_response(
    out: &mut Vec<u8>,
    head: OwnHead<'_>,
    persistence: Persistence,
    date: &[u8; 29],
    timing: Option<Timing<'_>>,
) {
    let status = head.status;
    push_status(out, status);
    out.extend_from_slice(status.phrase().as_bytes());
    out.extend_from_slice(b"\r\n");
    if head.length > 0 {
        out.extend_from_slice(b"Content-Type: text/plain; charset=utf-8\r\n");
    }
    push_field(out, b"Date", date);
    if !head.location.is_empty() {
        push_field(out, b"Location", head.location);
    }
    if let Some(seconds) = head.retry_after {
        out.extend_from_slice(b"Retry-After: ");
        push_decimal(out, seconds.into());
        out.extend_from_slice(b"\r\n");
    }
    if head.is_refusal && status == Status::UNAUTHORIZED {
        out.extend_from_slice(CHALLENGE);
    }
    if !status.is_bodiless() {
        push_length(out, head.length as u64);
    }
    push_persistence(out, persistence);
    if let Some(timing) = timing {
        timing.write(out);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes a trailer section after the last chunk, and its end.
pub fn trailers(out: &mut Vec<u8>, fields: &Fields) {
    out.extend_from_slice(b"0\r\n");
    for field in fields.iter() {
        push_field(out, field.name, field.value);
    }
    out.extend_from_slice(b"\r\n");
}

fn push_status(out: &mut Vec<u8>, status: Status) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(&status.digits());
    out.push(b' ');
}

fn push_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"Content-Length: ");
    push_decimal(out, length);
    out.extend_from_slice(b"\r\n");
}

fn push_persistence(out: &mut Vec<u8>, persistence: Persistence) {
    out.extend_from_slice(match persistence {
        Persistence::KeepAlive => b"",
        Persistence::KeepAliveSaid => b"Connection: keep-alive\r\n",
        Persistence::Close => b"Connection: close\r\n",
        Persistence::Upgrade => b"Connection: upgrade\r\n",
    });
}

#[cfg(test)]
#[path = "encode_tests.rs"]
mod tests;
