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
}

impl GuestSink {
    pub fn new(pipe: Sender) -> GuestSink {
        GuestSink { pipe }
    }

    pub async fn data(&mut self, buffer: Buffer, is_last: bool) -> (Result<(), SinkFault>, Buffer) {
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
