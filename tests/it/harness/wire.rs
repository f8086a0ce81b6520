//! A strict little reader of HTTP/1.1 messages; it shares no line with the product's.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::show;

/// A connection of either kind.
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    pub fn clone_of(&self) -> io::Result<Stream> {
        Ok(match self {
            Stream::Tcp(stream) => Stream::Tcp(stream.try_clone()?),
            Stream::Unix(stream) => Stream::Unix(stream.try_clone()?),
        })
    }

    pub fn bound_waits(&self, bound: Duration) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(bound))?;
                stream.set_write_timeout(Some(bound))
            }
            Stream::Unix(stream) => {
                stream.set_read_timeout(Some(bound))?;
                stream.set_write_timeout(Some(bound))
            }
        }
    }

    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.shutdown(how),
            Stream::Unix(stream) => stream.shutdown(how),
        }
    }

    /// The next close of a TCP connection is a reset.
    pub fn reset_on_close(&self) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)),
            Stream::Unix(_) => Ok(()),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Fields in the order they came.
pub type Fields = Vec<(String, String)>;

/// A start line and its fields.
#[derive(Clone, Debug, Default)]
pub struct Head {
    pub raw: Vec<u8>,
    pub start: String,
    pub fields: Fields,
}

impl Head {
    pub fn parse(raw: &[u8]) -> io::Result<Head> {
        let text = String::from_utf8_lossy(raw);
        let lines = text.strip_suffix("\r\n\r\n").ok_or_else(|| fault("no end", raw))?;
        let mut lines = lines.split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        let fields = lines.map(parse_field).collect::<io::Result<Fields>>()?;
        if start.contains(['\r', '\n']) {
            return Err(fault("a bare line end", raw));
        }
        Ok(Head { raw: raw.to_vec(), start, fields })
    }

    /// All values of a field.
    pub fn values(&self, name: &str) -> Vec<&str> {
        values(&self.fields, name)
    }

    /// The value of a field that is there at most once.
    pub fn value(&self, name: &str) -> Option<&str> {
        let values = self.values(name);
        assert!(values.len() < 2, "{name} more than once in {:#?}", self.fields);
        values.first().copied()
    }

    pub fn has(&self, name: &str) -> bool {
        !self.values(name).is_empty()
    }

    /// The n-th word of the start line.
    pub fn word(&self, number: usize) -> &str {
        self.start.split(' ').nth(number).unwrap_or_default()
    }
}

pub fn values<'a>(fields: &'a Fields, name: &str) -> Vec<&'a str> {
    let named = fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
    named.map(|(_, value)| value.as_str()).collect()
}

fn parse_field(line: &str) -> io::Result<(String, String)> {
    let (name, value) =
        line.split_once(':').ok_or_else(|| fault("a field without a colon", line.as_bytes()))?;
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if name.is_empty() || !name.chars().all(token) || value.contains(['\r', '\n', '\0']) {
        return Err(fault("a bad field", line.as_bytes()));
    }
    Ok((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()))
}

/// A body as it came; partly, if the connection broke.
#[derive(Clone, Debug, Default)]
pub struct Body {
    pub bytes: Vec<u8>,
    pub trailers: Fields,
    /// The chunk-size lines with their extensions.
    pub chunk_lines: Vec<String>,
}

/// How long a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Nothing,
    Length(usize),
    Chunked,
    UntilClose,
}

/// The framing that the fields announce, or `otherwise`.
pub fn framing(head: &Head, otherwise: Framing) -> io::Result<Framing> {
    let lengths = head.values("content-length");
    match (head.values("transfer-encoding").as_slice(), lengths.as_slice()) {
        ([], []) => Ok(otherwise),
        (["chunked"], []) => Ok(Framing::Chunked),
        ([], [length]) => match length.parse() {
            Ok(length) if length_is_plain(head) => Ok(Framing::Length(length)),
            _ => Err(fault("a bad length", &head.raw)),
        },
        _ => Err(fault("two framings", &head.raw)),
    }
}

