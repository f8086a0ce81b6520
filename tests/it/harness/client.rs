//! A raw client: it sends the bytes it is told to and reads answers strictly.

use std::io::{self, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::wire::{Body, Fields, Framing, Head, Reader, Stream, framing};
use super::{BOUND, eventually, holds, show};

/// A whole response.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub reason: String,
    pub head: Head,
    pub framing: Framing,
    pub body: Vec<u8>,
    pub trailers: Fields,
    pub chunk_lines: Vec<String>,
}

impl Response {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A response that did not come whole.
#[derive(Debug)]
pub struct Broken {
    pub head: Option<Head>,
    pub body: Vec<u8>,
    pub why: io::Error,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Closed,
    Reset,
}

pub struct Client {
    reader: Reader,
    address: SocketAddr,
    own: SocketAddr,
}

/// One `GET` on a connection of its own.
pub fn get(address: SocketAddr, path: &str) -> Response {
    Client::connect(address).get(path)
}

/// The bytes of a `GET`.
pub fn request(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: example.test\r\n\r\n").into_bytes()
}

impl Client {
    pub fn connect(address: SocketAddr) -> Client {
        Client::try_connect(address).expect("a connection to the proxy")
    }

    pub fn try_connect(address: SocketAddr) -> io::Result<Client> {
        Client::over(TcpStream::connect_timeout(&address, BOUND)?, address)
    }

    /// From an address of our own choice; all of 127.0.0.0/8 is ours.
    pub fn connect_from(own: Ipv4Addr, address: SocketAddr) -> Client {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let own = SocketAddr::from((own, 0));
        socket.bind(&own.into()).expect("an address of the loopback");
        socket.connect_timeout(&address.into(), BOUND).expect("a connection to the proxy");
        Client::over(TcpStream::from(socket), address).expect("a connection with bounds")
    }

