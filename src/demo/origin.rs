//! One demo server as a process: accepts on a Unix socket, a thread for each connection, until
//! it is told to stop.

use std::ffi::OsStr;
use std::fs::ReadDir;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

use super::DIRECTORY_NAME;
use super::answer::{Answer, Origin, Whole};
use crate::http::framing::BodyLength;
use crate::http::h1::chunked::Decoder;
use crate::http::h1::{Bounds, FIELDS_MAX, Parsed, parse};
use crate::http::head::{Method, RequestHead};

const BOUNDS: Bounds = Bounds { head: 64 << 10, fields: FIELDS_MAX, uri: 32 << 10 };
const BODY_MAX: usize = 64 << 10;
const CONNECTIONS_MAX: usize = 1024;

/// Silence after which a connection is closed; longer than a proxy keeps one.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves as `name` on a new socket at `path` until SIGTERM, SIGINT or SIGQUIT. Takes the socket
/// away then, and if it was the last one, the directory of the demo with all that is in it.
pub fn run(name: String, path: &Path) -> ExitCode {
    match serve(name, path) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}: {error}", path.display());
            ExitCode::FAILURE
        }
    }
}

fn serve(name: String, path: &Path) -> io::Result<()> {
    // Started through `/proc/self/exe`, it would be listed as `exe`. No harm if it stays so.
    let _ = std::fs::write("/proc/self/comm", "warpdrive-demo");
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGQUIT])?;
    let listener = UnixListener::bind(path)?;
    let origin = Arc::new(Origin::new(name));
    std::thread::Builder::new().name("accept".to_owned()).spawn(move || accept(&listener, &origin))?;
    signals.forever().next();
    std::fs::remove_file(path)?;
    if let Some(directory) = path.parent().filter(|directory| is_left(directory)) {
        // Another one may be at it as well.
        let _ = std::fs::remove_dir_all(directory);
    }
    Ok(())
}

/// Whether this is the directory of a demo, and none of its servers is there any more.
fn is_left(directory: &Path) -> bool {
    let is_ours = directory
        .file_name()
        .and_then(OsStr::to_str)
        .is_some_and(|name| name.strip_prefix(DIRECTORY_NAME).is_some_and(|rest| rest.starts_with('-')));
    let has_socket = |entries: ReadDir| {
        entries.flatten().any(|entry| entry.file_type().is_ok_and(|file| file.is_socket()))
    };
    is_ours && !std::fs::read_dir(directory).is_ok_and(has_socket)
}

fn accept(listener: &UnixListener, origin: &Arc<Origin>) {
    loop {
        let Ok((stream, _)) = listener.accept() else {
            // Out of descriptors, say: connections that end make room.
            std::thread::sleep(Duration::from_millis(100));
            continue;
        };
        if Arc::strong_count(origin) > CONNECTIONS_MAX {
            continue;
        }
        let origin = Arc::clone(origin);
        let connection = std::thread::Builder::new().name("connection".to_owned());
        // A client that goes in the middle is no news. Without a thread, it has to go.
        let _ = connection.spawn(move || Connection { stream, input: Vec::new() }.run(&origin));
    }
}

struct Connection {
    stream: UnixStream,
    /// Read, and not used yet.
    input: Vec<u8>,
}

impl Connection {
    fn run(&mut self, origin: &Origin) -> io::Result<()> {
        self.stream.set_read_timeout(Some(IDLE_TIMEOUT))?;
        self.stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
        let mut request = RequestHead::default();
        while self.read_head(&mut request)? {
            let Some(body) = self.read_body(&request)? else {
                let refusal = Whole::text("413 Content Too Large", "at most 64 KiB\n".to_owned());
                return self.send(&refusal, true, false);
            };
            match origin.answer(&request, body) {
                Answer::Whole(whole) => {
                    self.send(&whole, request.method != Method::Head, request.keep_alive)?;
                }
                Answer::Events { path } => {
                    return self.send_events(origin, &path, request.method != Method::Head);
                }
            }
            if !request.keep_alive {
                break;
            }
        }
        Ok(())
    }

    /// `false` at the end of the connection.
    fn read_head(&mut self, request: &mut RequestHead) -> io::Result<bool> {
        loop {
            match parse::request(&self.input, BOUNDS, request) {
                Ok(Parsed::Head(length)) => {
                    self.input.drain(..length);
                    return Ok(true);
                }
                Ok(Parsed::Incomplete) => {}
                Err(refusal) => {
                    let text = format!("{}\n", refusal.reason());
                    self.send(&Whole::text("400 Bad Request", text), true, false)?;
                    return Ok(false);
                }
            }
            if self.fill()? == 0 {
                return Ok(false);
            }
        }
    }

    /// `None` if it is too large.
    fn read_body(&mut self, request: &RequestHead) -> io::Result<Option<Vec<u8>>> {
        if request.expects_continue && request.body != BodyLength::Empty {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        match request.body {
            BodyLength::Empty | BodyLength::UntilClose => Ok(Some(Vec::new())),
            BodyLength::Known(length) => {
                let Some(length) = usize::try_from(length).ok().filter(|length| *length <= BODY_MAX) else {
                    return Ok(None);
                };
                while self.input.len() < length {
                    self.fill_some()?;
                }
                Ok(Some(self.input.drain(..length).collect()))
            }
            BodyLength::Chunked => self.read_chunks(),
        }
    }

    fn read_chunks(&mut self) -> io::Result<Option<Vec<u8>>> {
        let (mut decoder, mut body) = (Decoder::default(), Vec::new());
        loop {
            let malformed = |_| io::Error::from(io::ErrorKind::InvalidData);
            let decoded = decoder.decode(&mut self.input).map_err(malformed)?;
            body.extend_from_slice(&self.input[..decoded.data]);
            self.input.drain(..decoded.consumed);
            if body.len() > BODY_MAX {
                return Ok(None);
            }
            if decoder.is_done() {
                return Ok(Some(body));
            }
            self.fill_some()?;
        }
    }

    /// Reads more; how many bytes came.
    fn fill(&mut self) -> io::Result<usize> {
        let mut piece = [0; 8192];
        loop {
            match self.stream.read(&mut piece) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => {
                    let count = read?;
                    self.input.extend_from_slice(&piece[..count]);
                    return Ok(count);
                }
            }
        }
    }

    fn fill_some(&mut self) -> io::Result<()> {
        match self.fill()? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    fn send(&mut self, whole: &Whole, with_body: bool, keeps_alive: bool) -> io::Result<()> {
        let mut out = format!(
            "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n{}",
            whole.status,
            whole.media_type,
            whole.body.len(),
            whole.fields
        );
        out += if keeps_alive { "\r\n" } else { "Connection: close\r\n\r\n" };
        let mut out = out.into_bytes();
        if with_body {
            out.extend_from_slice(&whole.body);
        }
        self.stream.write_all(&out)
    }

    /// An endless response: ends with the client.
    fn send_events(&mut self, origin: &Origin, path: &str, with_body: bool) -> io::Result<()> {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n\
                    Connection: close\r\n\r\n";
        self.stream.write_all(head.as_bytes())?;
        for seconds in 0.. {
            if !with_body {
                break;
            }
            self.stream.write_all(origin.event(path, seconds).as_bytes())?;
            std::thread::sleep(Duration::from_secs(1));
        }
        Ok(())
    }
}
