//! What has to come of the bytes of a client and of an origin, read slowly.

use super::script::{Answer, Script};
use crate::reference::fields::{self, Field};
use crate::reference::head::{self, Request, Response, Sender};
use crate::reference::{Body, Bounds, Reading, chunked};

/// The limits of the stage's configuration.
pub const BOUNDS: Bounds = Bounds { head: 1024, fields: 12, uri: 128 };
pub const REQUEST_BODY_MAX: usize = 40_000;

/// What is sent by the product may be larger than what it took.
pub const WIDE: Bounds = Bounds { head: 64 * 1024, fields: 256, uri: 64 * 1024 };

/// Informational responses to one request.
const INFORMATIONAL_MAX: usize = 32;

/// A body: its data as far as it is here and, if it is whole, its trailers and length.
#[derive(Clone, Debug)]
pub struct Content {
    pub data: Vec<u8>,
    pub end: Reading<(Vec<Field>, usize)>,
}

impl Content {
    /// The body at the start of `text`; `has_ended` if nothing comes after it.
    pub fn read(body: Body, text: &[u8], has_ended: bool) -> Content {
        let length = match body {
            Body::Empty => 0,
            Body::Length(length) => usize::try_from(length).unwrap_or(usize::MAX),
            Body::UntilClose if has_ended => text.len(),
            Body::UntilClose => usize::MAX,
            Body::Chunked => {
                let (data, end) = chunked::data_and_end(text);
                return Content { data, end };
            }
        };
        let data = text[..length.min(text.len())].to_vec();
        let is_whole = data.len() == length;
        let end = if is_whole { Reading::Whole((Vec::new(), length)) } else { Reading::Incomplete };
        Content { data, end }
    }

    pub fn is_whole(&self) -> bool {
        matches!(self.end, Reading::Whole(_))
    }

    /// The trailers of a whole body that a proxy passes on.
    pub fn passed_trailers(&self) -> Vec<Field> {
        match &self.end {
            Reading::Whole((trailers, _)) => fields::trailers(trailers),
            _ => Vec::new(),
        }
    }
}

/// A request of the client's.
pub struct Wanted {
    pub head: Request,
    pub content: Content,
    pub told: Told,
}

impl Wanted {
    /// It must be served as it is.
    pub fn is_good(&self) -> bool {
        self.content.is_whole() && self.content.data.len() <= REQUEST_BODY_MAX
    }
}

/// What follows the last whole head.
#[derive(Debug, PartialEq, Eq)]
pub enum Tail {
    Nothing,
    Incomplete,
    Refused,
    /// These bytes are for a tunnel.
    Tunnel(Vec<u8>),
}

/// What an answer of the origin's is to its request.
pub enum Told {
    Whole(Box<Answered>),
    /// 101: the tunnel begins here.
    Switched(usize),
    /// It has no end, or is no response.
    Broken,
}

pub struct Answered {
    /// The statuses of informational responses.
    pub informational: Vec<u16>,
    pub head: Response,
    pub content: Content,
    pub end: usize,
    /// More was sent than that.
    pub has_excess: bool,
}

impl Told {
    /// Reads an answer.
    pub fn read(answer: &Answer, request: &Request) -> Told {
        let (mut at, mut informational) = (0, Vec::new());
        loop {
            let text = &answer.bytes[at..];
            let Reading::Whole((head, len)) = head::response(text, WIDE, request.method == b"HEAD") else {
                return Told::Broken;
            };
            at += len;
            match head.status {
                101 if switches(request, &head) => return Told::Switched(at),
                101 => return Told::Broken,
                ..200 if informational.len() == INFORMATIONAL_MAX => return Told::Broken,
                ..200 => informational.push(head.status),
                _ => {
                    let content = Content::read(head.body, &answer.bytes[at..], answer.closes);
                    let Reading::Whole((_, len)) = content.end else { return Told::Broken };
                    let end = at + len;
                    let has_excess = end < answer.bytes.len();
                    let answered = Answered { informational, head, content, end, has_excess };
                    return Told::Whole(Box::new(answered));
                }
            }
        }
    }

    /// Where the response ends.
    pub fn end(&self) -> Option<usize> {
        match self {
            Told::Whole(answered) => Some(answered.end),
            _ => None,
        }
    }

    /// Whether the connection that it came on may be used again.
    pub fn is_clean(&self) -> bool {
        matches!(self, Told::Whole(answered) if answered.head.keep_alive && !answered.has_excess)
    }
}

fn switches(request: &Request, response: &Response) -> bool {
    let (Some(asked), Some(given)) = (&request.upgrade, &response.upgrade) else { return false };
    let asked = [(b"upgrade".to_vec(), asked.clone())];
    fields::elements(&asked, "upgrade").contains(&given.to_ascii_lowercase())
}

/// Whether there is an empty line after others, however its end is written.
fn has_ended(text: &[u8]) -> bool {
    let start = text.iter().position(|byte| !b"\r\n".contains(byte)).unwrap_or(text.len());
    let text = &text[start..];
    text.windows(2).any(|pair| pair == b"\n\n") || text.windows(3).any(|three| three == b"\n\r\n")
}

/// The requests that a client's bytes are, and what is left of the bytes.
pub fn requests(stream: &[u8], script: &Script) -> (Vec<Wanted>, Tail) {
    let (mut wanted, mut at) = (Vec::new(), 0);
    loop {
        let (head, len) = match head::request(&stream[at..], BOUNDS, Sender::Client) {
            Reading::Whole(whole) => whole,
            Reading::Incomplete if at == stream.len() => return (wanted, Tail::Nothing),
            Reading::Incomplete => return (wanted, Tail::Incomplete),
            // What is wrong may be told only when the head has ended.
            Reading::Refused(_) if !has_ended(&stream[at..]) => return (wanted, Tail::Incomplete),
            Reading::Refused(_) => return (wanted, Tail::Refused),
        };
        at += len;
        let content = Content::read(head.body, &stream[at..], false);
        let told = Told::read(&script.answer(wanted.len()), &head);
        let (end, is_switch) = (content.end.clone(), matches!(told, Told::Switched(_)));
        wanted.push(Wanted { head, content, told });
        match end {
            Reading::Whole(_) if is_switch => return (wanted, Tail::Tunnel(stream[at..].to_vec())),
            Reading::Whole((_, len)) => at += len,
            _ => return (wanted, Tail::Nothing),
        }
    }
}
