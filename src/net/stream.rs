//! One transport connection: TCP or Unix, both directions usable at once, with its timer.
//!
//! Hot path: no allocation but the two that a new connection needs.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use monoio::buf::{IoBuf, IoBufMut, SliceMut};
use monoio::io::{
    AsyncReadRent, AsyncWriteRent, CancelableAsyncReadRent, Canceller, OwnedReadHalf, OwnedWriteHalf,
    Splitable,
};
use monoio::net::{TcpStream, UnixStream};

use super::buffer::Buffer;
use super::deadline::{Expired, Side, Timer, Wheel};
use crate::sys::socket::{self, Ended};

pub use crate::sys::socket::{EVENTFUL_MAX, Peeked};

enum ReadHalf {
    Tcp(OwnedReadHalf<TcpStream>),
    Unix(OwnedReadHalf<UnixStream>),
}

enum WriteHalf {
    Tcp(OwnedWriteHalf<TcpStream>),
    Unix(OwnedWriteHalf<UnixStream>),
}

/// A connection. Its timer is dropped before its descriptor can be closed.
pub struct Stream {
    timer: Timer,
    resets: Resets,
    read: ReadHalf,
    write: WriteHalf,
}

/// What both directions have to know of resets.
#[derive(Default)]
struct Resets {
    /// The peer has reset the connection before it sent FIN. The kernel reports that once, to whichever
    /// call comes first, and every later read looks like the end of the stream.
    came: Cell<bool>,
    /// The stream is reset when it is dropped.
    is_due: Cell<bool>,
}

/// The receiving direction.
pub struct Reader<'a> {
    half: &'a mut ReadHalf,
    timer: &'a Timer,
    resets: &'a Resets,
}

/// The sending direction.
pub struct Writer<'a> {
    half: &'a mut WriteHalf,
    timer: &'a Timer,
    resets: &'a Resets,
}

/// Ends a pending idle read; kept from one to the next, so that none of them allocates.
pub type Interrupt = Canceller;

/// What a read of an idle stream came to.
pub enum IdleRead {
    /// As a read: 0 is the end.
    Read(io::Result<usize>),
    /// Nothing came for a while; nothing was lost.
    Quiet,
}

impl Stream {
    pub fn tcp(stream: TcpStream, wheel: &Rc<Wheel>, read_ends: Ended) -> Stream {
        let timer = Timer::new(wheel, stream.as_raw_fd(), read_ends);
        let (read, write) = stream.into_split();
        Stream { timer, resets: Resets::default(), read: ReadHalf::Tcp(read), write: WriteHalf::Tcp(write) }
    }

    pub fn unix(stream: UnixStream, wheel: &Rc<Wheel>, read_ends: Ended) -> Stream {
        let timer = Timer::new(wheel, stream.as_raw_fd(), read_ends);
        let (read, write) = stream.into_split();
        Stream { timer, resets: Resets::default(), read: ReadHalf::Unix(read), write: WriteHalf::Unix(write) }
    }

    pub fn split(&mut self) -> (Reader<'_>, Writer<'_>) {
        let Stream { timer, resets, read, write } = self;
        (Reader { half: read, timer, resets }, Writer { half: write, timer, resets })
    }

