//! An origin that answers by a script, reads with the reference, and takes note of every byte
//! that is not a request, and of every request that comes where none may.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

use super::script::{Answer, PROBE_TAG, Script};
use super::wanted::{Content, Told, WIDE};
use crate::reference::Reading;
use crate::reference::fields;
use crate::reference::head::{self, Request, Sender};
use crate::shown;

/// A request as it came.
pub struct Seen {
    pub id: Vec<u8>,
    pub head: Request,
    pub content: Content,
    /// Bytes of the answer that were sent.
    pub answered: usize,
    /// What came after 101.
    pub tunnel: Vec<u8>,
}

#[derive(Default)]
pub struct Origin {
    links: Vec<Link>,
    pub seen: Vec<Seen>,
    pub faults: Vec<String>,
    /// Requests from now on are not in the script.
    pub is_probed: bool,
}

/// A connection from the product.
struct Link {
    stream: UnixStream,
    received: Vec<u8>,
    /// The request that is being read or answered.
    current: Option<usize>,
    is_answering: bool,
    pieces: VecDeque<Vec<u8>>,
    closes: bool,
    is_tunnel: bool,
    /// Nothing is wrong with it: another request may come.
    is_clean: bool,
    is_ended: bool,
}

impl Origin {
    /// Does what can be done at once; whether anything was.
    pub fn work(&mut self, listener: &UnixListener, script: &Script) -> bool {
        let mut has_moved = false;
        while let Ok((stream, _)) = listener.accept() {
            has_moved = true;
            match stream.set_nonblocking(true) {
                Ok(()) => self.links.push(Link::new(stream)),
                Err(error) => self.faults.push(error.to_string()),
            }
        }
        let Origin { links, seen, faults, is_probed } = self;
        let answer_to = |number: usize| match is_probed {
            true => Answer::plain(PROBE_TAG),
            false => script.answer(number),
        };
        for link in links.iter_mut() {
            has_moved |= link.receive();
            if let Err(fault) = link.read(seen, &answer_to) {
                faults.push(fault);
                link.is_ended = true;
            }
            has_moved |= link.send(seen);
        }
        links.retain(|link| !link.is_ended);
        has_moved
    }

    /// Connections that the product has not closed.
    pub fn open(&self) -> usize {
        self.links.len()
    }
}

impl Link {
    fn new(stream: UnixStream) -> Link {
        Link {
            stream,
            received: Vec::new(),
            current: None,
            is_answering: false,
            pieces: VecDeque::new(),
            closes: false,
            is_tunnel: false,
            is_clean: true,
            is_ended: false,
        }
    }

    fn receive(&mut self) -> bool {
        let before = self.received.len();
        let mut piece = [0; 4096];
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => self.is_ended = true,
                Ok(count) => {
                    self.received.extend_from_slice(&piece[..count]);
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => self.is_ended = true,
            }
            return self.is_ended || self.received.len() > before;
        }
    }

    /// Takes what was received for what it is.
    fn read(&mut self, seen: &mut Vec<Seen>, answer_to: &impl Fn(usize) -> Answer) -> Result<(), String> {
        if self.is_tunnel
            && let Some(current) = self.current
        {
            seen[current].tunnel.append(&mut self.received);
            return Ok(());
        }
        if let Some(current) = self.current {
            if !seen[current].content.is_whole() {
                return self.read_body(seen, answer_to, current);
            }
            if self.received.is_empty() {
                return Ok(());
            }
            if !self.pieces.is_empty() || !self.is_answering {
                return Err(format!("bytes beyond a request: {}", shown(&self.received)));
            }
            if !self.is_clean {
                return Err(format!("a connection that is not clean is used: {}", shown(&self.received)));
            }
            (self.current, self.is_answering) = (None, false);
        }
        if self.received.is_empty() {
            return Ok(());
        }
        match head::request(&self.received, WIDE, Sender::Proxy) {
            Reading::Incomplete => Ok(()),
            Reading::Refused(reason) => Err(format!("{reason}: {}", shown(&self.received))),
            Reading::Whole((head, len)) => {
                self.received.drain(..len);
                let id = fields::values(&head.fields, "x-request-id").concat();
                let content = Content { data: Vec::new(), end: Reading::Incomplete };
                let current = seen.len();
                self.current = Some(current);
                seen.push(Seen { id, head, content, answered: 0, tunnel: Vec::new() });
                self.read_body(seen, answer_to, current)
            }
        }
    }

    fn read_body(
        &mut self,
        seen: &mut [Seen],
        answer_to: &impl Fn(usize) -> Answer,
        current: usize,
    ) -> Result<(), String> {
        let body = seen[current].head.body;
        seen[current].content = Content::read(body, &self.received, false);
        let answer = answer_to(number(seen, current));
        let is_whole = match &seen[current].content.end {
            Reading::Whole((_, len)) => {
                self.received.drain(..*len);
                true
            }
            Reading::Incomplete => false,
            Reading::Refused(reason) => return Err(format!("{reason}: {}", shown(&self.received))),
        };
        if !self.is_answering && (is_whole || answer.is_early) {
            let told = Told::read(&answer, &seen[current].head);
            self.is_answering = true;
            self.is_clean = told.is_clean();
            self.is_tunnel = matches!(told, Told::Switched(_)) && is_whole;
            self.closes = answer.closes;
            self.pieces = answer.pieces(told.end()).into();
        }
        if is_whole && !self.received.is_empty() {
            return Err(format!("bytes beyond a request: {}", shown(&self.received)));
        }
        Ok(())
    }

    /// Sends one piece; closes with the last.
    fn send(&mut self, seen: &mut [Seen]) -> bool {
        let (Some(piece), Some(current)) = (self.pieces.pop_front(), self.current) else { return false };
        match self.stream.write(&piece) {
            Ok(count) => seen[current].answered += count,
            // It is gone, which shows when it is read from.
            Err(_) => self.pieces.clear(),
        }
        self.is_ended |= self.closes && self.pieces.is_empty();
        true
    }
}

/// Which of the client's requests this is: a repeated one has the number that it had.
fn number(seen: &[Seen], current: usize) -> usize {
    let mut ids: Vec<&[u8]> = Vec::new();
    for one in &seen[..=current] {
        if !ids.contains(&&one.id[..]) {
            ids.push(&one.id);
        }
    }
    ids.iter().position(|id| *id == seen[current].id).unwrap_or(0)
}
