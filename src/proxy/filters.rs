//! A route's middleware as an exchange passes it: what each guest is asked, what becomes of its answer,
//! and what is done where it fails.
//!
//! All of it between two awaits: a guest that is asked answers at once, or has failed.
//! Hot path, where a route has some: no lock, no formatting, as long as the guests do well.

use std::cell::{LazyCell, RefCell};
use std::time::Instant;

use super::connection::Work;
use super::core::{Active, Core};
use super::error::Error;
use super::policy::Neighbours;
use super::trace::Trace;
use crate::http::fields::{Known, is_token, is_value};
use crate::http::forwarding::{Peer, Stamp};
use crate::http::framing::BodyLength;
use crate::http::h1::FIELDS_MAX;
use crate::http::h1::changes::is_fixed;
use crate::http::head::{RequestHead, ResponseHead};
use crate::http::push_decimal;
use crate::http::status::Status;
use crate::http::target::{EncodedSlash, Target};
use crate::plan::{Allowed, FilterId, Route, RouteId};
use crate::wasm::hooks::filter::passing::{Bounds, Passing, Seen};
use crate::wasm::hooks::filter::seat::Seat;
use crate::wasm::hooks::filter::tally::{Hook, Outcome};
use crate::wasm::hooks::filter::{Answer, Notes, RequestAction, ResponseAction, Summary};
use crate::wasm::hooks::settings::Way;

/// What a response's head may be once it was changed.
const RESPONSE_BOUNDS: Bounds =
    Bounds { head_bytes: 64 << 10, fields: FIELDS_MAX, uri_bytes: 0, encoded_slash: EncodedSlash::Keep };

/// Bytes of the body of an answer.
const ANSWER_BODY_MAX: usize = 1 << 20;

/// How far an exchange has come in the list of its route. Handed from one exchange to the next.
#[derive(Default)]
pub struct Passage {
    is_used: bool,
    /// Places in the list whose guests let the request pass, as bits.
    passed: u32,
    /// Those and the one that has answered: they hear how the exchange ended.
    asked: u32,
    notes: RefCell<Notes>,
    /// The target that was asked for, if it was changed.
    target: Option<Target>,
    /// Who is to hear of the end of an exchange that has left its plan: places and names.
    left: Vec<(usize, String)>,
}

/// What becomes of a request.
pub struct Passed<'a> {
    /// It goes to another upstream than the route says, if to anyone.
    pub to: Option<&'a Allowed>,
    /// It is answered: the head is in place of the response's, this is the body.
    pub answer: Option<Vec<u8>>,
}

/// What one guest says to it.
enum Verdict<'a> {
    Next,
    To(&'a Allowed),
    Answer(Vec<u8>),
}

impl Passage {
    /// Another exchange begins.
    pub fn begin(&mut self) {
        if self.is_used {
            *self = Passage::default();
        }
    }

    /// The target that was asked for.
    pub fn target(&self, head: &RequestHead) -> Target {
        self.target.unwrap_or(head.target)
    }

    /// The exchange goes on without its plan: those of the one that is then in force with the same
    /// names hear of its end.
    pub fn leave(&mut self, active: &Active, route: Option<RouteId>) {
        let Some(route) = route.filter(|_| self.asked != 0) else { return };
        let filters = &active.plan.routes[route.0 as usize].filters;
        let asked = filters.iter().enumerate().filter(|(place, _)| self.asked & 1 << place != 0);
        let named = asked
            .map(|(place, id)| (place, active.filters[id.0 as usize].filter.guest.settings.name.clone()));
        self.left = named.collect();
        self.asked = 0;
    }
}

/// Has the request in `work` pass the list, in order.
///
/// # Errors
/// A guest has failed, and nothing passes without it.
pub fn request<'a>(
    core: &Core,
    active: &'a Active,
    route: &'a Route,
    work: &mut Work,
    stamp: &Stamp,
) -> Result<Passed<'a>, Error> {
    let target = work.request.target;
    work.passage.is_used = true;
    let passed = pass(core, active, route, work, stamp);
    if work.request.target != target {
        work.passage.target = Some(target);
        // A guest has said what the upstream is to get; the route has nothing to add to that.
        work.changes.path.clear();
    }
    passed
}

