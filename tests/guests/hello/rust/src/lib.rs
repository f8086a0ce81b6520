//! A component that says hello.

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

struct Hello;

const TEXT: &[u8] = b"hello from Rust\n";
const LENGTH: &str = "16";

impl Guest for Hello {
    fn handle(_: IncomingRequest, out: ResponseOutparam) {
        let fields = Fields::new();
        for (name, value) in [("content-type", "text/plain"), ("content-length", LENGTH)] {
            fields.set(name, &[value.into()]).expect("a field that may be set");
        }
        let response = OutgoingResponse::new(fields);
        let body = response.body().expect("its only body");
        ResponseOutparam::set(out, Ok(response));
        // Who asked may have gone: then nobody reads it.
        let _ = body.write().expect("its only stream").blocking_write_and_flush(TEXT);
        let _ = OutgoingBody::finish(body, None);
    }
}

wasip2::http::proxy::export!(Hello);
