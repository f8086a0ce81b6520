//! Hostile clients: one thread, a queue of what is due, as many connections as told of each kind. One that the proxy ends is
//! opened again, so that the number stays.
//!
//! | kind | does |
//! |---|---|
//! | `heads` | begins a head, then sends a field a second and never the end |
//! | `bodies` | announces a body and sends a byte of it a second |
//! | `readers` | ask for a gigabyte and take 10 bytes a second: half with the smallest receive buffer there is, half like a fast reader that stops |
//! | `silent` | connect and say nothing |
//! | `pipeline` | send requests as fast as they are taken and read nothing |
//! | `garbage` | connect, send what is no HTTP or the beginning of something, and reset; each once a second |
//!
//! Usage: `attack --connect ADDRESS [--seconds S] [--KIND COUNT]…`. Prints `open` once every connection has been made, and one
//! line of JSON at the end: connections made, how many the proxy ended, and how many could not be made.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

use warpdrive_perf::arguments::Arguments;
use warpdrive_perf::epoll;

const KINDS: [(&str, Kind); 6] = [
    ("heads", Kind::Heads),
    ("bodies", Kind::Bodies),
    ("readers", Kind::Readers),
    ("silent", Kind::Silent),
    ("pipeline", Kind::Pipeline),
    ("garbage", Kind::Garbage),
];
const INTERVAL: Duration = Duration::from_secs(1);
/// New connections are spread over this time, so that they are an attack and not one burst.
const RAMP: Duration = Duration::from_secs(2);
/// Clients per source address, far below the number of its ports.
const CLIENTS_PER_ADDRESS: usize = 100;
/// As on an Ethernet: the loopback's own 64 KiB lets the kernel keep megabytes for each slow reader.
const SEGMENT: i32 = 1460;
/// Less than the kernel allows: it gives its minimum.
const SMALLEST_BUFFER: i32 = 1;
/// Enough to begin like a fast reader, for which a proxy takes larger buffers.
const ROOMY_BUFFER: i32 = 256 << 10;
const READER_BYTES: usize = 10;
/// What is written at once before somebody else has a turn.
const PIPELINED: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Heads,
    Bodies,
    Readers,
    Silent,
    Pipeline,
    Garbage,
}

/// What the connections of kind `garbage` say, each something else.
const GARBAGE: [&[u8]; 8] = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"\x00\xff\x00\xff\r\n\r\n",
    b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nx",
    b"\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
];

struct Attacker {
    kind: Kind,
    number: usize,
    socket: Option<TcpStream>,
    has_begun: bool,
}

/// How a turn of an attacker ended.
enum Turn {
    Goes,
    /// It closed the connection itself.
    Left,
    /// The proxy did.
    Ended,
}

impl Attacker {
    /// The address it comes from; every one is of the loopback.
    fn from(&self) -> Ipv4Addr {
        Ipv4Addr::new(
            127,
            0,
            1,
            1 + (self.number / CLIENTS_PER_ADDRESS % 250) as u8,
        )
    }

    fn connect(&mut self, address: SocketAddrV4) -> io::Result<()> {
        let buffer = match self.kind {
            Kind::Readers if self.number.is_multiple_of(2) => Some(ROOMY_BUFFER),
            Kind::Readers | Kind::Pipeline => Some(SMALLEST_BUFFER),
            _ => None,
        };
        self.has_begun = false;
        self.socket = Some(epoll::connect(address, self.from(), Some(SEGMENT), buffer)?);
        Ok(())
    }

