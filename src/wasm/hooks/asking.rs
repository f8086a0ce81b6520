//! The requests that middleware sends while it is called: `warpdrive:guest/http`. What it sends goes the
//! way of what components send, by the outbox of its instance; the whole answer comes back.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use wasmtime::Result;
use wasmtime::component::{HasData, Linker};

use super::asked;
use super::bindings::asking::warpdrive::guest::http;
use super::running::State;
use crate::http::fields::{is_token, is_value};
use crate::http::h1::changes::is_fixed;
use crate::http::push_decimal;
use crate::wasm::outgoing::{Answer, Ask, Outbox, Refusal, Timeouts, reply};

/// The name of the interface, without its version.
pub const NAME: &str = "warpdrive:guest/http";

/// Of a request, and of an answer.
const BODY_MAX: usize = 1 << 20;

/// Bytes of a request's head.
const HEAD_MAX: usize = 64 << 10;

/// [`Outbox`], as a linker names it.
struct HasOutbox;

impl HasData for HasOutbox {
    type Data<'a> = &'a mut Outbox;
}

/// # Errors
/// It is linked already.
pub fn link(linker: &mut Linker<State>) -> Result<()> {
    http::add_to_linker::<State, HasOutbox>(linker, |state| &mut state.outbox)
}

impl http::Host for Outbox {
    async fn http_request(&mut self, request: http::Request) -> Result<http::Response, http::Error> {
        let begun = Instant::now();
        let patience = (request.timeout_ms > 0).then(|| Duration::from_millis(request.timeout_ms.into()));
        let is_late = || patience.is_some_and(|patience| begun.elapsed() >= patience);
        let head = head_of(&request).ok_or(http::Error::Invalid)?;
        let (reply, awaited) = reply();
        let ask = || Ask {
            authority: request.upstream,
            head,
            body: (!request.body.is_empty())
                .then(|| Full::new(Bytes::from(request.body)).map_err(|never| match never {}).boxed_unsync()),
            timeouts: Timeouts::default(),
            patience,
            reply,
        };
        self.put(ask).map_err(|refusal| error(refusal, false))?;
        let answer = awaited.answer().await.map_err(|refusal| error(refusal, is_late()))?;
        whole(answer).await.map_err(|refusal| error(refusal, is_late()))
    }
}

fn error(refusal: Refusal, is_late: bool) -> http::Error {
    match refusal {
        Refusal::Denied => http::Error::NotAllowed,
        Refusal::Malformed | Refusal::BodyTooLarge => http::Error::Invalid,
        Refusal::AnswerTooLarge => http::Error::TooLarge,
        Refusal::Timeout | Refusal::ConnectTimeout => http::Error::TimedOut,
        _ if is_late => http::Error::TimedOut,
        _ => http::Error::Unavailable,
    }
}

/// The head as a client would send it. None if it would be none, or another one.
fn head_of(request: &http::Request) -> Option<Vec<u8>> {
    let http::Request { upstream, method, path, fields, body, .. } = request;
    let is_target = path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_token(method.as_bytes()) || method == "CONNECT" || !is_target || body.len() > BODY_MAX {
        return None;
    }
    let mut head = Vec::with_capacity(512);
    for part in [method, " ", path, " HTTP/1.1\r\n"] {
        head.extend_from_slice(part.as_bytes());
    }
    let is_host = |name: &str| name.eq_ignore_ascii_case("host");
    let named = fields.iter().find(|(name, _)| is_host(name)).map(|(_, value)| value.clone());
    push(&mut head, "host", &named.unwrap_or_else(|| host_of(upstream)))?;
    for (name, value) in fields {
        // What is said of the connection is ours to say; nor does anyone wait for leave to send a body.
        if !is_host(name) && !is_fixed(name) {
            push(&mut head, name, value)?;
        }
    }
    if !body.is_empty() || !["GET", "HEAD"].contains(&method.as_str()) {
        head.extend_from_slice(b"content-length: ");
        push_decimal(&mut head, body.len() as u64);
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    (head.len() <= HEAD_MAX).then_some(head)
}

fn push(head: &mut Vec<u8>, name: &str, value: &str) -> Option<()> {
    if !is_token(name.as_bytes()) || !is_value(value.as_bytes()) {
        return None;
    }
    for part in [name, ": ", value, "\r\n"] {
        head.extend_from_slice(part.as_bytes());
    }
    Some(())
}

/// How the first endpoint of an upstream is called.
fn host_of(upstream: &str) -> String {
    let url = asked::of_endpoints(|endpoints| Some(endpoints.endpoint(upstream, 0)?.url));
    let host = url.as_deref().and_then(|url| url.strip_prefix("http://"));
    host.unwrap_or("localhost").to_owned()
}

/// # Errors
/// It is too large, or did not come whole.
async fn whole(answer: Answer) -> Result<http::Response, Refusal> {
    let (parts, mut from) = answer.into_parts();
    let mut body = Vec::new();
    while let Some(frame) = from.frame().await {
        let frame = frame.map_err(|_cut| Refusal::Incomplete)?;
        let Some(data) = frame.data_ref() else { continue };
        if body.len() + data.len() > BODY_MAX {
            return Err(Refusal::AnswerTooLarge);
        }
        body.extend_from_slice(data);
    }
    let fields = parts.headers.iter().map(|(name, value)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    });
    Ok(http::Response { status: parts.status.as_u16(), fields: fields.collect(), body })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, path: &str, fields: &[(&str, &str)], body: usize) -> http::Request {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        http::Request {
            upstream: "api".to_owned(),
            method: method.to_owned(),
            path: path.to_owned(),
            fields: fields.collect(),
            body: vec![b'x'; body],
            timeout_ms: 0,
        }
    }

    fn written(request: &http::Request) -> Option<String> {
        head_of(request).map(|head| String::from_utf8(head).expect("it is text"))
    }

    #[test]
    fn heads_are_written_as_a_client_would() {
        let get = request("GET", "/a?b", &[("X-A", "1"), ("Content-Length", "9"), ("Expect", "x")], 0);
        assert_eq!(written(&get).as_deref(), Some("GET /a?b HTTP/1.1\r\nhost: localhost\r\nX-A: 1\r\n\r\n"));
        let post = request("POST", "/", &[("Host", "a.example"), ("Connection", "x-a")], 2);
        assert_eq!(
            written(&post).as_deref(),
            Some("POST / HTTP/1.1\r\nhost: a.example\r\ncontent-length: 2\r\n\r\n")
        );
        let empty = written(&request("PUT", "/", &[], 0));
        assert!(empty.is_some_and(|head| head.contains("content-length: 0\r\n")));
    }

    #[test]
    fn what_would_be_another_request_is_none() {
        let long = "x".repeat(HEAD_MAX);
        let table = [
            request("G ET", "/", &[], 0),
            request("", "/", &[], 0),
            request("CONNECT", "/", &[], 0),
            request("GET", "a", &[], 0),
            request("GET", "/ b", &[], 0),
            request("GET", "/\r\nX: 1", &[], 0),
            request("GET", "/\u{e9}", &[], 0),
            request("GET", "/", &[("a:", "1")], 0),
            request("GET", "/", &[("a", "1\r\nb: 2")], 0),
            request("GET", "/", &[("Host", "a\nb")], 0),
            request("GET", "/", &[("a", &long)], 0),
            request("POST", "/", &[], BODY_MAX + 1),
        ];
        for request in &table {
            assert_eq!(written(request), None, "{:?} {:?}", request.method, request.path);
        }
    }
}
