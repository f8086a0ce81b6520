//! A body that is written to an HTTP/1 connection, with the head that goes before it.
//!
//! Hot path: head, chunk size, data and the end of the body leave in one send; nothing is
//! copied but the head, nothing is allocated once its bytes have grown.

use std::time::Duration;

use super::SinkFault;
use crate::http::fields::Fields;
use crate::http::h1::chunked::{self, SizeLine};
use crate::http::h1::encode;
use crate::net::buffer::Size;
use crate::net::{Buffer, Buffers, Writer};

pub struct H1Sink<'a> {
    writer: Writer<'a>,
    buffers: &'a Buffers,
    /// A head that waits to be sent, encoded.
    pub head: &'a mut Vec<u8>,
    pub is_chunked: bool,
    timeout: Duration,
    /// Bytes of the body sent, without what frames them.
    sent: u64,
}

impl<'a> H1Sink<'a> {
    /// `timeout` bounds how long the peer may take nothing.
    pub fn new(
        writer: Writer<'a>,
        buffers: &'a Buffers,
        head: &'a mut Vec<u8>,
        timeout: Duration,
    ) -> H1Sink<'a> {
        H1Sink { writer, buffers, head, is_chunked: false, timeout, sent: 0 }
    }

    pub fn sent(&self) -> u64 {
        self.sent
    }

    pub async fn data(&mut self, mut buffer: Buffer, is_last: bool) -> (Result<(), SinkFault>, Buffer) {
        let len = buffer.len() as u64;
        if self.is_chunked {
            let size = SizeLine::new(buffer.len());
            buffer.extend(b"\r\n");
            if is_last {
                buffer.extend(chunked::LAST);
            }
            if !buffer.prepend(size.as_bytes()) {
                self.head.extend_from_slice(size.as_bytes());
            }
        }
        if !self.head.is_empty()
            && !buffer.prepend(self.head)
            && let Err(fault) = self.flush().await
        {
            return (Err(fault), buffer);
        }
        self.head.clear();
        let (sent, buffer) = self.write(buffer).await;
        if sent.is_ok() {
            self.sent += len;
        }
        (sent, buffer)
    }

    pub async fn trailers(&mut self, fields: &Fields) -> Result<(), SinkFault> {
        if self.is_chunked {
            encode::trailers(self.head, fields);
        }
        self.flush().await
    }

    pub async fn end(&mut self) -> Result<(), SinkFault> {
        if self.is_chunked {
            self.head.extend_from_slice(chunked::LAST);
        }
        self.flush().await
    }

    pub async fn flush(&mut self) -> Result<(), SinkFault> {
        if self.head.is_empty() {
            return Ok(());
        }
        let mut buffer = self.buffers.take(Size::Small);
        buffer.extend(self.head);
        self.head.clear();
        let (sent, buffer) = self.write(buffer).await;
        self.buffers.put(buffer);
        sent
    }

    async fn write(&mut self, buffer: Buffer) -> (Result<(), SinkFault>, Buffer) {
        let (result, buffer) = self.writer.write_all(buffer, self.timeout).await;
        let fault = if self.writer.is_stalled() { SinkFault::Stalled } else { SinkFault::Gone };
        (result.map_err(|_| fault), buffer)
    }
}
