//! The few system calls that the standard library does not offer: epoll, socket options, connecting without waiting, timer slack,
//! a clock that processes share.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

pub const READABLE: u32 = libc::EPOLLIN as u32;
pub const WRITABLE: u32 = libc::EPOLLOUT as u32;
pub const EDGE_TRIGGERED: u32 = libc::EPOLLET as u32;

/// As many events as one wait returns at most.
const EVENTS_MAX: usize = 1024;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

pub struct Epoll {
    descriptor: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Epoll {
    pub fn new() -> io::Result<Self> {
        // SAFETY: takes no pointer; the descriptor it returns belongs to nobody else.
        let descriptor =
            unsafe { OwnedFd::from_raw_fd(check(libc::epoll_create1(libc::EPOLL_CLOEXEC))?) };
        let events = vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX];
        Ok(Self { descriptor, events })
    }

    pub fn add(&self, socket: impl AsFd, interest: u32, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, socket, interest, token)
    }

    pub fn change(&self, socket: impl AsFd, interest: u32, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, socket, interest, token)
    }

    fn control(
        &self,
        operation: libc::c_int,
        socket: impl AsFd,
        interest: u32,
        token: u64,
    ) -> io::Result<()> {
        let mut event = libc::epoll_event {
            events: interest,
            u64: token,
        };
        let socket = socket.as_fd().as_raw_fd();
        // SAFETY: both descriptors are open for the length of the call, and `event` outlives it.
        check(unsafe {
            libc::epoll_ctl(self.descriptor.as_raw_fd(), operation, socket, &mut event)
        })
        .map(drop)
    }

    /// Waits with a resolution of nanoseconds and fills `tokens` with those that are ready; none when the time is over.
    pub fn wait(&mut self, timeout: Option<Duration>, tokens: &mut Vec<u64>) -> io::Result<()> {
        tokens.clear();
        let limit = timeout.map(|timeout| libc::timespec {
            tv_sec: timeout.as_secs() as libc::time_t,
            tv_nsec: timeout.subsec_nanos().into(),
        });
        let limit = limit
            .as_ref()
            .map_or(std::ptr::null(), |limit| limit as *const _);
        let (descriptor, events) = (self.descriptor.as_raw_fd(), self.events.as_mut_ptr());
        // SAFETY: `events` holds EVENTS_MAX entries, `limit` is null or lives in this frame, no signal mask is given.
        let ready = unsafe {
            libc::epoll_pwait2(
                descriptor,
                events,
                EVENTS_MAX as libc::c_int,
                limit,
                std::ptr::null(),
            )
        };
        match check(ready) {
            Ok(ready) => tokens.extend(self.events[..ready as usize].iter().map(|event| event.u64)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

fn set_option<T>(socket: impl AsFd, level: i32, option: i32, value: T) -> io::Result<()> {
    let size = size_of::<T>() as libc::socklen_t;
    let value = (&raw const value).cast();
    let socket = socket.as_fd().as_raw_fd();
    // SAFETY: `value` points to a plain value that lives in this frame, and `size` is its size.
    check(unsafe { libc::setsockopt(socket, level, option, value, size) }).map(drop)
}

/// Asks for a send buffer of `bytes`; the kernel gives what its limits allow.
pub fn set_send_buffer(socket: impl AsFd, bytes: i32) -> io::Result<()> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_SNDBUF, bytes)
}

/// The next close is a reset.
pub fn reset_on_close(socket: impl AsFd) -> io::Result<()> {
    let at_once = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    set_option(socket, libc::SOL_SOCKET, libc::SO_LINGER, at_once)
}

fn plain_address(address: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr {
            s_addr: u32::from(*address.ip()).to_be(),
        },
        sin_zero: [0; 8],
    }
}

/// Begins a connection from an address of our own and does not wait for it. `segment` bounds what the peer sends in one
/// packet, `receive_buffer` what it may send before we read; without them they are what the kernel makes them.
pub fn connect(
    to: SocketAddrV4,
    from: Ipv4Addr,
    segment: Option<i32>,
    receive_buffer: Option<i32>,
) -> io::Result<TcpStream> {
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: takes no pointer; the descriptor it returns belongs to nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(check(libc::socket(libc::AF_INET, kind, 0))?) };
    set_option(&socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
    if let Some(bytes) = segment {
        set_option(&socket, libc::IPPROTO_TCP, libc::TCP_MAXSEG, bytes)?;
    }
    if let Some(bytes) = receive_buffer {
        set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUF, bytes)?;
    }
    let size = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    let (from, to) = (plain_address(SocketAddrV4::new(from, 0)), plain_address(to));
    // SAFETY: the address lives in this frame, and `size` is its size.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const from).cast(), size) })?;
    // SAFETY: the address lives in this frame, and `size` is its size.
    match check(unsafe { libc::connect(socket.as_raw_fd(), (&raw const to).cast(), size) }) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(TcpStream::from(socket)),
    }
}

/// Makes a listening socket's queue longer than the standard library's 128.
pub fn set_backlog(socket: impl AsFd, connections: i32) -> io::Result<()> {
    // SAFETY: takes no pointer; the descriptor is open for the length of the call.
    check(unsafe { libc::listen(socket.as_fd().as_raw_fd(), connections) }).map(drop)
}

/// Takes away the 50 µs by which the kernel may wake a sleeping thread late.
pub fn set_smallest_timer_slack() -> io::Result<()> {
    let nanoseconds: libc::c_ulong = 1;
    // SAFETY: takes no pointer.
    check(unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, nanoseconds) }).map(drop)
}

/// The clock that Python's `time.monotonic_ns` reads as well, so that instants of several processes can be compared.
pub fn monotonic_ns() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` lives in this frame. The call fails for clocks only that the kernel does not have.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
