//! One request and its response: the straight line.

use std::rc::Rc;

use super::answer;
use super::changes::Changes;
use super::connection::Work;
use super::core::{Active, Core};
use super::error::Error;
use super::event_stream::EventStream;
use super::filters;
use super::forward;
use super::guest;
use super::readings;
use super::respond;
use super::steps;
use super::trace::Trace;
use super::tunnel::Tunnel;
use crate::http::fields::Fields;
use crate::http::forwarding::{Peer, Stamp};
use crate::http::framing::BodyLength;
use crate::http::h1::Refusal;
use crate::http::head::RequestHead;
use crate::http::told::{is_told, tell};
use crate::net::stream::Peeked;
use crate::net::{Buffer, Stream};
use crate::plan::{Action, Forward, Route, RouteId};
use crate::route::{Question, Sender};

/// What becomes of the connection after an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The next request may come.
    KeepAlive,
    Close,
    /// Close so that the client can still read the answer: it may be sending.
    Linger,
}

impl Next {
    /// After an answer that is through. `is_sent`: so is the whole request; `persists`: the answer
    /// has promised another exchange; `input`: what was read beyond the request.
    pub fn after(is_sent: bool, persists: bool, input: Option<&Buffer>, stream: &Stream) -> Next {
        match (is_sent, persists) {
            (true, true) => Next::KeepAlive,
            (true, false) if input.is_none() && stream.peek() != Peeked::Data => Next::Close,
            // The answer came first, or more has come than was asked for; the client may still be
            // sending.
            _ => Next::Linger,
        }
    }
}

/// What became of an exchange.
pub enum Served {
    Whole(Next),
    /// It goes on without a plan, as the next one does.
    Tunnel(Box<Tunnel>),
    EventStream(Box<EventStream>),
}

/// Serves the request whose head is in `work`, by the plan that is in force.
pub async fn run(core: &Rc<Core>, active: Rc<Active>, stream: &mut Stream, work: &mut Work) -> Next {
    let trace = Trace::start(core, true);
    let mut telling = Telling { core, active: Some(active), work, trace, is_over: false };
    let Telling { active, work, trace, .. } = &mut telling;
    let plan = active.as_ref().expect("an exchange begins with a plan");
    let next = match serve(core, plan, stream, work, trace).await {
        Ok(Served::Whole(next)) => next,
        Ok(Served::Tunnel(tunnel)) => {
            work.passage.leave(plan, trace.route);
            trace.leave(plan);
            *active = None;
            // Boxed, so that an exchange without a tunnel does not carry its room.
            Box::pin(tunnel.run(core, stream, work, trace)).await;
            Next::Close
        }
        Ok(Served::EventStream(events)) => {
            work.passage.leave(plan, trace.route);
            trace.leave(plan);
            *active = None;
            Box::pin(events.run(core, stream, work, trace)).await
        }
        Err(error) => respond::fail(core, plan, stream, work, trace, error).await,
    };
    telling.is_over = true;
    next
}

/// Tells of an exchange when it is over, also if that is by a panic, or by being dropped.
struct Telling<'a> {
    core: &'a Core,
    /// Until it leaves its plan.
    active: Option<Rc<Active>>,
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
        // One that has left its own plan is told by the one in force.
        let active = self.active.take().unwrap_or_else(|| self.core.active());
        self.trace.tell(self.core, &active, self.work);
        if !std::thread::panicking() {
            filters::log(self.core, &active, &self.trace, self.work);
        }
        self.work.passage.end();
    }
}

