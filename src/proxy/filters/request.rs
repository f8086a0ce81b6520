//! The way of a request along the list of its route.

use std::cell::RefCell;
use std::rc::Rc;

use super::stage::{Message, Stage};
use super::waiting::Occasion;
use super::{Begun, Passage, Passed, close, fill, invalid, no_room, set_length, shown};
use crate::http::forwarding::{Peer, Stamp};
use crate::http::framing::BodyLength;
use crate::http::head::{RequestHead, ResponseHead};
use crate::http::status::Status;
use crate::net::{Buffer, Stream};
use crate::plan::{Allowed, FilterId, Route};
use crate::proxy::body::h1_source::Bounds as BodyBounds;
use crate::proxy::connection::Work;
use crate::proxy::core::{Active, Core};
use crate::proxy::downstream::{Downstream, FieldLines};
use crate::proxy::error::Error;
use crate::proxy::forward::{client_error, downstream_error};
use crate::proxy::policy::Neighbours;
use crate::proxy::trace::Trace;
use crate::wasm::hooks::filter::passing::{Body, Bounds, Passing, Seen, Undo};
use crate::wasm::hooks::filter::tally::{Hook, Outcome};
use crate::wasm::hooks::filter::{Access, Instance, RequestAction};

/// What one guest says to it.
enum Verdict<'a> {
    Next,
    To(&'a Allowed),
    /// With this body.
    Answer(Option<Buffer>),
}

/// Has the request in `work` pass the list, in order.
///
/// # Errors
/// A guest has failed, and nothing passes without it; or there is no such body as the client says.
pub async fn request<'a>(
    core: &Rc<Core>,
    active: &'a Rc<Active>,
    route: &'a Route,
    stream: &mut Stream,
    work: &mut Work,
    trace: &mut Trace,
) -> Result<Passed<'a>, Error> {
    let target = work.request.target;
    work.passage.is_used = true;
    let passed = pass(core, active, route, stream, work, trace).await;
    if work.request.target != target {
        work.passage.target = Some(target);
        // A guest has said what the upstream is to get; the route has nothing to add to that.
        work.changes.path.clear();
    }
    passed
}

async fn pass<'a>(
    core: &Rc<Core>,
    active: &'a Rc<Active>,
    route: &Route,
    stream: &mut Stream,
    work: &mut Work,
    trace: &mut Trace,
) -> Result<Passed<'a>, Error> {
    let mut to = None;
    for (place, id) in route.filters.iter().enumerate() {
        let seat = &active.filters[id.0 as usize];
        let hooks = seat.filter.hooks;
        if hooks.request {
            if let Access::Whole(most) = hooks.request_body
                && !hold(core, active, stream, work, trace, most).await?
            {
                close(seat, no_room(seat, Hook::Request))?;
                continue;
            }
            let asked = match seat.waits() {
                false => ask(core, active, *id, place, work, &trace.stamp),
                // Boxed, because few wait.
                true => Box::pin(wait(core, active, *id, place, work, &trace.stamp)).await,
            };
            match asked {
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
        if hooks.request_body == Access::Stream && work.request.body != BodyLength::Empty {
            match begin(core, active, *id, place, work, &trace.stamp) {
                Ok(()) => {}
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
    let seat = &*active.filters[id.0 as usize];
    let undo = &mut *seat.undo.borrow_mut();
    undo.begin();
    let action = {
        let passing = RefCell::new(passing(active, id, place, work, stamp, undo));
        seat.on_request(&passing, &Neighbours(core))
    };
    conclude(active, id, work, action, undo)
}

/// The same of one that waits. Meanwhile it is asked about other requests.
async fn wait<'a>(
    core: &Rc<Core>,
    active: &'a Rc<Active>,
    id: FilterId,
    place: usize,
    work: &mut Work,
    stamp: &Stamp,
) -> Result<Verdict<'a>, Outcome> {
    let peer = peer_of(work).clone();
    let occasion = Occasion { core, active, id, hook: Hook::Request, peer: &peer, stamp: *stamp };
    let mut undo = Undo::default();
    let action = {
        let passing = RefCell::new(passing(active, id, place, work, stamp, &mut undo));
        occasion.call(&passing, Instance::begin_request).await
    };
    conclude(active, id, work, action, &mut undo)
}

fn peer_of(work: &Work) -> &Peer {
    work.peer.as_ref().expect("a connection makes its peer before its first exchange")
}

/// The request, as one guest sees it.
fn passing<'p>(
    active: &Active,
    id: FilterId,
    place: usize,
    work: &'p mut Work,
    stamp: &'p Stamp,
    undo: &'p mut Undo,
) -> Passing<'p> {
    let Work { request, peer, passage, .. } = work;
    let body = match active.filters[id.0 as usize].filter.hooks.request_body {
        Access::Whole(most) => body(&mut passage.body, request.body, most),
        Access::None | Access::Stream => Body::Unseen,
    };
    Passing {
        request: Seen::Open(request),
        response: None,
        body,
        peer: peer.as_ref().expect("a connection makes its peer before its first exchange"),
        stamp,
        notes: passage.notes.get_mut(),
        place,
        bounds: bounds_of(active),
        undo,
    }
}

