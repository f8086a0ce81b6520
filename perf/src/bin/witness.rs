//! A load at a fixed rate that goes on whatever happens, and tells what became of each request.
//!
//! Requests are due at fixed instants, and latency counts from those. A request goes on the connection that was idle longest, on a new one if
//! none is: what waits for an answer keeps nobody else waiting. Clients have many addresses, requests many paths, for
//! proxies that choose by one of them.
//!
//! Usage: `witness --connect ADDRESS [--rate PER_SECOND] [--seconds S] [--body BYTES]`. Prints one line of JSON: the instant
//! `start_ns` on the monotonic clock, and in `requests` for each request the microseconds from there until it was due,
//! its latency in microseconds, its outcome and which instance answered, or null. Outcomes are `ok`, the status when it was not 200, `refused`
//! (no connection), `reset` and `empty` (the end of the connection before that of a head), `cut` (the end of it, of
//! whatever kind, in a body), `garbage`, `wrong` (a 200 that is not what the application sends) and `timeout`.

use std::collections::VecDeque;
use std::fmt::{self, Display, Write as _};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

use warpdrive_perf::arguments::Arguments;
use warpdrive_perf::epoll::{self, Epoll};

const RATE_DEFAULT: f64 = 2000.0;
const SECONDS_DEFAULT: f64 = 6.0;
const BODY_DEFAULT: u64 = 1024;
const READ_SIZE: usize = 64 * 1024;
const HEAD_MAX: usize = 16 * 1024;
/// Open before the first request.
const CONNECTIONS_FIRST: usize = 64;
/// So many can wait for an answer; the next request waits for one of them.
const CONNECTIONS_MAX: usize = 4096;
/// More than a proxy needs that tries two instances for a second each.
const TIMEOUT: Duration = Duration::from_secs(5);
const CLIENTS: usize = 250;
const PATHS: usize = 1000;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    Ok,
    Status(u16),
    Refused,
    Reset,
    Empty,
    Cut,
    Garbage,
    Wrong,
    Timeout,
}

impl Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => out.write_str("ok"),
            Self::Status(status) => write!(out, "{status}"),
            Self::Refused => out.write_str("refused"),
            Self::Reset => out.write_str("reset"),
            Self::Empty => out.write_str("empty"),
            Self::Cut => out.write_str("cut"),
            Self::Garbage => out.write_str("garbage"),
            Self::Wrong => out.write_str("wrong"),
            Self::Timeout => out.write_str("timeout"),
        }
    }
}

#[derive(Debug, PartialEq)]
struct Head {
    size: usize,
    status: u16,
    /// None when the body goes on to the end of the connection, or is framed in a way that is not read here.
    length: Option<u64>,
    instance: Option<u8>,
    closes: bool,
}

impl Head {
    /// The head at the start of `input`; none if it goes on, an error if it is none.
    fn parse(input: &[u8]) -> Result<Option<Self>, Outcome> {
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut fields);
        let size = match response.parse(input) {
            Ok(httparse::Status::Complete(size)) => size,
            Ok(httparse::Status::Partial) if input.len() < HEAD_MAX => return Ok(None),
            _ => return Err(Outcome::Garbage),
        };
        let value = |name: &str| {
            let field = response
                .headers
                .iter()
                .find(|field| field.name.eq_ignore_ascii_case(name))?;
            str::from_utf8(field.value).ok().map(str::trim)
        };
        let connection = value("connection").unwrap_or_default();
        let keeps_by_default = response.version == Some(1);
        Ok(Some(Self {
            size,
            status: response.code.unwrap_or_default(),
            length: value("content-length").and_then(|text| text.parse().ok()),
            instance: value("x-instance").and_then(|text| text.parse().ok()),
            closes: connection.eq_ignore_ascii_case("close")
                || !(keeps_by_default || connection.eq_ignore_ascii_case("keep-alive")),
        }))
    }

    /// What becomes of the request if the body comes as announced.
    fn outcome(&self, body: u64) -> Outcome {
        match self.status {
            200 if self.length == Some(body) && self.instance.is_some() => Outcome::Ok,
            200 => Outcome::Wrong,
            status => Outcome::Status(status),
        }
    }
}

