//! A core, its origin, and connections whose work is cut at a poll of our choice.

use std::future::{Future, poll_fn};
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, TcpStream as StdStream};
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use monoio::net::TcpStream;

use super::origin::Origin;
use crate::net::Stream;
use crate::net::admission::Admission;
use crate::plan;
use crate::proxy::Core;
use crate::proxy::connection::{self, Connection};
use crate::sys::socket::Ended;
use crate::telemetry::{AccessLog, Counters};
use crate::upstream::{Address, Endpoint, Endpoints, UpstreamId};
use crate::worker::runtime::needs_nonblocking;

const PLAN: &str = "
[upstreams.app]
host = \"127.0.0.1\"
port = 1
[[routes]]
path_prefix = \"/\"
upstream = \"app\"
";

/// Far more than anything takes that is waited for.
const PATIENCE: Duration = Duration::from_secs(20);
/// What a poll takes by the clock of the wheel, so that short pauses end within an exchange.
const POLL: Duration = Duration::from_millis(60);

pub struct Stage {
    pub core: Rc<Core>,
    pub origin: Origin,
    lines: Receiver<Vec<u8>>,
    listener: TcpListener,
    clock: Rc<std::cell::Cell<Instant>>,
    directory: PathBuf,
    /// Descriptors without any connection.
    descriptors: usize,
}

/// How the work of a connection is cut short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Dropped,
    Panicked,
}

/// What is told of a panic that is caused on purpose, but for the line.
pub const PANIC: (&str, &str) = (concat!("panicked at ", file!(), ":"), ": \"on\\npurpose\"");

fn panic_on_purpose() {
    panic!("on\npurpose")
}

impl Stage {
    pub fn new() -> Stage {
        static STAGES: AtomicUsize = AtomicUsize::new(0);
        let number = STAGES.fetch_add(1, Ordering::Relaxed);
        let name = format!("warpdrive-cancel-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let origin = Origin::start(&directory);
        let plan = Arc::new(plan::tests::loaded(PLAN).plan);
        let (full, lines) = crossbeam_channel::unbounded();
        let log = AccessLog::new(full);
        let counters = Arc::new(Counters::default());
        let endpoints = [Endpoint::new(Address::Unix(origin.socket.clone()), 0)].into();
        let table = Endpoints { upstream: UpstreamId(0), generation: 1, endpoints };
        let admission = Arc::new(Admission::default());
        let core = Core::new(0, plan, &[table], counters, admission, Some(log), None);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let clock = Rc::new(std::cell::Cell::new(Instant::now()));
        let descriptors = descriptors();
        Stage { core, origin, lines, listener, clock, directory, descriptors }
    }

    /// The access log since the last look at it.
    pub fn log(&self) -> String {
        if let Some(log) = &self.core.log {
            log.flush(&self.core.counters);
        }
        self.lines.try_iter().map(|lines| String::from_utf8(lines).unwrap()).collect()
    }

    /// Turns the wheel.
    pub fn pass(&self, time: Duration) {
        self.clock.set(self.clock.get() + time);
        self.core.wheel.advance(self.clock.get());
    }

    /// Lets every task run that can, and the kernel do what it was told.
    pub async fn turn(&self) {
        let mut turns = 0..100;
        until("the event loop turns", || turns.next().is_none()).await;
    }

    /// A new connection: the proxy's end and the client's. The kernel takes little at once.
    pub fn connect(&self) -> (Connection, StdStream) {
        let client = StdStream::connect(self.listener.local_addr().unwrap()).unwrap();
        let (stream, peer) = self.listener.accept().unwrap();
        rustix::net::sockopt::set_socket_send_buffer_size(&stream, 8 * 1024).unwrap();
        rustix::net::sockopt::set_socket_recv_buffer_size(&client, 64 * 1024).unwrap();
        stream.set_nonblocking(needs_nonblocking()).unwrap();
        let stream = Stream::tcp(TcpStream::from_std(stream).unwrap(), &self.core.wheel, Ended::Read);
        let (connection, denied) = connection::admit(&self.core, stream, peer.ip());
        assert_eq!(denied, None);
        (connection, client)
    }

    /// Begins to work, and ends it after the `nth` poll, unless it is over before. The channel
    /// tells of each poll; after the end, the flag says whether the work was cut.
    pub fn start(
        &self,
        work: impl Future<Output = ()> + 'static,
        nth: usize,
        ending: Ending,
    ) -> (Receiver<()>, Rc<std::cell::Cell<bool>>) {
        let (polled, polls) = crossbeam_channel::unbounded();
        let is_cut = Rc::new(std::cell::Cell::new(false));
        let cut = Cut {
            work: Some(Box::pin(work)),
            left: nth,
            ending,
            polled,
            is_cut: Rc::clone(&is_cut),
            core: Rc::clone(&self.core),
            clock: Rc::clone(&self.clock),
        };
        connection::spawn(&self.core, cut);
        (polls, is_cut)
    }

    /// Asks for something that nobody else asks for; the answer must be exactly its own.
    pub async fn ask_fresh(&self, number: usize) {
        let target = format!("/fresh/{number}");
        let (connection, mut client) = self.connect();
        connection::spawn(&self.core, connection::serve(Rc::clone(&self.core), connection));
        let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        std::io::Write::write_all(&mut client, request.as_bytes()).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let client = std::thread::spawn(move || {
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            answer
        });
        until("a fresh request is answered", || client.is_finished()).await;
        let head = "HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: ";
        let length = target.len();
        let expected = format!("{head}{length}\r\nConnection: close\r\n\r\n{target}");
        assert_eq!(client.join().unwrap(), expected);
        let times = self.origin.seen().iter().filter(|(seen, _)| *seen == target).count();
        assert_eq!(times, 1, "the origin sees a fresh request once");
    }

    /// Closes what is kept, waits for the kernel, and then nothing is left of anything.
    pub async fn expect_nothing_left(&self) {
        self.expect_nothing_left_but(0).await;
    }

    /// As many descriptors are the test's own.
    pub async fn expect_nothing_left_but(&self, own: usize) {
        self.core.upstreams.pools.clear();
        until("every descriptor is closed", || descriptors() == self.descriptors + own).await;
        assert_eq!(self.core.open(), 0);
        assert_eq!(self.core.admission.open(), 0);
        assert!(self.core.wheel.is_empty(), "a timer waits for nothing");
        assert_eq!(self.origin.faults(), [""; 0]);
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.directory).unwrap();
    }
}

