//! A scripted origin: one thread per connection runs the test's script, which may stall, cut
//! and lie. Scripts use `?`: an error ends the connection, and how it ended is recorded.

use std::fmt::{self, Display};
use std::io::{self, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::wire::{Body, Fields, Framing, Head, Reader, Stream, framing};
use super::{BOUND, Directory, eventually, holds};

/// A request that came whole, or the head of one.
#[derive(Clone, Debug)]
pub struct Request {
    /// The number of its connection, from 0.
    pub connection: usize,
    pub head: Head,
    pub body: Vec<u8>,
    pub trailers: Fields,
    pub chunk_lines: Vec<String>,
}

impl Request {
    pub fn method(&self) -> &str {
        self.head.word(0)
    }

    pub fn target(&self) -> &str {
        self.head.word(1)
    }
}

#[derive(Default)]
struct Shared {
    accepted: AtomicUsize,
    stopping: AtomicBool,
    requests: Mutex<Vec<Request>>,
    /// How the script of each connection that is over ended.
    ends: Mutex<Vec<(usize, String)>>,
    open: Mutex<Vec<(usize, Stream)>>,
}

#[derive(Clone, Debug)]
enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// As lines of an upstream's TOML.
impl Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(a) => write!(out, "host = \"{}\"\nport = {}\n", a.ip(), a.port()),
            Address::Unix(path) => writeln!(out, "socket = \"{}\"", path.display()),
        }
    }
}

pub struct Origin {
    address: Address,
    shared: Arc<Shared>,
    _directory: Directory,
}

/// A complete `200` with a length.
pub fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

type Script = dyn Fn(&mut Connection) -> io::Result<()> + Send + Sync;

impl Origin {
    /// On a free TCP port of the loopback; `script` runs once per connection.
    pub fn scripted(script: impl Fn(&mut Connection) -> io::Result<()> + Send + Sync + 'static) -> Origin {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        Origin::on(listener, script)
    }

    /// On a given TCP listener.
    pub fn on(
        listener: TcpListener,
        script: impl Fn(&mut Connection) -> io::Result<()> + Send + Sync + 'static,
    ) -> Origin {
        let address = Address::Tcp(listener.local_addr().expect("its address"));
        let accept = move || Ok(Stream::Tcp(listener.accept()?.0));
        Origin::start(address, Directory::fresh(), accept, Arc::new(script))
    }

    /// On a Unix socket.
    pub fn scripted_unix(
        script: impl Fn(&mut Connection) -> io::Result<()> + Send + Sync + 'static,
    ) -> Origin {
        let directory = Directory::fresh();
        let path = directory.path().join("origin");
        let listener = UnixListener::bind(&path).expect("a Unix socket");
        let accept = move || Ok(Stream::Unix(listener.accept()?.0));
        Origin::start(Address::Unix(path), directory, accept, Arc::new(script))
    }

    fn start(
        address: Address,
        directory: Directory,
        accept: impl Fn() -> io::Result<Stream> + Send + 'static,
        script: Arc<Script>,
    ) -> Origin {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        std::thread::spawn(move || {
            while let Ok(stream) = accept() {
                if theirs.stopping.load(Ordering::SeqCst) {
                    return;
                }
                let index = theirs.accepted.fetch_add(1, Ordering::SeqCst);
                let (shared, script) = (Arc::clone(&theirs), Arc::clone(&script));
                std::thread::spawn(move || Connection::run(index, stream, &shared, &*script));
            }
        });
        Origin { address, shared, _directory: directory }
    }

    /// Answers every request with what `answer` makes of it, and keeps the connection.
    pub fn answering(answer: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static) -> Origin {
        Origin::scripted(move |c| c.answer_all(&answer))
    }

    pub fn answering_unix(answer: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static) -> Origin {
        Origin::scripted_unix(move |c| c.answer_all(&answer))
    }

    /// Answers every request with `200` and this body.
    pub fn ok(body: &'static str) -> Origin {
        Origin::answering(move |_| ok(body))
    }

