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
use crate::http::trailers::Excluded;
use crate::net::buffer::Size;
use crate::net::{Buffer, Buffers, Writer};

/// The beginning of a body, for somebody who wants to see it before it is sent.
pub struct Text {
    bytes: Vec<u8>,
    most: usize,
}

impl Text {
    /// For one who wants so many bytes; `None` if there is nothing to be seen.
    pub fn wanted(most: usize, request: &RequestHead) -> Option<Text> {
        (most > 0 && request.body != BodyLength::Empty).then_some(Text { bytes: Vec::new(), most })
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn is_full(&self) -> bool {
        self.bytes.len() >= self.most
    }

    fn add(&mut self, bytes: &[u8]) {
        let wanted = bytes.len().min(self.most - self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..wanted]);
    }
}

/// The head of a request and the part of its body that was already here, as they go out.
pub struct Flight {
    buffer: Option<Buffer>,
    len: usize,
    /// The whole request is in it.
    pub is_whole: bool,
}

impl Flight {
    #[expect(clippy::too_many_arguments, reason = "each is a different part of one exchange, borrowed apart")]
    pub fn load(
        buffers: &Buffers,
        request: &RequestHead,
        changes: &Changes,
        excluded: Excluded<'_>,
        peer: &Peer,
        stamp: &Stamp,
        source: &mut Source<'_>,
        text: Option<&mut Text>,
    ) -> Result<Flight, SourceFault> {
        let mut buffer = buffers.take(Size::Small);
        write_head(buffer.as_vec(), request, changes, excluded.route, peer, stamp);
        let is_chunked = request.body == BodyLength::Chunked;
        let is_whole = fill(&mut buffer, source, is_chunked, excluded, text)?;
        Ok(Flight { len: buffer.len(), buffer: Some(buffer), is_whole })
    }

    /// Takes more of the body along, until the text is full or there is no more.
    pub async fn wait_for(
        &mut self,
        text: &mut Text,
        source: &mut Source<'_>,
        is_chunked: bool,
        excluded: Excluded<'_>,
    ) -> Result<(), SourceFault> {
        let buffer = self.buffer.as_mut().expect("a flight has its buffer between attempts");
        while !self.is_whole && !text.is_full() {
            let frame = source.next().await?;
            self.is_whole = append(buffer, source, frame, is_chunked, excluded, Some(text));
        }
        self.len = buffer.len();
        Ok(())
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
fn fill(
    buffer: &mut Buffer,
    source: &mut Source<'_>,
    is_chunked: bool,
    excluded: Excluded<'_>,
    mut text: Option<&mut Text>,
) -> Result<bool, SourceFault> {
    loop {
        match source.ready()? {
            None => return Ok(false),
            Some(Frame::Data(data)) if !has_room(buffer, &data) => {
                source.unread(data);
                return Ok(false);
            }
            Some(frame) => {
                if append(buffer, source, frame, is_chunked, excluded, text.as_deref_mut()) {
                    return Ok(true);
                }
            }
        }
    }
}

fn has_room(buffer: &Buffer, data: &Buffer) -> bool {
    let size = SizeLine::new(data.len());
    data.len() + size.as_bytes().len() + 2 + chunked::LAST.len() <= buffer.spare()
}

/// Appends one frame; returns whether it was the last.
fn append(
    buffer: &mut Buffer,
    source: &mut Source<'_>,
    frame: Frame,
    is_chunked: bool,
    excluded: Excluded<'_>,
    text: Option<&mut Text>,
) -> bool {
    match frame {
        Frame::Data(data) => {
            if let Some(text) = text {
                text.add(data.data());
            }
            if is_chunked {
                buffer.extend(SizeLine::new(data.len()).as_bytes());
                buffer.extend(data.data());
                buffer.extend(b"\r\n");
            } else {
                buffer.extend(data.data());
            }
            source.recycle(data);
            false
        }
        Frame::Trailers(mut fields) => {
            excluded.apply(&mut fields);
            encode::trailers(buffer.as_vec(), &fields);
            true
        }
        Frame::End => {
            if is_chunked {
                buffer.extend(chunked::LAST);
            }
            true
        }
    }
}