/// A request that is over.
struct End {
    outcome: Outcome,
    instance: Option<u8>,
    keeps: bool,
}

impl End {
    fn failed(outcome: Outcome) -> Self {
        Self {
            outcome,
            instance: None,
            keeps: false,
        }
    }
}

struct Connection {
    socket: TcpStream,
    /// The request under way, by its place among all.
    request: Option<usize>,
    /// What is still to be sent of it.
    unsent: Vec<u8>,
    input: Vec<u8>,
    head: Option<Head>,
}

impl Connection {
    fn open(address: SocketAddrV4, client: usize) -> io::Result<Self> {
        let from = Ipv4Addr::new(127, 2, 0, (client % CLIENTS) as u8 + 1);
        let socket = epoll::connect(address, from, None, None)?;
        socket.set_nodelay(true)?;
        Ok(Self {
            socket,
            request: None,
            unsent: Vec::new(),
            input: Vec::new(),
            head: None,
        })
    }

    fn begin(&mut self, request: usize, address: SocketAddrV4) {
        self.request = Some(request);
        self.unsent = format!(
            "GET /item/{} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: witness\r\nAccept: */*\r\n\r\n",
            request % PATHS
        )
        .into_bytes();
    }

    /// Goes on as far as the socket allows; an end when the request, or without one the connection, is over.
    fn advance(&mut self, scratch: &mut [u8], body: u64) -> Option<End> {
        if !self.unsent.is_empty() {
            match self.socket.write(&self.unsent) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                // An answer that came before the reset is one: read on.
                Err(error) if error.kind() != io::ErrorKind::ConnectionRefused => {
                    self.unsent.clear();
                }
                Err(_) => return Some(End::failed(Outcome::Refused)),
            }
        }
        loop {
            match self.socket.read(scratch) {
                Ok(0) => return Some(self.ended(Outcome::Empty)),
                Ok(count) => {
                    if let Some(end) = self.take(&scratch[..count], body) {
                        return Some(end);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    return Some(End::failed(Outcome::Refused));
                }
                Err(_) => return Some(self.ended(Outcome::Reset)),
            }
        }
    }

    /// The connection is over, and the response is not.
    fn ended(&self, without_head: Outcome) -> End {
        let outcome = match &self.head {
            Some(head) if head.status == 200 => Outcome::Cut,
            Some(head) => Outcome::Status(head.status),
            None => without_head,
        };
        End::failed(outcome)
    }

    fn take(&mut self, bytes: &[u8], body: u64) -> Option<End> {
        self.input.extend_from_slice(bytes);
        if self.head.is_none() {
            match Head::parse(&self.input) {
                Ok(head) => self.head = head,
                Err(outcome) => return Some(End::failed(outcome)),
            }
        }
        let head = self.head.as_ref()?;
        let received = (self.input.len() - head.size) as u64;
        let outcome = head.outcome(body);
        let (outcome, keeps) = match head.length {
            // What is not framed by a length is a proxy's own error page: its status says all.
            None => (outcome, false),
            Some(length) if received < length => return None,
            Some(length) if received > length => (Outcome::Garbage, false),
            Some(_) => (outcome, !head.closes),
        };
        Some(End {
            outcome,
            instance: head.instance,
            keeps,
        })
    }
}

struct Request {
    latency: Duration,
    outcome: Outcome,
    instance: Option<u8>,
}

