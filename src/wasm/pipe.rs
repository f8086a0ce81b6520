//! The body of a request on its way into a guest: one piece at a time, so that a guest that does
//! not read stops its client.
//!
//! Both ends are on one core; only what is `Send` may be in a store, so there is a lock, which is
//! never contended.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use wasmtime_wasi_http::Error;

/// What is put into a pipe.
enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
}

#[derive(Default)]
struct State {
    piece: Option<Piece>,
    is_ended: bool,
    /// The sender went away before the end.
    is_cut: bool,
    /// Nobody reads any more.
    is_closed: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

type Shared = Arc<Mutex<State>>;

/// The end that the client's bytes are put into. Dropped before [`Sender::end`], it is as if the
/// connection had broken.
pub struct Sender(Shared);

/// The end that the guest reads.
pub struct Receiver {
    shared: Shared,
    /// If the client has said it.
    length: Option<u64>,
}

/// The guest has let go of its end.
#[derive(Debug, PartialEq, Eq)]
pub struct Closed;

pub fn pipe(length: Option<u64>) -> (Sender, Receiver) {
    let shared = Shared::default();
    (Sender(Arc::clone(&shared)), Receiver { shared, length })
}

fn lock(shared: &Shared) -> MutexGuard<'_, State> {
    // No one who holds it runs anything that can panic.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sender {
    /// Puts a piece in, once the one before was taken.
    ///
    /// # Errors
    /// Nobody will read it.
    pub async fn data(&mut self, data: Bytes) -> Result<(), Closed> {
        self.put(Piece::Data(data)).await
    }

    /// The last piece.
    ///
    /// # Errors
    /// Nobody will read them.
    pub async fn trailers(&mut self, trailers: HeaderMap) -> Result<(), Closed> {
        self.put(Piece::Trailers(trailers)).await?;
        self.end();
        Ok(())
    }

    pub fn end(&mut self) {
        let mut state = lock(&self.0);
        state.is_ended = true;
        state.wake_reader();
    }

    async fn put(&mut self, piece: Piece) -> Result<(), Closed> {
        let mut piece = Some(piece);
        poll_fn(|cx| {
            let mut state = lock(&self.0);
            if state.is_closed {
                return Poll::Ready(Err(Closed));
            }
            if state.piece.is_some() {
                state.writer = Some(cx.waker().clone());
                return Poll::Pending;
            }
            state.piece = piece.take();
            state.wake_reader();
            Poll::Ready(Ok(()))
        })
        .await
    }
}

impl State {
    fn wake_reader(&mut self) {
        self.reader.take().into_iter().for_each(Waker::wake);
    }

    fn wake_writer(&mut self) {
        self.writer.take().into_iter().for_each(Waker::wake);
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let mut state = lock(&self.0);
        state.is_cut = !state.is_ended;
        state.wake_reader();
    }
}

impl Receiver {
    /// Its length is known by now.
    pub fn with_length(mut self, length: u64) -> Receiver {
        self.length = Some(length);
        self
    }
}

impl Body for Receiver {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let mut state = lock(&self.shared);
        match state.piece.take() {
            Some(Piece::Data(data)) => {
                state.wake_writer();
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Some(Piece::Trailers(trailers)) => {
                state.wake_writer();
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            None if state.is_ended => Poll::Ready(None),
            None if state.is_cut => Poll::Ready(Some(Err(Error::ConnectionTerminated))),
            None => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut state = lock(&self.shared);
        state.is_closed = true;
        state.wake_writer();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    fn next(receiver: &mut Receiver) -> Poll<Option<Result<Bytes, ()>>> {
        let frame = Pin::new(receiver).poll_frame(&mut Context::from_waker(Waker::noop()));
        frame.map(|frame| frame.map(|frame| frame.map_err(drop)?.into_data().map_err(drop)))
    }

    #[test]
    fn a_piece_waits_until_the_one_before_was_taken() {
        let (mut sender, mut receiver) = pipe(None);
        assert!(next(&mut receiver).is_pending());
        assert_eq!(poll(pin!(sender.data(Bytes::from_static(b"1")))), Poll::Ready(Ok(())));
        {
            let mut second = pin!(sender.data(Bytes::from_static(b"2")));
            assert!(poll(second.as_mut()).is_pending());
            assert_eq!(next(&mut receiver), Poll::Ready(Some(Ok(Bytes::from_static(b"1")))));
            assert_eq!(poll(second), Poll::Ready(Ok(())));
        }
        sender.end();
        drop(sender);
        assert_eq!(next(&mut receiver), Poll::Ready(Some(Ok(Bytes::from_static(b"2")))));
        assert_eq!(next(&mut receiver), Poll::Ready(None));
    }

    #[test]
    fn each_end_learns_that_the_other_is_gone() {
        let (sender, mut receiver) = pipe(None);
        drop(sender);
        assert_eq!(next(&mut receiver), Poll::Ready(Some(Err(()))), "cut, not ended");
        let (mut sender, receiver) = pipe(None);
        drop(receiver);
        assert_eq!(poll(pin!(sender.data(Bytes::new()))), Poll::Ready(Err(Closed)));
    }
}
