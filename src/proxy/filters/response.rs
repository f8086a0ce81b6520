//! The way of a response along the list of its route, in reverse.

use std::cell::RefCell;

use super::stage::{Message, Stage};
use super::{Passage, RESPONSE_BOUNDS, close, fill, invalid, set_length, shown};
use crate::http::forwarding::{Peer, Stamp};
use crate::http::framing::BodyLength;
use crate::http::head::{Method, RequestHead, ResponseHead};
use crate::net::Buffer;
use crate::plan::Route;
use crate::proxy::body::{FilteredSource, MemorySource, Source, SourceFault};
use crate::proxy::core::{Active, Core};
use crate::proxy::error::Error;
use crate::proxy::policy::Neighbours;
use crate::wasm::hooks::filter::passing::{Body, Passing, Seen, has_no_body};
use crate::wasm::hooks::filter::seat::Seat;
use crate::wasm::hooks::filter::tally::{Hook, Outcome};
use crate::wasm::hooks::filter::{Access, ResponseAction};

/// An exchange whose route has middleware, for its response.
#[derive(Clone, Copy)]
pub struct Filtered<'a> {
    core: &'a Core,
    active: &'a Active,
    route: &'a Route,
    peer: &'a Peer,
    passage: &'a Passage,
}

/// What becomes of a response after a guest has seen it.
enum Verdict {
    Next,
    /// It is answered with this body instead.
    Answer(Option<Buffer>),
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

    /// Has a response pass the list: its head now, and its body as it will come out of `source` then.
    /// If it is answered with another one, both are that. `fault` says whose fault it is if the body
    /// does not come.
    ///
    /// # Errors
    /// A guest has failed, and nothing passes without it; or there is no such body.
    pub async fn response<'s>(
        &self,
        request: &RequestHead,
        response: &mut ResponseHead,
        source: &mut Source<'s>,
        stamp: &Stamp,
        fault: impl Fn(SourceFault) -> Error,
    ) -> Result<(), Error>
    where
        'a: 's,
    {
        for (place, id) in self.route.filters.iter().enumerate().rev() {
            let seat = &self.active.filters[id.0 as usize];
            let hooks = seat.filter.hooks;
            // Others cannot be told in the terms of the interface.
            if self.passage.passed & 1 << place == 0 || !(200..=599).contains(&response.status.0) {
                continue;
            }
            if hooks.response {
                if let Access::Whole(most) = hooks.response_body
                    && may_have_body(request, response)
                    && !is_longer(source, response, most)
                {
                    // Boxed, because few wait for it.
                    Box::pin(source.hold(most)).await.map_err(&fault)?;
                }
                match self.ask(seat, place, request, response, source, stamp) {
                    Ok(Verdict::Next) => seat.note(Hook::Response, Outcome::Next),
                    Ok(Verdict::Answer(body)) => {
                        seat.note(Hook::Response, Outcome::Respond);
                        *source = Source::Memory(MemorySource::new(body, &self.core.buffers));
                        continue;
                    }
                    Err(failure) => {
                        let notes = &mut self.passage.notes.borrow_mut();
                        let held = Some(source.held());
                        seat.undo.borrow_mut().undo(None, Some(response), held, notes);
                        close(seat, failure)?;
                        continue;
                    }
                }
            }
            if hooks.response_body == Access::Stream {
                self.begin(seat, place, request, response, source, stamp)?;
            }
        }
        Ok(())
    }

    fn ask(
        &self,
        seat: &Seat,
        place: usize,
        request: &RequestHead,
        response: &mut ResponseHead,
        source: &mut Source<'_>,
        stamp: &Stamp,
    ) -> Result<Verdict, Outcome> {
        let may_have_body = may_have_body(request, response);
        let action = {
            let (mut undo, mut notes) = (seat.undo.borrow_mut(), self.passage.notes.borrow_mut());
            undo.begin();
            let body = match seat.filter.hooks.response_body {
                Access::Whole(most) if may_have_body => shown(source.has_all(), source.held(), most),
                Access::Whole(_) => Body::Never,
                Access::None | Access::Stream => Body::Unseen,
            };
            let passing = RefCell::new(Passing {
                request: Seen::Closed(request),
                response: Some(Seen::Open(response)),
                body,
                peer: self.peer,
                stamp,
                notes: &mut notes,
                place,
                bounds: RESPONSE_BOUNDS,
                undo: &mut undo,
            });
            seat.on_response(&passing, &Neighbours(self.core))?
        };
        match action {
            ResponseAction::Next => {
                if seat.undo.borrow().has_replaced_body() {
                    source.end();
                    let length = source.held().as_ref().map_or(0, Buffer::len);
                    response.body = BodyLength::Known(length as u64);
                    set_length(&mut response.fields, length);
                }
                Ok(Verdict::Next)
            }
            ResponseAction::Respond(given) => match fill(request, response, given) {
                Ok(body) => Ok(Verdict::Answer(body)),
                Err(fault) => Err(invalid(seat, Hook::Response, format_args!("it answered with {fault}"))),
            },
        }
    }

    /// The body passes the guest from now on.
    fn begin<'s>(
        &self,
        seat: &std::rc::Rc<Seat>,
        place: usize,
        request: &RequestHead,
        response: &mut ResponseHead,
        source: &mut Source<'s>,
        stamp: &Stamp,
    ) -> Result<(), Error>
    where
        'a: 's,
    {
        if may_have_body(request, response) && response.body != BodyLength::Empty {
            let message = Message { request, response: Some(response), peer: self.peer, stamp, place };
            let notes = &mut self.passage.notes.borrow_mut();
            match Stage::begin(self.core, seat, Hook::ResponseBody, message, notes) {
                Ok(stage) => append(self.core, source, stage),
                Err(failure) => return close(seat, failure),
            }
            response.body = BodyLength::Chunked;
        }
        // Nobody knows how much comes out of it, or would for another method.
        response.fields.remove(b"content-length");
        Ok(())
    }
}

fn append<'s>(core: &'s Core, source: &mut Source<'s>, stage: Stage) {
    if let Source::Filtered(filtered) = source {
        return filtered.push(stage);
    }
    let inner = std::mem::replace(source, Source::Memory(MemorySource::new(None, &core.buffers)));
    *source = Source::Filtered(Box::new(FilteredSource::new(core, inner, vec![stage])));
}

/// A body can follow the head, if only an empty one.
fn may_have_body(request: &RequestHead, response: &ResponseHead) -> bool {
    request.method != Method::Head && !has_no_body(response.status)
}

/// The body is known to be longer, without a look at it.
fn is_longer(source: &Source<'_>, response: &ResponseHead, most: usize) -> bool {
    let is_as_sent = !matches!(source, Source::Filtered(_));
    is_as_sent && matches!(response.body, BodyLength::Known(length) if length > most as u64)
}