struct Witness {
    address: SocketAddrV4,
    body: u64,
    interval: Duration,
    start: Instant,
    epoll: Epoll,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    idle: VecDeque<usize>,
    /// When requests under way are given up, in the order of their beginning: with the connection's slot and the request.
    deadlines: VecDeque<(Instant, usize, usize)>,
    /// How many have begun, of how many.
    begun: usize,
    /// What has become of them; none as long as it is open.
    requests: Vec<Option<Request>>,
    open: usize,
}

impl Witness {
    fn new(arguments: &Arguments) -> Result<Self, Box<dyn std::error::Error>> {
        let address = arguments
            .value("connect")?
            .ok_or("--connect ADDRESS is missing")?;
        let rate: f64 = arguments.value("rate")?.unwrap_or(RATE_DEFAULT);
        let seconds: f64 = arguments.value("seconds")?.unwrap_or(SECONDS_DEFAULT);
        if !(rate.is_finite() && seconds.is_finite() && rate > 0.0 && seconds > 0.0) {
            return Err("--rate and --seconds must be more than zero".into());
        }
        let total = (rate * seconds) as usize;
        let mut witness = Self {
            address,
            body: arguments.value("body")?.unwrap_or(BODY_DEFAULT),
            interval: Duration::from_secs_f64(1.0 / rate),
            start: Instant::now(),
            epoll: Epoll::new()?,
            connections: Vec::new(),
            free: Vec::new(),
            idle: VecDeque::new(),
            deadlines: VecDeque::new(),
            begun: 0,
            requests: std::iter::repeat_with(|| None).take(total).collect(),
            open: 0,
        };
        for _ in 0..CONNECTIONS_FIRST {
            let slot = witness.connect()?;
            witness.idle.push_back(slot);
        }
        Ok(witness)
    }

    fn due(&self, request: usize) -> Instant {
        self.start + self.interval.mul_f64(request as f64)
    }

    fn connect(&mut self) -> io::Result<usize> {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        let connection = Connection::open(self.address, slot)?;
        let interest = epoll::READABLE | epoll::WRITABLE | epoll::EDGE_TRIGGERED;
        self.epoll.add(&connection.socket, interest, slot as u64)?;
        self.connections[slot] = Some(connection);
        Ok(slot)
    }

    /// A slot with a connection that is free; none when there are too many.
    fn choose(&mut self) -> io::Result<Option<usize>> {
        while let Some(slot) = self.idle.pop_front() {
            // It may have been closed since, and its slot be that of another.
            let connection = self.connections[slot].as_ref();
            if connection.is_some_and(|connection| connection.request.is_none()) {
                return Ok(Some(slot));
            }
        }
        if self.connections.len() - self.free.len() >= CONNECTIONS_MAX {
            return Ok(None);
        }
        self.connect().map(Some)
    }

    fn send_due(&mut self, scratch: &mut [u8]) -> io::Result<()> {
        while self.begun < self.requests.len() {
            let now = Instant::now();
            if self.due(self.begun) > now {
                return Ok(());
            }
            let Some(slot) = self.choose()? else {
                return Ok(());
            };
            if let Some(connection) = &mut self.connections[slot] {
                connection.begin(self.begun, self.address);
            }
            self.deadlines.push_back((now + TIMEOUT, slot, self.begun));
            self.begun += 1;
            self.open += 1;
            self.advance(slot, scratch);
        }
        Ok(())
    }

    fn advance(&mut self, slot: usize, scratch: &mut [u8]) {
        let Some(connection) = &mut self.connections[slot] else {
            return;
        };
        if let Some(end) = connection.advance(scratch, self.body) {
            self.end(slot, end);
        }
    }

    fn end(&mut self, slot: usize, end: End) {
        let Some(connection) = &mut self.connections[slot] else {
            return;
        };
        let request = connection.request.take();
        connection.input.clear();
        connection.head = None;
        if let Some(request) = request {
            let latency = self.due(request).elapsed();
            self.open -= 1;
            self.requests[request] = Some(Request {
                latency,
                outcome: end.outcome,
                instance: end.instance,
            });
        }
        // Bytes that no request asked for end a connection, too.
        if end.keeps && request.is_some() {
            self.idle.push_back(slot);
        } else {
            self.connections[slot] = None;
            self.free.push(slot);
        }
    }

