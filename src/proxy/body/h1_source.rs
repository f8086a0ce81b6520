//! A body that is read from an HTTP/1 connection, whichever side it is on.
//!
//! Hot path: no allocation while the core's pool has buffers.

use std::time::{Duration, Instant};

use super::{Frame, Held, SourceFault};
use crate::http::fields::Fields;
use crate::http::framing::BodyLength;
use crate::http::h1::chunked::Decoder;
use crate::http::h1::parse;
use crate::net::buffer::Size;
use crate::net::deadline::Expired;
use crate::net::{Buffer, Buffers, Reader, Room};
use crate::plan::Limits;

/// What bounds a body while it is read.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Silence.
    pub timeout: Duration,
    /// The whole body in bytes.
    pub bytes: Option<u64>,
    /// Bytes a second on average of the time that we waited for them, looked at once that is
    /// longer than `timeout`.
    pub min_rate: Option<u64>,
}

impl Bounds {
    /// Of the bodies of requests.
    pub fn of_requests(limits: &Limits) -> Bounds {
        Bounds { timeout: limits.body_timeout, bytes: limits.request_body, min_rate: limits.min_rate }
    }
}

/// How far a body has come, apart from the connection that it is read from.
pub struct Progress {
    remaining: Remaining,
    /// Decoded data that was given back: the next to be given.
    unread: Held,
    received: u64,
    /// Spent waiting for the peer, if there is a least rate.
    waited: Duration,
}

/// A body that goes on elsewhere.
pub struct Left {
    pub progress: Progress,
    /// What was read and not decoded.
    pub input: Option<Buffer>,
}

enum Remaining {
    Known(u64),
    Chunked(Decoder),
    UntilClose,
    /// The data is through; trailers may follow.
    Trailers(Fields),
    Nothing,
    /// It was malformed or too large: no message can be told from it on its connection any more.
    Refused,
}

pub struct H1Source<'a> {
    reader: Reader<'a>,
    buffers: &'a Buffers,
    bounds: Bounds,
    progress: Progress,
    /// Bytes as they were read, not yet decoded; after the end, what is not the body's. They stay with
    /// the connection, so that none is lost, however the source ends.
    input: &'a mut Option<Buffer>,
    spare: Option<Buffer>,
    room: Room<'a>,
}

impl Progress {
    /// Of a body that is still to come.
    pub fn of(length: BodyLength) -> Progress {
        let remaining = match length {
            BodyLength::Empty => Remaining::Nothing,
            BodyLength::Known(length) => Remaining::Known(length),
            BodyLength::Chunked => Remaining::Chunked(Decoder::default()),
            BodyLength::UntilClose => Remaining::UntilClose,
        };
        Progress { remaining, unread: Held::default(), received: 0, waited: Duration::ZERO }
    }

    /// Bytes of the body so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// All data of the body is here, given or not.
    pub fn has_all(&self) -> bool {
        matches!(self.remaining, Remaining::Nothing | Remaining::Trailers(_))
    }

    pub fn has_trailers(&self) -> bool {
        matches!(self.remaining, Remaining::Trailers(_))
    }

    /// The data that is given next.
    pub fn held(&mut self) -> &mut Held {
        &mut self.unread
    }

    /// Nothing follows what is held.
    pub fn end(&mut self) {
        self.remaining = Remaining::Nothing;
    }
}

