//! A body that is in memory.

use super::{Frame, SourceFault, piece, put_back};
use crate::http::fields::Fields;
use crate::net::{Buffer, Buffers};

pub struct MemorySource<'a> {
    held: Option<Buffer>,
    buffers: &'a Buffers,
}

impl<'a> MemorySource<'a> {
    /// `None` is an empty one.
    pub fn new(body: Option<Buffer>, buffers: &'a Buffers) -> MemorySource<'a> {
        MemorySource { held: body, buffers }
    }

    pub fn ready(&mut self) -> Result<Option<Frame>, SourceFault> {
        Ok(Some(self.frame()))
    }

    pub fn frame(&mut self) -> Frame {
        piece(&mut self.held, self.buffers).map_or(Frame::End, Frame::Data)
    }

    pub fn recycle(&mut self, buffer: Buffer) {
        self.buffers.put(buffer);
    }

    pub fn unread(&mut self, buffer: Buffer) {
        put_back(&mut self.held, buffer, self.buffers);
    }

    /// There are none.
    pub fn unread_trailers(&mut self, _: Fields) {}

    pub fn is_finished(&self) -> bool {
        self.held.is_none()
    }

    pub fn held(&mut self) -> &mut Option<Buffer> {
        &mut self.held
    }
}
