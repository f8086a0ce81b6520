//! The head of a request: parsed whole, parsed in pieces, and as the reference reads it; then
//! as it goes to an upstream.

use warpdrive::http::fields::Span;
use warpdrive::http::forwarding::{Network, Peer, Settings, Stamp};
use warpdrive::http::framing::BodyLength;
use warpdrive::http::h1::{self, Parsed, encode, parse};
use warpdrive::http::head::{RequestHead, Version};

use crate::reference::fields::{self, Field};
use crate::reference::head::{self, Request, Sender};
use crate::reference::{Body, Bounds, Reading};
use crate::{shown, split};

/// Small, so that inputs go beyond them.
const BOUNDS: Bounds = Bounds { head: 512, fields: 8, uri: 64 };

/// For what was encoded, which may have more than was received.
const WIDE: Bounds = Bounds { head: 1 << 20, fields: 256, uri: 4096 };

/// What might follow an incomplete head and make it whole.
const ENDS: [&[u8]; 7] = [
    b"\r\n\r\n",
    b"\n\r\n",
    b" HTTP/1.1\r\nHost: a\r\n\r\n",
    b"/ HTTP/1.1\r\nHost: a\r\n\r\n",
    b"1\r\nHost: a\r\n\r\n",
    b"\r\nHost: a\r\n\r\n",
    b": a\r\nHost: a\r\n\r\n",
];

pub fn check(input: &[u8]) {
    let whole = parsed(input);
    let reference = head::request(input, BOUNDS, Sender::Client);
    match (&whole, &reference) {
        (Reading::Whole(ours), Reading::Whole(theirs)) => assert_eq!(ours, theirs, "{}", shown(input)),
        (Reading::Refused(_), Reading::Refused(_)) | (Reading::Incomplete, Reading::Incomplete) => {}
        (Reading::Incomplete, Reading::Refused(_)) => expect_refusal_at_the_end(input),
        (Reading::Refused(reason), Reading::Incomplete) => expect_hopeless(input, reason),
        _ => panic!("{}: {whole:?}, but {reference:?}", shown(input)),
    }
    check_pieces(input, &whole);
    if let Reading::Whole((request, _)) = &whole {
        check_forwarded(input, request);
    }
}