    fn give_up_late_ones(&mut self) {
        while let Some(&(deadline, slot, request)) = self.deadlines.front() {
            let is_open = self.requests[request].is_none();
            if is_open && deadline > Instant::now() {
                return;
            }
            self.deadlines.pop_front();
            if is_open {
                self.end(slot, End::failed(Outcome::Timeout));
            }
        }
    }

    /// How long nothing has to be done but what events ask for.
    fn patience(&self) -> Duration {
        let next = (self.begun < self.requests.len()).then(|| self.due(self.begun));
        let deadline = self.deadlines.front().map(|(deadline, ..)| *deadline);
        let instant = next.into_iter().chain(deadline).min();
        instant.map_or(Duration::ZERO, |instant| {
            instant.saturating_duration_since(Instant::now())
        })
    }

    fn run(&mut self) -> io::Result<()> {
        let (mut scratch, mut tokens) = (vec![0; READ_SIZE], Vec::new());
        while self.begun < self.requests.len() || self.open > 0 {
            self.send_due(&mut scratch)?;
            self.give_up_late_ones();
            self.epoll.wait(Some(self.patience()), &mut tokens)?;
            for &token in &tokens {
                self.advance(token as usize, &mut scratch);
            }
        }
        Ok(())
    }

    fn report(&self, start_ns: u64) -> Result<String, fmt::Error> {
        let mut text = format!("{{\"start_ns\": {start_ns}, \"requests\": [");
        for (number, request) in self.requests.iter().flatten().enumerate() {
            let due = self.due(number) - self.start;
            let separator = if number == 0 { "" } else { ", " };
            let (latency, outcome) = (request.latency.as_micros(), request.outcome);
            write!(
                text,
                "{separator}[{}, {latency}, \"{outcome}\", ",
                due.as_micros()
            )?;
            match request.instance {
                Some(instance) => write!(text, "{instance}]")?,
                None => text.push_str("null]"),
            }
        }
        text.push_str("]}");
        Ok(text)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::from_env(&["connect", "rate", "seconds", "body"])?;
    epoll::set_smallest_timer_slack()?;
    let mut witness = Witness::new(&arguments)?;
    let start_ns = epoll::monotonic_ns();
    witness.start = Instant::now();
    witness.run()?;
    println!("{}", witness.report(start_ns)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(response: &str, expected: Result<Outcome, Outcome>) {
        let found = Head::parse(response.as_bytes()).map(|head| {
            let head = head.expect("the head is complete");
            head.outcome(4)
        });
        assert_eq!(found, expected, "{response}");
    }

    #[test]
    fn a_head_says_what_becomes_of_the_request() {
        check(
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX-Instance: 1\r\n\r\n",
            Ok(Outcome::Ok),
        );
        check(
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Instance: 1\r\n\r\n",
            Ok(Outcome::Wrong),
        );
        check(
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n",
            Ok(Outcome::Wrong),
        );
        check("HTTP/1.0 503 No\r\n\r\n", Ok(Outcome::Status(503)));
        check("\u{16}\u{3}\u{1} no\r\n\r\n", Err(Outcome::Garbage));
    }

    #[test]
    fn a_connection_is_kept_as_the_head_says() {
        for (head, closes) in [
            ("HTTP/1.1 200 OK\r\n\r\n", false),
            ("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", true),
            ("HTTP/1.0 200 OK\r\n\r\n", true),
            ("HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n\r\n", false),
        ] {
            let parsed = Head::parse(head.as_bytes()).map(|parsed| parsed.map(|head| head.closes));
            assert_eq!(parsed, Ok(Some(closes)), "{head}");
        }
    }
}
