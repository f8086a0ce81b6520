//! What would be done with a request, without doing it: decided and written by what decides and
//! writes in a worker. Opens no connection and reads no clock; what only a real request has is
//! stood in for.

use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;

use super::changes::Changes;
use super::core::{Active, Own};
use super::error::Error;
use super::{exchange, flight, respond};
use crate::http::date::Civil;
use crate::http::fields::{Fields, Known};
use crate::http::forwarding::{Peer, Scheme, Stamp};
use crate::http::framing::BodyLength;
use crate::http::h1::encode::{OwnHead, Persistence};
use crate::http::h1::{Parsed, Refusal, parse};
use crate::http::head::{Method, RequestHead};
use crate::http::server_timing::Timing;
use crate::http::status::Status;
use crate::http::told::tell;
use crate::http::trace_context::Span;
use crate::plan::{Action, Plan, Route, RouteId};
use crate::route::{Question, Sender};
use crate::telemetry::Counters;

/// The client: an address that is nobody's (RFC 5737).
pub const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
/// The moment and the name of the request.
pub const STAMP: Stamp = Stamp { request_id: [b'0'; 32], start_ms: 0, span: None };
const WORKER: usize = 0;

/// The sender of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The address that it comes from: the client's, or that of a proxy in front.
    pub address: IpAddr,
    /// Of the URI that the client requested. Without TLS here, only a trusted proxy can tell us.
    pub scheme: Scheme,
}

impl Default for Caller {
    fn default() -> Caller {
        Caller { address: CLIENT, scheme: Scheme::Http }
    }
}

/// What becomes of one request.
#[derive(Debug)]
pub struct Explanation {
    /// `None`: it could not be read.
    pub request: Option<RequestHead>,
    pub route: Option<RouteId>,
    /// Its fields as an upstream is told them, and who sent it.
    told: Fields,
    sender: Sender,
    /// It came as far as the routes.
    pub is_decided: bool,
    /// Why nothing is done for it but to say so.
    pub refused: Option<Refused>,
    /// What the route does, or, if it asks for a token that is not there, would do with it.
    pub done: Option<Done>,
}

#[derive(Debug)]
pub struct Refused {
    /// For want of the right token: all else is in order.
    pub is_denied: bool,
    /// As the access log has it.
    pub reason: &'static str,
    pub answer: Answer,
}

#[derive(Debug)]
pub enum Done {
    Forwarded {
        /// The head of the request as the upstream gets it.
        head: Vec<u8>,
        /// Fields that are set in the response, as lines.
        response: Vec<u8>,
    },
    Answered(Answer),
}

/// What we say ourselves, as the client gets it.
#[derive(Debug)]
pub struct Answer {
    pub status: Status,
    pub head: Vec<u8>,
    pub body: Vec<u8>,
}

impl Explanation {
    /// What the routes were asked, if they were.
    pub fn question(&self) -> Option<Question<'_>> {
        let request = self.request.as_ref().filter(|_| self.is_decided)?;
        Some(Question { fields: &self.told, sender: self.sender, ..Question::of(request) })
    }
}

