//! A lean load generator: one thread, epoll, keep-alive connections, fixed requests. Every response is checked: status 200,
//! a Content-Length, exactly that many bytes, and the same number each time.
//!
//! Closed loop (the default): each connection sends its next request when it has its response. With `--rate` the loop is open:
//! requests are due at fixed instants whatever the responses do, and latency counts from that instant, so that a
//! request which had to wait for a free connection shows it.
//!
//! Usage: `load --connect ADDRESS [--connections N] [--seconds S] [--rate PER_SECOND] [--path PATH] [--spread N] [--field LINE] [--body BYTES]`
//! (`--body`: the length every response must have; `--spread`: the paths PATH0, PATH1 and so on, N of them, in turn;
//! `--field`: one more field, as a line without its end). Prints one line of JSON; exits with 1 if there was any error.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use warpdrive_perf::arguments::Arguments;
use warpdrive_perf::epoll::{self, Epoll};
use warpdrive_perf::histogram::Histogram;

const READ_SIZE: usize = 256 * 1024;
const HEAD_MAX: usize = 16 * 1024;
const ERRORS_MAX: u64 = 100;
const ERRORS_SHOWN: u64 = 3;
/// How long responses may be late once the time is over.
const GRACE: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

struct Options {
    address: SocketAddr,
    connections: usize,
    duration: Duration,
    /// Requests per second to offer; none for a closed loop.
    rate: Option<f64>,
    body: Option<u64>,
    /// Sent in turn.
    requests: Vec<Vec<u8>>,
}

impl Options {
    fn from_env() -> Result<Self, String> {
        let known = ["connect", "connections", "seconds", "rate", "path", "spread", "field", "body"];
        let arguments = Arguments::from_env(&known)?;
        let address: SocketAddr = arguments
            .value("connect")?
            .ok_or("--connect ADDRESS is missing")?;
        let connections = arguments.value("connections")?.unwrap_or(64);
        let seconds = arguments.value("seconds")?.unwrap_or(3.0);
        let duration =
            Duration::try_from_secs_f64(seconds).map_err(|error| format!("--seconds: {error}"))?;
        let rate = arguments.value("rate")?;
        if connections == 0 || rate.is_some_and(|rate: f64| !rate.is_finite() || rate <= 0.0) {
            return Err("--connections and --rate must be more than zero".to_owned());
        }
        let path = arguments.text("path").unwrap_or("/");
        let field = arguments.text("field");
        let requests = match arguments.value::<usize>("spread")? {
            None => vec![browser_request(address, path, field)],
            Some(0) => return Err("--spread must be more than zero".to_owned()),
            Some(count) => (0..count)
                .map(|number| browser_request(address, &format!("{path}{number}"), field))
                .collect(),
        };
        Ok(Self {
            address,
            connections,
            duration,
            rate,
            body: arguments.value("body")?,
            requests,
        })
    }
}

/// The fields that a browser sends, so that a proxy has its usual work with them.
fn browser_request(address: SocketAddr, path: &str, field: Option<&str>) -> Vec<u8> {
    let field = field.map_or(String::new(), |line| format!("{line}\r\n"));
    format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\n\
         User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
         Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
         Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n{field}\r\n"
    )
    .into_bytes()
}

struct Connection {
    socket: TcpStream,
    /// When the request that is under way should have been sent; none when nothing is.
    due: Option<Instant>,
    /// The part of a response head that has come so far.
    head: Vec<u8>,
    /// Bytes of the body still to come, once the head is complete.
    body_left: Option<u64>,
}