    pub fn reader(&mut self) -> Reader<'_> {
        self.split().0
    }

    pub fn writer(&mut self) -> Writer<'_> {
        self.split().1
    }

    pub fn timer(&self) -> &Timer {
        &self.timer
    }

    /// Resolves when there is something to read, or the stream has ended.
    pub async fn readable(&self) -> io::Result<()> {
        self.read.readable().await
    }

    pub fn peek(&self) -> Peeked {
        self.read.peek()
    }

    /// Reads while the stream is idle; gives up, without losing a byte, after `quiet`.
    pub async fn read_idle(
        &mut self,
        buffer: Buffer,
        interrupt: &mut Interrupt,
        quiet: Duration,
    ) -> (IdleRead, Buffer) {
        let handle = interrupt.handle();
        let (slice, start) = spare(buffer);
        let mut pause = std::pin::pin!(self.timer.pause(quiet));
        let read = async {
            match &mut self.read {
                ReadHalf::Tcp(half) => half.cancelable_read(slice, handle).await,
                ReadHalf::Unix(half) => half.cancelable_read(slice, handle).await,
            }
        };
        let mut read = std::pin::pin!(read);
        let mut is_quiet = false;
        let (result, slice) = poll_fn(|cx| {
            if let Poll::Ready(done) = read.as_mut().poll(cx) {
                return Poll::Ready(done);
            }
            if !is_quiet && pause.as_mut().poll(cx).is_ready() {
                is_quiet = true;
                // The operation still completes, with what it read or as cancelled.
                *interrupt = std::mem::take(interrupt).cancel();
                return read.as_mut().poll(cx);
            }
            Poll::Pending
        })
        .await;
        let outcome = match result {
            Err(error) if is_quiet && error.raw_os_error() == Some(CANCELLED) => IdleRead::Quiet,
            result => IdleRead::Read(result),
        };
        (outcome, Buffer::from_parts(slice.into_inner(), start))
    }
}

/// Which of these streams, as bits, have something to read, have ended or are broken: one system call
/// for the first [`EVENTFUL_MAX`] of them.
pub fn eventful<'s>(streams: impl Iterator<Item = &'s Stream>) -> u32 {
    socket::eventful(streams.map(|stream| stream.read.fd()))
}

/// The part of a buffer that is read into, and where its data starts.
fn spare(buffer: Buffer) -> (SliceMut<Vec<u8>>, usize) {
    let spare = buffer.spare();
    debug_assert!(spare > 0, "a read into nothing looks like the end");
    let (bytes, start) = buffer.into_parts();
    let len = bytes.len();
    (bytes.slice_mut(len..len + spare), start)
}

/// ECANCELED, as both drivers of monoio report it.
const CANCELLED: i32 = rustix::io::Errno::CANCELED.raw_os_error();

impl ReadHalf {
    async fn readable(&self) -> io::Result<()> {
        match self {
            ReadHalf::Tcp(half) => socket::stream_of(&half.0).readable(false).await,
            ReadHalf::Unix(half) => socket::stream_of(&half.0).readable(false).await,
        }
    }

    fn peek(&self) -> Peeked {
        match self {
            ReadHalf::Tcp(half) => socket::peek(socket::stream_of(&half.0)),
            ReadHalf::Unix(half) => socket::peek(socket::stream_of(&half.0)),
        }
    }

    fn take_error(&self) -> io::Result<()> {
        match self {
            ReadHalf::Tcp(half) => socket::take_error(socket::stream_of(&half.0)),
            ReadHalf::Unix(half) => socket::take_error(socket::stream_of(&half.0)),
        }
    }

    fn has_ended(&self) -> bool {
        match self {
            ReadHalf::Tcp(half) => socket::has_ended(socket::stream_of(&half.0)),
            ReadHalf::Unix(half) => socket::has_ended(socket::stream_of(&half.0)),
        }
    }

    fn fd(&self) -> RawFd {
        match self {
            ReadHalf::Tcp(half) => socket::stream_of(&half.0).as_raw_fd(),
            ReadHalf::Unix(half) => socket::stream_of(&half.0).as_raw_fd(),
        }
    }
}