/// Explains the request of this caller whose head, to its last line end, is `text`.
pub fn explain(plan: &Arc<Plan>, text: &[u8], caller: Caller) -> Explanation {
    let own = Own::of(plan, &Counters::default());
    let active = Active::new(Arc::clone(plan), 1, Rc::default(), Rc::default(), Rc::default(), own);
    let mut request = RequestHead::default();
    let parsed = match parse::request(text, active.head_bounds(), &mut request) {
        Ok(Parsed::Head(_)) => Ok(()),
        Ok(Parsed::Incomplete) => Err(Refusal::Syntax("incomplete head")),
        Err(refusal) => Err(refusal),
    };
    let peer = Peer::new(&plan.forwarding, caller.address);
    if caller.scheme == Scheme::Https
        && peer.is_believed()
        && !request.fields.may_have(Known::XForwardedProto)
    {
        request.fields.push(b"X-Forwarded-Proto", caller.scheme.text().as_bytes());
    }
    plan.forwarding.mark(&mut request.fields);
    let stamp = Stamp { span: span(plan, &request, &peer), ..STAMP };
    let sender = Sender { client: peer.client_address(&request), scheme: peer.scheme(&request) };
    let mut told = Fields::default();
    if parsed.is_ok() {
        tell(&mut told, &request, &peer, Some(&stamp));
    }
    let mut changes = Changes::default();
    let mut route = None;
    let chosen = match parsed {
        Ok(()) => exchange::choose(&active, &request, &peer, &stamp, &mut changes, &mut route),
        Err(refusal) => Err(Error::Refused(refusal)),
    };
    let of = route.map(|id: RouteId| &plan.routes[id.0 as usize]);
    let request_read = parsed.is_ok().then_some(&request);
    let writer = Writer { plan, request: request_read, peer: &peer, stamp, route: of, changes: &changes };
    let is_denied = matches!(chosen, Err(Error::Denied(_)));
    let is_lost = matches!(chosen, Err(Error::NoRoute | Error::NoRoutesConfigured));
    let done = of.filter(|_| chosen.is_ok() || is_denied).map(|route| writer.done(route, &request));
    let refused = chosen.err().map(|error| Refused {
        is_denied,
        reason: error.reason(),
        answer: writer.answer(respond::refusal_head(error), &[error.text().as_bytes(), b"\n"]),
    });
    let request = parsed.is_ok().then_some(request);
    Explanation { request, route, told, sender, is_decided: route.is_some() || is_lost, refused, done }
}

/// With identifiers that stand for others, and sampled by whoever decides that by chance.
fn span(plan: &Plan, request: &RequestHead, peer: &Peer) -> Option<Span> {
    let ids = (STAMP.request_id, [b'0'; 16]);
    Span::begin(plan.tracing.continued, request, peer.is_trusted, ids, || true)
}

/// Writes the heads of one exchange.
struct Writer<'a> {
    plan: &'a Plan,
    /// If it could be read.
    request: Option<&'a RequestHead>,
    peer: &'a Peer,
    stamp: Stamp,
    route: Option<&'a Route>,
    changes: &'a Changes,
}

impl Writer<'_> {
    fn done(&self, route: &Route, request: &RequestHead) -> Done {
        match &route.action {
            Action::Forward(forward) => self.passed_on(request, &forward.fields.removed),
            Action::Workload(to) => self.passed_on(request, &to.fields.removed),
            Action::Redirect(redirect) => {
                Done::Answered(self.answer(respond::redirect_head(redirect.status, self.changes), &[]))
            }
            Action::Respond(answer) => {
                Done::Answered(self.answer(respond::answer_head(answer), &[&answer.body]))
            }
        }
    }

    fn passed_on(&self, request: &RequestHead, removed: &[String]) -> Done {
        let mut head = Vec::new();
        flight::write_head(&mut head, request, self.changes, removed, self.peer, &self.stamp);
        Done::Forwarded { head, response: self.changes.response.clone() }
    }

    fn answer(&self, answer: OwnHead<'_>, body: &[&[u8]]) -> Answer {
        let persistence = self.request.map_or(Persistence::Close, |request| {
            let may_persist = request.keep_alive && request.body == BodyLength::Empty;
            Persistence::of(may_persist, request.version)
        });
        let timing = self.plan.server_timing.then(|| Timing {
            worker: WORKER,
            route: self.route.map_or("", |route| &route.place),
            endpoint: "",
            upstream: None,
        });
        let date = Civil::from_unix(STAMP.start_ms / 1000).to_http();
        let mut head = Vec::new();
        respond::write_head(&mut head, answer, persistence, &date, timing, self.route, self.changes);
        let is_head_only = self.request.is_some_and(|request| request.method == Method::Head);
        let body = if is_head_only { Vec::new() } else { body.concat() };
        Answer { status: answer.status, head, body }
    }
}
