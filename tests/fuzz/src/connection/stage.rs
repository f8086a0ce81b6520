//! A core of the product on an event loop of its own, a client and an origin, all on this
//! thread: what happens is the same each time. Time passes only when a script says so.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use monoio::{IoUringDriver, LegacyDriver, Runtime, RuntimeBuilder};
use warpdrive::config::{File, Sources};
use warpdrive::net::Stream;
use warpdrive::net::admission::Admission;
use warpdrive::proxy::{Core, connection};
use warpdrive::sys::socket::Ended;
use warpdrive::telemetry::{AccessLog, Counters};
use warpdrive::upstream::{Address, Endpoint, Endpoints, UpstreamId};

use super::origin::Origin;
use super::script::{Script, Step};
use super::wanted::{BOUNDS, REQUEST_BODY_MAX};

/// Turns of the event loop in which nothing happens that anybody sees, after which nothing will.
const QUIET_TURNS: usize = 8;
/// Longer than every timeout of the configuration.
const LONG: Duration = Duration::from_secs(100);
/// What may time out one after the other in one connection.
const TIMEOUTS: usize = 12;

/// A request that is not in the script: it finds what the script has left.
const PROBE: &[u8] = b"GET /probe HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
pub const PROBE_PATH: &[u8] = b"/probe";

enum EventLoop {
    Ring(Runtime<IoUringDriver>),
    Epoll(Runtime<LegacyDriver>),
}

pub struct Stage {
    event_loop: EventLoop,
    core: Rc<Core>,
    lines: Receiver<Vec<u8>>,
    listener: UnixListener,
    clock: Instant,
}

/// What came of a script.
#[derive(Default)]
pub struct Played {
    pub sent: Vec<u8>,
    pub received: Vec<u8>,
    pub origin: Origin,
    /// How many requests the origin saw before the one that is not in the script, and what that
    /// one was answered.
    pub probe: usize,
    pub probed: Vec<u8>,
    /// The access log's lines.
    pub log: Vec<u8>,
    pub exchanges: u64,
}

struct Client {
    stream: Option<UnixStream>,
    sent: Vec<u8>,
    received: Vec<u8>,
    is_ended: bool,
}

impl Stage {
    /// Plays a script on this thread's stage.
    pub fn play(script: &Script) -> Played {
        thread_local! {
            static STAGE: RefCell<Option<Stage>> = const { RefCell::new(None) };
        }
        STAGE.with_borrow_mut(|stage| stage.get_or_insert_with(Stage::build).run(script))
    }

    /// On epoll, where all that is ready is told at once; with `FUZZ_IO=io_uring` on that.
    fn build() -> Stage {
        static IS_PIPE_BROKEN: AtomicBool = AtomicBool::new(false);
        if !IS_PIPE_BROKEN.swap(true, Ordering::Relaxed) {
            // libFuzzer's main function is not Rust's, which would have ignored it.
            let flag = Arc::new(AtomicBool::new(false));
            signal_hook::flag::register(signal_hook::consts::SIGPIPE, flag).expect("SIGPIPE can be caught");
        }
        let event_loop = match std::env::var("FUZZ_IO").as_deref() {
            Ok("io_uring") => {
                EventLoop::Ring(RuntimeBuilder::<IoUringDriver>::new().build().expect("io_uring"))
            }
            _ => EventLoop::Epoll(RuntimeBuilder::<LegacyDriver>::new().build().expect("epoll")),
        };
        let (listener, socket) = listen();
        let (core, lines) = core(socket);
        Stage { event_loop, core, lines, listener, clock: Instant::now() }
    }

    fn run(&mut self, script: &Script) -> Played {
        let Stage { event_loop, core, lines, listener, clock } = self;
        let act = Act { core, listener, clock, script };
        let exchanges = core.counters.exchanges.value();
        let mut played = match event_loop {
            EventLoop::Ring(runtime) => runtime.block_on(act.play()),
            EventLoop::Epoll(runtime) => runtime.block_on(act.play()),
        };
        if let Some(log) = &core.log {
            log.flush(&core.counters);
        }
        played.log = lines.try_iter().flatten().collect();
        played.exchanges = core.counters.exchanges.value() - exchanges;
        played
    }
}

/// A listener of the origin's, and where it is.
fn listen() -> (UnixListener, PathBuf) {
    let name = format!("warpdrive-fuzz-{}-{:?}", std::process::id(), std::thread::current().id());
    let socket = std::env::temp_dir().join(name);
    // What a process with this number has left.
    let _absent = std::fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).expect("a socket can be bound");
    listener.set_nonblocking(true).expect("a socket need not block");
    (listener, socket)
}

