//! Calls on sockets that the event loop owns, by descriptor.

#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::io;
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

/// How many sockets [`eventful`] takes at once.
pub const EVENTFUL_MAX: usize = 16;

/// Which of these sockets, as bits, have something to read, have ended or are broken; of more than
/// [`EVENTFUL_MAX`] the first so many. All of them, if the kernel does not say.
pub fn eventful(sockets: impl Iterator<Item = RawFd>) -> u32 {
    let unused = libc::pollfd { fd: -1, events: 0, revents: 0 };
    let mut polled = [unused; EVENTFUL_MAX];
    let mut count = 0;
    for (slot, fd) in polled.iter_mut().zip(sockets) {
        (slot.fd, slot.events) = (fd, libc::POLLIN | libc::POLLRDHUP);
        count += 1;
    }
    // SAFETY: the array has at least `count` elements, which the kernel may write to during the call.
    if unsafe { libc::poll(polled.as_mut_ptr(), count, 0) } < 0 {
        return u32::MAX;
    }
    let bits = polled.iter().enumerate().filter(|(_, slot)| slot.revents != 0);
    bits.fold(0, |bits, (place, _)| bits | 1 << place)
}

/// Resets a TCP connection.
pub fn reset(socket: &impl AsRawFd) {
    // Where it fails, the connection is gone already.
    let _gone = rustix::net::connect_unspec(borrow(socket));
}

/// Whether a read or an accept would complete at once.
pub fn is_readable_now(socket: &impl AsRawFd) -> bool {
    let socket = borrow(socket);
    let mut polled = [PollFd::new(&socket, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(rustix::event::poll(&mut polled, Some(&now)), Ok(1..))
}

/// Has a listening TCP socket hear of no new connection. Handshakes that have begun end as they
/// would, and what is queued stays so.
///
/// # Errors
/// The kernel takes no filter.
pub fn refuse_new(socket: &impl AsRawFd) -> io::Result<()> {
    const FLAGS_AT: u32 = 13;
    const SYN_AND_ACK: u32 = 0x12;
    const SYN: u32 = 0x02;
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    // Of a segment, from its TCP header on: dropped, if it begins a handshake; else taken whole.
    let mut steps = [
        step(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, FLAGS_AT),
        step(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, SYN_AND_ACK),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, SYN),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
    ];
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: the option takes a `sock_fprog` of this size, which points to so many steps; the
    // kernel copies both during the call.
    let failed = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The error that is pending on a socket, if one is; the kernel then forgets it.
pub fn take_error(socket: &impl AsRawFd) -> io::Result<()> {
    Ok(rustix::net::sockopt::socket_error(borrow(socket))??)
}

/// Whether the peer has sent FIN, or the connection is over. Unread bytes before a FIN do not hide
/// it, as they do from [`peek`]; only a FIN that the receive buffer has no room for is not here yet.
pub fn has_ended(socket: &impl AsRawFd) -> bool {
    let socket = borrow(socket);
    let mut polled = [PollFd::new(&socket, PollFlags::RDHUP)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(rustix::event::poll(&mut polled, Some(&now)), Ok(1..))
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

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_end_behind_unread_bytes_is_seen() {
        use std::io::{Read, Write};
        use std::net::Shutdown;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut ours, _) = listener.accept().unwrap();
        assert!(!has_ended(&ours));
        theirs.write_all(b"more").unwrap();
        ours.peek(&mut [0]).unwrap();
        assert!(!has_ended(&ours));
        theirs.shutdown(Shutdown::Write).unwrap();
        // It comes by itself, in the order of what was sent.
        while !has_ended(&ours) {}
        assert_eq!(peek(&ours), Peeked::Data);
        ours.read_exact(&mut [0; 4]).unwrap();
        assert_eq!(peek(&ours), Peeked::End);
        assert!(has_ended(&ours));
    }

    #[test]
    fn who_is_queued_is_still_accepted_and_nobody_new_comes() {
        for any in ["127.0.0.1:0", "[::1]:0"] {
            // Without IPv6 on this machine there is nothing to see.
            let Ok(listener) = TcpListener::bind(any) else { continue };
            let address = listener.local_addr().unwrap();
            let _queued = TcpStream::connect(address).unwrap();
            refuse_new(&listener).unwrap();
            let late = TcpStream::connect_timeout(&address, Duration::from_millis(100));
            assert_eq!(late.unwrap_err().kind(), ErrorKind::TimedOut);
            assert!(listener.accept().is_ok());
            assert!(!is_readable_now(&listener));
        }
    }
}
