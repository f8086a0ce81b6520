//! A body that a component reads.

use bytes::Bytes;

use super::SinkFault;
use crate::http::fields::Fields;
use crate::net::Buffer;
use crate::wasm::message;
use crate::wasm::pipe::Sender;

/// What is put in is copied: a guest may keep it for as long as it lives.
pub struct GuestSink {
    pipe: Sender,
    /// Bytes that may still be put in; `None` is no bound.
    left: Option<u64>,
}

impl GuestSink {
    pub fn new(pipe: Sender) -> GuestSink {
        GuestSink { pipe, left: None }
    }

    /// Not more than `most` bytes; then its guest finds it cut.
    pub fn with_bound(self, most: Option<u64>) -> GuestSink {
        GuestSink { left: most, ..self }
    }

    pub async fn data(&mut self, buffer: Buffer, is_last: bool) -> (Result<(), SinkFault>, Buffer) {
        if let Some(left) = &mut self.left {
            match left.checked_sub(buffer.len() as u64) {
                Some(rest) => *left = rest,
                None => return (Err(SinkFault::Gone), buffer),
            }
        }
        let sent = self.pipe.data(Bytes::copy_from_slice(buffer.data())).await;
        if is_last {
            self.pipe.end();
        }
        (sent.map_err(|_| SinkFault::Gone), buffer)
    }

    pub async fn trailers(&mut self, fields: &Fields) -> Result<(), SinkFault> {
        self.pipe.trailers(message::trailers(fields)).await.map_err(|_| SinkFault::Gone)
    }

    pub async fn end(&mut self) -> Result<(), SinkFault> {
        self.pipe.end();
        Ok(())
    }

    /// Nothing waits in it.
    pub async fn flush(&mut self) -> Result<(), SinkFault> {
        Ok(())
    }
}