/// What becomes of what a guest has said.
fn conclude<'a>(
    active: &'a Active,
    id: FilterId,
    work: &mut Work,
    action: Result<RequestAction, Outcome>,
    undo: &mut Undo,
) -> Result<Verdict<'a>, Outcome> {
    let Work { request, response, passage, .. } = work;
    let seat = &*active.filters[id.0 as usize];
    let verdict = action.and_then(|action| match action {
        RequestAction::Next => Ok((Outcome::Next, Verdict::Next)),
        RequestAction::Respond(given) => match fill(request, response, given) {
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
    let verdict = verdict.and_then(|verdict| match replaced(active, request, passage, undo) {
        true => Ok(verdict),
        false => Err(no_room(seat, Hook::Request)),
    });
    match verdict {
        Ok((outcome, verdict)) => {
            seat.note(Hook::Request, outcome);
            Ok(verdict)
        }
        Err(failure) => {
            let held = passage.body.as_mut().map(|begun| &mut begun.held().data);
            undo.undo(Some(request), None, held, passage.notes.get_mut());
            Err(failure)
        }
    }
}

/// Says how long the body is now, if the guest has put another in its place; false if there is no room
/// for that.
fn replaced(active: &Active, request: &mut RequestHead, passage: &mut Passage, undo: &Undo) -> bool {
    let (true, Some(begun)) = (undo.has_replaced_body(), &mut passage.body) else { return true };
    if !begun.held().count(active.bodies_limit()) {
        return false;
    }
    begun.end();
    let length = begun.held().len();
    request.body = BodyLength::Known(length as u64);
    set_length(&mut request.fields, length);
    true
}

/// As one sees it that wants so many bytes, which were waited for.
fn body(begun: &mut Option<Box<Begun>>, length: BodyLength, most: usize) -> Body<'_> {
    if begun.is_none() && length != BodyLength::Empty {
        // It says itself that it is longer.
        return Body::TooLarge;
    }
    let begun = begun.get_or_insert_with(|| Begun::of(BodyLength::Empty));
    shown(begun.has_all(), begun.held(), most)
}

/// The body passes the guest from now on.
fn begin(
    core: &Core,
    active: &Active,
    id: FilterId,
    place: usize,
    work: &mut Work,
    stamp: &Stamp,
) -> Result<(), Outcome> {
    let Work { request, peer, passage, .. } = work;
    let seat = &active.filters[id.0 as usize];
    let peer = peer.as_ref().expect("a connection makes its peer before its first exchange");
    let message = Message { request, response: None, peer, stamp, place };
    let stage = Stage::begin(core, seat, Hook::RequestBody, message, passage.notes.get_mut())?;
    let begun = passage.body.get_or_insert_with(|| Begun::of(request.body));
    begun.stages.push(stage);
    // Nobody knows how much comes out of it.
    request.body = BodyLength::Chunked;
    request.fields.remove(b"content-length");
    Ok(())
}

/// Waits for as much of the body as a guest wants to see: more than `most` bytes, or all. False if there
/// is no room for that.
async fn hold(
    core: &Core,
    active: &Active,
    stream: &mut Stream,
    work: &mut Work,
    trace: &mut Trace,
    most: usize,
) -> Result<bool, Error> {
    let limits = &active.plan.limits;
    let Work { input, request, passage, out, changes, .. } = work;
    let is_enough = match (&mut passage.body, request.body) {
        (None, BodyLength::Empty) => true,
        (None, BodyLength::Known(length)) => length > most as u64,
        (None, _) => false,
        (Some(begun), _) => begun.has_all() || begun.held().len() > most,
    };
    if is_enough {
        return Ok(true);
    }
    let (reader, writer) = stream.split();
    if request.expects_continue {
        if input.as_ref().is_none_or(Buffer::is_empty) {
            let head = ResponseHead { status: Status(100), ..ResponseHead::default() };
            let lines = FieldLines { removed: &[], set: &changes.response };
            let mut downstream =
                Downstream::h1(writer, &core.buffers, out, request, lines, limits.write_timeout);
            let date = core.date(trace.stamp.start_ms);
            downstream.inform(&head, &date).await.map_err(downstream_error)?;
        }
        // It was told; the upstream need not say so again.
        request.expects_continue = false;
    }
    let mut source = passage.source(core, reader, input, request.body, BodyBounds::of_requests(limits));
    // Boxed, because few wait for it.
    let held = Box::pin(source.hold(most, active.bodies_limit())).await;
    trace.bytes_in = source.received();
    passage.suspend(source);
    let has_room = held.map_err(client_error)?;
    if let Some(begun) = &mut passage.body
        && begun.has_all()
    {
        trace.is_request_done = true;
        if !begun.has_trailers() {
            let length = begun.held().len();
            request.body = BodyLength::Known(length as u64);
            set_length(&mut request.fields, length);
        }
    }
    Ok(has_room)
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
