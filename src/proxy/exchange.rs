//! One request and its response: the straight line.

use super::connection::Work;
use super::core::{Active, Core};
use super::error::Error;
use super::forward;
use super::respond;
use super::steps;
use super::trace::Trace;
use crate::http::framing::BodyLength;
use crate::http::head::RequestHead;
use crate::net::Stream;
use crate::plan::{Action, RouteId};
use crate::route::Question;

/// What becomes of the connection after an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The next request may come.
    KeepAlive,
    Close,
    /// Close so that the client can still read the answer: it may be sending.
    Linger,
}

/// Serves the request whose head is in `work`.
pub async fn run(core: &Core, active: &Active, stream: &mut Stream, work: &mut Work) -> Next {
    let mut trace = Trace::start(core, true);
    let next = match serve(core, active, stream, work, &mut trace).await {
        Ok(next) => next,
        Err(error) => respond::fail(core, active, stream, work, &mut trace, error).await,
    };
    trace.tell(core, active, work);
    next
}

async fn serve(
    core: &Core,
    active: &Active,
    stream: &mut Stream,
    work: &mut Work,
    trace: &mut Trace,
) -> Result<Next, Error> {
    trace.is_request_done = work.request.body == BodyLength::Empty;
    refuse_large_body(active, &work.request)?;
    let route = decide(active, &work.request)?;
    trace.route = Some(route);
    let route = &active.plan.routes[route.0 as usize];
    steps::request(&route.steps, &work.request)?;
    match &route.action {
        Action::Forward { upstream, path } => {
            trace.upstream = Some(*upstream);
            forward::run(core, active, *upstream, *path, stream, work, trace).await
        }
    }
}

fn refuse_large_body(active: &Active, request: &RequestHead) -> Result<(), Error> {
    match (request.body, active.plan.limits.request_body) {
        (BodyLength::Known(length), Some(most)) if length > most => Err(Error::BodyTooLarge),
        _ => Ok(()),
    }
}

fn decide(active: &Active, request: &RequestHead) -> Result<RouteId, Error> {
    let question = Question {
        method: request.text(request.method_text),
        host: request.text(request.target.host),
        path: request.text(request.target.path),
        query: request.text(request.target.query),
        fields: &request.fields,
    };
    match active.tree.decide(&question, &mut active.scratch.borrow_mut()) {
        Some(route) => Ok(*route),
        None if active.tree.is_empty() => Err(Error::NoRoutesConfigured),
        None => Err(Error::NoRoute),
    }
}
