//! The first flight of a request: its head, and whatever of its body is here already, written
//! once into one buffer and kept until the response begins. What is whole in memory can be sent
//! again.

use std::time::Duration;

use super::body::{Frame, Source, SourceFault};
use super::changes::Changes;
use crate::http::forwarding::{Peer, Stamp};
use crate::http::framing::BodyLength;
use crate::http::h1::changes::change;
use crate::http::h1::chunked::{self, SizeLine};
use crate::http::h1::encode;
use crate::http::head::RequestHead;
use crate::net::buffer::Size;
use crate::net::{Buffer, Buffers, Writer};

/// The head of a request and the part of its body that was already here, as they go out.
pub struct Flight {
    buffer: Option<Buffer>,
    len: usize,
    /// The whole request is in it.
    pub is_whole: bool,
}

impl Flight {
    pub fn load(
        buffers: &Buffers,
        request: &RequestHead,
        changes: &Changes,
        removed: &[String],
        peer: &Peer,
        stamp: &Stamp,
        source: &mut Source<'_>,
    ) -> Result<Flight, SourceFault> {
        let mut buffer = buffers.take(Size::Small);
        write_head(buffer.as_vec(), request, changes, removed, peer, stamp);
        let is_whole = fill(&mut buffer, source, request.body == BodyLength::Chunked)?;
        Ok(Flight { len: buffer.len(), buffer: Some(buffer), is_whole })
    }

    /// Sends it; tells how much had left if that fails.
    pub async fn send(&mut self, writer: &mut Writer<'_>, timeout: Duration) -> Result<(), usize> {
        let buffer = self.buffer.take().expect("a flight has its buffer between attempts");
        let (sent, buffer) = writer.write_all(buffer, timeout).await;
        self.buffer = Some(buffer);
        sent.map_err(|failed| failed.written)
    }

    /// Gives its buffer back.
    pub fn land(self, buffers: &Buffers) {
        if let Some(buffer) = self.buffer {
            buffers.put(buffer);
        }
    }

    /// Makes it ready to be sent again.
    pub fn rewind(&mut self) {
        if let Some(buffer) = &mut self.buffer {
            buffer.unconsume(self.len - buffer.len());
        }
    }
}

/// Appends the head of a request as it goes to the upstream, with what its route changes.
pub fn write_head(
    out: &mut Vec<u8>,
    request: &RequestHead,
    changes: &Changes,
    removed: &[String],
    peer: &Peer,
    stamp: &Stamp,
) {
    let path = match changes.path.as_slice() {
        [] => request.text(request.target.path),
        path => path,
    };
    let start = out.len();
    encode::request(out, request, path, peer, stamp);
    change(out, start, removed, &changes.request);
}

/// Appends what of the body can be had without waiting; returns whether that is all of it.
fn fill(buffer: &mut Buffer, source: &mut Source<'_>, is_chunked: bool) -> Result<bool, SourceFault> {
    loop {
        match source.ready()? {
            None => return Ok(false),
            Some(Frame::Data(data)) => {
                let size = SizeLine::new(data.len());
                let framed = data.len() + size.as_bytes().len() + 2;
                if framed + chunked::LAST.len() > buffer.spare() {
                    source.unread(data);
                    return Ok(false);
                }
                if is_chunked {
                    buffer.extend(size.as_bytes());
                    buffer.extend(data.data());
                    buffer.extend(b"\r\n");
                } else {
                    buffer.extend(data.data());
                }
                source.recycle(data);
            }
            Some(Frame::Trailers(fields)) => {
                encode::trailers(buffer.as_vec(), &fields);
                return Ok(true);
            }
            Some(Frame::End) => {
                if is_chunked {
                    buffer.extend(chunked::LAST);
                }
                return Ok(true);
            }
        }
    }
}
