//! Names that are one: up to `-` and `_`, and whether they come before a body or after it.

use crate::harness::origin::Request;
use crate::harness::wire::{Fields, values};
use crate::harness::{Builder, Client, Origin};

/// More than what leaves together with the head of a request.
const LARGE: usize = 200_000;

/// Sends a body in one chunk with these lines after it.
fn post(client: &mut Client, fields: &str, len: usize, trailers: &str) {
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n{fields}\r\n"));
    client.send(format!("{len:x}\r\n{}\r\n0\r\n{trailers}\r\n", "x".repeat(len)));
    assert_eq!(client.response_to("POST").status, 200);
}

fn names(fields: &Fields) -> Vec<String> {
    fields.iter().map(|(name, _)| name.to_ascii_lowercase()).collect()
}

/// An origin whose responses are in chunks, with these fields and trailers.
fn chunked(fields: &'static str, trailers: &'static str) -> Origin {
    Origin::answering(move |_| {
        format!("HTTP/1.1 200 OK\r\n{fields}Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n{trailers}\r\n")
            .into_bytes()
    })
}

#[test]
fn what_a_route_sets_or_removes_of_a_request_comes_by_no_other_name_and_in_no_trailer() {
    let origin = Origin::ok("fine");
    let proxy = Builder::new()
        .upstream("app", &origin, "")
        .route(
            "app",
            "add_headers = { name = \"X-Tenant\", value = \"own\" }\nremove_headers = [\"X-Secret_Key\"]",
        )
        .start();
    let strange =
        "X_Tenant: evil\r\nx-tenant: evil\r\nX-Secret-Key: 1\r\nX_SECRET_KEY: 1\r\nX_Other: kept\r\n";
    let mut client = proxy.client();
    for len in [2, LARGE] {
        post(&mut client, strange, len, &format!("X-Sum: 42\r\n{strange}"));
    }
    for Request { head, trailers, body, .. } in origin.wait_requests(2) {
        let tenants: Vec<&str> = ["x-tenant", "x_tenant"].iter().flat_map(|name| head.values(name)).collect();
        assert_eq!(tenants, ["own"], "{:#?}", head.fields);
        assert!(!head.has("x-secret-key") && !head.has("x_secret_key"), "{:#?}", head.fields);
        // What the operator has no word on is passed on under whatever name.
        assert_eq!(head.value("x_other"), Some("kept"));
        assert_eq!(names(&trailers), ["x-sum", "x_other"], "after {} bytes", body.len());
    }
}

#[test]
fn what_a_route_sets_or_removes_of_a_response_comes_by_no_other_name_and_in_no_trailer() {
    const FIELDS: &str = "X_Frame_Options: ALLOW\r\nX-Powered_By: origin\r\nX_Other: kept\r\n";
    const TRAILERS: &str = "X-Sum: 42\r\nx-frame-options: ALLOW\r\nX_POWERED-BY: origin\r\nX_Other: kept\r\n";
    const EVENTS: &str = "Content-Type: text/event-stream\r\n";
    let response = "response_headers = [{ name = \"X-Frame-Options\", value = \"DENY\" }, \
                    { name = \"X-Powered-By\", remove = true }]";
    for origin in [chunked(FIELDS, TRAILERS), chunked(EVENTS, TRAILERS)] {
        let proxy = Builder::new().upstream("app", &origin, "").route("app", response).start();
        let answer = proxy.client().get("/");
        let options = ["x-frame-options", "x_frame_options"].map(|name| answer.head.values(name)).concat();
        assert_eq!(options, ["DENY"], "{:#?}", answer.head.fields);
        assert!(!answer.head.has("x-powered_by"), "{:#?}", answer.head.fields);
        assert_eq!(names(&answer.trailers), ["x-sum", "x_other"]);
    }
}

#[test]
fn what_a_route_removes_of_a_response_is_not_in_the_heads_before_it_either() {
    let origin = Origin::scripted(|connection| {
        connection.expect_request()?;
        connection.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nX_Powered_By: origin\r\n\r\n")?;
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Powered-By: origin\r\n\r\nhi")
    });
    let response = "response_headers = { name = \"X-Powered-By\", remove = true }";
    let proxy = Builder::new().upstream("app", &origin, "").route("app", response).start();
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let (early, last) = (client.head(), client.head());
    assert_eq!((early.word(1), early.value("link")), ("103", Some("</a.css>")));
    assert!(!early.has("x_powered_by"), "{:#?}", early.fields);
    assert_eq!((last.word(1), last.has("x-powered-by")), ("200", false));
}

/// One of each kind that RFC 9110 6.5.1 has; those that we answer for; and what looks like them.
const NEVER_TRAILERS: &str = "Content-Length: 3\r\nTransfer-Encoding: chunked\r\nHost: evil\r\nTrailer: X\r\n\
    Content-Type: text/html\r\nContent-Encoding: gzip\r\nContent-Range: bytes 0-1/2\r\nContent_Type: a/b\r\n\
    Authorization: Basic x\r\nProxy-Authorization: Basic x\r\nProxy-Authenticate: Basic\r\n\
    WWW-Authenticate: Basic\r\nCookie: a=1\r\nSet-Cookie: a=1\r\nCache-Control: public\r\nExpect: x\r\n\
    Max-Forwards: 1\r\nPragma: no-cache\r\nRange: bytes=0-1\r\nTE: trailers\r\nIf-Match: *\r\n\
    If-None-Match: *\r\nIf-Modified-Since: x\r\nIf-Unmodified-Since: x\r\nIf-Range: x\r\nAge: 1\r\n\
    Expires: 0\r\nDate: x\r\nLocation: /\r\nRetry-After: 1\r\nVary: *\r\nWarning: 1\r\nConnection: x\r\n\
    Keep-Alive: x\r\nUpgrade: x\r\nProxy-Connection: x\r\nForwarded: for=6.6.6.6\r\nVia: x\r\n\
    X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Prefix: /evil\r\nX_Forwarded_For: 6.6.6.6\r\n\
    X-Real_IP: 6.6.6.6\r\nX-Request-Id: x\r\nX-Accel-Redirect: /etc\r\nX_Accel_Redirect: /etc\r\n\
    X-Sendfile: /etc\r\nX-Admin-Token: x\r\nX_Admin_Token: x\r\nProxy: x\r\nX-Original-URL: /evil\r\n\
    Client-IP: 6.6.6.6\r\nClient_IP: 6.6.6.6\r\nX-Sum: 42\r\n";

#[test]
fn fields_that_may_not_be_trailers_are_dropped_in_both_directions() {
    let origin = chunked("", NEVER_TRAILERS);
    let proxy = Builder::new().upstream("app", &origin, "").route("app", "").start();
    let mut client = proxy.client();
    for len in [2, LARGE] {
        client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.send(format!("{len:x}\r\n{}\r\n0\r\n{NEVER_TRAILERS}\r\n", "x".repeat(len)));
        assert_eq!(names(&client.response_to("POST").trailers), ["x-sum"]);
    }
    for request in origin.wait_requests(2) {
        assert_eq!(values(&request.trailers, "x-sum"), ["42"]);
        assert_eq!(names(&request.trailers), ["x-sum"]);
    }
}
