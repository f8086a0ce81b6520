//! Whether something accepts connections at an address: asked again and again, never waited for.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(10);

/// Where a connection is tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Address {
    /// What its text stands for.
    pub fn parse(text: &str) -> Option<Address> {
        match text.strip_prefix("unix:") {
            Some(path) => Some(Address::Unix(path.into())),
            None => text.parse().ok().map(Address::Tcp),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(f),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// One address that is asked.
#[derive(Debug)]
pub struct Probe {
    address: Address,
    state: State,
}

#[derive(Debug)]
enum State {
    Resting { until: Instant },
    Connecting(OwnedFd),
    Accepted,
}

impl Probe {
    pub fn new(address: Address) -> Probe {
        Probe { address, state: State::Resting { until: Instant::now() } }
    }

    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Whether a connection was accepted; begins another attempt when it is time.
    pub fn ask(&mut self) -> bool {
        let state = std::mem::replace(&mut self.state, State::Accepted);
        self.state = match state {
            State::Accepted => State::Accepted,
            State::Resting { until } if until > Instant::now() => State::Resting { until },
            State::Resting { .. } => self.connect(),
            State::Connecting(socket) => self.look(socket),
        };
        matches!(self.state, State::Accepted)
    }

    /// Becomes writable when there is an answer.
    pub fn source(&self) -> Option<BorrowedFd<'_>> {
        match &self.state {
            State::Connecting(socket) => Some(socket.as_fd()),
            _ => None,
        }
    }

    /// When to ask again.
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Resting { until } => Some(until),
            _ => None,
        }
    }

    fn connect(&self) -> State {
        let family = match &self.address {
            Address::Tcp(SocketAddr::V4(_)) => AddressFamily::INET,
            Address::Tcp(SocketAddr::V6(_)) => AddressFamily::INET6,
            Address::Unix(_) => AddressFamily::UNIX,
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let Ok(socket) = rustix::net::socket_with(family, SocketType::STREAM, flags, None) else {
            return resting();
        };
        let connected = match &self.address {
            Address::Tcp(address) => rustix::net::connect(&socket, address),
            Address::Unix(path) => SocketAddrUnix::new(path.as_path())
                .and_then(|address| rustix::net::connect(&socket, &address)),
        };
        match connected {
            Ok(()) => self.accept(&socket),
            Err(Errno::INPROGRESS) => State::Connecting(socket),
            // The queue of a Unix socket is full: somebody has one.
            Err(Errno::AGAIN) => State::Accepted,
            Err(_) => resting(),
        }
    }

    fn look(&self, socket: OwnedFd) -> State {
        if !is_writable(&socket, Duration::ZERO) {
            return State::Connecting(socket);
        }
        match sockopt::socket_error(&socket) {
            Ok(Ok(())) => self.accept(&socket),
            _ => resting(),
        }
    }

    /// A socket that is given the port which it connects to has connected to itself, and nobody
    /// listens. It goes without a trace, for it has the port that someone else is to have.
    fn accept(&self, socket: &OwnedFd) -> State {
        let Address::Tcp(address) = self.address else {
            return State::Accepted;
        };
        let own = rustix::net::getsockname(socket).ok().and_then(|own| SocketAddr::try_from(own).ok());
        if own == Some(address) {
            // Without it, the port is only taken a little longer.
            let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
            return resting();
        }
        State::Accepted
    }
}

/// Whether something accepts there now; waits for the answer, but not longer than `most`.
pub fn is_taken(address: &Address, most: Duration) -> bool {
    let mut probe = Probe::new(address.clone());
    let is_accepted = probe.ask();
    match probe.source() {
        Some(socket) => is_writable(&socket, most) && probe.ask(),
        None => is_accepted,
    }
}

/// Removes the socket file that someone who is gone has left behind, or it could not be bound.
pub fn clear(address: &Address) {
    use std::os::unix::fs::FileTypeExt;
    let Address::Unix(path) = address else { return };
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    if is_socket && !is_taken(address, Duration::ZERO) {
        // Who cannot remove it will hear of that from the one who cannot bind it.
        let _ = std::fs::remove_file(path);
    }
}

fn resting() -> State {
    State::Resting { until: Instant::now() + PAUSE }
}

fn is_writable(socket: &impl AsFd, most: Duration) -> bool {
    let mut polled = [PollFd::new(socket, PollFlags::OUT)];
    let timeout = Timespec::try_from(most).unwrap_or_default();
    matches!(rustix::event::poll(&mut polled, Some(&timeout)), Ok(1..))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    use super::*;

    /// Asks until there is an answer.
    fn ask(probe: &mut Probe) -> bool {
        loop {
            if probe.ask() {
                return true;
            }
            match probe.source() {
                Some(socket) => assert!(is_writable(&socket, Duration::from_secs(5)), "no answer"),
                None => return false,
            }
        }
    }

    /// A socket that has a port of its own and does not listen yet, at an address that the other
    /// tests do not use: a port that was let go could be somebody else's by the next line.
    fn bound() -> (OwnedFd, SocketAddr) {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap();
        rustix::net::bind(&socket, &SocketAddr::from(([127, 83, 0, 1], 0))).unwrap();
        let own = SocketAddr::try_from(rustix::net::getsockname(&socket).unwrap()).unwrap();
        (socket, own)
    }

    #[test]
    fn a_listener_is_seen_when_it_is_there() {
        let directory = std::env::temp_dir().join(format!("warpdrive-probe-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("a.sock");
        let mut unix = Probe::new(Address::Unix(path.clone()));
        assert!(!ask(&mut unix));
        let _listener = UnixListener::bind(&path).unwrap();
        assert!(unix.deadline().is_some());
        unix.state = State::Resting { until: Instant::now() };
        assert!(ask(&mut unix));
        assert!(unix.ask(), "it stays seen");
        std::fs::remove_dir_all(&directory).unwrap();

        let (socket, at) = bound();
        let address = Address::Tcp(at);
        assert!(!ask(&mut Probe::new(address.clone())));
        assert!(!is_taken(&address, Duration::from_secs(5)));
        rustix::net::listen(&socket, 1).unwrap();
        assert!(ask(&mut Probe::new(address.clone())));
        assert!(is_taken(&address, Duration::from_secs(5)));
        drop(socket);
        assert!(comes_true(|| !is_taken(&address, Duration::from_secs(5))));
    }

    /// Whether it does within seconds: what is closed here stays open for a moment in a process that
    /// another test is just starting.
    fn comes_true(condition: impl Fn() -> bool) -> bool {
        let until = Instant::now() + Duration::from_secs(10);
        while !condition() {
            if Instant::now() > until {
                return false;
            }
            std::thread::yield_now();
        }
        true
    }

    #[test]
    fn a_connection_to_itself_is_nobody() {
        let (socket, own) = bound();
        let connected = rustix::net::connect(&socket, &own);
        assert!(matches!(connected, Ok(()) | Err(Errno::INPROGRESS)), "{connected:?}");
        assert!(is_writable(&socket, Duration::from_secs(5)));
        let state = Probe::new(Address::Tcp(own)).look(socket);
        assert!(matches!(state, State::Resting { .. }), "{state:?}");
        // Not kept for a minute, as a connection is that was closed in order.
        assert!(comes_true(|| TcpListener::bind(own).is_ok()));
    }
}
