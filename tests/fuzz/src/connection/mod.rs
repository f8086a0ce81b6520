//! Bytes in pieces through the product's own code of a connection, with an origin that answers
//! by the same script: what the origin gets and what the client gets, against what the bytes
//! mean to a slow and strict reader. This is where request smuggling would show.

mod origin;
mod script;
mod stage;
mod wanted;

use self::origin::Seen;
use self::script::Script;
use self::stage::{Played, Stage};
use self::wanted::{Answered, Content, Tail, Told, WIDE, Wanted};
use crate::reference::head::{self, Response};
use crate::reference::{Reading, fields};
use crate::{request_head, response_head, shown};

const CLIENT: &[u8] = b"127.0.0.1";

pub fn check(input: &[u8]) {
    let script = Script::read(input);
    let played = Stage::play(&script);
    assert_eq!(played.origin.faults, [""; 0], "{}", shown(input));
    let (wanted, tail) = wanted::requests(&played.sent, &script);
    check_probe(&played);
    let seen = distinct(&played.origin.seen[..played.probe]);
    check_seen(&wanted, &tail, &seen);
    let answers = Answers { script: &script, wanted: &wanted, tail: &tail, seen: &seen };
    answers.check(&played.received);
    check_log(&played);
}

/// Somebody else's request comes over a connection that is fit for it, and gets its own answer.
fn check_probe(played: &Played) {
    let [probe] = &played.origin.seen[played.probe..] else { panic!("another request is not seen once") };
    assert_eq!((&probe.head.path[..], &probe.content.data[..]), (stage::PROBE_PATH, &b""[..]));
    let Reading::Whole((head, len)) = head::response(&played.probed, WIDE, false) else {
        panic!("another request got {}", shown(&played.probed));
    };
    assert_eq!((head.status, &played.probed[len..]), (200, script::PLAIN_BODY));
    assert_eq!(fields::values(&head.fields, "x-tag"), [script::PROBE_TAG.as_bytes()]);
}

/// The requests without those that were sent again, for which there must have been a reason.
fn distinct(all: &[Seen]) -> Vec<&Seen> {
    let mut distinct: Vec<&Seen> = Vec::new();
    for one in all {
        let Some(last) = distinct.last_mut().filter(|last| last.id == one.id) else {
            assert!(distinct.iter().all(|seen| seen.id != one.id), "a request comes back");
            distinct.push(one);
            continue;
        };
        let idempotent: [&[u8]; 6] = [b"GET", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"TRACE"];
        let is_idempotent = idempotent.contains(&&one.head.method[..]);
        assert!(is_idempotent && last.answered == 0, "{} was sent again", shown(&one.head.method));
        assert_eq!(last.head, one.head);
        assert_eq!(last.content.data, one.content.data);
        *last = one;
    }
    distinct
}

/// The origin sees the client's requests, each as it was, in order, and nothing else.
fn check_seen(wanted: &[Wanted], tail: &Tail, seen: &[&Seen]) {
    assert!(seen.len() <= wanted.len(), "{} requests became {}", wanted.len(), seen.len());
    for (wanted, seen) in wanted.iter().zip(seen) {
        request_head::expect_same(&wanted.head, &seen.head, CLIENT);
        let (theirs, ours) = (&wanted.content, &seen.content);
        assert!(theirs.data.starts_with(&ours.data), "{} of {}", shown(&ours.data), shown(&theirs.data));
        if ours.is_whole() {
            assert!(wanted.is_good(), "a body without an end, or too large: {}", shown(&ours.data));
            assert_eq!(ours.data, theirs.data);
            assert_eq!(ours.passed_trailers(), theirs.passed_trailers());
        }
        if !seen.tunnel.is_empty() {
            let Tail::Tunnel(bytes) = tail else { panic!("a tunnel that nobody asked for") };
            assert!(bytes.starts_with(&seen.tunnel), "{} of {}", shown(&seen.tunnel), shown(bytes));
        }
    }
}

/// One line of JSON for each exchange, whatever the client and the origin wrote.
fn check_log(played: &Played) {
    let lines: Vec<&[u8]> = played.log.split_inclusive(|byte| *byte == b'\n').collect();
    assert_eq!(lines.len() as u64, played.exchanges, "{}", shown(&played.log));
    for line in lines {
        let read: Result<serde_json::Value, _> = serde_json::from_slice(line);
        assert!(read.is_ok_and(|value| value.is_object()), "{}", shown(line));
    }
}

/// What the client's answers are held against.
struct Answers<'a> {
    script: &'a Script,
    wanted: &'a [Wanted],
    tail: &'a Tail,
    seen: &'a [&'a Seen],
}

/// What the client read as the answer to one request.
enum Got {
    Whole(Box<Response>, Content),
    /// It ends early, or there is none.
    Cut,
}