fn pass<'a>(
    core: &Core,
    active: &'a Active,
    route: &Route,
    work: &mut Work,
    stamp: &Stamp,
) -> Result<Passed<'a>, Error> {
    let mut to = None;
    for (place, id) in route.filters.iter().enumerate() {
        let seat = &*active.filters[id.0 as usize];
        if seat.filter.hooks().request {
            match ask(core, active, *id, place, work, stamp) {
                Ok(Verdict::Next) => {}
                Ok(Verdict::To(other)) => to = Some(other),
                Ok(Verdict::Answer(body)) => {
                    work.passage.asked |= 1 << place;
                    return Ok(Passed { to: None, answer: Some(body) });
                }
                Err(failure) => {
                    close(seat, failure)?;
                    continue;
                }
            }
        }
        work.passage.passed |= 1 << place;
        work.passage.asked |= 1 << place;
    }
    Ok(Passed { to, answer: None })
}

/// What one guest says to a request. If it fails, nothing has changed.
fn ask<'a>(
    core: &Core,
    active: &'a Active,
    id: FilterId,
    place: usize,
    work: &mut Work,
    stamp: &Stamp,
) -> Result<Verdict<'a>, Outcome> {
    let Work { request, response, peer, passage, .. } = work;
    let seat = &*active.filters[id.0 as usize];
    let action = {
        let mut undo = seat.undo.borrow_mut();
        undo.begin();
        let passing = RefCell::new(Passing {
            request: Seen::Open(request),
            response: None,
            peer: peer.as_ref().expect("a connection makes its peer before its first exchange"),
            stamp,
            notes: passage.notes.get_mut(),
            place,
            bounds: bounds_of(active),
            undo: &mut undo,
        });
        seat.on_request(&passing, &Neighbours(core))
    };
    let verdict = action.and_then(|action| match action {
        RequestAction::Next => Ok((Outcome::Next, Verdict::Next)),
        RequestAction::Respond(given) => match fill(response, given) {
            Ok(body) => Ok((Outcome::Respond, Verdict::Answer(body))),
            Err(fault) => Err(invalid(seat, Hook::Request, format_args!("it answered with {fault}"))),
        },
        RequestAction::Upstream(name) => {
            let allowed = &active.plan.allowed[id.0 as usize];
            allowed
                .iter()
                .find(|one| one.name == name)
                .map(|one| (Outcome::Upstream, Verdict::To(one)))
                .ok_or_else(|| {
                    let what = format_args!("it chose the upstream `{name}`, which is not in its upstreams");
                    invalid(seat, Hook::Request, what)
                })
        }
    });
    match verdict {
        Ok((outcome, verdict)) => {
            seat.note(Hook::Request, outcome);
            Ok(verdict)
        }
        Err(failure) => {
            seat.undo.borrow_mut().undo(Some(request), None, passage.notes.get_mut());
            Err(failure)
        }
    }
}

fn bounds_of(active: &Active) -> Bounds {
    let limits = &active.plan.limits;
    Bounds {
        head_bytes: limits.head_bytes,
        fields: limits.fields,
        uri_bytes: limits.uri_bytes,
        encoded_slash: limits.encoded_slash,
    }
}

/// What a guest said cannot be.
#[cold]
fn invalid(seat: &Seat, hook: Hook, what: std::fmt::Arguments<'_>) -> Outcome {
    seat.note(hook, Outcome::Invalid);
    seat.complain(what);
    Outcome::Invalid
}

