//! The socket by which an operator speaks to the running process: one line in, some lines back.
//! The last one is `ok` or begins with `error: `.
//!
//! Must not know: what comes of a request.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::Mode;
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc::Sender;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{sleep, timeout};

use super::control::Event;

/// Operators at the same time.
const CLIENTS_MAX: usize = 16;

/// The longest line that is read, in bytes.
const LINE_MAX: usize = 4096;

/// What a client may take to say what it wants, or to hear what came of it.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(5);

/// Between two attempts to accept when there are no descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// What is wanted.
#[derive(Debug)]
pub struct Request {
    pub wish: Wish,
    pub answer: oneshot::Sender<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    Status,
    /// What to do with an upstream or one of its instances.
    Child(Verb, String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Restart,
    Start,
    Stop,
}

impl Wish {
    fn parse(line: &str) -> Option<Wish> {
        let (verb, name) = line.split_once(' ').unwrap_or((line, ""));
        let verb = match (verb, name) {
            ("status", "") => return Some(Wish::Status),
            (_, "") => return None,
            ("restart", _) => Verb::Restart,
            ("start", _) => Verb::Start,
            ("stop", _) => Verb::Stop,
            _ => return None,
        };
        Some(Wish::Child(verb, name.to_owned()))
    }
}

/// Binds the socket, for its owner alone. A file that an earlier process left there is replaced.
///
/// # Errors
/// Another process listens there, or it cannot be bound.
pub fn bind(path: &Path) -> io::Result<net::UnixListener> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    if is_socket && net::UnixStream::connect(path).is_err() {
        std::fs::remove_file(path)?;
    }
    // Not changed afterwards: it is never anybody else's.
    let before = rustix::process::umask(Mode::RWXG | Mode::RWXO | Mode::XUSR);
    let listener = net::UnixListener::bind(path);
    rustix::process::umask(before);
    listener.and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
}

/// Makes events of what operators want.
pub async fn listen(listener: net::UnixListener, events: Sender<Event>) {
    let listener = match UnixListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!("cannot listen on the admin socket: {error}"),
    };
    let permits = Arc::new(Semaphore::new(CLIENTS_MAX));
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let events = events.clone();
                tokio::spawn(async move {
                    // One that goes away needs no answer.
                    let _gone = serve(&stream, &events).await;
                    drop(permit);
                });
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

async fn serve(stream: &UnixStream, events: &Sender<Event>) -> io::Result<()> {
    let line = timeout(CLIENT_TIMEOUT, read_line(stream)).await??;
    let (answer, answered) = oneshot::channel();
    let text = match Wish::parse(&line) {
        None => format!("error: `{line}` is not understood\n"),
        Some(wish) => {
            let asked = events.send(Event::Asked(Request { wish, answer })).await;
            let text = match asked {
                Ok(()) => answered.await.ok(),
                Err(_) => None,
            };
            text.unwrap_or_else(|| "error: the process ends\n".to_owned())
        }
    };
    timeout(CLIENT_TIMEOUT, write_all(stream, text.as_bytes())).await?
}

async fn read_line(stream: &UnixStream) -> io::Result<String> {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        let mut bytes = [0; 256];
        let read = || stream.try_read(&mut bytes);
        let count = stream.async_io(Interest::READABLE, read).await?;
        line.extend_from_slice(&bytes[..count]);
        if count == 0 || line.len() > LINE_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    String::from_utf8(line).map(|line| line.trim_end().to_owned()).map_err(io::Error::other)
}

async fn write_all(stream: &UnixStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = stream.async_io(Interest::WRITABLE, || stream.try_write(bytes)).await?;
        bytes = &bytes[written..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_wishes() {
        let child = |verb, name: &str| Some(Wish::Child(verb, name.to_owned()));
        let cases = [
            ("status", Some(Wish::Status)),
            ("restart web", child(Verb::Restart, "web")),
            ("stop my app.0", child(Verb::Stop, "my app.0")),
            ("start web", child(Verb::Start, "web")),
            ("", None),
            ("status web", None),
            ("restart", None),
            ("reboot web", None),
        ];
        for (line, expected) in cases {
            assert_eq!(Wish::parse(line), expected, "{line}");
        }
    }
}
