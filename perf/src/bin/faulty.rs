//! Several instances of an application that go wrong on command: one thread, epoll, keep-alive HTTP/1.1 without request bodies.
//!
//! Every instance listens on an address of its own, 127.0.1.N: a port there is never taken as the near end of somebody's
//! connection while the instance is down. A response tells in `X-Instance` who made it.
//!
//! Usage: `faulty [--instances N] [--body BYTES]`; prints `listening ADDRESS…` when it does. A command is a line `FAULT INSTANCE` on
//! the standard input and holds for all requests from then on; each is answered with the instant at which it began, in
//! nanoseconds of the monotonic clock, and the command. Ends with its input.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use warpdrive_perf::arguments::Arguments;
use warpdrive_perf::epoll::{self, Epoll};

const INSTANCES_DEFAULT: u8 = 3;
const BODY_DEFAULT: usize = 1024;
const HEAD_MAX: usize = 64 * 1024;
const BACKLOG: i32 = 4096;
const READ_SIZE: usize = 64 * 1024;
/// What a slow head takes: longer than any proxy here is told to wait.
const SLOW: Duration = Duration::from_secs(2);
/// Between a head and the reset after it, so that it is read before.
const HEAD_ALONE: Duration = Duration::from_millis(10);
const GARBAGE: &[u8] = b"\x16\x03\x01\x02\x00\x01 this is not what was asked for\r\n\r\n";

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// It works.
    None,
    /// As a process that was killed: no listener, and its connections are closed.
    Refuse,
    /// Accepts and reads, and never answers.
    Hang,
    ResetBeforeHead,
    ResetAfterHead,
    /// Half of the announced body, and then the end of the connection.
    CutBody,
    SlowHead,
    Garbage,
    /// 503, in good form.
    Unavailable,
}

impl Fault {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "none" => Self::None,
            "refuse" => Self::Refuse,
            "hang" => Self::Hang,
            "reset-before-head" => Self::ResetBeforeHead,
            "reset-after-head" => Self::ResetAfterHead,
            "cut-body" => Self::CutBody,
            "slow-head" => Self::SlowHead,
            "garbage" => Self::Garbage,
            "5xx" => Self::Unavailable,
            _ => return None,
        })
    }
}

struct Instance {
    address: SocketAddr,
    /// None while it is down.
    listener: Option<TcpListener>,
    fault: Fault,
    /// Whole responses, and how much of the good one is its head.
    good: Vec<u8>,
    head: usize,
    unavailable: Vec<u8>,
}

impl Instance {
    fn new(number: u8, body: usize) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::new(127, 0, 1, number + 1), 0))?;
        let response = |status: &str| {
            format!(
                "HTTP/1.1 {status}\r\nServer: origin\r\nDate: Sun, 01 Mar 2026 00:00:00 GMT\r\nContent-Type: text/plain\r\n\
                 Content-Length: {body}\r\nX-Instance: {number}\r\n\r\n"
            )
            .into_bytes()
        };
        let (mut good, mut unavailable) = (response("200 OK"), response("503 Service Unavailable"));
        let head = good.len();
        for page in [&mut good, &mut unavailable] {
            page.resize(page.len() + body, b'x');
        }
        Ok(Self {
            address: listener.local_addr()?,
            listener: Some(listener),
            fault: Fault::None,
            good,
            head,
            unavailable,
        })
    }

    /// Begins to listen, if it does not yet.
    fn listen(&mut self, epoll: &Epoll, token: u64) -> io::Result<()> {
        let listener = match self.listener.take() {
            Some(listener) => listener,
            None => TcpListener::bind(self.address)?,
        };
        listener.set_nonblocking(true)?;
        epoll::set_backlog(&listener, BACKLOG)?;
        epoll.add(&listener, epoll::READABLE, token)?;
        self.listener = Some(listener);
        Ok(())
    }
}

/// What a connection does at a later instant.
#[derive(Clone, Copy)]
enum Later {
    Answer,
    Reset,
}

/// How it goes on with a connection.
enum Next {
    Keep,
    Wait(Later, Duration),
    Close,
}

struct Connection {
    socket: TcpStream,
    instance: usize,
    /// The part of a request's head that has come so far.
    input: Vec<u8>,
    later: Option<(Instant, Later)>,
}

