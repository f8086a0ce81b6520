//! An answer that is not an upstream's, on a route whose middleware sees responses: it has a head that
//! can be changed like any other's.

use super::body::SinkFault;
use super::connection::Work;
use super::core::{Active, Core};
use super::downstream::Downstream;
use super::error::Error;
use super::exchange::Next;
use super::filters::Filtered;
use super::trace::Trace;
use crate::http::h1::changes::change;
use crate::http::h1::encode::{self, Framing, OwnHead, Persistence};
use crate::http::h1::{self, FIELDS_MAX, Parsed, parse};
use crate::http::head::{Method, RequestHead, ResponseHead};
use crate::http::status::Status;
use crate::net::buffer::Size;
use crate::net::{Buffers, Stream};
use crate::plan::Route;

const HEAD_MAX: usize = 64 << 10;
const BOUNDS: h1::Bounds = h1::Bounds { head: HEAD_MAX, fields: FIELDS_MAX, uri: 0 };

/// Answers as a route says, by way of its middleware.
#[expect(clippy::too_many_arguments, reason = "each is a different part of one exchange, borrowed apart")]
pub async fn of_route(
    core: &Core,
    active: &Active,
    route: &Route,
    stream: &mut Stream,
    work: &mut Work,
    trace: &mut Trace,
    status: Status,
    body: &[u8],
) -> Result<Next, Error> {
    let mut text = Vec::with_capacity(512);
    let Work { request, response, changes, .. } = &mut *work;
    let own = OwnHead {
        status,
        length: body.len(),
        is_refusal: false,
        retry_after: None,
        location: &changes.location,
    };
    let date = core.date(trace.stamp.start_ms);
    encode::own_response(&mut text, own, Persistence::KeepAlive, &date, None);
    // It is ours, so it is one.
    match parse::response(&text, BOUNDS, request.method, response) {
        Ok(Parsed::Head(_)) => run(core, active, route, stream, work, trace, body.to_vec()).await,
        Ok(Parsed::Incomplete) => Err(Error::GuestProtocol("incomplete head")),
        Err(refusal) => Err(Error::GuestProtocol(refusal.reason())),
    }
}

/// Sends the answer whose head is in `work`, once the middleware has seen it. What is left of a
/// request's body is not read: then the connection ends.
pub async fn run(
    core: &Core,
    active: &Active,
    route: &Route,
    stream: &mut Stream,
    work: &mut Work,
    trace: &mut Trace,
    mut body: Vec<u8>,
) -> Result<Next, Error> {
    let Work { request, response, peer, changes, passage, .. } = work;
    let peer = peer.as_ref().expect("a connection makes its peer before its first exchange");
    if let Some(filtered) = Filtered::of(core, active, route, peer, passage)
        && let Some(other) = filtered.response(request, response, &trace.stamp)?
    {
        body = other;
    }
    trace.status = response.status;
    let may_persist = trace.is_request_done && request.keep_alive && !core.is_draining();
    let persistence = Persistence::of(may_persist, request.version);
    let framing = Framing::of(response, request.method == Method::Head, request.version);
    let date = core.date(trace.stamp.start_ms);
    let mut buffer = core.buffers.take(Size::Small);
    let out = buffer.as_vec();
    encode::response(out, response, framing, persistence, &date, trace.timing(core, &active.plan));
    change(out, 0, &route.response.removed, &changes.response);
    let has_body = has_body(request, response);
    if has_body {
        out.extend_from_slice(&body);
    }
    let (sent, buffer) = stream.writer().write_all(buffer, active.plan.limits.write_timeout).await;
    core.buffers.put(buffer);
    Ok(match sent {
        Err(_) => Next::Close,
        Ok(()) => {
            trace.is_response_started = true;
            trace.bytes_out = if has_body { body.len() as u64 } else { 0 };
            if may_persist { Next::KeepAlive } else { Next::Linger }
        }
    })
}

fn has_body(request: &RequestHead, response: &ResponseHead) -> bool {
    request.method != Method::Head && !response.status.is_bodiless()
}

/// Sends the body of an answer that is in place of a response, after its head.
pub async fn send_body(
    buffers: &Buffers,
    downstream: &mut Downstream<'_>,
    request: &RequestHead,
    response: &ResponseHead,
    body: &[u8],
) -> Result<(), SinkFault> {
    if !has_body(request, response) || body.is_empty() {
        return downstream.sink().end().await;
    }
    let mut buffer = buffers.take(Size::Small);
    buffer.extend(body);
    let (sent, buffer) = downstream.sink().data(buffer, true).await;
    buffers.put(buffer);
    sent
}
