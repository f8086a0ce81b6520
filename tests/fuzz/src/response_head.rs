//! The head of a response: parsed whole, parsed in pieces, and as the reference reads it; then
//! as it goes to a client.

use warpdrive::http::h1::encode::{self, Framing, Persistence};
use warpdrive::http::h1::{self, Parsed, parse};
use warpdrive::http::head::{Method, ResponseHead, Version};

use crate::reference::fields;
use crate::reference::head::{self, Response};
use crate::reference::{Body, Bounds, Reading};
use crate::request_head::{body, listed};
use crate::{shown, split};

const BOUNDS: Bounds = Bounds { head: 512, fields: 8, uri: 0 };
const WIDE: Bounds = Bounds { head: 1 << 20, fields: 256, uri: 0 };
const DATE: &[u8; 29] = b"Sun, 06 Nov 1994 08:49:37 GMT";

/// What might follow an incomplete head and make it whole.
const ENDS: [&[u8]; 5] = [b"\r\n\r\n", b"\n\r\n", b"TTP/1.1 200 OK\r\n\r\n", b" 200\r\n\r\n", b": a\r\n\r\n"];

pub fn check(input: &[u8]) {
    for method in [Method::Get, Method::Head] {
        check_for(input, method);
    }
}

fn check_for(input: &[u8], method: Method) {
    let whole = parsed(input, method);
    let reference = head::response(input, BOUNDS, method == Method::Head);
    match (&whole, &reference) {
        (Reading::Whole(ours), Reading::Whole(theirs)) => assert_eq!(ours, theirs, "{}", shown(input)),
        (Reading::Refused(_), Reading::Refused(_)) | (Reading::Incomplete, Reading::Incomplete) => {}
        (Reading::Incomplete, Reading::Refused(_)) => {
            // What may be refused as soon as it is seen must be refused once the head has ended.
            let ended = [input, b"HTTP/1.1 200 OK\r\n\r\n"].concat();
            let outcome = parsed(&ended, method);
            assert!(outcome.is_refused(), "{}: {outcome:?}", shown(&ended));
        }
        (Reading::Refused(reason), Reading::Incomplete) => {
            for end in ENDS {
                let ended = [input, end].concat();
                let outcome = head::response(&ended, BOUNDS, method == Method::Head);
                let is_response = matches!(outcome, Reading::Whole(_));
                assert!(!is_response, "{} was refused before its end: {reason}", shown(&ended));
            }
        }
        _ => panic!("{}: {whole:?}, but {reference:?}", shown(input)),
    }
    check_pieces(input, method, &whole);
    if let Reading::Whole((response, _)) = &whole {
        for client in [Version::Http10, Version::Http11] {
            check_passed_on(input, method, client, response);
        }
    }
}

/// The first prefix that says anything says what the whole does.
fn check_pieces(input: &[u8], method: Method, whole: &Reading<(Response, usize)>) {
    for end in split::prefixes(input) {
        match (parsed(&input[..end], method), whole) {
            (Reading::Incomplete, _) => assert!(end < input.len() || *whole == Reading::Incomplete),
            (Reading::Refused(_), Reading::Refused(_)) => return,
            (piece, whole) => {
                assert_eq!(piece, *whole, "{} up to {end}", shown(input));
                return;
            }
        }
    }
}

fn parsed(input: &[u8], method: Method) -> Reading<(Response, usize)> {
    match head_of(input, method) {
        (Ok(Parsed::Head(len)), head) => Reading::Whole((read(&head), len)),
        (Ok(Parsed::Incomplete), _) => Reading::Incomplete,
        (Err(refusal), _) => Reading::Refused(refusal.reason()),
    }
}

fn head_of(input: &[u8], method: Method) -> (Result<Parsed, h1::Refusal>, ResponseHead) {
    let mut head = ResponseHead::default();
    let bounds = h1::Bounds { head: BOUNDS.head, fields: BOUNDS.fields, uri: BOUNDS.uri };
    (parse::response(input, bounds, method, &mut head), head)
}

fn read(head: &ResponseHead) -> Response {
    let text = |span| head.fields.bytes(span).to_vec();
    Response {
        status: head.status.0,
        phrase: text(head.phrase),
        is_http10: head.version == Version::Http10,
        fields: listed(&head.fields),
        body: body(head.body),
        keep_alive: head.keep_alive,
        upgrade: head.upgrade.map(text),
    }
}

/// What a client is sent is one response, and the same one.
fn check_passed_on(input: &[u8], method: Method, client: Version, response: &Response) {
    let (parsed, head) = head_of(input, method);
    assert!(matches!(parsed, Ok(Parsed::Head(_))), "the same input is parsed alike");
    let framing = Framing::of(&head, method == Method::Head, client);
    let persistence = Persistence::of(framing != Framing::UntilClose, client);
    let mut out = Vec::new();
    encode::response(&mut out, &head, framing, persistence, DATE);
    let Reading::Whole((sent, len)) = head::response(&out, WIDE, method == Method::Head) else {
        panic!("{} is sent as {}", shown(input), shown(&out));
    };
    assert_eq!(len, out.len(), "{}", shown(&out));
    expect_same(response, &sent, client == Version::Http10);
}

/// That `sent` is what a proxy makes of `received` for a client.
pub fn expect_same(received: &Response, sent: &Response, is_http10: bool) {
    assert_eq!((sent.status, &sent.phrase), (received.status, &received.phrase));
    let mut expected = fields::end_to_end(&received.fields);
    let has_date = !fields::values(&expected, "date").is_empty();
    let mut passed = fields::end_to_end(&sent.fields);
    if !has_date && received.status >= 200 {
        // Ours is the last.
        let date = passed.pop().map(|(name, _)| name);
        assert_eq!(date.as_deref(), Some(&b"Date"[..]));
    }
    assert_eq!(passed, expected);
    expected.clear();
    let body = match received.body {
        Body::UntilClose | Body::Chunked if is_http10 => Body::UntilClose,
        Body::UntilClose | Body::Chunked => Body::Chunked,
        known => known,
    };
    assert_eq!(sent.body, body);
    let lengths = fields::values(&sent.fields, "content-length");
    match received.status {
        ..200 | 204 => assert_eq!(lengths, [b""; 0]),
        304 => assert_eq!(lengths, fields::values(&received.fields, "content-length")),
        _ => {}
    }
}
