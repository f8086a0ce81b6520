//! Clients that go through an exchange step by step, so that the work of their connection has
//! as many awaits as it can have.

use std::io::{ErrorKind, Read, Result, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};

use super::origin::LARGE;

/// Less than the stage has, which asks why a client does not end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Every kind of exchange.
pub const SCRIPTS: &[(&str, Script)] = &[
    ("pieces", pieces),
    ("upload", upload),
    ("early", early),
    ("large", large),
    ("tunnel", tunnel),
    ("broken", broken),
    ("refused", refused),
];

pub type Script = fn(&mut Client) -> Result<()>;

pub struct Client {
    pub stream: TcpStream,
    /// A message for each time the connection's work was polled; closed when it is over.
    pub polls: Receiver<()>,
    /// Tells the origin to go on.
    pub steps: Sender<()>,
    /// Exchanges after which the connection to the origin may be used again.
    pub whole: usize,
}

impl Client {
    /// Runs a script until it, or the connection, ends; tells how often the connection to the
    /// origin may have been used again.
    pub fn run(mut self, script: Script) -> (Result<()>, usize) {
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        (script(&mut self), self.whole)
    }

    fn send(&mut self, bytes: &str) -> Result<()> {
        self.stream.write_all(bytes.as_bytes())
    }

    /// Sends a piece and lets the proxy find that it is only a piece.
    fn send_piece(&mut self, bytes: &str) -> Result<()> {
        for _poll in self.polls.try_iter() {}
        self.send(bytes)?;
        match self.polls.recv_timeout(PATIENCE) {
            Err(crossbeam_channel::RecvTimeoutError::Timeout) => Err(ErrorKind::WouldBlock.into()),
            _ => Ok(()),
        }
    }

    /// Reads up to and with this.
    fn expect(&mut self, end: &str) -> Result<()> {
        let mut read = Vec::new();
        while !read.ends_with(end.as_bytes()) {
            let mut byte = [0];
            self.stream.read_exact(&mut byte)?;
            read.push(byte[0]);
        }
        Ok(())
    }

    /// Reads up to and with this, then lets the origin go on.
    fn expect_piece(&mut self, end: &str) -> Result<()> {
        self.expect(end)?;
        // An origin that is gone needs no word.
        let _gone = self.steps.send(());
        Ok(())
    }

    /// One more exchange, the last of its connection.
    fn finish(&mut self) -> Result<()> {
        self.send("GET /fresh/last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
        self.expect("\r\n\r\n/fresh/last")?;
        self.whole += 1;
        self.expect_end()
    }

    fn expect_end(&mut self) -> Result<()> {
        while self.stream.read(&mut [0; 4096])? > 0 {}
        Ok(())
    }
}

/// An informational head, a head, chunks, trailers; then the connection is used again.
fn pieces(client: &mut Client) -> Result<()> {
    client.send_piece("GET /pieces HTTP/1.1\r\nHo")?;
    client.send("st: a\r\nTE: trailers\r\n\r\n")?;
    client.expect_piece("</a>\r\n\r\n")?;
    client.expect_piece("\r\n\r\n")?;
    for piece in ["hello\r\n", "world\r\n", "again\r\n"] {
        client.expect_piece(piece)?;
    }
    client.expect("0\r\nX-End: yes\r\n\r\n")?;
    client.whole += 1;
    client.finish()
}

/// The body is sent when it is asked for.
fn upload(client: &mut Client) -> Result<()> {
    client.send(
        "POST /upload HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n",
    )?;
    client.expect("100 Continue\r\n\r\n")?;
    for piece in ["5\r\nhello\r\n", "7\r\n wor", "ld!\r\n", "0\r\nX-End: y"] {
        client.send_piece(piece)?;
    }
    client.send("es\r\n\r\n")?;
    client.expect_piece("\r\n\r\n")?;
    client.expect("taken")?;
    client.whole += 1;
    client.finish()
}

/// The answer is here before the body is.
fn early(client: &mut Client) -> Result<()> {
    client.send_piece("POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 4000\r\n\r\n")?;
    client.send_piece("xxxxxxxxxx")?;
    client.expect("early")?;
    // A read that was given up may have taken this, so that nothing is polled for it.
    client.send("xxxxxxxxxx")?;
    client.expect_end()
}

/// A client that reads slowly.
fn large(client: &mut Client) -> Result<()> {
    client.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n")?;
    client.expect("\r\n\r\n")?;
    let mut left = LARGE;
    let mut piece = vec![0; 4096];
    while left > 0 {
        let most = left.min(piece.len());
        match client.stream.read(&mut piece[..most])? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            count => left -= count,
        }
    }
    client.whole += 1;
    client.finish()
}

fn tunnel(client: &mut Client) -> Result<()> {
    client.send("GET /tunnel HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")?;
    client.expect("101 Switching Protocols\r\n")?;
    client.expect("\r\n\r\n")?;
    for answer in ["pong", "pong", "bye"] {
        client.send_piece("ppp")?;
        let _gone = client.steps.send(());
        client.expect(answer)?;
    }
    client.stream.shutdown(Shutdown::Write)?;
    client.expect_end()
}

/// The origin closes instead of answering; once more if the connection to it was not new.
fn broken(client: &mut Client) -> Result<()> {
    client.send("GET /broken HTTP/1.1\r\nHost: a\r\n\r\n")?;
    client.expect("502")?;
    client.expect("\r\n\r\n")?;
    client.expect("\n")?;
    client.finish()
}

/// No request at all; the client goes on sending after the refusal.
fn refused(client: &mut Client) -> Result<()> {
    client.send("no request\r\n\r\n")?;
    client.expect("400")?;
    client.expect("\r\n\r\n")?;
    client.send_piece("more")?;
    client.expect_end()
}