    /// Answers every request with a description of it: see [`describe`].
    pub fn echo() -> Origin {
        Origin::answering(|request| ok(&describe(request)))
    }

    /// `host` and `port`, or `socket`.
    pub fn toml(&self) -> String {
        self.address.to_string()
    }

    /// Its TCP address.
    pub fn address(&self) -> SocketAddr {
        match &self.address {
            Address::Tcp(address) => *address,
            Address::Unix(path) => panic!("{} is no TCP address", path.display()),
        }
    }

    /// What came so far.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// Waits for this many requests.
    pub fn wait_requests(&self, count: usize) -> Vec<Request> {
        eventually(&format!("{count} requests at the origin"), || {
            let requests = self.requests();
            if requests.len() < count {
                return Err(requests);
            }
            Ok(requests)
        })
    }

    /// The only request that came.
    pub fn only_request(&self) -> Request {
        let mut requests = self.wait_requests(1);
        assert_eq!(requests.len(), 1, "{requests:#?}");
        requests.remove(0)
    }

    /// How many connections were accepted.
    pub fn connections(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Waits until the script of a connection is over; how it ended.
    pub fn wait_end(&self, index: usize) -> String {
        eventually(&format!("the end of the origin's connection {index}"), || {
            let ends = self.shared.ends.lock().unwrap().clone();
            let end = ends.iter().find(|(of, _)| *of == index);
            end.map(|(_, how)| how.clone()).ok_or(ends)
        })
    }

    /// Waits until no connection is open.
    pub fn wait_idle(&self) {
        eventually("all connections of the origin to end", || {
            let ends = self.shared.ends.lock().unwrap().clone();
            holds(ends.len() == self.connections(), ends)
        });
    }

    /// Cuts all open connections.
    pub fn cut_all(&self) {
        for (_, stream) in self.shared.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.cut_all();
        match &self.address {
            Address::Tcp(address) => drop(TcpStream::connect(address)),
            Address::Unix(path) => drop(UnixStream::connect(path)),
        }
    }
}

/// A request in words, without the fields that are never the same twice.
pub fn describe(request: &Request) -> String {
    let varying = ["x-request-id", "x-request-start", "x-forwarded-port"];
    let line = |(name, value): &(String, String)| format!("{name}: {value}");
    let kept = |field: &&(String, String)| !varying.contains(&field.0.to_ascii_lowercase().as_str());
    let fields: Vec<String> = request.head.fields.iter().filter(kept).map(line).collect();
    let trailers: Vec<String> = request.trailers.iter().map(line).collect();
    format!(
        "{}\n{}\n\n{}\n\n{}",
        request.head.start,
        fields.join("\n"),
        request.body.escape_ascii(),
        trailers.join("\n")
    )
}

/// One accepted connection, as its script sees it.
pub struct Connection {
    /// Its number, from 0.
    pub index: usize,
    reader: Reader,
    shared: Arc<Shared>,
}

impl Connection {
    fn run(index: usize, stream: Stream, shared: &Arc<Shared>, script: &Script) {
        let _ = stream.bound_waits(BOUND);
        if let Ok(clone) = stream.clone_of() {
            shared.open.lock().unwrap().push((index, clone));
        }
        let mut connection = Connection { index, reader: Reader::new(stream), shared: Arc::clone(shared) };
        let end = match script(&mut connection) {
            Ok(()) => "done".to_owned(),
            Err(error) => error.to_string(),
        };
        connection.forget();
        shared.ends.lock().unwrap().push((index, end));
    }

    /// Without the clone kept for `cut_all`, which would hold the connection open.
    fn forget(&self) {
        let mut open = self.shared.open.lock().unwrap();
        open.retain(|(index, _)| *index != self.index);
    }

    fn answer_all(&mut self, answer: &impl Fn(&Request) -> Vec<u8>) -> io::Result<()> {
        while let Some(request) = self.next_request()? {
            let mut bytes = answer(&request);
            if request.method() == "HEAD" {
                let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
                bytes.truncate(end.map_or(0, |end| end + 4));
            }
            self.send(bytes)?;
        }
        Ok(())
    }