fn core(socket: PathBuf) -> (Rc<Core>, Receiver<Vec<u8>>) {
    let text = format!(
        "[server]\nabort_on_close = false\n\
         [server.limits]\nhead_bytes = {}\nfields = {}\nuri_bytes = {}\nrequest_body = {REQUEST_BODY_MAX}\n\
         tunnel_timeout = \"60s\"\ntunnel_linger = \"60s\"\n[upstreams.app]\nhost = \"127.0.0.1\"\nport = 1\n\
         [[routes]]\npath_prefix = \"/\"\nupstream = \"app\"\n",
        BOUNDS.head, BOUNDS.fields, BOUNDS.uri
    );
    let file = Some(File { path: "stage.toml".into(), text });
    let loaded = warpdrive::plan::load(&Sources { file, ..Sources::default() });
    let plan = Arc::new(loaded.expect("the stage's configuration is right").plan);
    let (full, lines) = crossbeam_channel::unbounded();
    let log = AccessLog::new(full);
    let endpoints = [Endpoint::new(Address::Unix(socket), 0)].into();
    let table = Endpoints { upstream: UpstreamId(0), generation: 1, endpoints };
    let (counters, admission) = (Arc::new(Counters::default()), Arc::new(Admission::default()));
    let core = Core::new(0, plan, &[table], counters, admission, Some(log), None);
    (core, lines)
}

/// One script on the stage.
struct Act<'a> {
    core: &'a Rc<Core>,
    listener: &'a UnixListener,
    clock: &'a mut Instant,
    script: &'a Script,
}

impl Act<'_> {
    async fn play(mut self) -> Played {
        let mut origin = Origin::default();
        let mut client = self.connect();
        for step in &self.script.steps {
            match step {
                Step::Send(bytes) => client.send(bytes),
                Step::Settle => {}
                Step::Pass(time) => self.pass(*time),
                Step::Finish => client.finish(),
                Step::Close => client.stream = None,
            }
            if !matches!(step, Step::Send(_)) {
                self.settle(&mut client, &mut origin).await;
            }
        }
        self.settle(&mut client, &mut origin).await;
        self.end(&mut client, &mut origin).await;
        let probe = origin.seen.len();
        origin.is_probed = true;
        let mut other = self.connect();
        other.send(PROBE);
        self.end(&mut other, &mut origin).await;
        self.core.upstreams.pools.clear();
        self.settle(&mut other, &mut origin).await;
        if origin.open() > 0 {
            origin.faults.push("a connection to the origin is left open".to_owned());
        }
        let Client { sent, received, .. } = client;
        Played { sent, received, origin, probe, probed: other.received, ..Played::default() }
    }

    /// A new connection to the product.
    fn connect(&self) -> Client {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        theirs.set_nonblocking(true).expect("a socket need not block");
        ours.set_nonblocking(monoio::utils::is_legacy()).expect("a socket need not block");
        let ours = monoio::net::UnixStream::from_std(ours).expect("a socket on the loop");
        let stream = Stream::unix(ours, &self.core.wheel, Ended::Read);
        connection::start(self.core, stream, IpAddr::V4(Ipv4Addr::LOCALHOST));
        Client { stream: Some(theirs), sent: Vec::new(), received: Vec::new(), is_ended: false }
    }

    /// The client sends nothing more; the connection ends, by itself or by a timeout.
    async fn end(&mut self, client: &mut Client, origin: &mut Origin) {
        client.finish();
        self.settle(client, origin).await;
        for _ in 0..TIMEOUTS {
            if self.core.open() == 0 {
                break;
            }
            self.pass(LONG);
            self.settle(client, origin).await;
        }
        let faults = [
            (self.core.open() > 0, "the connection hangs"),
            (self.core.admission.open() != self.core.open(), "the connection is still counted"),
            (client.stream.is_some() && !client.is_ended, "the client's connection is left open"),
            (self.core.counters.panics.value() > 0, "a panic"),
        ];
        let found = faults.iter().filter(|(is_so, _)| *is_so);
        origin.faults.extend(found.map(|(_, what)| (*what).to_owned()));
    }

    fn pass(&mut self, time: Duration) {
        *self.clock += time;
        self.core.wheel.advance(*self.clock);
    }

    async fn settle(&mut self, client: &mut Client, origin: &mut Origin) {
        let mut quiet = 0;
        while quiet < QUIET_TURNS {
            turn().await;
            let has_moved = client.receive() | origin.work(self.listener, self.script);
            quiet = if has_moved { 0 } else { quiet + 1 };
        }
    }
}

/// Lets every other task run, and the event loop look at its sockets.
fn turn() -> impl Future<Output = ()> {
    let mut has_turned = false;
    poll_fn(move |cx| {
        if std::mem::replace(&mut has_turned, true) {
            return Poll::Ready(());
        }
        // A task that wakes itself would run before all others; one that another wakes waits.
        let waker = cx.waker().clone();
        let _detached = monoio::spawn(async move { waker.wake() });
        Poll::Pending
    })
}

impl Client {
    /// A product that has closed takes nothing more.
    fn send(&mut self, bytes: &[u8]) {
        if let Some(stream) = &mut self.stream
            && let Ok(count) = stream.write(bytes)
        {
            self.sent.extend_from_slice(&bytes[..count]);
        }
    }

    fn finish(&mut self) {
        if let Some(stream) = &self.stream {
            // One that is closed already has ended both ways.
            let _gone = stream.shutdown(Shutdown::Write);
        }
    }

    fn receive(&mut self) -> bool {
        let Some(stream) = &mut self.stream else { return false };
        let mut has_moved = false;
        let mut piece = [0; 4096];
        while !self.is_ended {
            match stream.read(&mut piece) {
                Ok(0) => self.is_ended = true,
                Ok(count) => self.received.extend_from_slice(&piece[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.is_ended = true,
            }
            has_moved = true;
        }
        has_moved
    }
}
