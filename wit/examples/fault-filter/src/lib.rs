//! Middleware that fails as the request field `x-fault` says, for tests of its host: `trap`, `loop`,
//! `memory`, `huge` (a response of 64 MiB), `status` (one that is none), `upstream` (one that nobody has
//! allowed), `log` (100,000 lines), `response-trap`, `note-trap` and `change-trap` (which write a note, or
//! change the head, before). Others do what is allowed: `note`, `change`, `target` (sets the target), `elsewhere` (the
//! upstream `other`), `ten`, `all` and `read` (read nine more fields, all, or the body), `owned` (tries to change what is WarpDrive's own), `body` (answers with the body),
//! `set-body`, `set-body-trap`, `response-answer`, `response-change`, `response-body` (answers with the body in capitals).
//!
//! With the config `stream` = `true` it subscribes to both bodies as streams, and does in the chunks of a
//! body what `x-stream` says: `trap`, `loop`, `second-trap` (at the second chunk), `capitals`, `capitals-trap` (capitals, and at the
//! second chunk a trap), `hold` (all of it with the last chunk), `drop` (nothing goes on), `huge` (1 MiB more than it was given), `leave`,
//! `abort`, `begin-trap`. `x-of` = `request` or `response` says which of the two bodies.
//!
//! The field `x-show` has the response say what the notes are. Config: `fault` = `configure` fails the load,
//! `fluctuating` has each instance subscribe to something else, `log` writes a line for each exchange, `body` is the limit of both bodies,
//! `field` another field than `x-fault`.
#![cfg(target_family = "wasm")]

use std::cell::{Cell, RefCell};

use exports::warpdrive::middleware::filter::{
    Answer, BodyAccess, Guest, Hooks, RequestAction, ResponseAction, Subscription, Summary,
};
use exports::warpdrive::middleware::request_stream::{self, GuestBody as GuestRequestBody, Outcome};
use exports::warpdrive::middleware::response_stream::{self, GuestBody as GuestResponseBody};
use warpdrive::guest::log::{Level, log};
use warpdrive::guest::{settings, store};
use warpdrive::middleware::messages::{BodyError, ChangeError, Request, Response};

wit_bindgen::generate!({
    path: ["../../guest", "../../middleware"],
    inline: "
        package example:fault;
        world fault {
            include warpdrive:middleware/middleware@0.1.0;
            export warpdrive:middleware/request-stream@0.1.0;
            export warpdrive:middleware/response-stream@0.1.0;
        }
    ",
    generate_all,
});

struct Fault;
export!(Fault);

impl Guest for Fault {
    fn configure(_: String) -> Result<Subscription, String> {
        let fault = settings::config("fault");
        if fault.as_deref() == Some("configure") {
            return Err("told to fail".into());
        }
        let mut hooks = Hooks::REQUEST | Hooks::RESPONSE;
        if settings::config("log").is_some() {
            hooks = hooks | Hooks::LOG;
        }
        if settings::config("fluctuating").is_some() && store::increment("instances", 1.0, 0) != Ok(1.0) {
            hooks = Hooks::REQUEST;
        }
        let body = match settings::config("body").and_then(|most| most.parse().ok()) {
            Some(most) => BodyAccess::Whole(most),
            None if settings::config("stream").is_some() => BodyAccess::Stream,
            None => BodyAccess::None,
        };
        Ok(Subscription { hooks, request_body: body, response_body: body })
    }

    fn on_request(request: Request) -> RequestAction {
        match fault(&request).as_deref() {
            Some("trap") => std::process::abort(),
            Some("loop") => spin(),
            Some("memory") => grow(),
            Some("huge") => return respond(200, vec![b'x'; 64 << 20]),
            Some("status") => return respond(99, Vec::new()),
            Some("upstream") => return RequestAction::Upstream("nobody-allowed-this".into()),
            Some("elsewhere") => return RequestAction::Upstream("other".into()),
            Some("log") => (0..100_000).for_each(|line| log(Level::Info, &format!("line {line}"))),
            Some(fault @ ("note" | "note-trap")) => {
                must(request.set_note("seen", "noted"));
                may_trap(fault);
            }
            Some(fault @ ("change" | "change-trap")) => {
                must(request.set_field("x-changed", "by m"));
                must(request.remove_field("x-gone"));
                must(request.append_field("x-many", "2"));
                may_trap(fault);
            }
            Some("ten") => {
                let names = ["host", "user-agent", "accept", "cookie", "x-user", "a", "b", "c", "d"];
                let bytes: usize = names.iter().filter_map(|name| request.field(name)).map(|text| text.len()).sum();
                std::hint::black_box(bytes);
            }
            Some("read") => drop(std::hint::black_box(request.body())),
            Some("all") => drop(std::hint::black_box(request.fields())),
            Some("target") => must(request.set_target("/changed?by=m")),
            Some("owned") => {
                let owned = ["host", "content-length", "connection", "x-forwarded-for", "transfer-encoding"];
                let is_kept =
                    |name: &&str| matches!(request.set_field(name, "1"), Err(ChangeError::Forbidden));
                let broken = [request.set_field("x-a", "a\r\nb: c"), request.set_field("x a", "b")];
                let is_invalid = broken.iter().all(|made| matches!(made, Err(ChangeError::Invalid)));
                return respond(if owned.iter().all(|name| is_kept(&name)) && is_invalid { 200 } else { 500 }, Vec::new());
            }
            Some("body") => {
                return match request.body() {
                    Ok(body) => respond(200, body),
                    Err(BodyError::NotSubscribed) => respond(409, b"not subscribed".to_vec()),
                    Err(BodyError::TooLarge) => respond(413, b"too large".to_vec()),
                };
            }
            Some(fault @ ("set-body" | "set-body-trap")) => {
                must(request.set_body(b"another body"));
                may_trap(fault);
            }
            _ => {}
        }
        RequestAction::Next
    }

