//! The listening sockets: one a worker and address, open as long as `master` serves.
//!
//! The first socket of an address is bound without `SO_REUSEPORT`, so that a port which anyone
//! else holds is refused by the kernel, whatever options they use. Only then does it become the
//! first of a group which the others join; the kernel spreads connections over the group.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

/// Connections the kernel completes and keeps until a worker takes them, a socket.
const BACKLOG: i32 = 4096;

/// The sockets of one address.
#[derive(Debug)]
pub struct Listener {
    /// As it was asked for.
    pub wanted: SocketAddr,
    /// With the port that the kernel chose if none was given.
    pub address: SocketAddr,
    /// One a worker.
    pub sockets: Vec<TcpListener>,
}

/// An address that cannot be listened on.
#[derive(Debug)]
pub struct Error {
    pub address: SocketAddr,
    cause: io::Error,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {}: ", self.address)?;
        match Errno::from_io_error(&self.cause) {
            Some(Errno::ADDRINUSE) => f.write_str(
                "address already in use (another process listens there; \
                 stop it, or choose another port)",
            ),
            Some(Errno::ACCESS) => {
                f.write_str("permission denied (a port below 1024 needs root or CAP_NET_BIND_SERVICE)")
            }
            Some(Errno::ADDRNOTAVAIL) => f.write_str("address not available (no network interface has it)"),
            Some(Errno::AFNOSUPPORT) => f.write_str("address family not supported (the kernel has no IPv6)"),
            _ => write!(f, "{}", self.cause),
        }
    }
}

/// What was bound, and which addresses had to be left out because there is no IPv6.
#[derive(Debug)]
pub struct Bound {
    pub listeners: Vec<Listener>,
    pub left_out: Vec<Error>,
}

/// Binds every address for so many workers. All addresses with port 0 get the same port if it
/// is free on all of them.
///
/// # Errors
/// The first address that cannot be listened on. `[::]` without IPv6 in the kernel is one only
/// if no other address is bound.
pub fn bind(addresses: &[SocketAddr], workers: usize) -> Result<Bound, Error> {
    bind_beside(&[], addresses, workers)
}

/// The same for more addresses than these.
///
/// # Errors
/// The same.
pub fn bind_beside(present: &[Listener], addresses: &[SocketAddr], workers: usize) -> Result<Bound, Error> {
    let mut bound = Bound { listeners: Vec::new(), left_out: Vec::new() };
    let mut chosen = present.iter().find(|one| one.wanted.port() == 0).map(|one| one.address.port());
    for &address in addresses {
        let is_ours = present.iter().any(|one| overlap(one.address, address));
        match bind_near(address, chosen, workers, is_ours) {
            Ok(listener) => {
                if address.port() == 0 {
                    chosen.get_or_insert(listener.address.port());
                }
                bound.listeners.push(listener);
            }
            Err(cause) if is_without_ipv6(address, &cause) => {
                bound.left_out.push(Error { address, cause });
            }
            Err(cause) => return Err(Error { address, cause }),
        }
    }
    match bound.left_out.pop() {
        Some(error) if bound.listeners.is_empty() && present.is_empty() => return Err(error),
        last => bound.left_out.extend(last),
    }
    Ok(bound)
}

fn is_without_ipv6(address: SocketAddr, cause: &io::Error) -> bool {
    let errno = Errno::from_io_error(cause);
    address.is_ipv6()
        && address.ip().is_unspecified()
        && matches!(errno, Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL))
}

/// Binding one of them while the other is bound fails, but for sockets that all allow it.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let is_any = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && one.is_ipv4() == other.is_ipv4() && (is_any || one.ip() == other.ip())
}

/// Binds one address; with port 0 on the chosen port if that is free. `is_ours`: who else listens
/// there is us.
fn bind_near(wanted: SocketAddr, chosen: Option<u16>, workers: usize, is_ours: bool) -> io::Result<Listener> {
    let bind = |address| {
        let (address, sockets) = bind_group(address, workers, is_ours)?;
        Ok(Listener { wanted, address, sockets })
    };
    if let (0, Some(port)) = (wanted.port(), chosen) {
        let result = bind(SocketAddr::new(wanted.ip(), port));
        let errno = result.as_ref().err().and_then(Errno::from_io_error);
        if errno != Some(Errno::ADDRINUSE) {
            return result;
        }
    }
    bind(wanted)
}

fn bind_group(
    address: SocketAddr,
    workers: usize,
    is_ours: bool,
) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
    let first = socket(address)?;
    first.set_reuse_port(is_ours)?;
    first.bind(&address.into())?;
    first.listen(BACKLOG)?;
    first.set_reuse_port(true)?;
    let first = TcpListener::from(first);
    let address = with_port(address, first.local_addr()?.port());
    let mut sockets = vec![first];
    for _ in 1..workers {
        let next = socket(address)?;
        next.set_reuse_port(true)?;
        next.bind(&address.into())?;
        next.listen(BACKLOG)?;
        sockets.push(TcpListener::from(next));
    }
    Ok((address, sockets))
}

