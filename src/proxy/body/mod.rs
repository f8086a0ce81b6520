//! Bodies in motion: frames from a source to a sink, at the pace of the slower one.
//!
//! Each side is an enum, because bodies will also come from and go to other things than an
//! HTTP/1 connection. One frame is under way at a time: a slow sink stops its source.

#[cfg(feature = "wasm")]
pub mod filtered_source;
#[cfg(feature = "wasm")]
pub mod guest_sink;
#[cfg(feature = "wasm")]
pub mod guest_source;
pub mod h1_sink;
pub mod h1_source;
pub mod held;
pub mod memory_source;

#[cfg(feature = "wasm")]
pub use filtered_source::FilteredSource;
#[cfg(feature = "wasm")]
pub use guest_sink::GuestSink;
#[cfg(feature = "wasm")]
pub use guest_source::GuestSource;
pub use h1_sink::{Delimiter, H1Sink};
pub use h1_source::H1Source;
pub use held::Held;
pub use memory_source::MemorySource;

use crate::http::fields::Fields;
use crate::http::status::Status;
use crate::http::trailers::Excluded;
use crate::net::buffer::Size;
use crate::net::task::Turn;
use crate::net::total::Limit;
use crate::net::{Buffer, Buffers, Reader};

/// A piece of a body.
pub enum Frame {
    Data(Buffer),
    Trailers(Fields),
    End,
}

/// Why a source has no further frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceFault {
    /// The peer has sent FIN before the end of the body, or is made to leave.
    Cut,
    /// The connection broke within the body.
    Reset,
    Timeout,
    /// Below the least rate.
    TooSlow,
    TooLarge,
    Malformed(&'static str),
    /// A middleware lets nothing more pass: what is answered where that is still possible, and why.
    Stopped(Status, &'static str),
}

/// Why a sink takes no further frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkFault {
    Gone,
    /// The peer takes nothing.
    Stalled,
}

/// Which side ended a relay early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayFault {
    Source(SourceFault),
    Sink(SinkFault),
}