impl Connection {
    fn open(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            due: None,
            head: Vec::new(),
            body_left: None,
        })
    }

    fn send(&mut self, request: &[u8], due: Instant) -> Result<(), String> {
        self.due = Some(due);
        match self.socket.write(request) {
            Ok(count) if count == request.len() => Ok(()),
            Ok(_) => Err("the socket took a part of a request only".to_owned()),
            Err(error) => Err(format!("sending: {error}")),
        }
    }

    /// Reads until the socket is empty; true when the response is complete.
    fn receive(&mut self, scratch: &mut [u8], body: &mut Option<u64>) -> Result<bool, String> {
        loop {
            let count = match self.socket.read(scratch) {
                Ok(0) => return Err("closed by the proxy".to_owned()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(format!("receiving: {error}")),
            };
            let complete = self.take(&scratch[..count], body)?;
            // Less than was asked for: the socket is empty, and the next bytes make a new edge.
            if complete || count < scratch.len() {
                return Ok(complete);
            }
        }
    }

    fn take(&mut self, bytes: &[u8], body: &mut Option<u64>) -> Result<bool, String> {
        if self.due.is_none() {
            return Err("bytes that belong to no request".to_owned());
        }
        let in_body = match self.body_left {
            Some(_) => bytes.len(),
            None => {
                let earlier = self.head.len();
                let parsed = if earlier == 0 {
                    parse_head(bytes)?
                } else {
                    self.head.extend_from_slice(bytes);
                    parse_head(&self.head)?
                };
                let Some((head, length)) = parsed else {
                    if earlier == 0 {
                        self.head.extend_from_slice(bytes);
                    }
                    return Ok(false);
                };
                if *body.get_or_insert(length) != length {
                    return Err(format!(
                        "a body of {length} bytes instead of {}",
                        body.unwrap_or_default()
                    ));
                }
                self.head.clear();
                self.body_left = Some(length);
                earlier + bytes.len() - head
            }
        };
        let left = self.body_left.unwrap_or_default();
        let left = left
            .checked_sub(in_body as u64)
            .ok_or("bytes after the end of a response")?;
        self.body_left = (left > 0).then_some(left);
        Ok(left == 0)
    }
}

/// Length of the head and of the body that it announces; none if the head goes on.
fn parse_head(input: &[u8]) -> Result<Option<(usize, u64)>, String> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut fields);
    let head = match response.parse(input) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) if input.len() < HEAD_MAX => return Ok(None),
        Ok(httparse::Status::Partial) => return Err("a head without end".to_owned()),
        Err(error) => return Err(format!("not a response: {error}")),
    };
    if response.code != Some(200) {
        return Err(format!("status {}", response.code.unwrap_or_default()));
    }
    let mut lengths = response
        .headers
        .iter()
        .filter(|field| field.name.eq_ignore_ascii_case("content-length"));
    let (Some(length), None) = (lengths.next(), lengths.next()) else {
        return Err("not exactly one content-length".to_owned());
    };
    let length = str::from_utf8(length.value)
        .ok()
        .and_then(|text| text.trim().parse().ok());
    length
        .map(|length| Some((head, length)))
        .ok_or_else(|| "a content-length that is no number".to_owned())
}

/// When requests are due.
enum Schedule {
    Closed {
        until: Instant,
    },
    Open {
        start: Instant,
        interval: Duration,
        issued: u64,
        total: u64,
    },
}

impl Schedule {
    fn new(options: &Options) -> Self {
        let start = Instant::now();
        match options.rate {
            None => Self::Closed {
                until: start + options.duration,
            },
            Some(rate) => Self::Open {
                start,
                interval: Duration::from_secs_f64(1.0 / rate),
                issued: 0,
                total: (options.duration.as_secs_f64() * rate) as u64,
            },
        }
    }

    /// The instant at which the next request is due; none when all have been sent.
    fn next_due(&self, now: Instant) -> Option<Instant> {
        match self {
            Self::Closed { until } => (now < *until).then_some(now),
            Self::Open {
                start,
                interval,
                issued,
                total,
            } => (issued < total).then(|| *start + interval.mul_f64(*issued as f64)),
        }
    }

    fn advance(&mut self) {
        if let Self::Open { issued, .. } = self {
            *issued += 1;
        }
    }
}

struct Run<'a> {
    options: &'a Options,
    epoll: Epoll,
    connections: Vec<Connection>,
    /// Connections without a request under way, the longest idle first.
    idle: VecDeque<usize>,
    schedule: Schedule,
    /// Which of the requests is next.
    turn: usize,
    body: Option<u64>,
    latencies: Histogram,
    requests: u64,
    errors: u64,
}