    fn over(stream: TcpStream, address: SocketAddr) -> io::Result<Client> {
        let own = stream.local_addr()?;
        let stream = Stream::Tcp(stream);
        stream.bound_waits(BOUND)?;
        Ok(Client { reader: Reader::new(stream), address, own })
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Client {
        let bytes = bytes.as_ref();
        if let Err(error) = self.reader.stream.write_all(bytes) {
            panic!("sending {}: {error}", show(bytes));
        }
        self
    }

    /// Sends to a peer that may refuse; whether all of it was taken.
    pub fn offer(&mut self, bytes: &[u8]) -> bool {
        self.reader.stream.write_all(bytes).is_ok()
    }

    /// Sends the pieces between the given places, each after the peer has read the one before.
    pub fn send_split(&mut self, bytes: &[u8], places: &[usize]) -> &mut Client {
        let mut from = 0;
        for &to in places.iter().chain([&bytes.len()]) {
            self.send(&bytes[from..to]);
            self.until_taken();
            from = to;
        }
        self
    }

    /// Waits until the peer has read everything that was sent.
    pub fn until_taken(&self) {
        let local = format!(":{:04X}", self.address.port());
        let remote = format!(":{:04X}", self.own.port());
        eventually("the peer to read what was sent", || {
            let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
            let unread = table.lines().find_map(|line| {
                let mut columns = line.split_whitespace().skip(1);
                let ours = columns.next()?.ends_with(&local) && columns.next()?.ends_with(&remote);
                ours.then(|| columns.nth(1).unwrap_or_default().to_owned())
            });
            let taken = unread.as_deref().is_none_or(|u| u.ends_with(":00000000"));
            holds(taken, unread)
        });
    }

    pub fn get(&mut self, path: &str) -> Response {
        self.send(request(path)).response()
    }

    /// The status of a `GET` on a connection that may be refused.
    pub fn offer_and_read(&mut self, path: &str) -> Option<u16> {
        self.offer(&request(path));
        self.try_response_to("GET").ok().map(|response| response.status)
    }

    /// The response to a `GET`.
    pub fn response(&mut self) -> Response {
        self.response_to("GET")
    }

    /// The next response, be it final or not, whole.
    pub fn response_to(&mut self, method: &str) -> Response {
        self.try_response_to(method).unwrap_or_else(|broken| panic!("a whole response; seen: {broken:#?}"))
    }

    pub fn try_response_to(&mut self, method: &str) -> Result<Response, Broken> {
        let mut body = Body::default();
        let head = self.reader.head().map_err(|why| Broken {
            head: None,
            body: self.reader.buffered().to_vec(),
            why,
        })?;
        match self.rest_of(&head, method, &mut body) {
            Ok((status, framing)) => Ok(Response {
                status,
                reason: head.start.splitn(3, ' ').nth(2).unwrap_or_default().to_owned(),
                head,
                framing,
                body: body.bytes,
                trailers: body.trailers,
                chunk_lines: body.chunk_lines,
            }),
            Err(why) => Err(Broken { head: Some(head), body: body.bytes, why }),
        }
    }

    fn rest_of(&mut self, head: &Head, method: &str, body: &mut Body) -> io::Result<(u16, Framing)> {
        let bad = |what: &str| io::Error::other(format!("{what} in {:?}", head.start));
        if !["HTTP/1.1", "HTTP/1.0"].contains(&head.word(0)) {
            return Err(bad("version"));
        }
        let digits = head.word(1);
        let status: u16 = match digits.parse() {
            Ok(status) if digits.len() == 3 && status >= 100 => status,
            _ => return Err(bad("status")),
        };
        let announced = framing(head, Framing::UntilClose)?;
        let bodiless = method == "HEAD" || status < 200 || status == 204 || status == 304;
        if (status < 200 || status == 204) && announced != Framing::UntilClose {
            return Err(bad("framing of a status without a body"));
        }
        let framing = if bodiless { Framing::Nothing } else { announced };
        self.reader.body(framing, body)?;
        Ok((status, framing))
    }

    /// Only the head of the next response.
    pub fn head(&mut self) -> Head {
        self.reader.head().expect("the head of a response")
    }

    /// Everything up to and with `mark`.
    pub fn until(&mut self, mark: &str) -> Vec<u8> {
        let read = self.reader.until(mark.as_bytes());
        read.unwrap_or_else(|error| panic!("waiting for {mark:?}: {error}"))
    }

    /// Everything until the connection ends, and how it ends.
    pub fn rest(&mut self) -> (Vec<u8>, End) {
        loop {
            match self.reader.fill() {
                Ok(0) => return (self.reader.take_buffered(), End::Closed),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return (self.reader.take_buffered(), End::Reset);
                }
                Err(error) => panic!("waiting for the end: {error}"),
            }
        }
    }

    /// Nothing more comes, and the connection ends.
    pub fn expect_end(&mut self) -> End {
        let (rest, end) = self.rest();
        assert!(rest.is_empty(), "after the end: {}", show(&rest));
        end
    }

    /// Whether nothing comes, not even an end, for this long.
    pub fn is_quiet_for(&mut self, time: Duration) -> bool {
        self.reader.stream.bound_waits(time).expect("a shorter bound");
        let read = self.reader.fill();
        self.reader.stream.bound_waits(BOUND).expect("the usual bound");
        matches!(read, Err(error) if error.kind() == io::ErrorKind::TimedOut)
    }

    /// A second hold on the connection, to send from another thread.
    pub fn sender(&self) -> Stream {
        self.reader.stream.clone_of().expect("a second descriptor")
    }

    pub fn half_close(&mut self) -> &mut Client {
        self.reader.stream.shutdown(Shutdown::Write).expect("a half close");
        self
    }

    pub fn reset(self) {
        self.reader.stream.reset_on_close().expect("a reset");
    }

    /// The bare stream; nothing may have been read too far.
    pub fn into_stream(self) -> Stream {
        assert!(self.reader.buffered().is_empty(), "bytes would be lost");
        self.reader.stream
    }
}