/// # Errors
/// Nothing passes without the guest.
#[cold]
fn close(seat: &Seat, failure: Outcome) -> Result<(), Error> {
    let reason = match failure {
        Outcome::Trap => "middleware trapped",
        Outcome::Memory => "middleware failed for want of memory",
        Outcome::Timeout => "middleware took too long",
        Outcome::Overload => "middleware is switched off for a while",
        Outcome::Absent => "middleware could not be loaded",
        Outcome::Next | Outcome::Respond | Outcome::Upstream | Outcome::Invalid => {
            "middleware answered with what cannot be"
        }
    };
    match seat.way(failure) {
        Way::Open => Ok(()),
        Way::Closed => Err(Error::Middleware(Status(seat.filter.on_failure.status), reason)),
    }
}

/// Makes the head that of an answer, and returns its body.
///
/// # Errors
/// What is wrong with it; the head is as it was.
fn fill(head: &mut ResponseHead, answer: Answer) -> Result<Vec<u8>, &'static str> {
    let Answer { status, fields, mut body } = answer;
    if !(200..=599).contains(&status) {
        return Err("a status that is none");
    }
    if body.len() > ANSWER_BODY_MAX {
        return Err("a body of more than 1 MiB");
    }
    let bytes: usize = fields.iter().map(|(name, value)| name.len() + value.len()).sum();
    if fields.len() >= FIELDS_MAX || bytes > RESPONSE_BOUNDS.head_bytes {
        return Err("too many fields");
    }
    if !fields.iter().all(|(name, value)| is_token(name.as_bytes()) && is_value(value.as_bytes())) {
        return Err("a field that is none");
    }
    let status = Status(status);
    head.fields.clear();
    head.status = status;
    head.phrase = head.fields.push_bytes(status.phrase().as_bytes());
    head.upgrade = None;
    for (name, value) in &fields {
        // What belongs to the connection is written by whoever knows it.
        if !is_fixed(name) && Known::of(name.as_bytes()) != Known::Date {
            head.fields.push(name.as_bytes(), value.as_bytes());
        }
    }
    if status.is_bodiless() {
        head.body = BodyLength::Empty;
        return Ok(Vec::new());
    }
    if status.0 == 205 {
        // It has a length, which is 0 (RFC 9110 15.3.6).
        body.clear();
    }
    let mut length = Vec::new();
    push_decimal(&mut length, body.len() as u64);
    // For the answer to HEAD, which has no other length.
    head.fields.push(b"Content-Length", &length);
    head.body = BodyLength::Known(body.len() as u64);
    Ok(body)
}

/// An exchange whose route has middleware, for its response.
#[derive(Clone, Copy)]
pub struct Filtered<'a> {
    core: &'a Core,
    active: &'a Active,
    route: &'a Route,
    peer: &'a Peer,
    passage: &'a Passage,
}