impl Connection {
    /// Takes what has come, and answers when that is a whole request.
    fn receive(&mut self, instance: &Instance, scratch: &mut [u8]) -> io::Result<Next> {
        match self.socket.read(scratch) {
            Ok(0) => return Ok(Next::Close),
            Ok(count) => self.input.extend_from_slice(&scratch[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Next::Keep),
            Err(error) => return Err(error),
        }
        if !self.input.ends_with(b"\r\n\r\n") {
            let goes_on = self.input.len() < HEAD_MAX;
            return Ok(if goes_on { Next::Keep } else { Next::Close });
        }
        self.input.clear();
        self.answer(instance)
    }

    fn answer(&mut self, instance: &Instance) -> io::Result<Next> {
        let half = instance.head + (instance.good.len() - instance.head) / 2;
        match instance.fault {
            Fault::None => self.send(&instance.good, Next::Keep),
            Fault::Refuse => Ok(Next::Close),
            Fault::Hang => Ok(Next::Keep),
            Fault::ResetBeforeHead => {
                epoll::reset_on_close(&self.socket)?;
                Ok(Next::Close)
            }
            Fault::ResetAfterHead => {
                let reset = Next::Wait(Later::Reset, HEAD_ALONE);
                self.send(&instance.good[..instance.head], reset)
            }
            Fault::CutBody => self.send(&instance.good[..half], Next::Close),
            Fault::SlowHead => Ok(Next::Wait(Later::Answer, SLOW)),
            Fault::Garbage => self.send(GARBAGE, Next::Close),
            Fault::Unavailable => self.send(&instance.unavailable, Next::Keep),
        }
    }

    /// The buffer is empty before each response, and holds every one of them.
    fn send(&mut self, bytes: &[u8], next: Next) -> io::Result<Next> {
        match self.socket.write(bytes)? {
            count if count == bytes.len() => Ok(next),
            _ => Err(io::Error::other(
                "the socket took a part of a response only",
            )),
        }
    }

    fn go_on(&mut self, later: Later, instance: &Instance) -> io::Result<Next> {
        match later {
            Later::Answer => self.send(&instance.good, Next::Keep),
            Later::Reset => {
                epoll::reset_on_close(&self.socket)?;
                Ok(Next::Close)
            }
        }
    }
}

/// Tokens: the standard input, then listeners, then connections.
const INPUT: usize = 0;
const FIRST_LISTENER: usize = 1;

struct Origin {
    epoll: Epoll,
    instances: Vec<Instance>,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    /// Connections that have something to do later; one whose own instant is another has done it, or is a new one.
    due: BinaryHeap<Reverse<(Instant, usize)>>,
    /// The part of a command that has come so far.
    command: String,
}

impl Origin {
    fn new(instances: Vec<Instance>) -> io::Result<Self> {
        let mut origin = Self {
            epoll: Epoll::new()?,
            instances,
            connections: Vec::new(),
            free: Vec::new(),
            due: BinaryHeap::new(),
            command: String::new(),
        };
        origin
            .epoll
            .add(io::stdin(), epoll::READABLE, INPUT as u64)?;
        for (number, instance) in origin.instances.iter_mut().enumerate() {
            instance.listen(&origin.epoll, (FIRST_LISTENER + number) as u64)?;
        }
        Ok(origin)
    }

    fn first_connection(&self) -> usize {
        FIRST_LISTENER + self.instances.len()
    }

    fn accept_all(&mut self, number: usize) -> io::Result<()> {
        loop {
            // It may have ended since the event.
            let Some(listener) = &self.instances[number].listener else {
                return Ok(());
            };
            let socket = match listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            socket.set_nonblocking(true)?;
            socket.set_nodelay(true)?;
            let slot = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            let token = (self.first_connection() + slot) as u64;
            self.epoll.add(&socket, epoll::READABLE, token)?;
            self.connections[slot] = Some(Connection {
                socket,
                instance: number,
                input: Vec::new(),
                later: None,
            });
        }
    }

