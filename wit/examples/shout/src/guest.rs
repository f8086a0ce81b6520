//! How it is called.

use super::capitals;

use wasip2::http::types::{
    Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasip2::io::streams::{InputStream, OutputStream};

struct Shout;

/// What a stream takes at once.
const CHUNK_BYTES: u64 = 4096;

impl wasip2::exports::http::incoming_handler::Guest for Shout {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let is_read = matches!(request.method(), Method::Get | Method::Head);
        let fields = Fields::new();
        fields
            .set("content-type", &[b"text/plain; charset=utf-8".to_vec()])
            .expect("a field that may be set");
        let response = OutgoingResponse::new(fields);
        let answer = response.body().expect("its only body");
        ResponseOutparam::set(out, Ok(response));
        let to = answer.write().expect("its only stream");
        let is_whole = if is_read {
            to.blocking_write_and_flush(b"SEND ME SOMETHING WITH POST\n").is_ok()
        } else {
            let body = request.consume().expect("its only body");
            let from = body.stream().expect("its only stream");
            pass(&from, &to)
        };
        drop(to);
        if is_whole {
            let _ = OutgoingBody::finish(answer, None);
        }
        // Without `finish` the client sees that the answer is cut.
    }
}

/// Whether all of it came, and all of it was taken.
fn pass(from: &InputStream, to: &OutputStream) -> bool {
    loop {
        match from.blocking_read(CHUNK_BYTES) {
            Ok(chunk) => {
                if to.blocking_write_and_flush(&capitals(chunk)).is_err() {
                    return false;
                }
            }
            Err(error) => return matches!(error, wasip2::io::streams::StreamError::Closed),
        }
    }
}

wasip2::http::proxy::export!(Shout);
