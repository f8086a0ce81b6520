//! A body that passes a guest chunk by chunk.

use std::rc::Rc;

use wasmtime::component::ResourceAny;

use super::instance::Code;
use super::seat::Seat;
use super::tally::{Hook, Outcome};
use crate::wasm::hooks::asked::Endpoints;
use crate::wasm::hooks::bindings::optional::warpdrive::middleware::chunks;
use crate::wasm::hooks::post::Shared;

/// Bytes that a guest may send beyond what it was given with one call: what it has held back.
const HELD_BACK_MAX: usize = 64 << 10;

/// One body on its way through one guest. The instance that has seen its beginning sees all of it,
/// also when another has taken its place; the guest is told when it ends.
pub struct BodyStream {
    seat: Rc<Seat>,
    hook: Hook,
    instance: Shared<Code>,
    /// What the guest has made for it.
    body: ResourceAny,
}

/// What goes on of a chunk.
pub enum Chunk {
    Pass,
    Replace(Vec<u8>),
}

impl BodyStream {
    pub fn new(seat: &Rc<Seat>, hook: Hook, instance: Shared<Code>, body: ResourceAny) -> BodyStream {
        BodyStream { seat: Rc::clone(seat), hook, instance, body }
    }

    pub fn seat(&self) -> &Seat {
        &self.seat
    }

    /// What the guest does with a chunk, and what of it goes on.
    ///
    /// # Errors
    /// It has failed; that is counted, and told.
    pub fn chunk(
        &mut self,
        bytes: &[u8],
        is_last: bool,
        endpoints: &dyn Endpoints,
    ) -> Result<(Outcome, Chunk), Outcome> {
        let BodyStream { seat, hook, instance, body } = self;
        let action = seat.call_of(*hook, Rc::clone(instance), |running| {
            running.chunk(*hook, *body, bytes, is_last, endpoints)
        })?;
        let (outcome, chunk) = match action {
            chunks::Outcome::Pass => (Outcome::Pass, Chunk::Pass),
            chunks::Outcome::Replace(other) if other.len() > bytes.len() + HELD_BACK_MAX => {
                let what = format_args!("{}: it made {} bytes of {}", hook.word(), other.len(), bytes.len());
                seat.note(*hook, Outcome::Invalid);
                seat.complain(what);
                return Err(Outcome::Invalid);
            }
            chunks::Outcome::Replace(other) => (Outcome::Replace, Chunk::Replace(other)),
            chunks::Outcome::Leave => (Outcome::Leave, Chunk::Pass),
            chunks::Outcome::Abort(reason) => {
                seat.complain(format_args!("{}: it cut the body off: {}", hook.word(), cut(&reason)));
                (Outcome::Abort, Chunk::Pass)
            }
        };
        seat.note(*hook, outcome);
        Ok((outcome, chunk))
    }
}

/// What is told of why a guest lets nothing pass.
fn cut(reason: &str) -> &str {
    crate::wasm::hooks::running::cut(reason, 1 << 10)
}

impl Drop for BodyStream {
    fn drop(&mut self) {
        // In a panic a call may be under way.
        if !std::thread::panicking() {
            self.seat.end_body(self.hook, &self.instance, self.body);
        }
    }
}
