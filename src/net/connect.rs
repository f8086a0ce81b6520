//! Connections to an address that needs no resolving.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use monoio::net::{TcpStream, UnixStream};

use super::deadline::Wheel;
use super::stream::Stream;
use crate::sys::socket::Ended;

/// Connects over TCP. A timeout is [`io::ErrorKind::TimedOut`].
pub async fn tcp(address: SocketAddr, timeout: Duration, wheel: &Rc<Wheel>) -> io::Result<Stream> {
    let connecting = wheel.timeout(timeout, TcpStream::connect_addr(address)).await;
    let stream = connecting.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))?;
    stream.set_nodelay(true)?;
    Ok(Stream::tcp(stream, wheel, Ended::Both))
}

/// Connects to a Unix socket. A timeout is [`io::ErrorKind::TimedOut`].
pub async fn unix(path: &Path, timeout: Duration, wheel: &Rc<Wheel>) -> io::Result<Stream> {
    let connecting = wheel.timeout(timeout, UnixStream::connect(path)).await;
    let stream = connecting.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))?;
    Ok(Stream::unix(stream, wheel, Ended::Both))
}
