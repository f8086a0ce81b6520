//! Heads of messages between our form, which is bytes, and the form that a guest's side has.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderMap};
use http::{HeaderName, HeaderValue, Method, Uri};
use http_body_util::{BodyExt, Empty};
use wasmtime_wasi_http::WasiBody;

use super::pipe::Receiver;
use crate::http::fields::Fields;
use crate::http::{push_decimal, trailers};

/// A body on a guest's side, whoever writes it.
pub type GuestBody = WasiBody;
/// A request as a guest gets it.
pub type Request = http::Request<GuestBody>;
/// A guest's answer.
pub type Response = http::Response<GuestBody>;

/// The request whose head, as it would go to an upstream, is `head`.
///
/// # Errors
/// Its target is not one that can be told to a guest.
pub fn request(head: Vec<u8>, body: Option<Receiver>) -> Result<Request, &'static str> {
    let head = Bytes::from(head);
    let mut lines = lines(&head);
    let first = lines.next().ok_or("no request line")?;
    let mut words = first.split(|byte| *byte == b' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let body = body.map_or_else(no_body, BodyExt::boxed_unsync);
    let mut request = http::Request::new(body);
    *request.method_mut() = Method::from_bytes(method).map_err(|_| "method unknown to components")?;
    *request.uri_mut() =
        Uri::from_maybe_shared(head.slice_ref(target)).map_err(|_| "target unknown to components")?;
    let fields = request.headers_mut();
    fields.reserve(16);
    for line in lines.filter(|line| !line.is_empty()) {
        let colon = memchr::memchr(b':', line).ok_or("a field without a name")?;
        let value = line.get(colon + 2..).unwrap_or_default();
        let name = HeaderName::from_bytes(&line[..colon]).map_err(|_| "a field without a name")?;
        let value =
            HeaderValue::from_maybe_shared(head.slice_ref(value)).map_err(|_| "a field without a value")?;
        fields.append(name, value);
    }
    Ok(request)
}

pub fn no_body() -> GuestBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

/// An answer to a request of a guest, with these fields; what it cannot have is left out.
pub fn answer<'a>(
    status: u16,
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    length: Option<u64>,
    body: Receiver,
) -> Option<http::Response<Receiver>> {
    let mut answer = http::Response::new(body);
    *answer.status_mut() = http::StatusCode::from_u16(status).ok()?;
    append(answer.headers_mut(), fields);
    if let Some(length) = length {
        answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Some(answer)
}

/// Writes the head of an answer as an upstream would have sent it, to be read, and looked at, like
/// any other. `length` is that of its body, if it is known.
pub fn write_head(out: &mut Vec<u8>, response: &Response, length: Option<u64>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(response.status().as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(response.status().canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in response.headers() {
        push(out, name, value);
    }
    if let Some(length) = length.filter(|_| !response.headers().contains_key(CONTENT_LENGTH)) {
        out.extend_from_slice(b"content-length: ");
        push_decimal(out, length);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends a field.
pub(super) fn push(out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Trailers in our form; what may not be one is left out.
pub fn fields(map: &HeaderMap) -> Fields {
    let mut fields = Fields::default();
    for (name, value) in map.iter().filter(|(name, _)| trailers::may_be(name.as_str().as_bytes())) {
        fields.push(name.as_str().as_bytes(), value.as_bytes());
    }
    fields
}

/// Trailers in a guest's form; what it cannot have is left out.
pub fn trailers(fields: &Fields) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(fields.len());
    append(&mut trailers, fields.iter().map(|field| (field.name, field.value)));
    trailers
}

/// Leaves out what a guest cannot have.
fn append<'a>(to: &mut HeaderMap, fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) {
    for (name, value) in fields {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            to.append(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_becomes_a_request() {
        let head =
            b"POST /a%2Fb?x=1 HTTP/1.1\r\nHost: a.example\r\nX-Empty: \r\nx-two: 1\r\nX-Two: 2\r\n\r\n";
        let request = request(head.to_vec(), None).unwrap();
        assert_eq!((request.method(), request.uri().to_string()), (&Method::POST, "/a%2Fb?x=1".to_owned()));
        let two: Vec<_> = request.headers().get_all("x-two").iter().collect();
        assert_eq!(two, ["1", "2"]);
        assert_eq!(request.headers()["x-empty"], "");
        assert_eq!(request.headers()["host"], "a.example");
    }

    #[test]
    fn an_answer_becomes_a_head() {
        let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
        *response.status_mut() = http::StatusCode::NOT_FOUND;
        response.headers_mut().append("set-cookie", HeaderValue::from_static("a=b"));
        response.headers_mut().append("set-cookie", HeaderValue::from_static("c=d"));
        let mut head = Vec::new();
        write_head(&mut head, &response, Some(0));
        let expected =
            "HTTP/1.1 404 Not Found\r\nset-cookie: a=b\r\nset-cookie: c=d\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(String::from_utf8(head).unwrap(), expected);
    }
}
