//! Tests of `parse`.

use super::*;

const BOUNDS: Bounds = Bounds { head: 512, fields: 8, uri: 64 };

fn parse(input: &str) -> Result<Parsed, Refusal> {
    request(input.as_bytes(), BOUNDS, &mut RequestHead::default())
}

#[test]
fn requests_that_are_not_quite_http_are_refused() {
    let long_uri = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(64));
    let long_head = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(512));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(8));
    let table: &[(&str, u16, &str)] = &[
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", 400, "line feed without carriage return"),
        ("GET / HTTP/1.1\nHost: a\n\n", 400, "line feed without carriage return"),
        ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "line feed without carriage return"),
        ("GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n", 400, "malformed field value"),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", 400, "malformed field name"),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400, "malformed field name"),
        ("GET / HTTP/1.1\r\n: a\r\n\r\n", 400, "malformed field name"),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n", 400, "malformed field value"),
        ("GET / HTTP/1.1\r\n\r\n", 400, "missing host"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400, "repeated host"),
        ("GET http://b/ HTTP/1.1\r\n\r\n", 400, "missing host"),
        ("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "transfer-encoding in HTTP/1.0"),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "malformed request line"),
        ("GET /  HTTP/1.1\r\nHost: a\r\n\r\n", 400, "malformed request line"),
        ("G@T{} / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "malformed request line"),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505, "unsupported HTTP version"),
        ("GET / HTTX/1.1\r\nHost: a\r\n\r\n", 400, "malformed request line"),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 501, "CONNECT is not supported"),
        (&long_uri, 414, "request target too long"),
        (&long_head, 431, "head too large"),
        (&many, 431, "too many fields"),
    ];
    for (input, status, reason) in table {
        let refusal = parse(input).expect_err(input);
        assert_eq!((refusal.status().0, refusal.reason()), (*status, *reason), "{input:?}");
    }
}

#[test]
fn whole_requests_are_found_with_their_length() {
    let table = [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\nrest", Ok(Parsed::Head(27))),
        ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Ok(Parsed::Head(31))),
        ("GET / HTTP/1.0\r\n\r\n", Ok(Parsed::Head(18))),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r", Ok(Parsed::Incomplete)),
        ("", Ok(Parsed::Incomplete)),
        ("\r\n", Ok(Parsed::Incomplete)),
    ];
    for (input, expected) in table {
        assert_eq!(parse(input), expected, "{input:?}");
    }
}

#[test]
fn every_prefix_of_a_request_is_incomplete_or_refused_alike() {
    let input = "POST /a/b?c=d HTTP/1.1\r\nHost: example.org\r\nContent-Length: 3\r\nX: y z\r\n\r\n";
    for end in 0..input.len() {
        assert_eq!(parse(&input[..end]), Ok(Parsed::Incomplete), "{end}");
    }
    assert_eq!(parse(input), Ok(Parsed::Head(input.len())));
}

#[test]
fn bounds_say_the_same_of_a_head_in_pieces() {
    let method_bytes =
        |count| format!("{} /{} HTTP/1.1\r\nHost: a\r\n\r\n", "M".repeat(count), "x".repeat(63));
    let lines = |count| format!("{}GET / HTTP/1.1\r\nHost: a\r\n\r\n", "\r\n".repeat(count));
    let table = [
        (method_bytes(54), None),
        (method_bytes(55), Some(Refusal::UriTooLong)),
        (lines(242), None),
        (lines(243), Some(Refusal::HeadTooLarge)),
    ];
    for (input, expected) in table {
        let pieces = (1..=input.len()).map(|end| parse(&input[..end]));
        let first = pieces.into_iter().find(|parsed| *parsed != Ok(Parsed::Incomplete));
        let outcome = match expected {
            None => Ok(Parsed::Head(input.len())),
            Some(refusal) => Err(refusal),
        };
        assert_eq!((parse(&input), first), (outcome, Some(outcome)), "{input:?}");
    }
}

#[test]
fn a_head_that_grows_without_end_is_refused_before_it_ends() {
    assert_eq!(parse(&"x".repeat(200)), Err(Refusal::UriTooLong));
    let fields = format!("GET / HTTP/1.1\r\nX: {}", "y".repeat(600));
    assert_eq!(parse(&fields), Err(Refusal::HeadTooLarge));
}

#[test]
fn responses_that_are_not_quite_http_are_refused() {
    let table = [
        ("HTTP/1.1 200 OK\nX: y\n\n", "line feed without carriage return"),
        ("\r\nHTTP/1.1 200 OK\r\n\r\n", "empty line before the status line"),
        ("HTTP/1.1 099 No\r\n\r\n", "invalid status code"),
        ("HTTP/1.1 2x0 No\r\n\r\n", "malformed status line"),
        ("HTTP/3.0 200 OK\r\n\r\n", "not an HTTP/1 status line"),
        ("hello world\r\n\r\n", "not an HTTP/1 status line"),
        ("HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", "malformed field"),
        ("HTTP/1.1 200 OK\r\nX : a\r\n\r\n", "malformed field"),
        ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "transfer-encoding in HTTP/1.0"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", "repeated content-length"),
    ];
    for (input, reason) in table {
        let refusal = response(input.as_bytes(), BOUNDS, Method::Get, &mut ResponseHead::default());
        assert_eq!(refusal.expect_err(input).reason(), reason, "{input:?}");
    }
}

#[test]
fn response_bodies_depend_on_method_and_status() {
    let table = [
        ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", Method::Get, BodyLength::Known(4), true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", Method::Head, BodyLength::Empty, true),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n", Method::Get, BodyLength::Empty, true),
        ("HTTP/1.1 204 No Content\r\n\r\n", Method::Get, BodyLength::Empty, true),
        ("HTTP/1.1 200 OK\r\n\r\n", Method::Get, BodyLength::UntilClose, false),
        ("HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n", Method::Get, BodyLength::Chunked, true),
        ("HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\n", Method::Get, BodyLength::Known(4), false),
        (
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\n",
            Method::Get,
            BodyLength::Known(4),
            false,
        ),
    ];
    for (input, method, body, keep_alive) in table {
        let mut head = ResponseHead::default();
        assert_eq!(response(input.as_bytes(), BOUNDS, method, &mut head), Ok(Parsed::Head(input.len())));
        assert_eq!((head.body, head.keep_alive), (body, keep_alive), "{input:?}");
    }
}

#[test]
fn trailers_lose_what_is_not_theirs_to_say() {
    let mut fields = Fields::default();
    let section = b"X-Sum: 1\r\nContent-Length: 5\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n";
    trailers(section, &mut fields).unwrap();
    let names: Vec<&[u8]> = fields.iter().map(|field| field.name).collect();
    assert_eq!(names, [b"X-Sum"]);
    assert!(trailers(b"bad name: x\r\n\r\n", &mut fields).is_err());
}
