//! What we say ourselves: why nothing better is answered, and what a route has us answer.

use super::changes::Changes;
use super::connection::Work;
use super::core::{Active, Core};
use super::error::Error;
use super::exchange::Next;
use super::trace::Trace;
use crate::http::h1::changes::change;
use crate::http::h1::encode::{self, OwnHead, Persistence};
use crate::http::head::Method;
use crate::http::server_timing::Timing;
use crate::http::status::Status;
use crate::net::Stream;
use crate::net::buffer::Size;
use crate::plan::{Respond, Route};

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
    trace.break_off(error);
    if trace.is_response_started || matches!(error, Error::ClientGone | Error::ClientStalled | Error::Cut) {
        return Next::Close;
    }
    let text = error.text();
    send(core, active, stream, work, trace, refusal_head(error), &[text.as_bytes(), b"\n"]).await
}

/// Answers as the route says.
pub async fn answer(
    core: &Core,
    active: &Active,
    stream: &mut Stream,
    work: &mut Work,
    trace: &mut Trace,
    respond: &Respond,
) -> Next {
    trace.status = respond.status;
    send(core, active, stream, work, trace, answer_head(respond), &[&respond.body]).await
}

/// Sends the client to the place that the route has made.
pub async fn redirect(
    core: &Core,
    active: &Active,
    stream: &mut Stream,
    work: &mut Work,
    trace: &mut Trace,
    status: Status,
) -> Next {
    trace.status = status;
    let head = redirect_head(status, &work.changes);
    send(core, active, stream, work, trace, head, &[]).await
}

/// The text of an error, and a line's end, follow.
pub fn refusal_head(error: Error) -> OwnHead<'static> {
    OwnHead {
        status: error.status(),
        length: error.text().len() + 1,
        is_refusal: true,
        retry_after: error.retry_after(),
        location: b"",
    }
}

pub fn answer_head(respond: &Respond) -> OwnHead<'static> {
    OwnHead {
        status: respond.status,
        length: respond.body.len(),
        is_refusal: false,
        retry_after: None,
        location: b"",
    }
}

pub fn redirect_head(status: Status, changes: &Changes) -> OwnHead<'_> {
    OwnHead { status, length: 0, is_refusal: false, retry_after: None, location: &changes.location }
}

/// Appends the head of what we say ourselves, with what the route changes, if there is one.
pub fn write_head(
    out: &mut Vec<u8>,
    answer: OwnHead<'_>,
    persistence: Persistence,
    date: &[u8; 29],
    timing: Option<Timing<'_>>,
    route: Option<&Route>,
    changes: &Changes,
) {
    let start = out.len();
    encode::own_response(out, answer, persistence, date, timing);
    if let Some(route) = route {
        change(out, start, &route.response.removed, &changes.response);
    }
}

/// What is left of a request's body is not read: then the connection ends.
async fn send(
    core: &Core,
    active: &Active,
    stream: &mut Stream,
    work: &Work,
    trace: &mut Trace,
    answer: OwnHead<'_>,
    body: &[&[u8]],
) -> Next {
    let request = &work.request;
    let may_persist = trace.has_head && trace.is_request_done && request.keep_alive && !core.is_draining();
    let persistence = Persistence::of(may_persist, request.version);
    let date = core.date(trace.stamp.start_ms);
    let mut buffer = core.buffers.take(Size::Small);
    let out = buffer.as_vec();
    let route = trace.route.map(|id| &active.plan.routes[id.0 as usize]);
    write_head(out, answer, persistence, &date, trace.timing(core, &active.plan), route, &work.changes);
    let with_body = !(trace.has_head && request.method == Method::Head);
    if with_body {
        body.iter().for_each(|part| out.extend_from_slice(part));
    }
    let (sent, buffer) = stream.writer().write_all(buffer, active.plan.limits.write_timeout).await;
    core.buffers.put(buffer);
    match sent {
        Err(_) => Next::Close,
        Ok(()) => {
            trace.bytes_out = if with_body { answer.length as u64 } else { 0 };
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
