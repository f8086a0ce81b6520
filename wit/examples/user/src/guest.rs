//! How it is called.

use std::cell::Cell;

use super::{body, parameter};

use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

struct User;

thread_local! {
    static REQUESTS: Cell<u32> = const { Cell::new(0) };
}

impl wasip2::exports::http::incoming_handler::Guest for User {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let captured = request.headers().get("x-path-parameters");
        let captured = captured.first().map(|value| String::from_utf8_lossy(value)).unwrap_or_default();
        let requests = REQUESTS.with(|count| {
            count.set(count.get() + 1);
            count.get()
        });
        let variables = wasip2::cli::environment::get_environment();
        let greeting =
            variables.iter().find(|(name, _)| name == "GREETING").map_or("hello", |(_, value)| value);
        match parameter(&captured, "id").and_then(|id| id.parse::<u64>().ok()) {
            Some(id) => answer(out, 200, &body(id, greeting, requests)),
            None => answer(out, 404, "{\"error\":\"a user's id is a number\"}\n"),
        }
    }
}

fn answer(out: ResponseOutparam, status: u16, text: &str) {
    let fields = Fields::new();
    fields.set("content-type", &[b"application/json".to_vec()]).expect("a field that may be set");
    let response = OutgoingResponse::new(fields);
    response.set_status_code(status).expect("a status");
    let body = response.body().expect("its only body");
    ResponseOutparam::set(out, Ok(response));
    // Who asked may have gone: then nobody reads it.
    let _ = body.write().expect("its only stream").blocking_write_and_flush(text.as_bytes());
    let _ = OutgoingBody::finish(body, None);
}

wasip2::http::proxy::export!(User);