impl<'a> Filtered<'a> {
    /// None if there is nobody to ask.
    pub fn of(
        core: &'a Core,
        active: &'a Active,
        route: &'a Route,
        peer: &'a Peer,
        passage: &'a Passage,
    ) -> Option<Filtered<'a>> {
        (passage.passed != 0).then_some(Filtered { core, active, route, peer, passage })
    }

    /// Has a response pass the list, in reverse. If it is answered with another one, that is the head
    /// then, and its body is returned.
    ///
    /// # Errors
    /// A guest has failed, and nothing passes without it.
    pub fn response(
        &self,
        request: &RequestHead,
        response: &mut ResponseHead,
        stamp: &Stamp,
    ) -> Result<Option<Vec<u8>>, Error> {
        let mut body = None;
        for (place, filter) in self.route.filters.iter().enumerate().rev() {
            let seat = &*self.active.filters[filter.0 as usize];
            let is_asked = self.passage.passed & 1 << place != 0 && seat.filter.hooks().response;
            // Others cannot be told in the terms of the interface.
            if !is_asked || !(200..=599).contains(&response.status.0) {
                continue;
            }
            match self.ask(seat, place, request, response, stamp) {
                Ok(None) => seat.note(Hook::Response, Outcome::Next),
                Ok(Some(own)) => {
                    seat.note(Hook::Response, Outcome::Respond);
                    body = Some(own);
                }
                Err(failure) => {
                    let notes = &mut self.passage.notes.borrow_mut();
                    seat.undo.borrow_mut().undo(None, Some(response), notes);
                    close(seat, failure)?;
                }
            }
        }
        Ok(body)
    }

    /// The body of the answer that a guest gives in place of a response, if it does.
    fn ask(
        &self,
        seat: &Seat,
        place: usize,
        request: &RequestHead,
        response: &mut ResponseHead,
        stamp: &Stamp,
    ) -> Result<Option<Vec<u8>>, Outcome> {
        let action = {
            let (mut undo, mut notes) = (seat.undo.borrow_mut(), self.passage.notes.borrow_mut());
            undo.begin();
            let passing = RefCell::new(Passing {
                request: Seen::Closed(request),
                response: Some(Seen::Open(response)),
                peer: self.peer,
                stamp,
                notes: &mut notes,
                place,
                bounds: RESPONSE_BOUNDS,
                undo: &mut undo,
            });
            seat.on_response(&passing, &Neighbours(self.core))
        };
        match action? {
            ResponseAction::Next => Ok(None),
            ResponseAction::Respond(given) => match fill(response, given) {
                Ok(body) => Ok(Some(body)),
                Err(fault) => Err(invalid(seat, Hook::Response, format_args!("it answered with {fault}"))),
            },
        }
    }
}

/// Tells those that have seen the request how the exchange ended.
pub fn log(core: &Core, active: &Active, trace: &Trace, work: &Work) {
    let passage = &work.passage;
    // For all of them, once somebody wants it.
    let summary = LazyCell::new(|| summarise(active, trace));
    for (place, name) in &passage.left {
        if let Some(seat) = active.filters.iter().find(|seat| seat.filter.guest.settings.name == *name) {
            tell(core, seat, *place, trace, work, &summary);
        }
    }
    let (true, Some(id)) = (passage.asked != 0, trace.route) else { return };
    for (place, id) in active.plan.routes[id.0 as usize].filters.iter().enumerate() {
        if passage.asked & 1 << place != 0 {
            tell(core, &active.filters[id.0 as usize], place, trace, work, &summary);
        }
    }
}

fn tell(
    core: &Core,
    seat: &Seat,
    place: usize,
    trace: &Trace,
    work: &Work,
    summary: &LazyCell<Summary, impl FnOnce() -> Summary>,
) {
    let Work { request, peer, passage, .. } = work;
    let (true, Some(peer)) = (seat.filter.hooks().log, peer.as_ref()) else { return };
    let (mut undo, mut notes) = (seat.undo.borrow_mut(), passage.notes.borrow_mut());
    undo.begin();
    let passing = RefCell::new(Passing {
        request: Seen::Closed(request),
        response: None,
        peer,
        stamp: &trace.stamp,
        notes: &mut notes,
        place,
        bounds: RESPONSE_BOUNDS,
        undo: &mut undo,
    });
    match seat.on_log(&passing, &Neighbours(core), summary) {
        Ok(()) => seat.note(Hook::Log, Outcome::Next),
        // Nothing that anybody sees depends on it.
        Err(_counted) => {}
    }
}

fn summarise(active: &Active, trace: &Trace) -> Summary {
    let has_nothing = !trace.is_response_started
        && matches!(trace.error, Some(Error::ClientGone | Error::ClientStalled | Error::Cut));
    let duration = trace.ended().unwrap_or_else(Instant::now).duration_since(trace.start);
    let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    Summary {
        status: if has_nothing { 0 } else { trace.status.0 },
        duration_ms: duration.as_secs_f64() * 1e3,
        request_body_bytes: trace.bytes_in as f64,
        response_body_bytes: trace.bytes_out as f64,
        upstream: text(trace.upstream_name(active)),
        endpoint: trace.endpoint.as_ref().map(|pool| super::policy::url_of(pool.label())),
        error: text(trace.reason),
    }
}
