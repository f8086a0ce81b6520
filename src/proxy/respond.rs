//! What we say ourselves: a status and, in a line of text, why.

use super::connection::Work;
use super::core::{Active, Core};
use super::error::Error;
use super::exchange::Next;
use super::trace::Trace;
use crate::http::h1::encode::{self, Persistence};
use crate::http::head::Method;
use crate::net::Stream;
use crate::net::buffer::Size;

/// Ends an exchange that failed: with an answer if none has begun, by cutting the connection if
/// one has. What is left of the request is not read, so its connection ends too.
pub async fn fail(
    core: &Core,
    active: &Active,
    stream: &mut Stream,
    work: &mut Work,
    trace: &mut Trace,
    error: Error,
) -> Next {
    let error = if core.is_cut() { Error::Cut } else { error };
    trace.reason = error.reason();
    if trace.is_response_started {
        return Next::Close;
    }
    trace.status = error.status();
    if matches!(error, Error::ClientGone | Error::ClientStalled | Error::Cut) {
        return Next::Close;
    }
    let head = &work.request;
    let may_persist = trace.has_head && trace.is_request_done && head.keep_alive && !core.is_draining();
    let persistence = Persistence::of(may_persist, head.version);
    let with_body = !(trace.has_head && head.method == Method::Head);
    let date = core.date(trace.stamp.start_ms);
    let mut buffer = core.buffers.take(Size::Small);
    let (status, text, timing) = (error.status(), error.text(), trace.timing(core, &active.plan));
    encode::own_response(buffer.as_vec(), status, text, with_body, persistence, &date, timing);
    let (sent, buffer) = stream.writer().write_all(buffer, active.plan.limits.write_timeout).await;
    core.buffers.put(buffer);
    match sent {
        Err(_) => Next::Close,
        Ok(()) => {
            trace.bytes_out = if with_body { error.text().len() as u64 + 1 } else { 0 };
            if may_persist { Next::KeepAlive } else { Next::Linger }
        }
    }
}

/// Answers what never became an exchange: bytes that are no request, a connection too many.
pub async fn refuse(
    core: &Core,
    active: &Active,
    stream: &mut Stream,
    work: &mut Work,
    error: Error,
) -> Next {
    let mut trace = Trace::start(core, false);
    let next = fail(core, active, stream, work, &mut trace, error).await;
    trace.tell(core, active, work);
    next
}