async fn serve(
    core: &Rc<Core>,
    active: &Rc<Active>,
    stream: &mut Stream,
    work: &mut Work,
    trace: &mut Trace,
) -> Result<Served, Error> {
    trace.is_request_done = work.request.body == BodyLength::Empty;
    let Work { request, peer, changes, passage, .. } = &mut *work;
    passage.begin();
    let peer = peer.as_ref().expect("a connection makes its peer before its first exchange");
    active.plan.forwarding.mark(&mut request.fields);
    trace.begin_span(core, &active.plan.tracing, request, peer);
    let route = choose(active, request, peer, &trace.stamp, changes, &mut trace.route)?;
    if !route.filters.is_empty() {
        // Boxed, so that other exchanges do not carry its room.
        return Box::pin(serve_filtered(core, active, route, stream, work, trace)).await;
    }
    let next = match &route.action {
        Action::Forward(forward) => {
            trace.upstream = Some(forward.upstream);
            return forward::run(core, active, route, forward, stream, work, trace).await;
        }
        Action::Workload(to) => guest::run(core, active, route, to, stream, work, trace).await?,
        Action::Redirect(redirect) => {
            respond::redirect(core, active, stream, work, trace, redirect.status).await
        }
        Action::Respond(answer) => respond::answer(core, active, stream, work, trace, answer).await,
    };
    Ok(Served::Whole(next))
}

/// Serves a request whose route has middleware.
async fn serve_filtered(
    core: &Rc<Core>,
    active: &Rc<Active>,
    route: &Route,
    stream: &mut Stream,
    work: &mut Work,
    trace: &mut Trace,
) -> Result<Served, Error> {
    let passed = filters::request(core, active, route, stream, work, trace).await?;
    if let Some(body) = passed.answer {
        return answer::run(core, active, route, stream, work, trace, body).await.map(Served::Whole);
    }
    let elsewhere;
    let forward = match (&route.action, passed.to) {
        (Action::Forward(forward), None) => forward,
        (Action::Forward(forward), Some(other)) => {
            elsewhere = Forward { upstream: other.to.upstream, ..forward.clone() };
            &elsewhere
        }
        (_, Some(other)) => &other.to,
        (Action::Workload(to), None) => {
            return guest::run(core, active, route, to, stream, work, trace).await.map(Served::Whole);
        }
        (Action::Redirect(redirect), None) => {
            let answered = answer::of_route(core, active, route, stream, work, trace, redirect.status, &[]);
            return answered.await.map(Served::Whole);
        }
        (Action::Respond(own), None) => {
            let answered = answer::of_route(core, active, route, stream, work, trace, own.status, &own.body);
            return answered.await.map(Served::Whole);
        }
    };
    trace.upstream = Some(forward.upstream);
    forward::run(core, active, route, forward, stream, work, trace).await
}

/// The route of a request, once it may take it, and what that changes: all that is decided before
/// the first await. `chosen` is the route that refuses, too.
///
/// # Errors
/// The request is refused, or no route takes it.
pub fn choose<'a>(
    active: &'a Active,
    request: &RequestHead,
    peer: &Peer,
    stamp: &Stamp,
    changes: &mut Changes,
    chosen: &mut Option<RouteId>,
) -> Result<&'a Route, Error> {
    changes.clear();
    refuse(active, request)?;
    let told = &mut *active.told.borrow_mut();
    let question = question(active, request, peer, stamp, told);
    let id = decide(active, &question)?;
    *chosen = Some(id);
    if request.target.has_readings {
        readings::check(active, &question, id)?;
    }
    let route = &active.plan.routes[id.0 as usize];
    changes.expand(&active.captures, id, route, &question)?;
    if request.target.has_readings && !changes.path.is_empty() {
        readings::check_changed(&changes.path)?;
    }
    steps::request(&route.steps, request)?;
    Ok(route)
}

/// What the routes are asked. The sender, and the fields as an upstream will get them, are computed
/// only if a condition refers to them.
fn question<'a>(
    active: &Active,
    request: &'a RequestHead,
    peer: &Peer,
    stamp: &Stamp,
    told: &'a mut Fields,
) -> Question<'a> {
    let asks = active.tree.asks();
    let mut question = Question::of(request);
    if asks.sender {
        question.sender = Sender { client: peer.client_address(request), scheme: peer.scheme(request) };
    }
    if asks.told || asks.fields && is_told(&request.fields) {
        tell(told, request, peer, Some(stamp));
        question.fields = told;
    }
    question
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
