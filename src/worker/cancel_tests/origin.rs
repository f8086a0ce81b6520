//! An origin that answers in pieces, each when the client says so, and that takes note of every
//! byte which does not belong to the request it expects.
//!
//! When a client is gone, the rest of its answer is sent all the same: a connection that is used
//! again before its exchange is over then brings the wrong answer.

use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

/// Far more than any step takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// The length of the body of `/large`.
pub const LARGE: usize = 400 * 1024;

pub struct Origin {
    pub socket: PathBuf,
    shared: Arc<Shared>,
}

struct Shared {
    /// What the client of the round says: the next piece may go.
    steps: Mutex<Receiver<()>>,
    /// The target of each request, and whether it was its connection's first.
    seen: Mutex<Vec<(String, bool)>>,
    faults: Mutex<Vec<String>>,
}

impl Origin {
    pub fn start(directory: &std::path::Path) -> Origin {
        let socket = directory.join("origin");
        let listener = UnixListener::bind(&socket).unwrap();
        let shared = Arc::new(Shared {
            steps: Mutex::new(crossbeam_channel::never()),
            seen: Mutex::default(),
            faults: Mutex::default(),
        });
        let theirs = Arc::clone(&shared);
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let shared = Arc::clone(&theirs);
                std::thread::spawn(move || Connection { stream: BufReader::new(stream), shared }.run());
            }
        });
        Origin { socket, shared }
    }

    /// A new round begins; its client speaks through `steps`.
    pub fn follow(&self, steps: Receiver<()>) {
        *self.shared.steps.lock().unwrap() = steps;
        self.shared.seen.lock().unwrap().clear();
    }

    /// The requests of this round whose heads came whole.
    pub fn seen(&self) -> Vec<(String, bool)> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// What came and should not have.
    pub fn faults(&self) -> Vec<String> {
        self.shared.faults.lock().unwrap().clone()
    }
}

struct Connection {
    stream: BufReader<UnixStream>,
    shared: Arc<Shared>,
}

impl Connection {
    /// An error is the end: of the connection, or of a proxy that is not interested any more.
    fn run(mut self) {
        let mut is_first = true;
        while let Ok(target) = self.request(is_first) {
            is_first = false;
            if self.answer(&target).is_err() {
                return;
            }
        }
    }

    fn fault(&self, what: &str) -> Error {
        self.shared.faults.lock().unwrap().push(what.to_owned());
        ErrorKind::InvalidData.into()
    }

    fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        if !line.ends_with(b"\r\n") {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        line.truncate(line.len() - 2);
        let shown = String::from_utf8_lossy(&line).into_owned();
        String::from_utf8(line).map_err(|_| self.fault(&format!("no text: {shown}")))
    }

    /// The target of the next request.
    fn request(&mut self, is_first: bool) -> Result<String> {
        let line = self.line()?;
        let words: Vec<&str> = line.split(' ').collect();
        let &["GET" | "POST", target, "HTTP/1.1"] = &words[..] else {
            return Err(self.fault(&format!("no request line: {line}")));
        };
        while !self.line()?.is_empty() {}
        self.shared.seen.lock().unwrap().push((target.to_owned(), is_first));
        Ok(target.to_owned())
    }

    fn answer(&mut self, target: &str) -> Result<()> {
        match target {
            "/pieces" => self.pieces(),
            "/upload" => self.upload(),
            "/early" => self.early(),
            "/large" => {
                let head = format!("HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: {LARGE}\r\n\r\n");
                self.send(&head)?;
                self.send(&"l".repeat(LARGE))
            }
            "/tunnel" => self.tunnel(),
            "/broken" => Err(ErrorKind::Other.into()),
            _ if target.starts_with("/fresh/") => {
                let length = target.len();
                self.send(&format!(
                    "HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: {length}\r\n\r\n{target}"
                ))
            }
            _ => Err(self.fault(&format!("nobody asks for {target}"))),
        }
    }

    fn send(&mut self, bytes: &str) -> Result<()> {
        self.stream.get_mut().write_all(bytes.as_bytes())
    }

    /// Waits until the client has what was sent, or is gone.
    fn step(&self) {
        let steps = self.shared.steps.lock().unwrap().clone();
        if steps.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            self.fault("nobody went on");
        }
    }

    fn pieces(&mut self) -> Result<()> {
        let pieces = [
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-End\r\n\r\n",
            "5\r\nhello\r\n",
            "a\r\nworld",
            "again\r\n",
        ];
        for piece in pieces {
            self.send(piece)?;
            self.step();
        }
        self.send("0\r\nX-En")?;
        self.send("d: yes\r\n\r\n")
    }

    fn upload(&mut self) -> Result<()> {
        self.send("HTTP/1.1 100 Continue\r\n\r\n")?;
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let size = usize::from_str_radix(&line, 16);
            let size = size.map_err(|_| self.fault(&format!("no chunk size: {line}")))?;
            if size == 0 {
                break;
            }
            let start = body.len();
            body.resize(start + size, 0);
            self.stream.read_exact(&mut body[start..])?;
            if !self.line()?.is_empty() {
                return Err(self.fault("a chunk does not end where it should"));
            }
        }
        while !self.line()?.is_empty() {}
        if body != b"hello world!" {
            return Err(self.fault(&format!("another body: {}", String::from_utf8_lossy(&body))));
        }
        self.send("HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 5\r\n\r\n")?;
        self.step();
        self.send("taken")
    }

    /// Answers before it has read the body.
    fn early(&mut self) -> Result<()> {
        self.send("HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 5\r\n\r\nearly")?;
        self.expect_only(b'x')
    }

    fn tunnel(&mut self) -> Result<()> {
        self.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")?;
        for answer in ["pong", "pong", "bye"] {
            self.expect_some(b'p')?;
            self.step();
            self.send(answer)?;
        }
        self.expect_only(b'p')
    }

    fn expect_some(&mut self, byte: u8) -> Result<usize> {
        let bytes = self.stream.fill_buf()?.to_vec();
        if bytes.iter().any(|one| *one != byte) {
            return Err(self.fault(&format!("not of this exchange: {}", String::from_utf8_lossy(&bytes))));
        }
        self.stream.consume(bytes.len());
        Ok(bytes.len())
    }

    /// Until the end.
    fn expect_only(&mut self, byte: u8) -> Result<()> {
        while self.expect_some(byte)? > 0 {}
        Err(ErrorKind::UnexpectedEof.into())
    }
}
