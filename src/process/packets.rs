//! The socket pair between `master` and the data process: one message a packet, a descriptor
//! beside it.
//!
//! Must not know: what the messages are.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sockopt,
};

/// The longest text of a message, in bytes.
pub const TEXT_MAX: usize = 64 << 10;

/// What somebody who does not read is waited for.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// What can be sent.
pub trait Outgoing {
    fn text(&self) -> String;
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;
}

/// What can be received.
pub trait Incoming: Sized {
    fn parse(text: &str, descriptor: Option<OwnedFd>) -> Option<Self>;
}

/// What came of a look for a message.
#[derive(Debug)]
pub enum Received<T> {
    Message(T),
    /// Nothing now.
    Nothing,
    /// The other end is closed.
    End,
}

/// One end of the socket pair.
#[derive(Debug)]
pub struct Socket(OwnedFd);

impl Socket {
    /// Both ends. What is sent on one end fails after 5 s if the other does not read.
    ///
    /// # Errors
    /// Too many open files.
    pub fn pair() -> io::Result<(Socket, Socket)> {
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        for socket in [&ours, &theirs] {
            sockopt::set_socket_timeout(socket, sockopt::Timeout::Send, Some(SEND_TIMEOUT))?;
        }
        Ok((Socket(ours), Socket(theirs)))
    }

    /// Takes descriptor 0 over, and leaves `/dev/null` in its place.
    ///
    /// # Errors
    /// Descriptor 0 is not such a socket.
    pub fn take_stdin() -> io::Result<Socket> {
        let stdin = rustix::stdio::stdin();
        if sockopt::socket_type(stdin)? != SocketType::SEQPACKET {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let socket = rustix::io::fcntl_dupfd_cloexec(stdin, 3)?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let null = rustix::fs::open("/dev/null", flags, Mode::empty())?;
        rustix::stdio::dup2_stdin(&null)?;
        Ok(Socket(socket))
    }

    /// # Errors
    /// The other end is closed, or has not read for 5 s.
    pub fn send(&self, message: &impl Outgoing) -> io::Result<()> {
        let text = message.text();
        let text = &text[..text.floor_char_boundary(TEXT_MAX)];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        let descriptor = message.descriptor();
        if let Some(descriptor) = &descriptor {
            beside.push(SendAncillaryMessage::ScmRights(std::slice::from_ref(descriptor)));
        }
        let packet = [IoSlice::new(text.as_bytes())];
        loop {
            match rustix::net::sendmsg(&self.0, &packet, &mut beside, SendFlags::NOSIGNAL) {
                Err(rustix::io::Errno::INTR) => {}
                result => return Ok(result.map(|_| ())?),
            }
        }
    }

    /// Waits for a message; `None` when the other end is closed.
    ///
    /// # Errors
    /// What came is not a message.
    pub fn receive<T: Incoming>(&self) -> io::Result<Option<T>> {
        loop {
            match self.receive_with(RecvFlags::empty())? {
                Received::Message(message) => return Ok(Some(message)),
                Received::End => return Ok(None),
                Received::Nothing => {}
            }
        }
    }

    /// A message, if there is one.
    ///
    /// # Errors
    /// What came is not a message.
    pub fn try_receive<T: Incoming>(&self) -> io::Result<Received<T>> {
        self.receive_with(RecvFlags::DONTWAIT)
    }

    fn receive_with<T: Incoming>(&self, flags: RecvFlags) -> io::Result<Received<T>> {
        let mut text = [0; TEXT_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::net::recvmsg(
            &self.0,
            &mut [IoSliceMut::new(&mut text)],
            &mut beside,
            flags | RecvFlags::CMSG_CLOEXEC,
        );
        let received = match received {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {
                return Ok(Received::Nothing);
            }
            // What was unread at the other end when it closed.
            Err(rustix::io::Errno::CONNRESET) => return Ok(Received::End),
            result => result?,
        };
        let mut descriptors = Vec::new();
        for message in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        if received.bytes == 0 {
            return Ok(Received::End);
        }
        let is_cut = received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC);
        let text = std::str::from_utf8(&text[..received.bytes]).ok();
        text.filter(|_| !is_cut)
            .and_then(|text| T::parse(text, descriptors.pop()))
            .map(Received::Message)
            .ok_or_else(|| io::Error::other("a message that is not understood"))
    }

    /// For the standard input of a process to start.
    pub fn into_descriptor(self) -> OwnedFd {
        self.0
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
