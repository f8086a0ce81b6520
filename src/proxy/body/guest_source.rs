//! A body that a component writes.
//!
//! One piece at a time is taken from the guest, which waits until it is; what is larger than a
//! buffer leaves in several.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;

use super::{Frame, Held, SourceFault};
use crate::http::fields::Fields;
use crate::http::framing::BodyLength;
use crate::net::buffer::Size;
use crate::net::{Buffer, Buffers, Wheel};
use crate::wasm::call::Call;
use crate::wasm::message::{self, GuestBody};

/// What a guest may write of a body that nobody gets: the answer to HEAD, 204, 304.
const UNWANTED_MAX: usize = 64 << 10;

/// What bounds it.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Silence.
    pub timeout: Duration,
    /// The whole body in bytes.
    pub bytes: Option<u64>,
}

pub struct GuestSource<'a> {
    body: GuestBody,
    /// Whose answer it is, if it is one. When an instance fails, its body looks as if it had ended.
    call: Option<&'a RefCell<Call>>,
    buffers: &'a Buffers,
    wheel: &'a Rc<Wheel>,
    bounds: Bounds,
    /// Bytes that are still to come, if the guest has said how many.
    left: Option<u64>,
    /// Data that was given back: the next to be given.
    unread: Held,
    /// What of a piece did not fit into a buffer.
    rest: Bytes,
    /// What comes after that, if that is known.
    ahead: Option<Result<Piece, SourceFault>>,
    has_ended: bool,
    /// Nobody gets any of it.
    is_unwanted: bool,
    received: u64,
}

/// What a guest has for us.
enum Piece {
    Data(Bytes),
    Trailers(Fields),
    End,
}

impl<'a> GuestSource<'a> {
    /// `length` is that of the head; none if nobody gets the body.
    pub fn new(
        body: GuestBody,
        call: Option<&'a RefCell<Call>>,
        length: BodyLength,
        bounds: Bounds,
        buffers: &'a Buffers,
        wheel: &'a Rc<Wheel>,
    ) -> GuestSource<'a> {
        let left = match length {
            BodyLength::Known(length) => Some(length),
            BodyLength::Empty | BodyLength::Chunked | BodyLength::UntilClose => None,
        };
        GuestSource {
            body,
            call,
            buffers,
            wheel,
            bounds,
            left,
            unread: Held::default(),
            rest: Bytes::new(),
            ahead: None,
            has_ended: false,
            is_unwanted: length == BodyLength::Empty,
            received: 0,
        }
    }

    pub fn recycle(&mut self, buffer: Buffer) {
        self.buffers.put(buffer);
    }

    pub fn unread(&mut self, buffer: Buffer) {
        self.unread.put_back(buffer, self.buffers);
    }

    pub fn unread_trailers(&mut self, fields: Fields) {
        self.ahead = Some(Ok(Piece::Trailers(fields)));
        self.has_ended = false;
    }

    pub fn is_finished(&self) -> bool {
        self.unread.is_empty() && self.rest.is_empty() && (self.has_ended || self.left == Some(0))
    }

    /// All data of the body is here, given or not.
    pub fn has_all(&self) -> bool {
        let has_ended = self.has_ended || self.left == Some(0);
        self.rest.is_empty() && (has_ended || matches!(self.ahead, Some(Ok(Piece::Trailers(_) | Piece::End))))
    }

    /// The data that is given next.
    pub fn held(&mut self) -> &mut Held {
        &mut self.unread
    }

    /// Nothing follows what is held.
    pub fn end(&mut self) {
        self.rest = Bytes::new();
        self.ahead = None;
        self.has_ended = true;
    }

    pub fn ready(&mut self) -> Result<Option<Frame>, SourceFault> {
        // Who waits comes again with a waker of its own.
        match self.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(frame) => frame.map(Some),
            Poll::Pending => Ok(None),
        }
    }

    pub async fn next(&mut self) -> Result<Frame, SourceFault> {
        let (wheel, timeout) = (self.wheel, self.bounds.timeout);
        let frame = wheel.timeout(timeout, poll_fn(|cx| self.poll(cx))).await;
        frame.unwrap_or(Err(SourceFault::Timeout))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, SourceFault>> {
        if let Some(buffer) = self.unread.piece(self.buffers) {
            return Poll::Ready(Ok(Frame::Data(buffer)));
        }
        loop {
            if !self.rest.is_empty() {
                return Poll::Ready(Ok(Frame::Data(self.fill())));
            }
            if self.has_ended || self.left == Some(0) {
                return Poll::Ready(Ok(Frame::End));
            }
            let piece = match self.ahead.take() {
                Some(piece) => piece,
                None => ready!(self.poll_piece(cx)),
            };
            match piece? {
                Piece::Data(data) => self.take(data)?,
                Piece::End => self.has_ended = true,
                Piece::Trailers(fields) => {
                    self.has_ended = true;
                    return Poll::Ready(Ok(Frame::Trailers(fields)));
                }
            }
        }
    }

    /// What the guest has, of whatever kind.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, SourceFault>> {
        Pin::new(&mut self.body).poll_frame(cx).map(|frame| match frame {
            None if self.left.is_some() || self.has_failed() => Err(SourceFault::Cut),
            None => Ok(Piece::End),
            Some(Err(_)) => Err(SourceFault::Cut),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => Ok(Piece::Data(data)),
                Err(frame) => Ok(frame.into_trailers().map_or(Piece::End, |trailers| {
                    let fields = message::fields(&trailers);
                    if fields.is_empty() { Piece::End } else { Piece::Trailers(fields) }
                })),
            },
        })
    }

    fn has_failed(&self) -> bool {
        self.call.is_some_and(|call| call.borrow().fault().is_some())
    }

    fn take(&mut self, data: Bytes) -> Result<(), SourceFault> {
        self.received += data.len() as u64;
        if self.is_unwanted {
            self.has_ended = self.received > UNWANTED_MAX as u64;
            return Ok(());
        }
        if self.bounds.bytes.is_some_and(|most| self.received > most) {
            return Err(SourceFault::TooLarge);
        }
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(data.len() as u64).ok_or(SourceFault::TooLarge)?;
        }
        self.rest = data;
        // If that was all, the end leaves together with it.
        if let Poll::Ready(piece) = self.poll_piece(&mut Context::from_waker(Waker::noop())) {
            match piece {
                Ok(Piece::End) => self.has_ended = true,
                other => self.ahead = Some(other),
            }
        }
        Ok(())
    }

    /// As much of the piece at hand as fits into a buffer.
    fn fill(&mut self) -> Buffer {
        let mut buffer = self.buffers.take(Size::Small);
        let part = self.rest.split_to(self.rest.len().min(buffer.spare()));
        buffer.extend(&part);
        buffer
    }
}
