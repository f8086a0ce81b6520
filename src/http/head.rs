//! What the head of a message says, whatever version of HTTP carried it.
//!
//! Heads are reused from message to message, so that reading one allocates nothing.

use super::fields::{Fields, Span};
use super::framing::BodyLength;
use super::status::Status;
use super::target::Target;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Version {
    Http10,
    #[default]
    Http11,
}

/// The methods that change what a proxy does; all others are passed on alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Method {
    #[default]
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    Trace,
    Connect,
    Other,
}

impl Method {
    /// Methods are case-sensitive (RFC 9110 9.1).
    pub fn of(text: &[u8]) -> Method {
        match text {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"POST" => Method::Post,
            b"PUT" => Method::Put,
            b"DELETE" => Method::Delete,
            b"OPTIONS" => Method::Options,
            b"TRACE" => Method::Trace,
            b"CONNECT" => Method::Connect,
            _ => Method::Other,
        }
    }

    /// Doing it twice is as doing it once (RFC 9110 9.2.2).
    pub fn is_idempotent(self) -> bool {
        !matches!(self, Method::Post | Method::Connect | Method::Other)
    }
}

/// The head of a request.
#[derive(Clone, Debug)]
pub struct RequestHead {
    pub method: Method,
    /// The method as it was written, in the bytes of `fields`.
    pub method_text: Span,
    pub target: Target,
    pub version: Version,
    pub fields: Fields,
    pub body: BodyLength,
    /// The client would send another request on this connection.
    pub keep_alive: bool,
    pub expects_continue: bool,
    /// `Upgrade`, if the client asks for one that we pass on.
    pub upgrade: Option<Span>,
}

impl Default for RequestHead {
    fn default() -> RequestHead {
        RequestHead {
            method: Method::Get,
            method_text: Span::default(),
            target: Target::default(),
            version: Version::Http11,
            fields: Fields::default(),
            body: BodyLength::Empty,
            keep_alive: false,
            expects_continue: false,
            upgrade: None,
        }
    }
}

impl RequestHead {
    pub fn text(&self, span: Span) -> &[u8] {
        self.fields.bytes(span)
    }

    /// The first value of a field by its name, in whatever case.
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        self.fields.named(name).next()
    }

    /// The value of the first cookie with this very name. Pairs are parted by `;` and a space (RFC
    /// 6265 4.2); a client may have several fields of them.
    pub fn cookie(&self, name: &str) -> Option<&[u8]> {
        let pairs = self.fields.named("cookie").flat_map(|value| value.split(|byte| *byte == b';'));
        let mut values =
            pairs.filter_map(|pair| pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"="));
        values.next()
    }
}

/// The head of a response.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    pub status: Status,
    /// The reason phrase, in the bytes of `fields`.
    pub phrase: Span,
    pub version: Version,
    pub fields: Fields,
    pub body: BodyLength,
    /// The upstream would take another request on this connection.
    pub keep_alive: bool,
    /// `Upgrade`, in the bytes of `fields`.
    pub upgrade: Option<Span>,
}

impl Default for ResponseHead {
    fn default() -> ResponseHead {
        ResponseHead {
            status: Status(200),
            phrase: Span::default(),
            version: Version::Http11,
            fields: Fields::default(),
            body: BodyLength::Empty,
            keep_alive: false,
            upgrade: None,
        }
    }
}
