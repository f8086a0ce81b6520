//! An answer that is not an upstream's, on a route whose middleware sees responses: it has a head that
//! can be changed like any other's.

use std::rc::Rc;

use super::body::{MemorySource, RelayFault, Source, SourceFault, relay};
use super::connection::Work;
use super::core::{Active, Core};
use super::downstream::{Downstream, FieldLines};
use super::error::Error;
use super::exchange::Next;
use super::filters::Filtered;
use super::forward::downstream_error;
use super::trace::Trace;
use crate::http::h1::encode::{self, OwnHead, Persistence};
use crate::http::h1::{self, FIELDS_MAX, Parsed, parse};
use crate::http::head::Method;
use crate::http::status::Status;
use crate::net::{Buffer, Stream};
use crate::plan::Route;

const HEAD_MAX: usize = 64 << 10;
const BOUNDS: h1::Bounds = h1::Bounds { head: HEAD_MAX, fields: FIELDS_MAX, uri: 0 };

/// Answers as a route says, by way of its middleware.
#[expect(clippy::too_many_arguments, reason = "each is a different part of one exchange, borrowed apart")]
pub async fn of_route(
    core: &Rc<Core>,
    active: &Rc<Active>,
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
        Ok(Parsed::Head(_)) => {
            let is_sent = request.method != Method::Head && !body.is_empty();
            let body = is_sent.then(|| Buffer::of(body));
            run(core, active, route, stream, work, trace, body).await
        }
        Ok(Parsed::Incomplete) => Err(Error::GuestProtocol("incomplete head")),
        Err(refusal) => Err(Error::GuestProtocol(refusal.reason())),
    }
}

/// Sends the answer whose head is in `work`, and this body, once the middleware has seen it. What is
/// left of a request's body is not read: then the connection ends.
pub async fn run(
    core: &Rc<Core>,
    active: &Rc<Active>,
    route: &Route,
    stream: &mut Stream,
    work: &mut Work,
    trace: &mut Trace,
    body: Option<Buffer>,
) -> Result<Next, Error> {
    let Work { request, response, out, peer, changes, passage, .. } = work;
    let peer = peer.as_ref().expect("a connection makes its peer before its first exchange");
    let mut source = Source::Memory(MemorySource::new(body, &core.buffers));
    if let Some(filtered) = Filtered::of(core, active, route, peer, passage) {
        filtered.response(request, response, &mut source, &trace.stamp, own_error).await?;
    }
    trace.status = response.status;
    let may_persist = trace.is_request_done && request.keep_alive && !core.is_draining();
    let lines = FieldLines { removed: &route.response.removed, set: &changes.response };
    let timeout = active.plan.limits.write_timeout;
    let mut downstream = Downstream::h1(stream.writer(), &core.buffers, out, request, lines, timeout);
    let date = core.date(trace.stamp.start_ms);
    downstream.respond(response, may_persist, &date, trace.timing(core, &active.plan));
    let excluded = downstream.excluded(response);
    let relayed = relay(&mut source, downstream.sink(), excluded).await;
    trace.is_response_started = downstream.is_started();
    trace.bytes_out = downstream.sent();
    match relayed {
        Ok(()) if downstream.persists() => Ok(Next::KeepAlive),
        Ok(()) => Ok(Next::Linger),
        Err(RelayFault::Source(fault)) => Err(own_error(fault)),
        Err(RelayFault::Sink(fault)) => Err(downstream_error(fault)),
    }
}

/// What is in memory comes, unless a middleware cuts it off.
fn own_error(fault: SourceFault) -> Error {
    match fault {
        SourceFault::Stopped(status, reason) => Error::Middleware(status, reason),
        _ => Error::GuestProtocol("an answer that does not come"),
    }
}