/// The work of a connection until it is cut.
struct Cut {
    work: Option<Pin<Box<dyn Future<Output = ()>>>>,
    left: usize,
    ending: Ending,
    polled: Sender<()>,
    is_cut: Rc<std::cell::Cell<bool>>,
    core: Rc<Core>,
    clock: Rc<std::cell::Cell<Instant>>,
}

impl Future for Cut {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.clock.set(self.clock.get() + POLL);
        self.core.wheel.advance(self.clock.get());
        let work = self.work.as_mut().expect("it is not polled after its end");
        let polled = work.as_mut().poll(cx);
        // Nobody listens where nobody needs to.
        let _unheard = self.polled.send(());
        self.left -= 1;
        if polled.is_ready() || self.left > 0 {
            return polled;
        }
        self.is_cut.set(true);
        match self.ending {
            Ending::Dropped => drop(self.work.take()),
            Ending::Panicked => {
                // Dropped while the stack unwinds, as when it is the work that panics.
                let _work = self.work.take();
                panic_on_purpose()
            }
        }
        Poll::Ready(())
    }
}

/// Descriptors that this process has open.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// KiB of writable memory that this process has reserved.
pub fn memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmData:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Lets the event loop turn until it is so.
#[track_caller]
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) -> impl Future<Output = ()> {
    let deadline = Instant::now() + PATIENCE;
    poll_fn(move |cx| {
        if is_so() {
            return Poll::Ready(());
        }
        assert!(Instant::now() < deadline, "in vain: {what}");
        // Clients and origins have threads of their own.
        std::thread::yield_now();
        // A task that wakes itself would run before all others; one that another wakes waits.
        let waker = cx.waker().clone();
        let _detached = monoio::spawn(async move { waker.wake() });
        Poll::Pending
    })
}
