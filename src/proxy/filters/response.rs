//! The way of a response along the list of its route, in reverse.

use std::cell::RefCell;
use std::rc::Rc;

use super::stage::{Message, Stage};
use super::waiting::Occasion;
use super::{Passage, RESPONSE_BOUNDS, close, fill, invalid, no_room, set_length, shown};
use crate::http::forwarding::{Peer, Stamp};
use crate::http::framing::BodyLength;
use crate::http::head::{Method, RequestHead, ResponseHead};
use crate::net::Buffer;
use crate::plan::{FilterId, Route};
use crate::proxy::body::{FilteredSource, MemorySource, Source, SourceFault};
use crate::proxy::core::{Active, Core};
use crate::proxy::error::Error;
use crate::proxy::policy::Neighbours;
use crate::wasm::hooks::filter::passing::{Body, Passing, Seen, Undo, has_no_body};
use crate::wasm::hooks::filter::seat::Seat;
use crate::wasm::hooks::filter::tally::{Hook, Outcome};
use crate::wasm::hooks::filter::{Access, Instance, Notes, ResponseAction};

/// An exchange whose route has middleware, for its response.
#[derive(Clone, Copy)]
pub struct Filtered<'a> {
    core: &'a Rc<Core>,
    active: &'a Rc<Active>,
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
        core: &'a Rc<Core>,
        active: &'a Rc<Active>,
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
            if hooks.skips_streams && !matches!(response.body, BodyLength::Known(_) | BodyLength::Empty) {
                continue;
            }
            if hooks.response {
                if let Access::Whole(most) = hooks.response_body
                    && may_have_body(request, response)
                    && !is_longer(source, response, most)
                {
                    // Boxed, because few wait for it.
                    let held = Box::pin(source.hold(most, self.active.bodies_limit())).await;
                    if !held.map_err(&fault)? {
                        close(seat, no_room(seat, Hook::Response))?;
                        continue;
                    }
                }
                let asked = match seat.waits() {
                    false => self.ask(seat, place, request, response, source, stamp),
                    // Boxed, because few wait.
                    true => Box::pin(self.wait(*id, place, request, response, source, stamp)).await,
                };
                match asked {
                    Ok(Verdict::Next) => seat.note(Hook::Response, Outcome::Next),
                    Ok(Verdict::Answer(body)) => {
                        seat.note(Hook::Response, Outcome::Respond);
                        *source = Source::Memory(MemorySource::new(body, &self.core.buffers));
                        continue;
                    }
                    Err(failure) => {
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

    /// What one guest says to a response. If it fails, nothing has changed.
    fn ask(
        &self,
        seat: &Seat,
        place: usize,
        request: &RequestHead,
        response: &mut ResponseHead,
        source: &mut Source<'_>,
        stamp: &Stamp,
    ) -> Result<Verdict, Outcome> {
        let (undo, notes) = (&mut *seat.undo.borrow_mut(), &mut *self.passage.notes.borrow_mut());
        undo.begin();
        let action = {
            let passing = self.passing(seat, place, request, response, source, stamp, notes, undo);
            seat.on_response(&RefCell::new(passing), &Neighbours(self.core))
        };
        conclude(self.active, seat, request, response, source, action, notes, undo)
    }

    /// The same of one that waits. Meanwhile it is asked about other responses.
    async fn wait(
        &self,
        id: FilterId,
        place: usize,
        request: &RequestHead,
        response: &mut ResponseHead,
        source: &mut Source<'_>,
        stamp: &Stamp,
    ) -> Result<Verdict, Outcome> {
        let Filtered { core, active, peer, passage, .. } = *self;
        let seat = &active.filters[id.0 as usize];
        let occasion = Occasion { core, active, id, hook: Hook::Response, peer, stamp: *stamp };
        // Nobody else is called about this exchange meanwhile.
        let (mut undo, mut notes) = (Undo::default(), passage.notes.take());
        let action = {
            let passing = self.passing(seat, place, request, response, source, stamp, &mut notes, &mut undo);
            occasion.call(&RefCell::new(passing), Instance::begin_response).await
        };
        let concluded = conclude(active, seat, request, response, source, action, &mut notes, &mut undo);
        passage.notes.replace(notes);
        concluded
    }

    /// The response, as one guest sees it.
    #[expect(clippy::too_many_arguments, reason = "each is a different part of one exchange, borrowed apart")]
    fn passing<'p>(
        &self,
        seat: &Seat,
        place: usize,
        request: &'p RequestHead,
        response: &'p mut ResponseHead,
        source: &'p mut Source<'_>,
        stamp: &'p Stamp,
        notes: &'p mut Notes,
        undo: &'p mut Undo,
    ) -> Passing<'p>
    where
        'a: 'p,
    {
        let body = match seat.filter.hooks.response_body {
            Access::Whole(most) if may_have_body(request, response) => {
                shown(source.has_all(), source.held(), most)
            }
            Access::Whole(_) => Body::Never,
            Access::None | Access::Stream => Body::Unseen,
        };
        Passing {
            request: Seen::Closed(request),
            response: Some(Seen::Open(response)),
            body,
            peer: self.peer,
            stamp,
            notes,
            place,
            bounds: RESPONSE_BOUNDS,
            undo,
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

/// What becomes of what a guest has said.
#[expect(clippy::too_many_arguments, reason = "each is a different part of one exchange, borrowed apart")]
fn conclude(
    active: &Active,
    seat: &Seat,
    request: &RequestHead,
    response: &mut ResponseHead,
    source: &mut Source<'_>,
    action: Result<ResponseAction, Outcome>,
    notes: &mut Notes,
    undo: &mut Undo,
) -> Result<Verdict, Outcome> {
    let verdict = action.and_then(|action| match action {
        ResponseAction::Next => Ok(Verdict::Next),
        ResponseAction::Respond(given) => match fill(request, response, given) {
            Ok(body) => Ok(Verdict::Answer(body)),
            Err(fault) => Err(invalid(seat, Hook::Response, format_args!("it answered with {fault}"))),
        },
    });
    let verdict = verdict.and_then(|verdict| {
        let is_replaced = matches!(verdict, Verdict::Next) && undo.has_replaced_body();
        match is_replaced && !source.held().count(active.bodies_limit()) {
            true => Err(no_room(seat, Hook::Response)),
            false => Ok(verdict),
        }
    });
    match &verdict {
        Ok(Verdict::Next) if undo.has_replaced_body() => {
            source.end();
            let length = source.held().len();
            response.body = BodyLength::Known(length as u64);
            set_length(&mut response.fields, length);
        }
        Ok(_) => {}
        Err(_) => undo.undo(None, Some(response), Some(&mut source.held().data), notes),
    }
    verdict
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
