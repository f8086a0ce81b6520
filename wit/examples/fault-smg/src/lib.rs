//! Middleware of another gateway, with what its language brings along of WASI, for tests of its host. The field `x-act`
//! of a request, or of a response, says what it does: `reject`, `modify` (sets `x-seen` to what it was told, adds a second
//! `x-more`, removes `x-drop`, and puts the body in capitals; a response gets the status 203), `long` (a body of 2 MiB), `own` (sets fields
//! that it may not set), `trap`, `loop`, `print`, `sleep`.
#![cfg(target_family = "wasm")]

use exports::smg::gateway::{middleware_on_request, middleware_on_response};
use smg::gateway::middleware_types::{Action, Header, ModifyAction, Request, Response};

wit_bindgen::generate!({ path: "../../smg", world: "smg" });

struct Foreign;
export!(Foreign);

impl middleware_on_request::Guest for Foreign {
    fn on_request(request: Request) -> Action {
        let Request { method, path, query, headers, body, request_id, now_epoch_ms } = request;
        let seen =
            format!("{method} {path} {query} {} {} {}", body.len(), request_id.len(), now_epoch_ms > 0);
        act(&headers, body, seen, None)
    }
}

impl middleware_on_response::Guest for Foreign {
    fn on_response(response: Response) -> Action {
        let Response { status, headers, body } = response;
        let seen = format!("{status} {}", body.len());
        act(&headers, body, seen, Some(203))
    }
}

fn act(headers: &[Header], body: Vec<u8>, seen: String, status: Option<u16>) -> Action {
    let wanted = headers.iter().find(|one| one.name == "x-act").map_or("", |one| &one.value);
    let header = |name: &str, value: &str| Header { name: name.to_owned(), value: value.to_owned() };
    let nothing = || ModifyAction {
        status: None,
        headers_set: Vec::new(),
        headers_add: Vec::new(),
        headers_remove: Vec::new(),
        body_replace: None,
    };
    match wanted {
        "reject" => Action::Reject(418),
        "modify" => Action::Modify(ModifyAction {
            status,
            headers_set: vec![header("x-seen", &seen)],
            headers_add: vec![header("x-more", "2")],
            headers_remove: vec!["x-drop".to_owned()],
            body_replace: Some(body.to_ascii_uppercase()),
        }),
        "long" => Action::Modify(ModifyAction { body_replace: Some(vec![b'x'; 2 << 20]), ..nothing() }),
        "own" => Action::Modify(ModifyAction {
            headers_set: vec![
                header("content-length", "1"),
                header("connection", "x-a"),
                header("x-forwarded-for", "1.2.3.4"),
                header("x bad", "1"),
                header("x-good", "1"),
            ],
            ..nothing()
        }),
        "trap" => core::arch::wasm32::unreachable(),
        "loop" => loop {
            core::hint::black_box(0);
        },
        "print" => {
            let number = wasip2::random::random::get_random_u64();
            let second = wasip2::clocks::wall_clock::now().seconds;
            let variables = wasip2::cli::environment::get_environment().len();
            let text = format!("it has {} {} {variables}\n", number != 0, second > 0);
            wasip2::cli::stdout::get_stdout().blocking_write_and_flush(text.as_bytes()).expect("a log");
            Action::Continue
        }
        "sleep" => {
            wasip2::clocks::monotonic_clock::subscribe_duration(1).block();
            Action::Continue
        }
        _ => Action::Continue,
    }
}
