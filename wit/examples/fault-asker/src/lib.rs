//! Middleware that asks others as the request says, for tests of its host. `x-ask: UPSTREAM METHOD PATH` has it
//! send that, `x-ask-field: NAME VALUE` with such a field, `x-ask-bytes` with a body of so many, `x-ask-timeout` with so
//! many milliseconds of patience, `x-ask-times` so often. It answers with what came of the last, `STATUS LENGTH BODY` or the
//! error; with `x-ask-on: response` it asks in the hook for responses, and sets the field `x-answer` to that, with
//! `x-ask-on: pass` it sets it on the request, which goes on.
//!
//! `x-then` = `trap` or `loop` says what it does after that; before, it has set the request field `x-changed`. `x-ask: configure` has
//! it tell what came of a request that it sent at its start, and `x-ask: log` has it send one when all is over, and log what came of it.
#![cfg(target_family = "wasm")]

use std::cell::RefCell;

use exports::warpdrive::middleware::filter::{
    Answer, BodyAccess, Guest, Hooks, RequestAction, ResponseAction, Subscription, Summary,
};
use warpdrive::guest::http;
use warpdrive::guest::log::{Level, log};
use warpdrive::guest::settings;
use warpdrive::middleware::messages::{Request, Response};

wit_bindgen::generate!({
    path: ["../../guest", "../../middleware"],
    inline: "
        package example:fault-asker;
        world fault-asker {
            include warpdrive:middleware/middleware@0.1.0;
            import warpdrive:guest/http@0.1.0;
            export warpdrive:middleware/request-stream@0.1.0;
        }
    ",
    generate_all,
});

struct Fault;
export!(Fault);

thread_local!(static AT_START: RefCell<String> = const { RefCell::new(String::new()) });

impl Guest for Fault {
    fn configure(_: String) -> Result<Subscription, String> {
        let came = sent(&get("app GET /configure"));
        AT_START.with(|text| text.replace(came));
        let request_body = match settings::config("stream") {
            Some(_) => BodyAccess::Stream,
            None => BodyAccess::None,
        };
        let hooks = Hooks::REQUEST | Hooks::RESPONSE | Hooks::LOG;
        Ok(Subscription { hooks, request_body, response_body: BodyAccess::None })
    }

    fn on_request(request: Request) -> RequestAction {
        let on = request.field("x-ask-on");
        let Some(ask) = request.field("x-ask").filter(|_| on.as_deref() != Some("response")) else {
            return RequestAction::Next;
        };
        let came = match ask.as_str() {
            "configure" => AT_START.with(|text| text.borrow().clone()),
            "log" => return RequestAction::Next,
            ask => all(&request, ask),
        };
        if on.is_some() {
            request.set_field("x-answer", &came).expect("a field that may be set");
            return RequestAction::Next;
        }
        RequestAction::Respond(Answer { status: 200, fields: Vec::new(), body: came.into_bytes() })
    }

    fn on_response(request: Request, response: Response) -> ResponseAction {
        if let (Some(ask), Some("response")) = (request.field("x-ask"), request.field("x-ask-on").as_deref())
        {
            response.set_field("x-answer", &all(&request, &ask)).expect("a field that may be set");
        }
        ResponseAction::Next
    }

    fn on_log(request: Request, _: Summary) {
        if request.field("x-ask").as_deref() == Some("log") {
            log(Level::Warn, &format!("asked at the end: {}", sent(&get("app GET /log"))));
        }
    }
}

/// What came of the last of so many as the request says.
fn all(request: &Request, ask: &str) -> String {
    let number = |name: &str| request.field(name).and_then(|text| text.parse::<u32>().ok());
    let mut wanted = get(ask);
    wanted.timeout_ms = number("x-ask-timeout").unwrap_or(0);
    wanted.body = vec![b'x'; number("x-ask-bytes").unwrap_or(0) as usize];
    if let Some(field) = request.field("x-ask-field") {
        let (name, value) = field.split_once(' ').unwrap_or((&field, ""));
        wanted.fields.push((name.to_owned(), value.to_owned()));
    }
    let _ = request.set_field("x-changed", "1");
    let mut came = String::new();
    for _ in 0..number("x-ask-times").unwrap_or(1) {
        came = sent(&wanted);
    }
    match request.field("x-then").as_deref() {
        Some("trap") => core::arch::wasm32::unreachable(),
        Some("loop") => loop {
            core::hint::black_box(0);
        },
        _ => came,
    }
}

fn get(ask: &str) -> http::Request {
    let mut words = ask.split(' ').map(str::to_owned);
    let mut word = || words.next().unwrap_or_default();
    let (upstream, method, path) = (word(), word(), word());
    http::Request { upstream, method, path, fields: Vec::new(), body: Vec::new(), timeout_ms: 0 }
}

fn sent(request: &http::Request) -> String {
    match http::http_request(request) {
        Ok(answer) => {
            let text = &answer.body[..answer.body.len().min(100)];
            format!("{} {} {}", answer.status, answer.body.len(), String::from_utf8_lossy(text))
        }
        Err(error) => error.name().to_owned(),
    }
}

use exports::warpdrive::middleware::request_stream::{self, GuestBody, Outcome};

/// A body that is only there to be subscribed to.
struct Body;

impl request_stream::Guest for Fault {
    type Body = Body;
}

impl GuestBody for Body {
    fn new(_: Request) -> Body {
        Body
    }

    fn chunk(&self, _: Vec<u8>, _: bool) -> Outcome {
        Outcome::Pass
    }
}