impl Answers<'_> {
    /// One answer to each request, in order, until one says that it is the last.
    fn check(&self, received: &[u8]) {
        let mut rest = received;
        for (number, wanted) in self.wanted.iter().enumerate() {
            let (got, informational, after) = read_answer(rest, wanted);
            if let Told::Switched(_) = wanted.told
                && informational.last() == Some(&101)
            {
                return self.check_tunnel(after, number);
            }
            let is_last = match got {
                Got::Whole(head, content) => {
                    self.check_answer(number, &head, &content, &informational);
                    !head.keep_alive
                }
                Got::Cut => {
                    assert!(!self.must_serve(number), "request {number} was not answered: {}", shown(rest));
                    assert_eq!(after, b"", "after an answer that was cut");
                    true
                }
            };
            rest = after;
            if is_last {
                assert_eq!(rest, b"", "after the last answer: {}", shown(rest));
                assert!(self.seen.len() <= number + 1, "requests after the last one");
                return;
            }
        }
        self.check_tail(rest);
    }

    /// Nothing excuses that this request is not answered by the origin.
    fn must_serve(&self, number: usize) -> bool {
        let wanted = &self.wanted[number];
        !self.script.is_disturbed && wanted.is_good() && !matches!(wanted.told, Told::Broken)
    }

    fn check_answer(&self, number: usize, head: &Response, content: &Content, informational: &[u16]) {
        let wanted = &self.wanted[number];
        if is_own(head) {
            assert!(!self.must_serve(number), "request {number} got {} from us", head.status);
            return;
        }
        assert!(number < self.seen.len(), "an answer to a request that nobody saw");
        let client = wanted.head.is_http10;
        match &wanted.told {
            Told::Whole(told) => {
                response_head::expect_same(&told.head, head, client);
                if !client {
                    assert_eq!(told.informational, informational);
                }
                let is_cut = !head.keep_alive && content.data.len() < told.content.data.len();
                if is_cut && client && !self.must_serve(number) {
                    assert!(told.content.data.starts_with(&content.data));
                } else {
                    expect_same_content(told, content, client);
                }
            }
            // To a client that knows no chunks, what was cut looks as what ended.
            Told::Broken => assert!(client && !head.keep_alive, "a broken answer became whole"),
            Told::Switched(_) => panic!("request {number} should have become a tunnel"),
        }
    }

    /// After the last whole request: an answer of ours if what follows is none, then the end.
    fn check_tail(&self, rest: &[u8]) {
        match (self.tail, rest) {
            (Tail::Nothing | Tail::Incomplete, b"") => {}
            (Tail::Refused, b"") => assert!(self.script.is_disturbed, "a refusal without a word"),
            (Tail::Tunnel(_), _) => panic!("a tunnel without 101"),
            _ => {
                let Reading::Whole((head, len)) = head::response(rest, WIDE, false) else {
                    panic!("no response: {}", shown(rest));
                };
                let content = Content::read(head.body, &rest[len..], true);
                assert!(is_own(&head) && content.is_whole() && !head.keep_alive, "{}", shown(rest));
                let left = rest.len() - len - content.data.len();
                assert_eq!(left, 0, "after the last answer: {}", shown(rest));
                let is_refusal = matches!(head.status, 400 | 408 | 414 | 431 | 501 | 505);
                assert!(is_refusal && *self.tail != Tail::Nothing, "{}", shown(rest));
            }
        }
    }

    /// What the origin sent after 101, and nothing else.
    fn check_tunnel(&self, received: &[u8], number: usize) {
        let answer = self.script.answer(number);
        let Told::Switched(start) = self.wanted[number].told else { return };
        let sent = &answer.bytes[start..];
        assert!(sent.starts_with(received), "{} of {}", shown(received), shown(sent));
        if !self.script.is_disturbed {
            assert_eq!(sent, received, "a tunnel that loses bytes");
            let Tail::Tunnel(bytes) = self.tail else { panic!("a tunnel that nobody asked for") };
            assert!(answer.closes || self.seen[number].tunnel == *bytes, "a tunnel that loses bytes");
        }
    }
}

/// Whether an answer is ours and not the origin's, which says for which request it is.
fn is_own(head: &Response) -> bool {
    let kind: &[u8] = b"text/plain; charset=utf-8";
    fields::values(&head.fields, "x-tag").is_empty()
        && fields::values(&head.fields, "content-type") == [kind]
        && matches!(head.status, 400..=599)
}

fn expect_same_content(told: &Answered, content: &Content, is_http10: bool) {
    assert_eq!(shown(&content.data), shown(&told.content.data));
    if !is_http10 {
        assert_eq!(content.passed_trailers(), told.content.passed_trailers());
    }
}

/// The answer to one request, the statuses of what came before it, and what comes after it.
fn read_answer<'a>(mut text: &'a [u8], wanted: &Wanted) -> (Got, Vec<u16>, &'a [u8]) {
    let mut informational = Vec::new();
    loop {
        let (head, len) = match head::response(text, WIDE, wanted.head.method == b"HEAD") {
            Reading::Whole(whole) => whole,
            Reading::Incomplete => return (Got::Cut, informational, b""),
            Reading::Refused(reason) => panic!("{reason}: {}", shown(text)),
        };
        text = &text[len..];
        if head.status < 200 {
            assert!(!wanted.head.is_http10 || head.status == 101, "HTTP/1.0 knows no {}", head.status);
            informational.push(head.status);
            if head.status == 101 {
                return (Got::Cut, informational, text);
            }
            continue;
        }
        let content = Content::read(head.body, text, true);
        return match content.end {
            Reading::Whole((_, len)) => (Got::Whole(Box::new(head), content), informational, &text[len..]),
            Reading::Incomplete => (Got::Cut, informational, b""),
            Reading::Refused(reason) => panic!("{reason}: {}", shown(text)),
        };
    }
}
