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

/// What tells the peer where a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delimiter {
    /// The head; also that there is no body.
    Length,
    Chunks,
    /// The end of the connection, so that only a reset tells that the body was cut. One is prepared
    /// before the first byte leaves and called off after the last: whatever comes between, an error, a
    /// panic or a future that is dropped, does not look like the end.
    Connection,
}

pub struct H1Sink<'a> {
    writer: Writer<'a>,
    buffers: &'a Buffers,
    /// A head that waits to be sent, encoded.
    pub head: &'a mut Vec<u8>,
    pub delimiter: Delimiter,
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
        H1Sink { writer, buffers, head, delimiter: Delimiter::Length, timeout, sent: 0 }
    }

    pub fn sent(&self) -> u64 {
        self.sent
    }

    pub async fn data(&mut self, mut buffer: Buffer, is_last: bool) -> (Result<(), SinkFault>, Buffer) {
        let len = buffer.len() as u64;
        if self.delimiter == Delimiter::Chunks {
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
            if is_last {
                self.end_in_order();
            }
        }
        (sent, buffer)
    }

    pub async fn trailers(&mut self, fields: &Fields) -> Result<(), SinkFault> {
        if self.delimiter == Delimiter::Chunks {
            encode::trailers(self.head, fields);
        }
        self.flush().await?;
        self.end_in_order();
        Ok(())
    }

    pub async fn end(&mut self) -> Result<(), SinkFault> {
        if self.delimiter == Delimiter::Chunks {
            self.head.extend_from_slice(chunked::LAST);
        }
        self.flush().await?;
        self.end_in_order();
        Ok(())
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

    fn end_in_order(&self) {
        if self.delimiter == Delimiter::Connection {
            self.writer.set_abortive(false);
        }
    }

    async fn write(&mut self, buffer: Buffer) -> (Result<(), SinkFault>, Buffer) {
        if self.delimiter == Delimiter::Connection {
            self.writer.set_abortive(true);
        }
        let (result, buffer) = self.writer.write_all(buffer, self.timeout).await;
        let fault = if self.writer.is_stalled() { SinkFault::Stalled } else { SinkFault::Gone };
        (result.map_err(|_| fault), buffer)
    }
}
