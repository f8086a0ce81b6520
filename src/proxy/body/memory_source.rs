//! A body that is in memory.

use super::{Frame, Held, SourceFault};
use crate::http::fields::Fields;
use crate::net::{Buffer, Buffers};

pub struct MemorySource<'a> {
    held: Held,
    buffers: &'a Buffers,
}

impl<'a> MemorySource<'a> {
    /// `None` is an empty one.
    pub fn new(body: Option<Buffer>, buffers: &'a Buffers) -> MemorySource<'a> {
        MemorySource { held: body.into(), buffers }
    }

    pub fn ready(&mut self) -> Result<Option<Frame>, SourceFault> {
        Ok(Some(self.frame()))
    }

    pub fn frame(&mut self) -> Frame {
        self.held.piece(self.buffers).map_or(Frame::End, Frame::Data)
    }

    pub fn recycle(&mut self, buffer: Buffer) {
        self.buffers.put(buffer);
    }

    pub fn unread(&mut self, buffer: Buffer) {
        self.held.put_back(buffer, self.buffers);
    }

    /// There are none.
    pub fn unread_trailers(&mut self, _: Fields) {}

    pub fn is_finished(&self) -> bool {
        self.held.is_empty()
    }

    pub fn held(&mut self) -> &mut Held {
        &mut self.held
    }
}
