//! Calls on sockets that the event loop owns, by descriptor.

#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{RecvFlags, Shutdown};

/// Which directions of a socket end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Pending and later reads end; writing still works.
    Read,
    Both,
}

/// Ends directions of the socket `fd`, which makes its pending operations complete. The
/// descriptor must be open and still be that socket: `net::deadline` sees to it, because a
/// stream's timer leaves the wheel before the stream is dropped.
pub fn shutdown(fd: RawFd, ended: Ended) {
    let how = match ended {
        Ended::Read => Shutdown::Read,
        Ended::Both => Shutdown::Both,
    };
    // SAFETY: the caller keeps `fd` open during the call (see above).
    let socket = unsafe { BorrowedFd::borrow_raw(fd) };
    // A socket that the peer has reset is not connected any more: there is nothing to end.
    let _not_connected = rustix::net::shutdown(socket, how);
}

/// What a look at the receive queue found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peeked {
    Nothing,
    Data,
    /// The peer has sent FIN.
    End,
    Error,
}

/// Looks at a socket's receive queue without taking anything from it.
pub fn peek(socket: &impl AsRawFd) -> Peeked {
    let mut byte = [0u8; 1];
    match rustix::net::recv(borrow(socket), &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((_, 0)) => Peeked::End,
        Ok(_) => Peeked::Data,
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Peeked::Nothing,
        Err(_) => Peeked::Error,
    }
}

/// Whether a read or an accept would complete at once.
pub fn is_readable_now(socket: &impl AsRawFd) -> bool {
    let socket = borrow(socket);
    let mut polled = [PollFd::new(&socket, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(rustix::event::poll(&mut polled, Some(&now)), Ok(1..))
}

/// Whether an error is pending on a socket, such as a reset by the peer.
pub fn has_error(socket: &impl AsRawFd) -> bool {
    !matches!(rustix::net::sockopt::socket_error(borrow(socket)), Ok(Ok(())))
}

/// The stream behind one half of it, for calls that need no exclusive access.
pub fn stream_of<T>(half: &UnsafeCell<T>) -> &T {
    // SAFETY: monoio's halves make a `&mut T` of this cell only within the call that creates
    // an operation, on this same thread, and its operations own the descriptor and the buffer;
    // no such reference lives across an await, so this shared one never meets it.
    unsafe { &*half.get() }
}

fn borrow<T: AsRawFd>(socket: &T) -> BorrowedFd<'_> {
    // SAFETY: `socket` owns the descriptor and outlives the borrow.
    unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) }
}
