//! A body on its way through one guest, chunk by chunk.

use std::cell::RefCell;
use std::rc::Rc;

use super::{RESPONSE_BOUNDS, reason, status_of};
use crate::http::fields::Fields;
use crate::http::forwarding::{Peer, Stamp};
use crate::http::head::{RequestHead, ResponseHead};
use crate::net::buffer::Size;
use crate::net::{Buffer, Buffers};
use crate::proxy::body::{Frame, Held, SourceFault};
use crate::proxy::core::Core;
use crate::proxy::policy::Neighbours;
use crate::wasm::hooks::filter::Notes;
use crate::wasm::hooks::filter::passing::{Body, Passing, Seen};
use crate::wasm::hooks::filter::seat::Seat;
use crate::wasm::hooks::filter::stream::{BodyStream, Chunk};
use crate::wasm::hooks::filter::tally::{Hook, Outcome};
use crate::wasm::hooks::settings::Way;

/// Bytes of one call.
const CHUNK_MAX: usize = 64 << 10;

/// Why nothing more passes where a guest wants it so.
const CUT_OFF: &str = "middleware cut the body off";

/// The message whose body it is.
pub struct Message<'a> {
    pub request: &'a RequestHead,
    pub response: Option<&'a ResponseHead>,
    pub peer: &'a Peer,
    pub stamp: &'a Stamp,
    /// That of the guest in the list of the route.
    pub place: usize,
}

pub struct Stage {
    /// `None` once the guest wants no more of it.
    stream: Option<BodyStream>,
    /// Something other than what came in went out.
    has_replaced: bool,
    /// What has come out of it: data, trailers, and that nothing else follows.
    held: Held,
    trailers: Option<Fields>,
    has_ended: bool,
}

impl Stage {
    /// Tells the guest of another body.
    ///
    /// # Errors
    /// It fails.
    pub fn begin(
        core: &Core,
        seat: &Rc<Seat>,
        hook: Hook,
        message: Message<'_>,
        notes: &mut Notes,
    ) -> Result<Stage, Outcome> {
        let Message { request, response, peer, stamp, place } = message;
        let stream = {
            let mut undo = seat.undo.borrow_mut();
            undo.begin();
            let passing = RefCell::new(Passing {
                request: Seen::Closed(request),
                response: response.map(Seen::Closed),
                body: Body::Unseen,
                peer,
                stamp,
                notes,
                place,
                bounds: RESPONSE_BOUNDS,
                undo: &mut undo,
            });
            seat.begin_body(hook, &passing, &Neighbours(core))
        };
        if stream.is_err() {
            seat.undo.borrow_mut().undo(None, None, None, notes);
        }
        Ok(Stage {
            stream: Some(stream?),
            has_replaced: false,
            held: Held::default(),
            trailers: None,
            has_ended: false,
        })
    }

    /// Takes a frame in, once what came out of the one before is gone. `is_last`: no data and no
    /// trailers follow.
    ///
    /// # Errors
    /// The guest lets nothing more pass, or fails where nothing passes without it.
    pub fn pass(&mut self, core: &Core, frame: Frame, is_last: bool) -> Result<(), SourceFault> {
        let (data, trailers, is_last) = match frame {
            Frame::Data(data) => (Some(data), None, is_last),
            Frame::Trailers(fields) => (None, Some(fields), true),
            Frame::End => (None, None, true),
        };
        if self.stream.is_some() {
            self.held.data = self.filter(core, data, is_last)?;
        } else {
            self.held.data = data;
        }
        self.trailers = trailers;
        self.has_ended |= is_last;
        if is_last {
            // The guest has seen all of it.
            self.stream = None;
        }
        Ok(())
    }

    /// What of the data goes on, and what the guest adds.
    fn filter(
        &mut self,
        core: &Core,
        data: Option<Buffer>,
        is_last: bool,
    ) -> Result<Option<Buffer>, SourceFault> {
        let bytes = data.as_ref().map_or(&[][..], Buffer::data);
        let mut changed: Option<Buffer> = None;
        let mut start = 0;
        while self.stream.is_some() && (start < bytes.len() || (start == 0 && is_last)) {
            let end = bytes.len().min(start + CHUNK_MAX);
            let chunk = &bytes[start..end];
            match self.ask(core, chunk, is_last && end == bytes.len())? {
                Chunk::Pass => {
                    if let Some(changed) = &mut changed {
                        changed.extend(chunk);
                    }
                }
                Chunk::Replace(other) => {
                    let changed = changed.get_or_insert_with(|| {
                        let mut before = core.buffers.take(Size::Small);
                        before.extend(&bytes[..start]);
                        before
                    });
                    changed.extend(&other);
                }
            }
            start = end;
            if bytes.is_empty() {
                break;
            }
        }
        let Some(mut changed) = changed else { return Ok(data) };
        changed.extend(&bytes[start..]);
        self.has_replaced = true;
        if let Some(data) = data {
            core.buffers.put(data);
        }
        if changed.is_empty() {
            core.buffers.put(changed);
            return Ok(None);
        }
        Ok(Some(changed))
    }

    fn ask(&mut self, core: &Core, chunk: &[u8], is_last: bool) -> Result<Chunk, SourceFault> {
        let stream = self.stream.as_mut().expect("whoever asks has looked whether it is there");
        match stream.chunk(chunk, is_last, &Neighbours(core)) {
            Ok((Outcome::Leave, _)) => {
                self.stream = None;
                Ok(Chunk::Pass)
            }
            Ok((Outcome::Abort, _)) => Err(SourceFault::Stopped(status_of(stream.seat()), CUT_OFF)),
            Ok((_, chunk)) => Ok(chunk),
            Err(failure) => self.fail(failure),
        }
    }

    /// Nobody knows what the guest holds back, if it has ever done so: then there is no going on
    /// without it.
    #[cold]
    fn fail(&mut self, failure: Outcome) -> Result<Chunk, SourceFault> {
        let stream = self.stream.take().expect("whoever fails was there");
        let seat = stream.seat();
        let way = if self.has_replaced { seat.close() } else { seat.way(failure) };
        match way {
            Way::Open => Ok(Chunk::Pass),
            Way::Closed => Err(SourceFault::Stopped(status_of(seat), reason(failure))),
        }
    }

    /// The next frame that comes out of it.
    pub fn ready(&mut self, buffers: &Buffers) -> Option<Frame> {
        if let Some(data) = self.held.piece(buffers) {
            return Some(Frame::Data(data));
        }
        if let Some(fields) = self.trailers.take() {
            return Some(Frame::Trailers(fields));
        }
        self.has_ended.then_some(Frame::End)
    }

    pub fn unread_trailers(&mut self, fields: Fields) {
        self.trailers = Some(fields);
    }

    pub fn is_finished(&self) -> bool {
        self.has_ended && self.held.is_empty() && self.trailers.is_none()
    }

    pub fn has_all(&self) -> bool {
        self.has_ended
    }

    pub fn has_trailers(&self) -> bool {
        self.trailers.is_some()
    }

    pub fn held(&mut self) -> &mut Held {
        &mut self.held
    }

    /// Nothing follows what is held.
    pub fn end(&mut self) {
        self.trailers = None;
    }
}
