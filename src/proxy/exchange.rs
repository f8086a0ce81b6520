//! One request and its response: the straight line.

use super::connection::Work;
use super::core::{Active, Core};
use super::error::Error;
use super::forward;
use super::respond;
use super::steps;
use super::trace::Trace;
use crate::http::framing::BodyLength;
use crate::http::h1::Refusal;
use crate::http::head::RequestHead;
use crate::net::Stream;
use crate::plan::{Action, Route};
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
    work.changes.clear();
    refuse(active, &work.request)?;
    let route = decide(active, work, trace)?;
    steps::request(&route.steps, &work.request)?;
    match &route.action {
        Action::Forward(forward) => {
            trace.upstream = Some(forward.upstream);
            forward::run(core, active, route, forward, stream, work, trace).await
        }
        Action::Redirect(redirect) => {
            Ok(respond::redirect(core, active, stream, work, trace, redirect.status).await)
        }
        Action::Respond(answer) => Ok(respond::answer(core, active, stream, work, trace, answer).await),
    }
}

fn refuse(active: &Active, request: &RequestHead) -> Result<(), Error> {
    let limits = &active.plan.limits;
    let path = request.text(request.target.path);
    limits.encoded_slash.check(path).map_err(|fault| Error::Refused(Refusal::Target(fault)))?;
    match (request.body, limits.request_body) {
        (BodyLength::Known(length), Some(most)) if length > most => Err(Error::BodyTooLarge),
        _ => Ok(()),
    }
}

/// The route of the request, and what it changes.
fn decide<'a>(active: &'a Active, work: &mut Work, trace: &mut Trace) -> Result<&'a Route, Error> {
    let request = &work.request;
    let question = Question {
        method: request.text(request.method_text),
        host: request.text(request.target.host),
        path: request.text(request.target.path),
        query: request.text(request.target.query),
        fields: &request.fields,
    };
    let id = match active.tree.decide(&question, &mut active.scratch.borrow_mut()) {
        Some(route) => *route,
        None if active.tree.is_empty() => return Err(Error::NoRoutesConfigured),
        None => return Err(Error::NoRoute),
    };
    trace.route = Some(id);
    let route = &active.plan.routes[id.0 as usize];
    work.changes.expand(&active.captures, id, route, &question)?;
    Ok(route)
}