fn length_is_plain(head: &Head) -> bool {
    let length = head.value("content-length").unwrap_or_default();
    !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit())
}

/// Reads messages off a stream and keeps what came too early.
pub struct Reader {
    pub stream: Stream,
    buffered: Vec<u8>,
}

impl Reader {
    pub fn new(stream: Stream) -> Reader {
        Reader { stream, buffered: Vec::new() }
    }

    /// What has come and was not yet taken.
    pub fn buffered(&self) -> &[u8] {
        &self.buffered
    }

    pub fn take_buffered(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffered)
    }

    /// Reads once; 0 is the end of the stream.
    pub fn fill(&mut self) -> io::Result<usize> {
        let mut piece = [0; 64 * 1024];
        loop {
            match self.stream.read(&mut piece) {
                Ok(count) => {
                    self.buffered.extend_from_slice(&piece[..count]);
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        format!("nothing came in time; buffered: {}", show(&self.buffered)),
                    ));
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn fill_more(&mut self) -> io::Result<()> {
        match self.fill()? {
            0 => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("the stream ended after: {}", show(&self.buffered)),
            )),
            _ => Ok(()),
        }
    }

    /// Everything up to and with `mark`.
    pub fn until(&mut self, mark: &[u8]) -> io::Result<Vec<u8>> {
        let mut from = 0;
        loop {
            let found = self.buffered[from..].windows(mark.len()).position(|window| window == mark);
            if let Some(at) = found {
                return Ok(self.buffered.drain(..from + at + mark.len()).collect());
            }
            from = self.buffered.len().saturating_sub(mark.len());
            self.fill_more()?;
        }
    }

    pub fn exact(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.buffered.len() < count {
            self.fill_more()?;
        }
        Ok(self.buffered.drain(..count).collect())
    }

    /// A head, or `None` if the stream ends before its first byte.
    pub fn next_head(&mut self) -> io::Result<Option<Head>> {
        if self.buffered.is_empty() && self.fill()? == 0 {
            return Ok(None);
        }
        Head::parse(&self.until(b"\r\n\r\n")?).map(Some)
    }

    pub fn head(&mut self) -> io::Result<Head> {
        self.next_head()?.ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "no head, but the end"))
    }

    /// Reads a body into `body`, which holds what came even if this fails.
    pub fn body(&mut self, framing: Framing, body: &mut Body) -> io::Result<()> {
        match framing {
            Framing::Nothing => Ok(()),
            Framing::Length(length) => self.piece(length, body),
            Framing::Chunked => self.chunks(body),
            Framing::UntilClose => {
                while self.fill()? > 0 {}
                body.bytes.append(&mut self.buffered);
                Ok(())
            }
        }
    }

    fn piece(&mut self, length: usize, body: &mut Body) -> io::Result<()> {
        let end = body.bytes.len() + length;
        loop {
            let missing = end - body.bytes.len();
            let count = missing.min(self.buffered.len());
            body.bytes.extend(self.buffered.drain(..count));
            if count == missing {
                return Ok(());
            }
            self.fill_more()?;
        }
    }

    fn chunks(&mut self, body: &mut Body) -> io::Result<()> {
        loop {
            let line = self.until(b"\r\n")?;
            let line = String::from_utf8_lossy(&line[..line.len() - 2]).into_owned();
            let digits = line.split(';').next().unwrap_or_default();
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(fault("a bad chunk size", line.as_bytes()));
            }
            let size = usize::from_str_radix(digits, 16).map_err(io::Error::other)?;
            body.chunk_lines.push(line);
            if size == 0 {
                break;
            }
            self.piece(size, body)?;
            if self.exact(2)? != b"\r\n" {
                return Err(fault("no line end after a chunk", &self.buffered));
            }
        }
        loop {
            let line = self.until(b"\r\n")?;
            match &line[..line.len() - 2] {
                [] => return Ok(()),
                line => body.trailers.push(parse_field(&String::from_utf8_lossy(line))?),
            }
        }
    }
}

fn fault(what: &str, seen: &[u8]) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what}: {}", show(seen)))
}