impl<'a> Run<'a> {
    fn new(options: &'a Options) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        let mut connections = Vec::with_capacity(options.connections);
        for token in 0..options.connections {
            let connection = Connection::open(options.address)?;
            epoll.add(
                &connection.socket,
                epoll::READABLE | epoll::EDGE_TRIGGERED,
                token as u64,
            )?;
            connections.push(connection);
        }
        Ok(Self {
            options,
            epoll,
            idle: (0..connections.len()).collect(),
            connections,
            schedule: Schedule::new(options),
            turn: 0,
            body: options.body,
            latencies: Histogram::default(),
            requests: 0,
            errors: 0,
        })
    }

    /// Counts the error and puts a new connection in the place of the one that had it.
    fn fail(&mut self, index: usize, reason: &str) -> io::Result<()> {
        self.errors += 1;
        if self.errors <= ERRORS_SHOWN {
            eprintln!("load: {reason}");
        }
        let connection = Connection::open(self.options.address)?;
        self.epoll.add(
            &connection.socket,
            epoll::READABLE | epoll::EDGE_TRIGGERED,
            index as u64,
        )?;
        self.connections[index] = connection;
        if !self.idle.contains(&index) {
            self.idle.push_back(index);
        }
        Ok(())
    }

    /// Sends all that is due as long as a connection is free for it.
    fn send_due(&mut self, now: Instant) -> io::Result<()> {
        while let Some(due) = self.schedule.next_due(now).filter(|due| *due <= now) {
            let Some(index) = self.idle.pop_front() else {
                break;
            };
            self.schedule.advance();
            let request = &self.options.requests[self.turn];
            self.turn = (self.turn + 1) % self.options.requests.len();
            if let Err(reason) = self.connections[index].send(request, due) {
                self.fail(index, &reason)?;
                break;
            }
        }
        Ok(())
    }

    fn receive(&mut self, index: usize, scratch: &mut [u8]) -> io::Result<()> {
        match self.connections[index].receive(scratch, &mut self.body) {
            Ok(false) => Ok(()),
            Ok(true) => {
                let due = self.connections[index].due.take();
                self.latencies
                    .record(due.map_or(Duration::ZERO, |due| due.elapsed()));
                self.requests += 1;
                self.idle.push_back(index);
                // At once, not after the other events: the proxy should not wait for the generator.
                self.send_due(Instant::now())
            }
            Err(reason) => self.fail(index, &reason),
        }
    }

    /// How long to wait for events: until the next request is due, if one could be sent.
    fn patience(&self, now: Instant) -> Duration {
        let idle_wait = Duration::from_millis(100);
        match self.schedule.next_due(now) {
            Some(due) if !self.idle.is_empty() => due.saturating_duration_since(now).min(idle_wait),
            _ => idle_wait,
        }
    }

    fn run(&mut self) -> io::Result<Duration> {
        let start = Instant::now();
        let deadline = start + self.options.duration + GRACE;
        let (mut scratch, mut tokens) = (vec![0; READ_SIZE], Vec::new());
        loop {
            let now = Instant::now();
            self.send_due(now)?;
            let under_way = self.connections.len() - self.idle.len();
            if (under_way == 0 && self.schedule.next_due(now).is_none())
                || self.errors >= ERRORS_MAX
            {
                return Ok(start.elapsed());
            }
            if now > deadline {
                eprintln!("load: {under_way} responses are missing");
                self.errors += under_way as u64;
                return Ok(start.elapsed());
            }
            self.epoll.wait(Some(self.patience(now)), &mut tokens)?;
            for &token in &tokens {
                self.receive(token as usize, &mut scratch)?;
            }
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::from_env()?;
    epoll::set_smallest_timer_slack()?;
    let mut run = Run::new(&options)?;
    let elapsed = run.run()?;
    let microseconds = |share| run.latencies.quantile(share).as_nanos() as f64 / 1000.0;
    println!(
        "{{\"requests\": {}, \"seconds\": {:.6}, \"errors\": {}, \"body\": {}, \
         \"p50_us\": {:.1}, \"p90_us\": {:.1}, \"p99_us\": {:.1}, \"p999_us\": {:.1}}}",
        run.requests,
        elapsed.as_secs_f64(),
        run.errors,
        run.body.unwrap_or_default(),
        microseconds(0.5),
        microseconds(0.9),
        microseconds(0.99),
        microseconds(0.999),
    );
    if run.errors > 0 {
        std::process::exit(1);
    }
    Ok(())
}