fn with_port(mut address: SocketAddr, port: u16) -> SocketAddr {
    address.set_port(port);
    address
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of an earlier process on this port, in whatever state, are in nobody's way.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    fn local(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    /// How many connections wait in the queue of each socket.
    fn queued(listener: &Listener) -> Vec<usize> {
        let count = |socket: &TcpListener| {
            socket.set_nonblocking(true).unwrap();
            std::iter::from_fn(|| socket.accept().ok()).count()
        };
        listener.sockets.iter().map(count).collect()
    }

    #[test]
    fn a_port_that_another_holds_is_refused() {
        let with_reuse = socket(local(0)).unwrap();
        with_reuse.set_reuse_port(true).unwrap();
        with_reuse.bind(&local(0).into()).unwrap();
        with_reuse.listen(1).unwrap();
        let port = with_reuse.local_addr().unwrap().as_socket().unwrap().port();
        let plain = TcpListener::bind(local(0)).unwrap();
        let ours = bind(&[local(0)], 2).unwrap();
        for taken in [port, plain.local_addr().unwrap().port(), ours.listeners[0].address.port()] {
            let error = bind(&[local(taken)], 2).unwrap_err().to_string();
            let expected = format!(
                "cannot listen on 127.0.0.1:{taken}: address already in use (another process \
                 listens there; stop it, or choose another port)"
            );
            assert_eq!(error, expected);
        }
    }

    #[test]
    fn connections_are_spread_over_the_group() {
        let bound = bind(&[local(0)], 2).unwrap();
        let listener = &bound.listeners[0];
        // A completed connect is in a queue. All in one queue: once in 2^63 runs.
        let connections: Vec<TcpStream> =
            (0..64).map(|_| TcpStream::connect(listener.address).unwrap()).collect();
        let queued = queued(listener);
        assert_eq!(queued.iter().sum::<usize>(), connections.len());
        assert!(queued.iter().all(|count| *count > 0), "{queued:?}");
    }

    #[test]
    fn addresses_without_a_port_share_one() {
        let other = SocketAddr::from(([127, 0, 0, 2], 0));
        let bound = bind(&[local(0), other], 3).unwrap();
        let [first, second] = &bound.listeners[..] else {
            panic!("{bound:?}");
        };
        assert_ne!(first.address.port(), 0);
        assert_eq!(first.address.port(), second.address.port());
        for listener in [first, second] {
            assert_eq!(listener.sockets.len(), 3);
            for socket in &listener.sockets {
                assert_eq!(socket.local_addr().unwrap(), listener.address);
            }
        }
    }

    #[test]
    fn a_port_that_is_taken_elsewhere_is_not_insisted_on() {
        let taken = TcpListener::bind(local(0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let listener = bind_near(local(0), Some(port), 1, false).unwrap();
        assert_ne!(listener.address.port(), port);
    }

    #[test]
    fn both_families_listen_on_one_port() {
        let any = [SocketAddr::from(([0, 0, 0, 0], 0)), SocketAddr::from(([0; 8], 0))];
        let bound = bind(&any, 2).unwrap();
        assert_eq!(bound.listeners.len() + bound.left_out.len(), 2);
        // Without IPv6 on this machine there is nothing more to see.
        let [v4, v6] = &bound.listeners[..] else {
            return;
        };
        assert_eq!(v4.address.port(), v6.address.port());
        let _connection = TcpStream::connect(local(v4.address.port())).unwrap();
        assert_eq!(queued(v4).iter().sum::<usize>(), 1);
        assert_eq!(queued(v6).iter().sum::<usize>(), 0);
    }

    #[test]
    fn only_the_unspecified_address_may_lack_ipv6() {
        let none = || io::Error::from(Errno::AFNOSUPPORT);
        let cases = [
            ("[::]:80", none(), true),
            ("[::]:80", Errno::ADDRNOTAVAIL.into(), true),
            ("[::]:80", Errno::ADDRINUSE.into(), false),
            ("[::1]:80", none(), false),
            ("0.0.0.0:80", Errno::ADDRNOTAVAIL.into(), false),
        ];
        for (address, cause, expected) in cases {
            let address = address.parse().unwrap();
            assert_eq!(is_without_ipv6(address, &cause), expected, "{address}");
        }
    }

    #[test]
    fn another_address_may_take_the_place_of_one_of_ours_on_its_port() {
        let any = bind(&[SocketAddr::from(([0, 0, 0, 0], 0))], 2).unwrap().listeners;
        let port = any[0].address.port();
        assert!(bind(&[local(port)], 2).is_err());
        let one = bind_beside(&any, &[local(port)], 2).unwrap().listeners;
        let _connections: Vec<TcpStream> =
            (0..16).map(|_| TcpStream::connect(local(port)).unwrap()).collect();
        assert_eq!(queued(&one[0]).iter().sum::<usize>(), 16);
        assert_eq!(queued(&any[0]).iter().sum::<usize>(), 0);
    }
}