impl<'a> H1Source<'a> {
    /// `input` is what has been read already: it starts with the body.
    pub fn new(
        reader: Reader<'a>,
        buffers: &'a Buffers,
        input: &'a mut Option<Buffer>,
        length: BodyLength,
        bounds: Bounds,
    ) -> H1Source<'a> {
        H1Source::resume(reader, buffers, input, Progress::of(length), bounds)
    }

    /// Goes on with one that was begun. `input` is what has been read and not decoded.
    pub fn resume(
        reader: Reader<'a>,
        buffers: &'a Buffers,
        input: &'a mut Option<Buffer>,
        progress: Progress,
        bounds: Bounds,
    ) -> H1Source<'a> {
        H1Source { reader, buffers, bounds, progress, input, spare: None, room: buffers.room(Size::Small) }
    }

    /// Lets go of the connection: how far it has come.
    pub fn suspend(self) -> Progress {
        if let Some(spare) = self.spare {
            self.buffers.put(spare);
        }
        self.progress
    }

    /// Lets go of the connection together with what was read of it.
    pub fn leave(self) -> Left {
        let input = self.input.take();
        Left { progress: self.suspend(), input }
    }

    /// Begins with the room that `input` was read into.
    pub fn with_room(self, room: Room<'a>) -> H1Source<'a> {
        H1Source { room, ..self }
    }

    /// Bytes of the body so far.
    pub fn received(&self) -> u64 {
        self.progress.received
    }

    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    pub fn progress_mut(&mut self) -> &mut Progress {
        &mut self.progress
    }

    pub fn reader(&self) -> &Reader<'a> {
        &self.reader
    }

    pub fn is_finished(&self) -> bool {
        matches!(self.progress.remaining, Remaining::Nothing) && self.progress.unread.is_empty()
    }

    /// Ends it. Buffers that are not needed any more go back.
    pub fn finish(self) {
        let H1Source { buffers, mut progress, input, spare, .. } = self;
        let is_spent = input.as_ref().is_some_and(Buffer::is_empty);
        let spent = if is_spent { input.take() } else { None };
        let unread = progress.unread.data.take();
        [spare, unread, spent].into_iter().flatten().for_each(|buffer| buffers.put(buffer));
    }

    pub fn recycle(&mut self, mut buffer: Buffer) {
        if self.spare.is_none() && buffer.size() == Some(self.room.size()) {
            buffer.clear();
            self.spare = Some(buffer);
        } else {
            self.buffers.put(buffer);
        }
    }

    pub fn unread(&mut self, buffer: Buffer) {
        self.progress.unread.put_back(buffer, self.buffers);
    }

    pub fn unread_trailers(&mut self, fields: Fields) {
        self.progress.remaining = Remaining::Trailers(fields);
    }

    pub fn ready(&mut self) -> Result<Option<Frame>, SourceFault> {
        if let Some(buffer) = self.progress.unread.piece(self.buffers) {
            return Ok(Some(Frame::Data(buffer)));
        }
        match &mut self.progress.remaining {
            Remaining::Nothing => return Ok(Some(Frame::End)),
            Remaining::Trailers(fields) => {
                let fields = std::mem::take(fields);
                self.progress.remaining = Remaining::Nothing;
                return Ok(Some(Frame::Trailers(fields)));
            }
            _ => {}
        }
        let Some(input) = self.input.take() else { return Ok(None) };
        if input.is_empty() {
            self.recycle(input);
            return Ok(None);
        }
        self.decode(input)
    }

    pub async fn next(&mut self) -> Result<Frame, SourceFault> {
        loop {
            if let Some(frame) = self.ready()? {
                return Ok(frame);
            }
            self.read().await?;
        }
    }

    async fn read(&mut self) -> Result<(), SourceFault> {
        let buffer = self.spare.take().unwrap_or_else(|| self.buffers.take(self.room.size()));
        let began = self.bounds.min_rate.map(|_| Instant::now());
        let (result, buffer) = self.reader.read_within(buffer, self.bounds.timeout).await;
        self.progress.waited += began.map_or(Duration::ZERO, |began| began.elapsed());
        if buffer.spare() == 0 {
            // The kernel had at least as much as this: the next read takes more at once.
            self.room.grow();
        }
        match result {
            Ok(0) => {
                self.buffers.put(buffer);
                self.ended(false)
            }
            Ok(_) => {
                *self.input = Some(buffer);
                self.check_rate()
            }
            Err(_) => {
                self.buffers.put(buffer);
                self.ended(true)
            }
        }
    }

    /// Nothing more comes: an end only where the end of the connection is the body's, and the peer has
    /// sent FIN.
    fn ended(&mut self, is_broken: bool) -> Result<(), SourceFault> {
        match self.reader.timer().expired() {
            Some(Expired::Timeout(_)) => Err(SourceFault::Timeout),
            None if is_broken => Err(SourceFault::Reset),
            None if matches!(self.progress.remaining, Remaining::UntilClose) => {
                self.progress.remaining = Remaining::Nothing;
                Ok(())
            }
            _ => Err(SourceFault::Cut),
        }
    }

    fn check_rate(&self) -> Result<(), SourceFault> {
        let Some(rate) = self.bounds.min_rate else { return Ok(()) };
        let expected = (self.progress.waited.as_secs_f64() * rate as f64) as u64;
        let is_slow = self.progress.waited > self.bounds.timeout && self.progress.received < expected;
        if is_slow { Err(SourceFault::TooSlow) } else { Ok(()) }
    }

    fn decode(&mut self, input: Buffer) -> Result<Option<Frame>, SourceFault> {
        let decoded = self.try_decode(input);
        if decoded.is_err() {
            self.progress.remaining = Remaining::Refused;
        }
        decoded
    }

    fn try_decode(&mut self, mut input: Buffer) -> Result<Option<Frame>, SourceFault> {
        let len = input.len();
        let (data, consumed) = match &mut self.progress.remaining {
            Remaining::Known(left) => {
                let data = len.min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= data as u64;
                if *left == 0 {
                    self.progress.remaining = Remaining::Nothing;
                }
                (data, data)
            }
            Remaining::Chunked(decoder) => {
                let decoded = decoder.decode(input.data_mut());
                let decoded = decoded.map_err(|fault| SourceFault::Malformed(fault.reason()))?;
                if decoder.is_done() {
                    self.progress.remaining = after_last_chunk(decoder)?;
                }
                (decoded.data, decoded.consumed)
            }
            Remaining::UntilClose => (len, len),
            Remaining::Trailers(_) | Remaining::Nothing | Remaining::Refused => (0, 0),
        };
        if consumed < len {
            let mut rest = self.buffers.take(Size::Small);
            rest.extend(&input.data()[consumed..]);
            *self.input = Some(rest);
        }
        self.progress.received += data as u64;
        if self.bounds.bytes.is_some_and(|most| self.progress.received > most) {
            return Err(SourceFault::TooLarge);
        }
        if data == 0 {
            self.recycle(input);
            let has_ended = matches!(self.progress.remaining, Remaining::Trailers(_) | Remaining::Nothing);
            return if has_ended { self.ready() } else { Ok(None) };
        }
        input.truncate(data);
        Ok(Some(Frame::Data(input)))
    }
}

fn after_last_chunk(decoder: &Decoder) -> Result<Remaining, SourceFault> {
    if decoder.trailers().is_empty() {
        return Ok(Remaining::Nothing);
    }
    let mut fields = Fields::default();
    parse::trailers(decoder.trailers(), &mut fields)
        .map_err(|refusal| SourceFault::Malformed(refusal.reason()))?;
    Ok(if fields.is_empty() { Remaining::Nothing } else { Remaining::Trailers(fields) })
}
