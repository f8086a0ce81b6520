//! One request and its response: the straight line.

use super::changes::Changes;
use super::connection::Work;
use super::core::{Active, Core};
use super::error::Error;
use super::forward;
use super::guest;
use super::respond;
use super::steps;
use super::trace::Trace;
use crate::http::framing::BodyLength;
use crate::http::h1::Refusal;
use crate::http::head::RequestHead;
use crate::net::Stream;
use crate::plan::{Action, Route, RouteId};
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
    let mut telling = Telling { core, active, work, trace: Trace::start(core, true), is_over: false };
    let Telling { work, trace, .. } = &mut telling;
    let next = match serve(core, active, stream, work, trace).await {
        Ok(next) => next,
        Err(error) => respond::fail(core, active, stream, work, trace, error).await,
    };
    telling.is_over = true;
    next
}

/// Tells of an exchange when it is over, also if that is by a panic, or by being dropped.
struct Telling<'a> {
    core: &'a Core,
    active: &'a Active,
    work: &'a mut Work,
    trace: Trace,
    is_over: bool,
}

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            let error = if std::thread::panicking() { Error::Panicked } else { Error::Cut };
            self.trace.break_off(error);
        }
        self.trace.tell(self.core, self.active, self.work);
    }
}

async fn serve(
    core: &Core,
    active: &Active,
    stream: &mut Stream,
    work: &mut Work,
    trace: &mut Trace,
) -> Result<Next, Error> {
    trace.is_request_done = work.request.body == BodyLength::Empty;
    if let Some(peer) = &work.peer {
        trace.begin_span(core, &active.plan.tracing, &work.request, peer);
    }
    let route = choose(active, &work.request, &mut work.changes, &mut trace.route)?;
    match &route.action {
        Action::Forward(forward) => {
            trace.upstream = Some(forward.upstream);
            forward::run(core, active, route, forward, stream, work, trace).await
        }
        Action::Workload(to) => guest::run(core, active, route, to, stream, work, trace).await,
        Action::Redirect(redirect) => {
            Ok(respond::redirect(core, active, stream, work, trace, redirect.status).await)
        }
        Action::Respond(answer) => Ok(respond::answer(core, active, stream, work, trace, answer).await),
    }
}

/// The route of a request, once it may take it, and what that changes: all that is decided before
/// the first await. `chosen` is the route that refuses, too.
///
/// # Errors
/// The request is refused, or no route takes it.
pub fn choose<'a>(
    active: &'a Active,
    request: &RequestHead,
    changes: &mut Changes,
    chosen: &mut Option<RouteId>,
) -> Result<&'a Route, Error> {
    changes.clear();
    refuse(active, request)?;
    let question = Question::of(request);
    let id = decide(active, &question)?;
    *chosen = Some(id);
    let route = &active.plan.routes[id.0 as usize];
    changes.expand(&active.captures, id, route, &question)?;
    steps::request(&route.steps, request)?;
    Ok(route)
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

fn decide(active: &Active, question: &Question<'_>) -> Result<RouteId, Error> {
    match active.tree.decide(question, &mut active.scratch.borrow_mut()) {
        Some(route) => Ok(*route),
        None if active.tree.is_empty() => Err(Error::NoRoutesConfigured),
        None => Err(Error::NoRoute),
    }
}