    fn serve(&mut self, slot: usize, scratch: &mut [u8]) {
        if let Some(connection) = &mut self.connections[slot] {
            let instance = &self.instances[connection.instance];
            let next = connection.receive(instance, scratch);
            self.follow(slot, next);
        }
    }

    /// A proxy that ends a connection for whatever reason is no error here.
    fn follow(&mut self, slot: usize, next: io::Result<Next>) {
        match (next, &mut self.connections[slot]) {
            (Ok(Next::Keep), _) => {}
            (Ok(Next::Wait(later, wait)), Some(connection)) => {
                let instant = Instant::now() + wait;
                connection.later = Some((instant, later));
                self.due.push(Reverse((instant, slot)));
            }
            _ => self.close(slot),
        }
    }

    fn close(&mut self, slot: usize) {
        self.connections[slot] = None;
        self.free.push(slot);
    }

    /// Does what is due; returns how long the next of it can wait.
    fn do_what_is_due(&mut self) -> Option<Duration> {
        loop {
            let &Reverse((instant, slot)) = self.due.peek()?;
            let wait = instant.saturating_duration_since(Instant::now());
            if !wait.is_zero() {
                return Some(wait);
            }
            self.due.pop();
            let Some(connection) = &mut self.connections[slot] else {
                continue;
            };
            if let Some((_, later)) = connection.later.take_if(|(own, _)| *own == instant) {
                let next = connection.go_on(later, &self.instances[connection.instance]);
                self.follow(slot, next);
            }
        }
    }

    /// Obeys the commands that are complete; false at the end of the input.
    fn read_commands(&mut self, input: &mut File) -> Result<bool, Box<dyn std::error::Error>> {
        let mut bytes = [0; 1024];
        let count = input.read(&mut bytes)?;
        self.command.push_str(str::from_utf8(&bytes[..count])?);
        while let Some((line, rest)) = self.command.split_once('\n') {
            let (line, rest) = (line.to_owned(), rest.to_owned());
            self.command = rest;
            let (fault, number) = line.split_once(' ').ok_or("a command is FAULT INSTANCE")?;
            let fault = Fault::parse(fault).ok_or_else(|| format!("{fault}: no such fault"))?;
            let number: usize = number.parse()?;
            if number >= self.instances.len() {
                return Err(format!("{number}: no such instance").into());
            }
            let began = epoll::monotonic_ns();
            self.change(number, fault)?;
            println!("{began} {line}");
        }
        Ok(count > 0)
    }

    fn change(&mut self, number: usize, fault: Fault) -> io::Result<()> {
        self.instances[number].fault = fault;
        if fault == Fault::Refuse {
            self.instances[number].listener = None;
            for slot in 0..self.connections.len() {
                let ours = |connection: &Connection| connection.instance == number;
                if self.connections[slot].as_ref().is_some_and(ours) {
                    self.close(slot);
                }
            }
        } else if self.instances[number].listener.is_none() {
            self.instances[number].listen(&self.epoll, (FIRST_LISTENER + number) as u64)?;
        }
        Ok(())
    }

    fn run(&mut self) -> Result<(), Box<dyn std::error::Error>> {
        let mut input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        let mut scratch = vec![0; READ_SIZE];
        let mut tokens = Vec::new();
        loop {
            let patience = self.do_what_is_due();
            self.epoll.wait(patience, &mut tokens)?;
            for &token in &tokens {
                let token = token as usize;
                if token == INPUT {
                    if !self.read_commands(&mut input)? {
                        return Ok(());
                    }
                } else if token < self.first_connection() {
                    self.accept_all(token - FIRST_LISTENER)?;
                } else {
                    self.serve(token - self.first_connection(), &mut scratch);
                }
            }
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::from_env(&["instances", "body"])?;
    let count = arguments.value("instances")?.unwrap_or(INSTANCES_DEFAULT);
    let body = arguments.value("body")?.unwrap_or(BODY_DEFAULT);
    let instances: Vec<_> = (0..count)
        .map(|number| Instance::new(number, body))
        .collect::<Result<_, _>>()?;
    let addresses: Vec<_> = instances
        .iter()
        .map(|instance| instance.address.to_string())
        .collect();
    let mut origin = Origin::new(instances)?;
    println!("listening {}", addresses.join(" "));
    origin.run()
}
