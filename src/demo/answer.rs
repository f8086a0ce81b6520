//! What a demo server answers. No I/O.

use std::fmt::Write as _;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::http::head::{Method, RequestHead};

/// Self-contained; `{nonce}` is what its style and its script are allowed by.
const PAGE: &str = include_str!("page.html");

const TEXT: &str = "text/plain; charset=utf-8";

/// One server.
pub struct Origin {
    name: String,
    requests: AtomicU64,
}

/// What is to be sent.
pub enum Answer {
    Whole(Whole),
    /// Server-sent events, one a second, until the client goes.
    Events {
        /// The path that was asked for, as this server saw it.
        path: String,
    },
}

/// A response whose length is known.
pub struct Whole {
    pub status: &'static str,
    pub media_type: &'static str,
    /// More fields, each with its line end.
    pub fields: String,
    pub body: Vec<u8>,
}

impl Whole {
    pub fn text(status: &'static str, text: String) -> Whole {
        Whole { status, media_type: TEXT, fields: String::new(), body: text.into_bytes() }
    }
}

impl Origin {
    pub fn new(name: String) -> Origin {
        Origin { name, requests: AtomicU64::new(0) }
    }

    pub fn answer(&self, request: &RequestHead, body: Vec<u8>) -> Answer {
        let path = String::from_utf8_lossy(request.text(request.target.path));
        let is_read = matches!(request.method, Method::Get | Method::Head);
        let whole = match &*path {
            "/echo" => Whole { body, ..Whole::text("200 OK", String::new()) },
            "/" | "/hello" | "/headers" | "/events" if !is_read => Whole {
                fields: "Allow: GET, HEAD\r\n".to_owned(),
                ..Whole::text("405 Method Not Allowed", "only GET and HEAD\n".to_owned())
            },
            "/" => page(),
            "/hello" => self.hello(),
            "/headers" => Whole::text("200 OK", head(request)),
            "/events" => return Answer::Events { path: path.into_owned() },
            other => Whole::text("404 Not Found", format!("{} has nothing at {other}\n", self.name)),
        };
        Answer::Whole(whole)
    }

    fn hello(&self) -> Whole {
        let count = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let (name, pid) = (&self.name, std::process::id());
        let json = format!("{{\"origin\":\"{name}\",\"pid\":{pid},\"count\":{count}}}\n");
        Whole { media_type: "application/json", ..Whole::text("200 OK", json) }
    }

    /// One event, so many seconds after the first. The path is in normal form, so it needs no
    /// escapes here.
    pub fn event(&self, path: &str, seconds: u64) -> String {
        format!("data: {{\"origin\":\"{}\",\"path\":\"{path}\",\"seconds\":{seconds}}}\n\n", self.name)
    }
}

fn page() -> Whole {
    // Seeded by the system, and of one use: nobody can know it beforehand.
    let nonce = format!("{:016x}", RandomState::new().hash_one(PAGE));
    let fields = format!(
        "Content-Security-Policy: default-src 'none'; style-src 'nonce-{nonce}'; \
         script-src 'nonce-{nonce}'; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'\r\n\
         X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n"
    );
    let body = PAGE.replace("{nonce}", &nonce).into_bytes();
    Whole { status: "200 OK", media_type: "text/html; charset=utf-8", fields, body }
}

/// A request as it arrived here.
fn head(request: &RequestHead) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes);
    let target = &request.target;
    let mut out = format!(
        "{} {}{} HTTP/1.1\n",
        text(request.text(request.method_text)),
        text(request.text(target.path)),
        text(request.text(target.query))
    );
    for field in request.fields.iter() {
        writeln!(out, "{}: {}", text(field.name), text(field.value)).expect("a String takes it");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::h1::{Bounds, FIELDS_MAX, parse};

    fn answer(origin: &Origin, request: &str) -> String {
        let bounds = Bounds { head: 8192, fields: FIELDS_MAX, uri: 8192 };
        let mut head = RequestHead::default();
        parse::request(format!("{request} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes(), bounds, &mut head)
            .unwrap();
        match origin.answer(&head, b"sent".to_vec()) {
            Answer::Whole(whole) => format!("{}|{}", whole.status, String::from_utf8(whole.body).unwrap()),
            Answer::Events { path } => origin.event(&path, 3),
        }
    }

    #[test]
    fn each_path_has_its_answer() {
        let origin = Origin::new("amber".to_owned());
        let pid = std::process::id();
        let cases = [
            ("GET /hello", format!("200 OK|{{\"origin\":\"amber\",\"pid\":{pid},\"count\":1}}\n")),
            ("GET /hello?again", format!("200 OK|{{\"origin\":\"amber\",\"pid\":{pid},\"count\":2}}\n")),
            ("GET /headers?x=1", "200 OK|GET /headers?x=1 HTTP/1.1\nHost: a\n".to_owned()),
            ("POST /echo", "200 OK|sent".to_owned()),
            ("GET /events", "data: {\"origin\":\"amber\",\"path\":\"/events\",\"seconds\":3}\n\n".to_owned()),
            ("POST /hello", "405 Method Not Allowed|only GET and HEAD\n".to_owned()),
            ("GET /other", "404 Not Found|amber has nothing at /other\n".to_owned()),
        ];
        for (request, expected) in cases {
            assert_eq!(answer(&origin, request), expected, "{request}");
        }
    }

    #[test]
    fn the_page_allows_nothing_but_itself() {
        let (first, second) = (page(), page());
        assert_ne!(first.fields, second.fields, "a nonce is used once");
        let text = String::from_utf8(first.body).unwrap();
        assert!(!text.contains("{nonce}"));
        for outside in ["http://", "https://", "src=", "@import", "url(", " style=", "innerHTML"] {
            assert!(!text.contains(outside), "{outside} in the page");
        }
    }
}