/// Where a body comes from.
#[cfg_attr(
    not(feature = "wasm"),
    expect(clippy::large_enum_variant, reason = "nearly all are of a connection, and none is kept")
)]
pub enum Source<'a> {
    H1(H1Source<'a>),
    /// An answer of ours, or of a middleware.
    Memory(MemorySource<'a>),
    /// One of the others, as middleware passes it on.
    #[cfg(feature = "wasm")]
    Filtered(Box<FilteredSource<'a>>),
    /// An instance of a component, which answers.
    #[cfg(feature = "wasm")]
    Guest(GuestSource<'a>),
}

/// Where a body goes.
pub enum Sink<'s, 'a> {
    H1(&'s mut H1Sink<'a>),
    /// An instance of a component, which is asked.
    #[cfg(feature = "wasm")]
    Guest(&'s mut GuestSink),
}

/// Does the same for each kind of source.
macro_rules! each {
    ($source:expr, $inner:ident => $does:expr) => {
        match $source {
            Source::H1($inner) => $does,
            Source::Memory($inner) => $does,
            #[cfg(feature = "wasm")]
            Source::Filtered($inner) => $does,
            #[cfg(feature = "wasm")]
            Source::Guest($inner) => $does,
        }
    };
}

impl<'a> Source<'a> {
    /// The connection's own, if it is still read from one: a middleware may have put an answer in its
    /// place.
    pub fn h1(&self) -> Option<&H1Source<'a>> {
        match self {
            Source::H1(source) => Some(source),
            #[cfg(feature = "wasm")]
            Source::Filtered(source) => source.inner().h1(),
            _ => None,
        }
    }

    /// Bytes of the body that were read from a connection.
    pub fn received(&self) -> u64 {
        self.h1().map_or(0, H1Source::received)
    }

    /// What comes next on the connection that it is read from belongs to the next message.
    pub fn is_drained(&self) -> bool {
        self.h1().is_some_and(|source| source.progress().has_all())
    }

    /// Ends it.
    pub fn finish(self) {
        match self {
            Source::H1(source) => source.finish(),
            #[cfg(feature = "wasm")]
            Source::Filtered(source) => source.into_parts().0.finish(),
            _ => {}
        }
    }

    /// The reading side of the client whose request it is. A guest has none: when nobody waits for
    /// its request any more, the exchange is dropped.
    pub fn client(&self) -> Option<&Reader<'a>> {
        self.h1().map(H1Source::reader)
    }

    /// The next frame if it can be had without waiting.
    pub fn ready(&mut self) -> Result<Option<Frame>, SourceFault> {
        each!(self, source => source.ready())
    }

    pub async fn next(&mut self) -> Result<Frame, SourceFault> {
        match self {
            Source::H1(source) => source.next().await,
            Source::Memory(source) => Ok(source.frame()),
            #[cfg(feature = "wasm")]
            Source::Filtered(source) => source.next().await,
            #[cfg(feature = "wasm")]
            Source::Guest(source) => source.next().await,
        }
    }

    /// Takes a frame's buffer back.
    pub fn recycle(&mut self, buffer: Buffer) {
        each!(self, source => source.recycle(buffer));
    }

    /// Gives back a frame's data, to be the next frame again.
    pub fn unread(&mut self, buffer: Buffer) {
        each!(self, source => source.unread(buffer));
    }

    /// All frames but [`Frame::End`] have been given.
    pub fn is_finished(&self) -> bool {
        each!(self, source => source.is_finished())
    }

    /// All data of the body is here, given or not.
    pub fn has_all(&self) -> bool {
        match self {
            Source::H1(source) => source.progress().has_all(),
            Source::Memory(_) => true,
            #[cfg(feature = "wasm")]
            Source::Filtered(source) => source.has_all(),
            #[cfg(feature = "wasm")]
            Source::Guest(source) => source.has_all(),
        }
    }

    /// Waits until more than `most` bytes are here, or all that there are. They are the next frames
    /// all the same. False if there was no room for all of them within the limit of what is held.
    pub async fn hold(&mut self, most: usize, limit: Limit<'_>) -> Result<bool, SourceFault> {
        let mut portion = self.held().take_portion(limit);
        let mut has_room = true;
        let mut held = Buffer::with_size(Size::Small);
        while held.len() <= most && has_room {
            match self.next().await? {
                Frame::Data(buffer) => {
                    held.extend(buffer.data());
                    self.recycle(buffer);
                    // Of what was held before, the rest is still counted.
                    has_room = held.len() <= portion.bytes() || portion.resize(held.len(), limit.most);
                }
                Frame::Trailers(fields) => {
                    each!(self, source => source.unread_trailers(fields));
                    break;
                }
                Frame::End => break,
            }
        }
        if !held.is_empty() {
            self.unread(held);
            self.held().set_portion(portion);
        }
        Ok(has_room)
    }

    /// The data that is given next: what was held.
    pub fn held(&mut self) -> &mut Held {
        match self {
            Source::H1(source) => source.progress_mut().held(),
            Source::Memory(source) => source.held(),
            #[cfg(feature = "wasm")]
            Source::Filtered(source) => source.held(),
            #[cfg(feature = "wasm")]
            Source::Guest(source) => source.held(),
        }
    }

    /// Nothing follows what is held.
    pub fn end(&mut self) {
        match self {
            Source::H1(source) => source.progress_mut().end(),
            Source::Memory(_) => {}
            #[cfg(feature = "wasm")]
            Source::Filtered(source) => source.end(),
            #[cfg(feature = "wasm")]
            Source::Guest(source) => source.end(),
        }
    }
}

/// Gives back the piece that was taken last.
fn put_back(held: &mut Option<Buffer>, piece: Buffer, buffers: &Buffers) {
    match held {
        Some(rest) => {
            rest.unconsume(piece.len());
            buffers.put(piece);
        }
        None => *held = Some(piece),
    }
}

/// The next piece of what is held, of which there may be much.
fn piece(held: &mut Option<Buffer>, buffers: &Buffers) -> Option<Buffer> {
    let mut all = held.take()?;
    let most = Size::Medium.bytes();
    if all.size().is_some() || all.len() <= most {
        return Some(all);
    }
    let mut piece = buffers.take(Size::Medium);
    piece.extend(&all.data()[..most]);
    all.consume(most);
    *held = Some(all);
    Some(piece)
}

impl Sink<'_, '_> {
    pub async fn data(&mut self, buffer: Buffer, is_last: bool) -> (Result<(), SinkFault>, Buffer) {
        match self {
            Sink::H1(sink) => sink.data(buffer, is_last).await,
            #[cfg(feature = "wasm")]
            Sink::Guest(sink) => sink.data(buffer, is_last).await,
        }
    }

    pub async fn trailers(&mut self, fields: &Fields) -> Result<(), SinkFault> {
        match self {
            Sink::H1(sink) => sink.trailers(fields).await,
            #[cfg(feature = "wasm")]
            Sink::Guest(sink) => sink.trailers(fields).await,
        }
    }

    pub async fn end(&mut self) -> Result<(), SinkFault> {
        match self {
            Sink::H1(sink) => sink.end().await,
            #[cfg(feature = "wasm")]
            Sink::Guest(sink) => sink.end().await,
        }
    }

    /// Sends what waits to leave together with the first data.
    pub async fn flush(&mut self) -> Result<(), SinkFault> {
        match self {
            Sink::H1(sink) => sink.flush().await,
            #[cfg(feature = "wasm")]
            Sink::Guest(sink) => sink.flush().await,
        }
    }
}

/// Moves a whole body. A head that still waits in the sink leaves with the first data if that
/// is already here, and at once if it is not. Trailers that are excluded do not go on.
pub async fn relay(
    source: &mut Source<'_>,
    mut sink: Sink<'_, '_>,
    excluded: Excluded<'_>,
) -> Result<(), RelayFault> {
    let mut turn = Turn::default();
    loop {
        turn.step().await;
        let frame = match source.ready().map_err(RelayFault::Source)? {
            Some(frame) => frame,
            None => {
                sink.flush().await.map_err(RelayFault::Sink)?;
                source.next().await.map_err(RelayFault::Source)?
            }
        };
        match frame {
            Frame::Data(buffer) => {
                let is_last = source.is_finished();
                let (sent, buffer) = sink.data(buffer, is_last).await;
                source.recycle(buffer);
                sent.map_err(RelayFault::Sink)?;
                if is_last {
                    return Ok(());
                }
            }
            Frame::Trailers(mut fields) => {
                excluded.apply(&mut fields);
                return sink.trailers(&fields).await.map_err(RelayFault::Sink);
            }
            Frame::End => return sink.end().await.map_err(RelayFault::Sink),
        }
    }
}
