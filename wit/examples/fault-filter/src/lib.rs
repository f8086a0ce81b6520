//! Middleware that fails as the request field `x-fault` says, for tests of its host: `trap`, `loop`,
//! `memory`, `huge` (a response of 64 MiB), `status` (one that is none), `upstream` (one that nobody has
//! allowed), `log` (100,000 lines), `response-trap`. Config: `fault` = `configure` fails the load.
#![cfg(target_family = "wasm")]

use exports::warpdrive::middleware::filter::{
    Answer, BodyAccess, Guest, Hooks, RequestAction, ResponseAction, Subscription, Summary,
};
use warpdrive::guest::log::{Level, log};
use warpdrive::guest::settings;
use warpdrive::middleware::messages::{Request, Response};

wit_bindgen::generate!({
    path: ["../../guest", "../../middleware"],
    world: "warpdrive:middleware/middleware",
    generate_all,
});

struct Fault;
export!(Fault);

impl Guest for Fault {
    fn configure(_: String) -> Result<Subscription, String> {
        if settings::config("fault").as_deref() == Some("configure") {
            return Err("told to fail".into());
        }
        Ok(Subscription {
            hooks: Hooks::REQUEST | Hooks::RESPONSE,
            request_body: BodyAccess::None,
            response_body: BodyAccess::None,
        })
    }

    fn on_request(request: Request) -> RequestAction {
        match request.field("x-fault").as_deref() {
            Some("trap") => std::process::abort(),
            Some("loop") => spin(),
            Some("memory") => grow(),
            Some("huge") => respond(200, vec![b'x'; 64 << 20]),
            Some("status") => respond(99, Vec::new()),
            Some("upstream") => RequestAction::Upstream("nobody-allowed-this".into()),
            Some("log") => {
                (0..100_000).for_each(|line| log(Level::Info, &format!("line {line}")));
                RequestAction::Next
            }
            _ => RequestAction::Next,
        }
    }

    fn on_response(request: Request, _: Response) -> ResponseAction {
        if request.field("x-fault").as_deref() == Some("response-trap") {
            std::process::abort();
        }
        ResponseAction::Next
    }

    fn on_log(_: Request, _: Summary) {}
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
