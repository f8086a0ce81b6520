//! The client's side of an exchange, whatever version of HTTP it speaks: informational heads,
//! the head, the body.

use std::time::Duration;

use super::body::{Delimiter, H1Sink, Sink, SinkFault};
#[cfg(feature = "wasm")]
use super::outgoing::Waiting;
use crate::http::h1::changes::change;
use crate::http::h1::encode::{self, Framing, Persistence};
use crate::http::head::{Method, RequestHead, ResponseHead, Version};
use crate::http::server_timing::Timing;
use crate::http::trailers::Excluded;
use crate::net::{Buffers, Writer};

pub enum Downstream<'a> {
    H1(H1Downstream<'a>),
    /// An instance of a component, which has asked.
    #[cfg(feature = "wasm")]
    Guest(Waiting<'a>),
}

pub struct H1Downstream<'a> {
    sink: H1Sink<'a>,
    client: Version,
    to_head_request: bool,
    lines: FieldLines<'a>,
    has_response: bool,
    persistence: Persistence,
}

/// What a route changes of the fields of a response.
#[derive(Clone, Copy)]
pub struct FieldLines<'a> {
    pub removed: &'a [String],
    /// Each with its line end.
    pub set: &'a [u8],
}

impl<'a> Downstream<'a> {
    pub fn h1(
        writer: Writer<'a>,
        buffers: &'a Buffers,
        out: &'a mut Vec<u8>,
        request: &RequestHead,
        lines: FieldLines<'a>,
        timeout: Duration,
    ) -> Downstream<'a> {
        out.clear();
        Downstream::H1(H1Downstream {
            sink: H1Sink::new(writer, buffers, out, timeout),
            client: request.version,
            to_head_request: request.method == Method::Head,
            lines,
            has_response: false,
            persistence: Persistence::Close,
        })
    }

    fn as_h1(&mut self) -> Option<&mut H1Downstream<'a>> {
        match self {
            Downstream::H1(h1) => Some(h1),
            #[cfg(feature = "wasm")]
            Downstream::Guest(_) => None,
        }
    }

    /// Passes an informational head on at once (RFC 9110 15.2); HTTP/1.0 knows none.
    pub async fn inform(&mut self, head: &ResponseHead, date: &[u8; 29]) -> Result<(), SinkFault> {
        let Some(h1) = self.as_h1() else { return Ok(()) };
        if h1.client == Version::Http10 {
            return Ok(());
        }
        let sink = &mut h1.sink;
        let start = sink.head.len();
        encode::response(sink.head, head, Framing::Nothing, Persistence::KeepAlive, date, None);
        // What is set belongs to the final head.
        change(sink.head, start, h1.lines.removed, b"");
        sink.flush().await
    }

    /// Says that the connection leaves HTTP now.
    pub async fn switch(&mut self, head: &ResponseHead, date: &[u8; 29]) -> Result<(), SinkFault> {
        let Some(h1) = self.as_h1() else { return Err(SinkFault::Gone) };
        let sink = &mut h1.sink;
        let start = sink.head.len();
        encode::response(sink.head, head, Framing::Nothing, Persistence::Upgrade, date, None);
        change(sink.head, start, h1.lines.removed, h1.lines.set);
        h1.has_response = true;
        sink.flush().await
    }

    /// Takes the final head. It leaves with the first data of the body.
    pub fn respond(
        &mut self,
        head: &ResponseHead,
        may_persist: bool,
        date: &[u8; 29],
        timing: Option<Timing<'_>>,
    ) {
        #[cfg(feature = "wasm")]
        if let Downstream::Guest(guest) = self {
            return guest.respond(head);
        }
        let Some(h1) = self.as_h1() else { return };
        let framing = Framing::of(head, h1.to_head_request, h1.client);
        h1.persistence = Persistence::of(may_persist && framing != Framing::UntilClose, h1.client);
        let sink = &mut h1.sink;
        sink.delimiter = match framing {
            Framing::Nothing | Framing::LengthAsReceived | Framing::Length(_) => Delimiter::Length,
            Framing::Chunked => Delimiter::Chunks,
            Framing::UntilClose => Delimiter::Connection,
        };
        let start = sink.head.len();
        encode::response(sink.head, head, framing, h1.persistence, date, timing);
        change(sink.head, start, h1.lines.removed, h1.lines.set);
        h1.has_response = true;
    }

    /// What the client does not get as a trailer of the response with this head.
    pub fn excluded<'e>(&self, head: &'e ResponseHead) -> Excluded<'e>
    where
        'a: 'e,
    {
        let route = match self {
            Downstream::H1(h1) => h1.lines.removed,
            #[cfg(feature = "wasm")]
            Downstream::Guest(_) => &[],
        };
        Excluded { route, head: &head.fields, untrusted: &[] }
    }

    /// The client itself, not a component that answers one.
    pub fn is_client(&self) -> bool {
        matches!(self, Downstream::H1(_))
    }

    /// How the client is told where the body ends.
    pub fn delimiter(&self) -> Delimiter {
        match self {
            Downstream::H1(h1) => h1.sink.delimiter,
            #[cfg(feature = "wasm")]
            Downstream::Guest(_) => Delimiter::Length,
        }
    }

    pub fn sink(&mut self) -> Sink<'_, 'a> {
        match self {
            Downstream::H1(h1) => Sink::H1(&mut h1.sink),
            #[cfg(feature = "wasm")]
            Downstream::Guest(guest) => Sink::Guest(guest.sink()),
        }
    }

    /// Bytes of the final head have left.
    pub fn is_started(&self) -> bool {
        match self {
            Downstream::H1(h1) => h1.has_response && h1.sink.head.is_empty(),
            #[cfg(feature = "wasm")]
            Downstream::Guest(guest) => guest.has_answer(),
        }
    }

    /// Bytes of the body sent.
    pub fn sent(&self) -> u64 {
        match self {
            Downstream::H1(h1) => h1.sink.sent(),
            #[cfg(feature = "wasm")]
            Downstream::Guest(_) => 0,
        }
    }

    /// The response has promised another exchange on this connection.
    pub fn persists(&self) -> bool {
        match self {
            Downstream::H1(h1) => h1.persistence != Persistence::Close,
            #[cfg(feature = "wasm")]
            Downstream::Guest(_) => false,
        }
    }
}
