//! One check of one endpoint: connects, asks, reads the head of the response, closes.
//!
//! Must not know: what follows from the result, and when the next check is due.

use std::fmt;
use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::http::h1::{self, Bounds, Parsed, Refusal};
use crate::http::head::{Method, ResponseHead};
use crate::upstream::{Address, Check};

/// Longest head of a response, with those before it that are informational.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// Why an endpoint does not pass.
#[derive(Debug)]
pub enum Failure {
    Connect(io::Error),
    Broken(io::Error),
    /// It closed the connection before the end of a head.
    Closed,
    Malformed(Refusal),
    Status(u16),
    /// Not done within the check's timeout.
    Silent,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Connect(error) => write!(f, "connecting failed: {error}"),
            Failure::Broken(error) => write!(f, "the connection broke: {error}"),
            Failure::Closed => f.write_str("it closed the connection without a response"),
            Failure::Malformed(refusal) => write!(f, "its response is malformed: {}", refusal.reason()),
            Failure::Status(status) => write!(f, "its status is {status}"),
            Failure::Silent => f.write_str("no response in time"),
        }
    }
}

/// Asks once.
///
/// # Errors
/// Why the endpoint does not pass the check.
pub async fn probe(address: &Address, request: &[u8], check: &Check) -> Result<(), Failure> {
    let status = timeout(check.timeout, ask(address, request)).await.unwrap_or(Err(Failure::Silent))?;
    match check.expects(status) {
        true => Ok(()),
        false => Err(Failure::Status(status)),
    }
}

async fn ask(address: &Address, request: &[u8]) -> Result<u16, Failure> {
    match address {
        Address::Tcp(address) => {
            let stream = TcpStream::connect(address).await.map_err(Failure::Connect)?;
            exchange(stream, request).await
        }
        Address::Unix(path) => {
            let stream = UnixStream::connect(path).await.map_err(Failure::Connect)?;
            exchange(stream, request).await
        }
    }
}

/// The status of the response. Its body is left where it is: the connection closes.
pub async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &[u8],
) -> Result<u16, Failure> {
    // Who answers before it has read all may close: its answer is still there.
    let written = stream.write_all(request).await;
    let bounds = Bounds { head: HEAD_BYTES_MAX, fields: h1::FIELDS_MAX, uri: 0 };
    let mut head = ResponseHead::default();
    let mut input = Vec::with_capacity(1 << 10);
    loop {
        while let Parsed::Head(length) =
            h1::parse::response(&input, bounds, Method::Get, &mut head).map_err(Failure::Malformed)?
        {
            if !head.status.is_informational() {
                return Ok(head.status.0);
            }
            input.drain(..length);
        }
        let room = (HEAD_BYTES_MAX + 1).saturating_sub(input.len()) as u64;
        let read = (&mut stream).take(room).read_buf(&mut input).await;
        match (read, &written) {
            (Ok(0), Ok(())) => return Err(Failure::Closed),
            (Ok(0), Err(error)) => return Err(Failure::Broken(error.kind().into())),
            (Ok(_), _) => {}
            (Err(error), _) => return Err(Failure::Broken(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;
    use tokio::runtime::Builder;

    use super::*;

    /// What is found when the endpoint says this and closes.
    fn found(said: &[u8]) -> String {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (ours, mut theirs) = duplex(64 << 10);
            theirs.write_all(said).await.unwrap();
            theirs.shutdown().await.unwrap();
            match exchange(ours, b"GET / HTTP/1.1\r\n\r\n").await {
                Ok(status) => status.to_string(),
                Err(failure) => failure.to_string(),
            }
        })
    }

    #[test]
    fn only_a_whole_head_is_a_response() {
        let endless = [b"HTTP/1.1 200 OK\r\nA: ".as_slice(), &[b'a'; 20 << 10]].concat();
        let cases: [(&[u8], &str); 8] = [
            (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe", "200"),
            (b"HTTP/1.0 503 No\r\n\r\n", "503"),
            (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", "204"),
            (b"", "it closed the connection without a response"),
            (b"HTTP/1.1 200 OK\r\n", "it closed the connection without a response"),
            (b"HTTP/1.1 100 Continue\r\n\r\n", "it closed the connection without a response"),
            (b"SSH-2.0-OpenSSH_9.2\r\n", "its response is malformed: "),
            (&endless, "its response is malformed: head too large"),
        ];
        for (said, expected) in cases {
            let found = found(said);
            assert!(found.starts_with(expected), "{}: {found}", said[..said.len().min(60)].escape_ascii());
        }
    }
}