    /// What is said first on a connection.
    fn opening(&self) -> &'static [u8] {
        match self.kind {
            Kind::Heads => b"GET / HTTP/1.1\r\nHost: a\r\n",
            Kind::Bodies => b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n",
            Kind::Readers => b"GET /1g HTTP/1.1\r\nHost: a\r\n\r\n",
            Kind::Garbage => GARBAGE[self.number % GARBAGE.len()],
            Kind::Silent | Kind::Pipeline => b"",
        }
    }

    fn act(&mut self) -> Turn {
        let opening = self.opening();
        let Some(socket) = &mut self.socket else {
            return Turn::Ended;
        };
        let outcome = if self.has_begun {
            match self.kind {
                Kind::Heads => say(socket, b"X-Slow: 1\r\n"),
                Kind::Bodies => say(socket, b"x"),
                Kind::Readers => take(socket, READER_BYTES),
                Kind::Silent => listen(socket),
                Kind::Pipeline => pour(socket),
                Kind::Garbage => {
                    let reset = epoll::reset_on_close(&*socket);
                    self.socket = None;
                    return if reset.is_ok() {
                        Turn::Left
                    } else {
                        Turn::Ended
                    };
                }
            }
        } else {
            say(socket, opening)
        };
        self.has_begun = true;
        match outcome {
            Ok(()) => Turn::Goes,
            Err(_) => {
                self.socket = None;
                Turn::Ended
            }
        }
    }
}

fn unless_blocked(result: io::Result<usize>) -> io::Result<()> {
    match result {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(error),
    }
}

/// Looks whether the proxy has ended the connection.
fn listen(socket: &mut TcpStream) -> io::Result<()> {
    take(socket, 4096)
}

fn take(socket: &mut TcpStream, count: usize) -> io::Result<()> {
    let mut scratch = [0; 4096];
    unless_blocked(socket.read(&mut scratch[..count]))
}

fn say(socket: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    unless_blocked(socket.write(bytes))?;
    listen(socket)
}

fn pour(socket: &mut TcpStream) -> io::Result<()> {
    let requests = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(PIPELINED);
    loop {
        match socket.write(&requests) {
            Ok(count) if count == requests.len() => {}
            result => return unless_blocked(result),
        }
    }
}

#[derive(Default)]
struct Account {
    made: u64,
    ended: u64,
    failed: u64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let names = KINDS.map(|(name, _)| name);
    let known: Vec<&str> = ["connect", "seconds"].into_iter().chain(names).collect();
    let arguments = Arguments::from_env(&known)?;
    let address: SocketAddrV4 = arguments
        .value("connect")?
        .ok_or("--connect ADDRESS is missing")?;
    let seconds: f64 = arguments.value("seconds")?.unwrap_or(10.0);
    let end = Instant::now() + Duration::try_from_secs_f64(seconds)?;
    let mut attackers = Vec::new();
    for (name, kind) in KINDS {
        for _ in 0..arguments.value::<usize>(name)?.unwrap_or(0) {
            attackers.push(Attacker {
                kind,
                number: attackers.len(),
                socket: None,
                has_begun: false,
            });
        }
    }
    println!("{}", run(address, end, &mut attackers));
    Ok(())
}

/// Lets each attacker act once every [`INTERVAL`] until the end.
fn run(address: SocketAddrV4, end: Instant, attackers: &mut [Attacker]) -> String {
    let start = Instant::now();
    let count = attackers.len();
    // Mixed, so that no kind comes all at once.
    let mut queue: BinaryHeap<Reverse<(Instant, usize)>> = (0..count)
        .map(|index| {
            let place = index.wrapping_mul(7919) % count;
            Reverse((start + RAMP.mul_f64(place as f64 / count as f64), index))
        })
        .collect();
    let (mut account, mut opened) = (Account::default(), 0);
    while let Some(Reverse((due, index))) = queue.pop() {
        let now = Instant::now();
        if now.max(due) >= end {
            break;
        }
        std::thread::sleep(due.saturating_duration_since(now));
        let attacker = &mut attackers[index];
        let mut next = due + INTERVAL;
        if attacker.socket.is_none() {
            match attacker.connect(address) {
                Ok(()) => account.made += 1,
                Err(_) => account.failed += 1,
            }
            if due < start + RAMP {
                opened += 1;
                if opened == count {
                    println!("open");
                }
            }
            // The first words a little later: a connection that is not made yet takes none.
            next = due + INTERVAL / 4;
        } else if let Turn::Ended = attacker.act() {
            account.ended += 1;
        }
        // Not all that was missed is made up for.
        queue.push(Reverse((next.max(now), index)));
    }
    let Account {
        made,
        ended,
        failed,
    } = account;
    format!("{{\"made\": {made}, \"ended_by_proxy\": {ended}, \"failed\": {failed}}}")
}