impl Resets {
    /// Remembers what one direction was told, for the other.
    fn note(&self, error: &io::Error) {
        if error.kind() == io::ErrorKind::ConnectionReset {
            self.came.set(true);
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Otherwise its halves end it in order. A Unix socket knows no reset.
        if self.resets.is_due.get()
            && let ReadHalf::Tcp(half) = &self.read
        {
            socket::reset(socket::stream_of(&half.0));
        }
    }
}

impl Reader<'_> {
    /// Reads once, into the spare room of `buffer`, which must not be empty. 0 is the end: the peer has
    /// sent FIN, or the timer has ended this direction.
    pub async fn read(&mut self, buffer: Buffer) -> (io::Result<usize>, Buffer) {
        let (slice, start) = spare(buffer);
        let (result, slice) = match self.half {
            ReadHalf::Tcp(half) => half.read(slice).await,
            ReadHalf::Unix(half) => half.read(slice).await,
        };
        let result = match result {
            Ok(0) if self.resets.came.get() => Err(io::ErrorKind::ConnectionReset.into()),
            result => result,
        };
        (result, Buffer::from_parts(slice.into_inner(), start))
    }

    /// Reads once; the wheel ends the stream if nothing comes for `timeout`.
    pub async fn read_within(&mut self, buffer: Buffer, timeout: Duration) -> (io::Result<usize>, Buffer) {
        self.timer.arm(Side::Read, timeout);
        let read = self.read(buffer).await;
        self.timer.disarm(Side::Read);
        read
    }

    pub fn timer(&self) -> &Timer {
        self.timer
    }

    /// Resolves when there is something to read, or the stream has ended.
    pub async fn readable(&self) -> io::Result<()> {
        self.half.readable().await
    }

    pub fn peek(&self) -> Peeked {
        self.half.peek()
    }

    /// Whether the peer has reset the connection.
    pub fn has_error(&self) -> bool {
        match self.half.take_error() {
            Ok(()) => self.resets.came.get(),
            Err(error) => {
                self.resets.note(&error);
                true
            }
        }
    }

    /// Whether the peer has ended its sending direction, perhaps behind bytes that were not read.
    pub fn has_ended(&self) -> bool {
        self.half.has_ended()
    }
}

/// A write that failed: how much the kernel had taken before.
#[derive(Debug)]
pub struct WriteError {
    pub written: usize,
    pub error: io::Error,
}

impl<'a> Writer<'a> {
    /// Writes all data of `buffer`; the wheel ends the stream if nothing can be sent for
    /// `timeout`. What was written is consumed from the buffer.
    pub async fn write_all(
        &mut self,
        mut buffer: Buffer,
        timeout: Duration,
    ) -> (Result<(), WriteError>, Buffer) {
        let mut written = 0;
        while !buffer.is_empty() {
            self.timer.arm(Side::Write, timeout);
            let (bytes, start) = buffer.into_parts();
            let slice = bytes.slice(start..);
            let (result, slice) = match self.half {
                WriteHalf::Tcp(half) => half.write(slice).await,
                WriteHalf::Unix(half) => half.write(slice).await,
            };
            buffer = Buffer::from_parts(slice.into_inner(), start);
            match result {
                Ok(0) => {
                    return (Err(WriteError { written, error: io::ErrorKind::WriteZero.into() }), buffer);
                }
                Ok(count) => {
                    written += count;
                    buffer.consume(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.resets.note(&error);
                    return (Err(WriteError { written, error }), buffer);
                }
            }
        }
        self.timer.disarm(Side::Write);
        (Ok(()), buffer)
    }

    /// Ends the sending direction; the peer sees FIN once all data is through.
    pub async fn shutdown(&mut self) -> io::Result<()> {
        match self.half {
            WriteHalf::Tcp(half) => half.shutdown().await,
            WriteHalf::Unix(half) => half.shutdown().await,
        }
    }

    /// From now on the end of the stream is a reset, or an orderly one again.
    pub fn set_abortive(&self, is_abortive: bool) {
        self.resets.is_due.set(is_abortive);
    }

    pub fn timer(&self) -> &'a Timer {
        self.timer
    }

    /// Whether the wheel ended the stream because it took nothing.
    pub fn is_stalled(&self) -> bool {
        self.timer.expired() == Some(Expired::Timeout(Side::Write))
    }
}
