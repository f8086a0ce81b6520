//! A route's middleware as an exchange passes it: what each guest is asked, what becomes of its answer,
//! and what is done where it fails.
//!
//! `request` is the way of a request along the list, `response` that of a response, `stage` a body
//! chunk by chunk, `ending` tells how it all ended. A guest that is asked answers at once, or has
//! failed; there is a wait only for a body that it wants to see whole, and (`waiting`) for one that asks
//! others.
//!
//! Hot path, where a route has some: no lock, no formatting, as long as the guests do well.

mod ending;
mod request;
mod response;
mod stage;
mod waiting;

use std::cell::RefCell;

use super::body::h1_source::{Bounds as BodyBounds, Progress};
use super::body::{FilteredSource, H1Source, Held, Source};
use super::core::{Active, Core};
use super::error::Error;
use crate::http::fields::{Fields, Known, is_token, is_value};
use crate::http::framing::BodyLength;
use crate::http::h1::FIELDS_MAX;
use crate::http::h1::changes::is_fixed;
use crate::http::head::{Method, RequestHead, ResponseHead};
use crate::http::push_decimal;
use crate::http::status::Status;
use crate::http::target::{EncodedSlash, Target};
use crate::net::{Buffer, Reader};
use crate::plan::{Allowed, RouteId};
use crate::wasm::hooks::filter::passing::{Body, Bounds};
use crate::wasm::hooks::filter::seat::Seat;
use crate::wasm::hooks::filter::tally::{Hook, Outcome};
use crate::wasm::hooks::filter::{Answer, Notes};
use crate::wasm::hooks::settings::Way;

pub use ending::log;
pub use request::request;
pub use response::Filtered;
pub use stage::Stage;

/// What a response's head may be once it was changed.
const RESPONSE_BOUNDS: Bounds =
    Bounds { head_bytes: 64 << 10, fields: FIELDS_MAX, uri_bytes: 0, encoded_slash: EncodedSlash::Keep };

/// Bytes of the body of an answer, and of one that replaces another unless more of it may be seen.
const BODY_MAX: usize = 1 << 20;

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
    /// The request's body, if some of it was waited for or it passes guests.
    body: Option<Box<Begun>>,
    /// Who is to hear of the end of an exchange that has left its plan: places and names.
    left: Vec<(usize, String)>,
}

/// A request's body that was begun before it is known where it goes.
struct Begun {
    progress: Progress,
    /// The guests that it passes.
    stages: Vec<Stage>,
}

/// What becomes of a request.
pub struct Passed<'a> {
    /// It goes to another upstream than the route says, if to anyone.
    pub to: Option<&'a Allowed>,
    /// It is answered: the head is in place of the response's, and this is the body.
    pub answer: Option<Option<Buffer>>,
}

impl Passage {
    /// Another exchange begins.
    pub fn begin(&mut self) {
        if self.is_used {
            *self = Passage::default();
        }
    }

    /// The exchange is over: nobody sees more of its body.
    pub fn end(&mut self) {
        self.body = None;
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

    /// The request's body from where it is now. `input` is what has been read and not decoded: it keeps
    /// what comes after the body.
    pub fn source<'a>(
        &mut self,
        core: &'a Core,
        reader: Reader<'a>,
        input: &'a mut Option<Buffer>,
        length: BodyLength,
        bounds: BodyBounds,
    ) -> Source<'a> {
        let Some(begun) = self.body.take() else {
            return Source::H1(H1Source::new(reader, &core.buffers, input, length, bounds));
        };
        let Begun { progress, stages } = *begun;
        let source = Source::H1(H1Source::resume(reader, &core.buffers, input, progress, bounds));
        match stages.is_empty() {
            true => source,
            false => Source::Filtered(Box::new(FilteredSource::new(core, source, stages))),
        }
    }

    /// Lets go of the connection for a while.
    fn suspend(&mut self, source: Source<'_>) {
        let (source, stages) = match source {
            Source::Filtered(filtered) => filtered.into_parts(),
            other => (other, Vec::new()),
        };
        self.body = match source {
            Source::H1(source) => Some(Box::new(Begun { progress: source.suspend(), stages })),
            // Not of a connection, so there is none to let go of.
            _ => None,
        };
    }
}