/// What may be refused as soon as it is seen must be refused once the head has ended; line feeds
/// alone have not begun one.
fn expect_refusal_at_the_end(input: &[u8]) {
    let has_begun = input.iter().any(|byte| !b"\r\n".contains(byte));
    let end: &[u8] = if has_begun { b"\r\n\r\n" } else { b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" };
    let ended = [input, end].concat();
    let outcome = parsed(&ended);
    assert!(outcome.is_refused(), "{}: {outcome:?}", shown(&ended));
}

/// What was refused before its end must have no end that makes it a request.
fn expect_hopeless(input: &[u8], reason: &str) {
    for end in ENDS {
        let ended = [input, end].concat();
        let outcome = head::request(&ended, BOUNDS, Sender::Client);
        let is_request = matches!(outcome, Reading::Whole(_));
        assert!(!is_request, "{} was refused before its end: {reason}", shown(&ended));
    }
}

/// The first prefix that says anything says what the whole does.
fn check_pieces(input: &[u8], whole: &Reading<(Request, usize)>) {
    for end in split::prefixes(input) {
        match (parsed(&input[..end]), whole) {
            (Reading::Incomplete, _) => assert!(end < input.len() || *whole == Reading::Incomplete),
            (Reading::Refused(_), Reading::Refused(_)) => return,
            (piece, whole) => {
                assert_eq!(piece, *whole, "{} up to {end}", shown(input));
                return;
            }
        }
    }
}

fn parsed(input: &[u8]) -> Reading<(Request, usize)> {
    let mut head = RequestHead::default();
    let bounds = h1::Bounds { head: BOUNDS.head, fields: BOUNDS.fields, uri: BOUNDS.uri };
    match parse::request(input, bounds, &mut head) {
        Ok(Parsed::Head(len)) => Reading::Whole((read(&head), len)),
        Ok(Parsed::Incomplete) => Reading::Incomplete,
        Err(refusal) => Reading::Refused(refusal.reason()),
    }
}

fn read(head: &RequestHead) -> Request {
    let text = |span: Span| head.text(span).to_vec();
    Request {
        method: text(head.method_text),
        path: text(head.target.path),
        query: text(head.target.query),
        host: text(head.target.host),
        authority: text(head.target.authority),
        is_http10: head.version == Version::Http10,
        fields: listed(&head.fields),
        body: body(head.body),
        keep_alive: head.keep_alive,
        expects_continue: head.expects_continue,
        upgrade: head.upgrade.map(text),
    }
}

pub fn listed(fields: &warpdrive::http::fields::Fields) -> Vec<Field> {
    fields.iter().map(|field| (field.name.to_vec(), field.value.to_vec())).collect()
}

pub fn body(length: BodyLength) -> Body {
    match length {
        BodyLength::Empty => Body::Empty,
        BodyLength::Known(length) => Body::Length(length),
        BodyLength::Chunked => Body::Chunked,
        BodyLength::UntilClose => Body::UntilClose,
    }
}

/// What an upstream is sent is one request, and the same one.
fn check_forwarded(input: &[u8], request: &Request) {
    let mut head = RequestHead::default();
    let bounds = h1::Bounds { head: BOUNDS.head, fields: BOUNDS.fields, uri: BOUNDS.uri };
    let parsed = parse::request(input, bounds, &mut head);
    assert!(matches!(parsed, Ok(Parsed::Head(_))), "the same input is parsed alike");
    let network = Network { address: [192, 0, 2, 0].into(), bits: 24 };
    for keep_received in [false, true] {
        let settings = Settings { trusted: vec![network], keep_received, ..Settings::default() };
        let peer = Peer::new(&settings, [192, 0, 2, 1].into());
        let stamp = Stamp { request_id: [b'5'; 32], start_ms: 7, span: None };
        let mut out = Vec::new();
        encode::request(&mut out, &head, head.text(head.target.path), &peer, &stamp);
        let Reading::Whole((sent, len)) = head::request(&out, WIDE, Sender::Proxy) else {
            panic!("{} is sent as {}", shown(input), shown(&out));
        };
        assert_eq!(len, out.len(), "{}", shown(&out));
        expect_same_message(request, &sent);
        if !keep_received {
            expect_own(request, &sent, b"192.0.2.1");
        }
    }
}

/// That `sent` is what a proxy makes of `received` for an upstream.
pub fn expect_same(received: &Request, sent: &Request, client: &[u8]) {
    expect_same_message(received, sent);
    expect_own(received, sent, client);
}

fn expect_same_message(received: &Request, sent: &Request) {
    assert_eq!(
        (&sent.method, &sent.path, &sent.query, &sent.authority, &sent.host),
        (&received.method, &received.path, &received.query, &received.authority, &received.host),
    );
    let said = (sent.body, sent.is_http10, sent.keep_alive, sent.expects_continue, &sent.upgrade);
    assert_eq!(said, (received.body, false, true, received.expects_continue, &received.upgrade));
    assert_eq!(fields::forwarded(&sent.fields), fields::forwarded(&received.fields));
    for (name, _) in &sent.fields {
        let times = fields::values(&sent.fields, &String::from_utf8_lossy(name)).len();
        assert!(times == 1 || !fields::is_owned(name), "{} is there {times} times", shown(name));
    }
    for name in ["forwarded", "x-accel-redirect", "x-sendfile", "x-sendfile-type", "x_real_ip"] {
        assert_eq!(fields::values(&sent.fields, name), [b""; 0], "{name}");
    }
}

/// The fields that tell of a client whose word does not count.
fn expect_own(received: &Request, sent: &Request, client: &[u8]) {
    for (name, _) in &sent.fields {
        assert!(!fields::is_withheld(name), "{} is passed on", shown(name));
    }
    let after = received.authority.iter().rposition(|byte| *byte == b':').map(|at| at + 1);
    let port = after.map_or(&b""[..], |at| &received.authority[at..]);
    let is_port = (1..=5).contains(&port.len()) && port.iter().all(u8::is_ascii_digit);
    let port = if is_port { port } else { b"80" };
    let ours: [(&str, &[u8]); 5] = [
        ("x-forwarded-for", client),
        ("x-real-ip", client),
        ("x-forwarded-proto", b"http"),
        ("x-forwarded-port", port),
        ("x-forwarded-host", &received.authority),
    ];
    for (name, value) in ours {
        assert_eq!(fields::values(&sent.fields, name), [value], "{name}");
    }
    for name in ["x-request-id", "x-request-start", "via"] {
        assert_eq!(fields::values(&sent.fields, name).len(), 1, "{name}");
    }
}