    /// Reads a head, and records it as a request.
    pub fn expect_head(&mut self) -> io::Result<Request> {
        let head = self.reader.head()?;
        Ok(self.record(head, Body::default()))
    }

    /// Reads a request with its body, and records it once it is whole.
    pub fn expect_request(&mut self) -> io::Result<Request> {
        let end = || io::Error::new(io::ErrorKind::UnexpectedEof, "no request, but the end");
        self.next_request()?.ok_or_else(end)
    }

    /// Like [`Connection::expect_request`]; `None` if the connection ends before it.
    pub fn next_request(&mut self) -> io::Result<Option<Request>> {
        let Some(head) = self.reader.next_head()? else {
            return Ok(None);
        };
        let framing = framing(&head, Framing::Nothing)?;
        if head.values("expect") == ["100-continue"] {
            self.send("HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let mut body = Body::default();
        self.reader.body(framing, &mut body)?;
        Ok(Some(self.record(head, body)))
    }

    fn record(&self, head: Head, body: Body) -> Request {
        let request = Request {
            connection: self.index,
            head,
            body: body.bytes,
            trailers: body.trailers,
            chunk_lines: body.chunk_lines,
        };
        self.shared.requests.lock().unwrap().push(request.clone());
        request
    }

    /// Exactly so many bytes.
    pub fn read_body(&mut self, count: usize) -> io::Result<Vec<u8>> {
        self.reader.exact(count)
    }

    /// Everything up to and with `mark`.
    pub fn read_until(&mut self, mark: &str) -> io::Result<Vec<u8>> {
        self.reader.until(mark.as_bytes())
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.reader.stream.write_all(bytes.as_ref())
    }

    /// One byte at a time, `pause` apart; ends early if the peer says or closes something.
    pub fn send_slowly(&mut self, bytes: impl AsRef<[u8]>, pause: Duration) -> io::Result<()> {
        for byte in bytes.as_ref() {
            self.send([*byte])?;
            if self.is_closed_within(pause)? {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        }
        Ok(())
    }

    /// Sends and tells how much is gone, so that a test can see it stall.
    pub fn send_counted(&mut self, bytes: &[u8], sent: &AtomicUsize) -> io::Result<()> {
        for piece in bytes.chunks(16 * 1024) {
            self.send(piece)?;
            sent.fetch_add(piece.len(), Ordering::SeqCst);
        }
        Ok(())
    }

    /// Whether the peer closes (or resets) within this time; what it sends meanwhile is kept.
    pub fn is_closed_within(&mut self, time: Duration) -> io::Result<bool> {
        let deadline = Instant::now() + time;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            self.reader.stream.bound_waits(left)?;
            let read = self.reader.fill();
            self.reader.stream.bound_waits(BOUND)?;
            match read {
                Ok(0) => return Ok(true),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return Ok(false),
                Err(_) => return Ok(true),
            }
        }
    }

    /// Waits for the peer to close.
    pub fn expect_close(&mut self) -> io::Result<()> {
        match self.is_closed_within(BOUND)? {
            true => Ok(()),
            false => Err(io::Error::other("the peer did not close")),
        }
    }

    pub fn half_close(&mut self) -> io::Result<()> {
        self.reader.stream.shutdown(Shutdown::Write)
    }

    /// Ends the connection with a reset.
    pub fn reset(&mut self) -> io::Result<()> {
        self.forget();
        self.reader.stream.reset_on_close()?;
        let (_, spare) = UnixStream::pair()?;
        self.reader = Reader::new(Stream::Unix(spare));
        Err(io::Error::other("reset by the script"))
    }

    /// The bare stream, and what was read too far.
    pub fn stream(&mut self) -> io::Result<(Stream, Vec<u8>)> {
        Ok((self.reader.stream.clone_of()?, self.reader.take_buffered()))
    }
}