impl Begun {
    /// As the client sends it.
    fn of(length: BodyLength) -> Box<Begun> {
        Box::new(Begun { progress: Progress::of(length), stages: Vec::new() })
    }

    fn has_all(&self) -> bool {
        self.stages.last().map_or_else(|| self.progress.has_all(), Stage::has_all)
    }

    fn has_trailers(&self) -> bool {
        self.stages.last().map_or_else(|| self.progress.has_trailers(), Stage::has_trailers)
    }

    fn held(&mut self) -> &mut Held {
        match self.stages.last_mut() {
            Some(stage) => stage.held(),
            None => self.progress.held(),
        }
    }

    /// Nothing follows what is held.
    fn end(&mut self) {
        self.progress.end();
        if let Some(stage) = self.stages.last_mut() {
            stage.end();
        }
    }
}

/// What a guest that wants to see so many bytes of a body sees of what is held.
fn shown(has_all: bool, held: &mut Held, most: usize) -> Body<'_> {
    match has_all && held.len() <= most {
        true => Body::Whole { held: &mut held.data, most: most.max(BODY_MAX) },
        false => Body::TooLarge,
    }
}

/// Says how long a body is that has replaced another.
fn set_length(fields: &mut Fields, length: usize) {
    let mut digits = Vec::new();
    push_decimal(&mut digits, length as u64);
    fields.remove(b"transfer-encoding");
    fields.remove(b"content-length");
    fields.push(b"Content-Length", &digits);
}

/// What a guest said cannot be.
#[cold]
fn invalid(seat: &Seat, hook: Hook, what: std::fmt::Arguments<'_>) -> Outcome {
    seat.note(hook, Outcome::Invalid);
    seat.complain(what);
    Outcome::Invalid
}

/// There is no room for a body that a guest is to see whole.
#[cold]
fn no_room(seat: &Seat, hook: Hook) -> Outcome {
    seat.note(hook, Outcome::NoRoom);
    seat.complain(format_args!("{}: bodies_total of [wasm] is used up", hook.word()));
    Outcome::NoRoom
}

/// # Errors
/// Nothing passes without the guest.
#[cold]
fn close(seat: &Seat, failure: Outcome) -> Result<(), Error> {
    match seat.way(failure) {
        Way::Open => Ok(()),
        Way::Closed => Err(Error::Middleware(status_of(seat), reason(failure))),
    }
}

/// Of what is answered where nothing passes.
fn status_of(seat: &Seat) -> Status {
    Status(seat.filter.on_failure.status)
}

fn reason(failure: Outcome) -> &'static str {
    match failure {
        Outcome::Trap => "middleware trapped",
        Outcome::Memory => "middleware failed for want of memory",
        Outcome::Timeout => "middleware took too long",
        Outcome::Overload => "middleware is switched off for a while",
        Outcome::NoRoom => "too many bodies are held for middleware",
        Outcome::Absent => "middleware could not be loaded",
        Outcome::Lost => "middleware has failed with another exchange",
        _ => "middleware answered with what cannot be",
    }
}

/// Makes the head that of an answer, and returns its body.
///
/// # Errors
/// What is wrong with it; the head is as it was.
fn fill(
    request: &RequestHead,
    head: &mut ResponseHead,
    answer: Answer,
) -> Result<Option<Buffer>, &'static str> {
    let Answer { status, fields, mut body } = answer;
    if !(200..=599).contains(&status) {
        return Err("a status that is none");
    }
    if body.len() > BODY_MAX {
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
        return Ok(None);
    }
    if status.0 == 205 {
        // It has a length, which is 0 (RFC 9110 15.3.6).
        body.clear();
    }
    // For the answer to HEAD, which has no other length.
    set_length(&mut head.fields, body.len());
    head.body = BodyLength::Known(body.len() as u64);
    let is_sent = request.method != Method::Head && !body.is_empty();
    Ok(is_sent.then(|| Buffer::of(&body)))
}
