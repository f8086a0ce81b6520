//! How a body that only the connection delimits ends: with a FIN. A reset, a timeout or a broken
//! upstream cuts it, and the client can tell.

use crate::harness::client::{End, request};
use crate::harness::origin::Connection;
use crate::harness::{Latch, Origin, Proxy};

const OLD: &str = "GET / HTTP/1.0\r\nHost: a\r\n\r\n";
const CUT: &str = "upstream reset the connection within a response body";

/// Sends this, and resets the connection once the test has seen it.
fn resetting(answer: &'static str, go: &Latch) -> Origin {
    let go = go.clone();
    Origin::scripted(move |c: &mut Connection| {
        c.expect_head()?;
        c.send(answer)?;
        go.wait()?;
        c.reset()
    })
}

#[test]
fn a_reset_is_not_the_end_of_a_response() {
    for answer in [
        "HTTP/1.1 200 OK\r\n\r\nhalf",
        "HTTP/1.0 200 OK\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        for asked in [String::from_utf8(request("/")).unwrap(), OLD.to_owned()] {
            let go = Latch::default();
            let origin = resetting(answer, &go);
            let proxy = Proxy::to(&origin);
            let mut client = proxy.client();
            client.send(&asked).until("half");
            go.open();
            let (rest, end) = client.rest();
            assert!(!rest.ends_with(b"0\r\n\r\n"), "{answer:?} {asked:?}: {rest:?}");
            let is_delimited = asked != OLD || answer.contains("Content-Length");
            assert!(is_delimited || end == End::Reset, "{answer:?} to HTTP/1.0 ends as if it were whole");
            assert_eq!(proxy.log_line(200).text("reason"), CUT, "{answer:?} {asked:?}");
        }
    }
}

/// While the client still sends, either direction may be the one that hears of the reset.
#[test]
fn a_reset_during_an_upload_is_not_the_end_of_a_response() {
    for _ in 0..5 {
        let go = Latch::default();
        let origin = resetting("HTTP/1.1 200 OK\r\n\r\nhalf", &go);
        let proxy = Proxy::with(&origin).workers(1).start();
        let mut client = proxy.client();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n");
        client.send(vec![b'x'; 100_000]);
        client.until("half");
        let mut sender = client.sender();
        let sending = std::thread::spawn(move || {
            use std::io::Write as _;
            // It ends when the proxy cuts the connection.
            while sender.write_all(&[b'x'; 1000]).is_ok() {}
        });
        go.open();
        let (rest, _) = client.rest();
        assert!(!rest.ends_with(b"0\r\n\r\n"), "{rest:?}");
        let reason = proxy.log_line(200).text("reason").to_owned();
        assert_eq!(reason, CUT);
        drop(client);
        sending.join().unwrap();
    }
}

/// Without chunks an HTTP/1.0 client knows the end only by how the connection ends.
#[test]
fn an_http_1_0_client_can_tell_a_cut_response_from_a_whole_one() {
    let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n";
    let events = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n";
    let until_close = "HTTP/1.1 200 OK\r\n\r\nhalf";
    let last = "0\r\n\r\n";
    // What follows once the client has seen the half, whether a FIN follows that, and the end.
    for (head, follows, closes, end) in [
        (chunks, last, false, End::Closed),
        (chunks, "", true, End::Reset),
        (chunks, "xyz\r\n", false, End::Reset),
        (chunks, "", false, End::Reset),
        (events, last, false, End::Closed),
        (events, "", true, End::Reset),
        (events, "", false, End::Reset),
        (until_close, "", true, End::Closed),
        (until_close, "", false, End::Reset),
    ] {
        let go = Latch::default();
        let wait = go.clone();
        let origin = Origin::scripted(move |c: &mut Connection| {
            c.expect_request()?;
            c.send(head)?;
            wait.wait()?;
            c.send(follows)?;
            if closes { Ok(()) } else { c.expect_close() }
        });
        let proxy = Proxy::with_upstream(&origin, "read_timeout = \"300ms\"").start();
        let mut client = proxy.client();
        client.send(OLD).until("half");
        go.open();
        assert_eq!(client.expect_end(), end, "{head:?}, then {follows:?}, FIN: {closes}");
        let line = proxy.log_line(200);
        assert_eq!(line.text("reason").is_empty(), end == End::Closed, "{line:?}");
    }
}

/// Nothing of the response has left yet, so there is an answer, and it arrives.
#[test]
fn what_is_cut_before_it_has_begun_is_answered_in_full() {
    let origin = Origin::scripted(|c: &mut Connection| {
        c.expect_request()?;
        c.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n")?;
        c.expect_close()
    });
    let proxy = Proxy::to(&origin);
    let mut client = proxy.client();
    assert_eq!(client.send(OLD).response().status, 502);
    assert_eq!(client.expect_end(), End::Closed);
}
