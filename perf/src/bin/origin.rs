//! An origin for measurements: one thread, epoll, keep-alive HTTP/1.1 over a Unix socket, TCP or both.
//!
//! The last segment of a path chooses the body: `/64k`, `/1m`, `/1g`; anything else gets the default. Bodies of requests are
//! read and thrown away, and the answer follows their last byte. Writing never blocks: what the socket does not take waits for
//! EPOLLOUT, and until then nothing more is read from that connection.
//!
//! Usage: `origin [--unix PATH] [--tcp ADDRESS] [--body BYTES] [--send-buffer BYTES]`; prints `listening` when it is.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use warpdrive_perf::arguments::Arguments;
use warpdrive_perf::epoll::{self, Epoll};

const BODY_DEFAULT: u64 = 1024;
const HEAD_MAX: usize = 64 * 1024;
const SEND_BUFFER_DEFAULT: i32 = 4 << 20;
const BACKLOG: i32 = 4096;
const READ_SIZE: usize = 256 * 1024;
/// Bodies beyond this are sent from the same memory again and again.
const BLOCK: u64 = 1 << 20;

enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Listener {
    /// The next connection, or none when nobody waits.
    fn accept(&self) -> io::Result<Option<OwnedFd>> {
        let accepted = match self {
            Self::Unix(listener) => listener.accept().and_then(|(socket, _)| {
                socket.set_nonblocking(true)?;
                Ok(OwnedFd::from(socket))
            }),
            Self::Tcp(listener) => listener.accept().and_then(|(socket, _)| {
                socket.set_nonblocking(true)?;
                socket.set_nodelay(true)?;
                Ok(OwnedFd::from(socket))
            }),
        };
        match accepted {
            Ok(socket) => Ok(Some(socket)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A whole answer: `start` holds its head and the first of its body, `length` counts head and body.
struct Page {
    start: Vec<u8>,
    length: u64,
}

impl Page {
    fn new(body: u64) -> Self {
        let head = format!(
            "HTTP/1.1 200 OK\r\nServer: origin\r\nDate: Sun, 01 Mar 2026 00:00:00 GMT\r\nContent-Type: text/plain\r\n\
             Content-Length: {body}\r\nETag: \"5e1f-400\"\r\nCache-Control: max-age=60\r\n\r\n"
        );
        let length = head.len() as u64 + body;
        let mut start = head.into_bytes();
        start.resize(start.len() + body.min(BLOCK) as usize, b'x');
        Self { start, length }
    }

    /// What follows the first `sent` bytes, as far as it lies in one piece.
    fn rest<'a>(&'a self, sent: u64, block: &'a [u8]) -> &'a [u8] {
        match self.start.get(sent as usize..) {
            Some(rest) if !rest.is_empty() => rest,
            _ => &block[..(self.length - sent).min(BLOCK) as usize],
        }
    }
}

struct Pages {
    default: Page,
    large: [(&'static str, Page); 3],
    block: Vec<u8>,
}

impl Pages {
    fn new(body_default: u64) -> Self {
        let large = [("64k", 64 << 10), ("1m", 1 << 20), ("1g", 1 << 30)];
        Self {
            default: Page::new(body_default),
            large: large.map(|(name, body)| (name, Page::new(body))),
            block: vec![b'x'; BLOCK as usize],
        }
    }

    fn choose(&self, target: &str) -> &Page {
        let path = target.split('?').next().unwrap_or_default();
        let name = path.rsplit('/').next().unwrap_or_default();
        self.large
            .iter()
            .find(|(known, _)| *known == name)
            .map_or(&self.default, |(_, page)| page)
    }
}

struct Request<'a> {
    page: &'a Page,
    head: usize,
    body: u64,
    closes: bool,
}

/// The request at the start of `input`, none if its head is not complete yet, an error if it is none that a proxy should send.
fn parse<'a>(input: &[u8], pages: &'a Pages) -> Result<Option<Request<'a>>, &'static str> {
    let mut fields = [httparse::EMPTY_HEADER; 100];
    let mut request = httparse::Request::new(&mut fields);
    let head = match request.parse(input) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) if input.len() < HEAD_MAX => return Ok(None),
        Ok(httparse::Status::Partial) => return Err("the head is too long"),
        Err(_) => return Err("not a request"),
    };
    if !matches!(request.method, Some("GET" | "POST" | "PUT")) {
        return Err("a method that is not for this origin");
    }
    let (mut body, mut closes) = (0, request.version == Some(0));
    for field in request.headers.iter() {
        let value = str::from_utf8(field.value).unwrap_or_default().trim();
        if field.name.eq_ignore_ascii_case("content-length") {
            body = value.parse().map_err(|_| "a length that is no number")?;
        } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err("a transfer encoding");
        } else if field.name.eq_ignore_ascii_case("connection") {
            closes |= value.eq_ignore_ascii_case("close");
        }
    }
    let page = pages.choose(request.path.unwrap_or_default());
    Ok(Some(Request {
        page,
        head,
        body,
        closes,
    }))
}

/// What a connection waits for.
#[derive(Clone, Copy, PartialEq)]
enum Wait {
    Readable,
    Writable,
}

struct Connection<'a> {
    socket: File,
    /// Input that no request has been made of yet.
    input: Vec<u8>,
    /// Bytes of the current request's body still to come.
    body_left: u64,
    /// The answer to the current request, and how much of it is sent.
    answer: Option<(&'a Page, u64)>,
    closes: bool,
    wait: Wait,
}

impl<'a> Connection<'a> {
    /// Goes on until the socket would block; none when the connection is over.
    fn advance(&mut self, pages: &'a Pages, scratch: &mut [u8]) -> io::Result<Option<Wait>> {
        let mut may_read = self.wait == Wait::Readable;
        loop {
            if self.body_left == 0 && self.answer.is_some() {
                if !self.send(pages)? {
                    return Ok(Some(Wait::Writable));
                }
                if self.closes {
                    return Ok(None);
                }
            }
            if self.answer.is_none() && self.take_request(pages)? {
                continue;
            }
            // One read per event: what is left in the socket is another event, and mostly nothing is.
            if !may_read {
                return Ok(Some(Wait::Readable));
            }
            match self.socket.read(scratch) {
                Ok(0) => return Ok(None),
                Ok(count) => self.take_bytes(&scratch[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Some(Wait::Readable));
                }
                Err(error) => return Err(error),
            }
            may_read = false;
        }
    }

    fn take_bytes(&mut self, bytes: &[u8]) {
        let of_body = self.body_left.min(bytes.len() as u64);
        self.body_left -= of_body;
        self.input.extend_from_slice(&bytes[of_body as usize..]);
    }

    /// Makes a request of the input, if there is a whole head.
    fn take_request(&mut self, pages: &'a Pages) -> io::Result<bool> {
        if self.input.is_empty() {
            return Ok(false);
        }
        let request = match parse(&self.input, pages) {
            Ok(Some(request)) => request,
            Ok(None) => return Ok(false),
            Err(reason) => {
                let _ = self.socket.write(
                    b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                );
                return Err(io::Error::other(reason));
            }
        };
        let of_body = request.body.min((self.input.len() - request.head) as u64);
        self.body_left = request.body - of_body;
        self.answer = Some((request.page, 0));
        self.closes = request.closes;
        self.input.drain(..request.head + of_body as usize);
        Ok(true)
    }

    /// Sends what the socket takes of the answer; true when that was all.
    fn send(&mut self, pages: &'a Pages) -> io::Result<bool> {
        let Some((page, mut sent)) = self.answer else {
            return Ok(true);
        };
        while sent < page.length {
            match self.socket.write(page.rest(sent, &pages.block)) {
                Ok(count) => sent += count as u64,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.answer = Some((page, sent));
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        self.answer = None;
        Ok(true)
    }
}

struct Origin<'a> {
    epoll: Epoll,
    listeners: Vec<Listener>,
    pages: &'a Pages,
    send_buffer: i32,
    /// A token is an index: listeners first, then connections.
    connections: Vec<Option<Connection<'a>>>,
    free: Vec<usize>,
}

impl Origin<'_> {
    fn accept_all(&mut self, listener: usize) -> io::Result<()> {
        while let Some(socket) = self.listeners[listener].accept()? {
            epoll::set_send_buffer(&socket, self.send_buffer)?;
            let socket = File::from(socket);
            let slot = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            self.epoll.add(
                &socket,
                epoll::READABLE,
                (self.listeners.len() + slot) as u64,
            )?;
            self.connections[slot] = Some(Connection {
                socket,
                input: Vec::new(),
                body_left: 0,
                answer: None,
                closes: false,
                wait: Wait::Readable,
            });
        }
        Ok(())
    }

    fn serve(&mut self, slot: usize, scratch: &mut [u8]) -> io::Result<()> {
        let Some(connection) = &mut self.connections[slot] else {
            return Ok(());
        };
        let wait = connection
            .advance(self.pages, scratch)
            .unwrap_or_else(|error| {
                if error.kind() != io::ErrorKind::ConnectionReset
                    && error.kind() != io::ErrorKind::BrokenPipe
                {
                    eprintln!("origin: connection closed: {error}");
                }
                None
            });
        match wait {
            Some(wait) if wait == connection.wait => {}
            Some(wait) => {
                connection.wait = wait;
                let interest = if wait == Wait::Readable {
                    epoll::READABLE
                } else {
                    epoll::WRITABLE
                };
                let token = (self.listeners.len() + slot) as u64;
                self.epoll.change(&connection.socket, interest, token)?;
            }
            None => {
                self.connections[slot] = None;
                self.free.push(slot);
            }
        }
        Ok(())
    }

    fn run(&mut self) -> io::Result<()> {
        let mut scratch = vec![0; READ_SIZE];
        let mut tokens = Vec::new();
        loop {
            self.epoll.wait(None, &mut tokens)?;
            for &token in &tokens {
                let token = token as usize;
                match token.checked_sub(self.listeners.len()) {
                    None => self.accept_all(token)?,
                    Some(slot) => self.serve(slot, &mut scratch)?,
                }
            }
        }
    }
}

fn listen(arguments: &Arguments) -> Result<Vec<Listener>, Box<dyn std::error::Error>> {
    let mut listeners = Vec::new();
    if let Some(path) = arguments.text("unix") {
        let listener = UnixListener::bind(path).map_err(|error| format!("{path}: {error}"))?;
        listener.set_nonblocking(true)?;
        epoll::set_backlog(&listener, BACKLOG)?;
        listeners.push(Listener::Unix(listener));
    }
    if let Some(address) = arguments.text("tcp") {
        let listener = TcpListener::bind(address).map_err(|error| format!("{address}: {error}"))?;
        listener.set_nonblocking(true)?;
        epoll::set_backlog(&listener, BACKLOG)?;
        listeners.push(Listener::Tcp(listener));
    }
    if listeners.is_empty() {
        return Err("nothing to listen on: give --unix PATH, --tcp ADDRESS or both".into());
    }
    Ok(listeners)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::from_env(&["unix", "tcp", "body", "send-buffer"])?;
    let listeners = listen(&arguments)?;
    let pages = Pages::new(arguments.value("body")?.unwrap_or(BODY_DEFAULT));
    let epoll = Epoll::new()?;
    for (token, listener) in listeners.iter().enumerate() {
        match listener {
            Listener::Unix(socket) => epoll.add(socket, epoll::READABLE, token as u64)?,
            Listener::Tcp(socket) => epoll.add(socket, epoll::READABLE, token as u64)?,
        }
    }
    println!("listening");
    let mut origin = Origin {
        epoll,
        listeners,
        pages: &pages,
        send_buffer: arguments
            .value("send-buffer")?
            .unwrap_or(SEND_BUFFER_DEFAULT),
        connections: Vec::new(),
        free: Vec::new(),
    };
    Ok(origin.run()?)
}