    fn on_response(request: Request, response: Response) -> ResponseAction {
        if request.field("x-show").is_some() {
            must(response.set_field("x-note", &request.note("seen").unwrap_or_default()));
        }
        match fault(&request).as_deref() {
            Some("response-trap") => {
                must(response.set_field("x-changed", "by m"));
                std::process::abort()
            }
            Some("response-answer") => {
                let fields = vec![("x-by".into(), "m".into())];
                return ResponseAction::Respond(Answer { status: 418, fields, body: b"instead".to_vec() });
            }
            Some("response-change") => {
                must(response.set_status(203));
                must(response.set_field("x-changed", "by m"));
                must(response.remove_field("content-type"));
            }
            Some("response-body") => match response.body() {
                Ok(mut body) => {
                    body.make_ascii_uppercase();
                    must(response.set_body(&body));
                }
                Err(_) => must(response.set_field("x-body", "not seen")),
            },
            _ => {}
        }
        ResponseAction::Next
    }

    fn on_log(request: Request, summary: Summary) {
        let Summary { status, request_body_bytes, response_body_bytes, upstream, endpoint, error, .. } = summary;
        let note = request.note("seen");
        let sizes = format!("{request_body_bytes} {response_body_bytes}");
        let line = format!("over: {status} {sizes} {upstream:?} {} {error:?} {note:?}", endpoint.is_some());
        log(Level::Info, &line);
    }
}

/// What it is to do.
fn fault(request: &Request) -> Option<String> {
    request.field(settings::config("field").as_deref().unwrap_or("x-fault"))
}

impl request_stream::Guest for Fault {
    type Body = Passage;
}

impl response_stream::Guest for Fault {
    type Body = Passage;
}

/// One body on its way.
struct Passage {
    /// What is to be done with it, if it is this one.
    fault: String,
    chunks: Cell<u32>,
    held: RefCell<Vec<u8>>,
}

impl Passage {
    fn of(request: &Request, body: &str) -> Passage {
        let is_meant = request.field("x-of").as_deref() == Some(body);
        let fault = request.field("x-stream").filter(|_| is_meant).unwrap_or_default();
        if fault == "begin-trap" {
            std::process::abort();
        }
        Passage { fault, chunks: Cell::new(0), held: RefCell::default() }
    }

    fn pass(&self, mut bytes: Vec<u8>, last: bool) -> Outcome {
        let is_second = self.chunks.replace(self.chunks.get() + 1) == 1;
        match self.fault.as_str() {
            "trap" => std::process::abort(),
            "second-trap" | "capitals-trap" if is_second => std::process::abort(),
            "loop" => spin(),
            "capitals" | "capitals-trap" => {
                bytes.make_ascii_uppercase();
                Outcome::Replace(bytes)
            }
            "hold" => {
                self.held.borrow_mut().append(&mut bytes);
                Outcome::Replace(if last { self.held.take() } else { Vec::new() })
            }
            "drop" => Outcome::Replace(Vec::new()),
            "huge" => Outcome::Replace(vec![b'x'; bytes.len() + (1 << 20)]),
            "leave" => Outcome::Leave,
            "abort" => Outcome::Abort("told to".into()),
            _ => Outcome::Pass,
        }
    }
}

impl GuestRequestBody for Passage {
    fn new(request: Request) -> Passage {
        Passage::of(&request, "request")
    }

    fn chunk(&self, bytes: Vec<u8>, last: bool) -> Outcome {
        self.pass(bytes, last)
    }
}

impl GuestResponseBody for Passage {
    fn new(request: Request, _: Response) -> Passage {
        Passage::of(&request, "response")
    }

    fn chunk(&self, bytes: Vec<u8>, last: bool) -> Outcome {
        self.pass(bytes, last)
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        log(Level::Info, &format!("body over after {} chunks", self.chunks.get()));
    }
}

fn must(made: Result<(), ChangeError>) {
    if made.is_err() {
        std::process::abort();
    }
}

fn may_trap(fault: &str) {
    if fault.ends_with("-trap") {
        std::process::abort();
    }
}

fn respond(status: u16, body: Vec<u8>) -> RequestAction {
    RequestAction::Respond(Answer { status, fields: Vec::new(), body })
}

fn spin() -> ! {
    let mut turns = 0_u32;
    loop {
        turns = std::hint::black_box(turns.wrapping_add(1));
    }
}

fn grow() -> ! {
    let mut held = Vec::new();
    loop {
        held.push(std::hint::black_box(vec![1_u8; 1 << 20]));
    }
}
