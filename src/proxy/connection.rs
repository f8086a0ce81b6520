//! A client's connection: bytes to requests, one after the other, until it ends.
//!
//! A connection that is silent for a second gives its buffers and its task away and is parked:
//! what is left of it waits for readability and then starts again.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::changes::Changes;
use super::core::{Active, Core, Open};
use super::error::Error;
use super::exchange::{self, Next};
use super::filters::Passage;
use super::respond;
use crate::http::forwarding::Peer;
use crate::http::h1::{Parsed, parse};
use crate::http::head::{RequestHead, ResponseHead};
use crate::net::admission::{Admitted, Denied};
use crate::net::buffer::Size;
use crate::net::deadline::{Expired, Side};
use crate::net::stream::{IdleRead, Interrupt, Peeked, Stream};
use crate::net::task::Turn;
use crate::net::{Buffer, task};

/// Silence after which a connection is parked.
const QUIET: Duration = Duration::from_secs(1);
/// How long, and how much, a client may go on sending after a refusal.
const LINGER: Duration = Duration::from_secs(5);
const LINGER_SILENCE: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 8 * 1024 * 1024;

/// What a connection needs only while it works; it is handed from one to the next.
#[derive(Default)]
pub struct Work {
    /// Bytes that were read and not used yet.
    pub input: Option<Buffer>,
    pub request: RequestHead,
    pub response: ResponseHead,
    /// Heads on their way out.
    pub out: Vec<u8>,
    pub peer: Option<Peer>,
    pub changes: Changes,
    pub passage: Passage,
    interrupt: Interrupt,
}

/// All that a parked connection keeps.
pub struct Connection {
    stream: Stream,
    address: IpAddr,
    /// Its idle timeout runs already: being parked, or an empty line, does not start it anew.
    is_idle: bool,
    _admitted: Option<Admitted>,
    _open: Open,
}

/// How the wait for a request's head ended.
enum Arrival {
    Head,
    Gone,
    Refused(Error),
}

/// How a connection's work ended.
enum End {
    Park,
    Close,
    Linger,
}

/// Takes over an accepted connection.
pub fn start(core: &Rc<Core>, stream: Stream, address: IpAddr) {
    let (connection, denied) = admit(core, stream, address);
    match denied {
        None => spawn(core, serve(Rc::clone(core), connection)),
        Some(denied) => spawn(core, deny(Rc::clone(core), connection, denied)),
    }
}

/// Counts a connection, and tells whether it is one too many.
pub(crate) fn admit(core: &Rc<Core>, stream: Stream, address: IpAddr) -> (Connection, Option<Denied>) {
    let active = core.active();
    let admitted = core.admission.admit(address, active.admission_bounds());
    let (admitted, denied) = match admitted {
        Ok(admitted) => (Some(admitted), None),
        Err(denied) => (None, Some(denied)),
    };
    core.counters.connections.add(1);
    match denied {
        None => {}
        Some(Denied::Process) => core.counters.denied.add(1),
        Some(Denied::Address) => core.counters.denied_by_address.add(1),
    }
    let _open = core.count_open();
    (Connection { stream, address, is_idle: false, _admitted: admitted, _open }, denied)
}

/// Runs the work of a connection; a panic in it is counted.
pub(crate) fn spawn(core: &Rc<Core>, future: impl Future<Output = ()> + 'static) {
    let counters = core.counters.clone();
    task::spawn(future, move || counters.panics.add(1));
}

/// Serves a connection until it ends or is parked. May be dropped at any await.
pub(crate) async fn serve(core: Rc<Core>, mut connection: Connection) {
    let mut work = core.take_work();
    let end = run(&core, &mut connection, &mut work).await;
    core.put_work(work);
    match end {
        End::Close => {}
        End::Linger => linger(&core, &mut connection.stream).await,
        End::Park => spawn(&core.clone(), park(core, connection)),
    }
}

/// Waits for the next byte with as little as possible.
#[expect(clippy::manual_async_fn, reason = "an async fn keeps its arguments twice")]
pub(crate) fn park(core: Rc<Core>, connection: Connection) -> impl Future<Output = ()> + 'static {
    async move {
        connection.stream.timer().set_idle(true);
        let is_readable = connection.stream.readable().await.is_ok();
        connection.stream.timer().set_idle(false);
        let is_wanted = match connection.stream.timer().expired() {
            None => true,
            // A request that came just before it was to leave is still served.
            Some(Expired::Retired) => connection.stream.peek() == Peeked::Data,
            Some(Expired::Timeout(_)) => false,
        };
        if is_readable && is_wanted {
            let spawner = Rc::clone(&core);
            spawn(&spawner, serve(core, connection));
        }
    }
}

async fn deny(core: Rc<Core>, mut connection: Connection, denied: Denied) {
    let error = match denied {
        Denied::Process => Error::TooManyConnections,
        Denied::Address => Error::TooManyConnectionsOfAddress,
    };
    let active = core.active();
    let mut work = core.take_work();
    work.peer = Some(Peer::new(&active.plan.forwarding, connection.address));
    if respond::refuse(&core, &active, &mut connection.stream, &mut work, error).await == Next::Linger {
        linger(&core, &mut connection.stream).await;
    }
}

/// Serves request after request. Each runs, from the moment at which its first byte is here, by the
/// plan that is in force then; between two of them, there is none.
async fn run(core: &Rc<Core>, connection: &mut Connection, work: &mut Work) -> End {
    let mut peer_of = 0;
    let mut turn = Turn::default();
    loop {
        let input = match work.input.take() {
            Some(input) if !input.is_empty() => {
                // The next request is here already, and the one after that, perhaps without end.
                turn.step().await;
                input
            }
            spent => match first_bytes(core, connection, spent, &mut work.interrupt).await {
                Ok(input) => input,
                Err(end) => return end,
            },
        };
        let active = core.active();
        if peer_of != active.generation || work.peer.is_none() {
            work.peer = Some(Peer::new(&active.plan.forwarding, connection.address));
            peer_of = active.generation;
        }
        let stream = &mut connection.stream;
        let next = match next_head(core, &active, stream, input, work).await {
            Arrival::Gone => return End::Close,
            Arrival::Head => exchange::run(core, active, stream, work).await,
            Arrival::Refused(error) => respond::refuse(core, &active, stream, work, error).await,
        };
        match next {
            Next::KeepAlive => {}
            Next::Close => return End::Close,
            Next::Linger => return End::Linger,
        }
    }
}

/// Reads until the head of a request, of which `input` is the beginning, is in `work`.
async fn next_head(
    core: &Core,
    active: &Active,
    stream: &mut Stream,
    mut input: Buffer,
    work: &mut Work,
) -> Arrival {
    let limits = &active.plan.limits;
    stream.timer().disarm(Side::Read);
    let mut is_first = true;
    let mut seen = 0;
    loop {
        // A head can only have become whole, or wrong, with a new line.
        if is_first
            || memchr::memchr(b'\n', &input.data()[seen..]).is_some()
            || input.len() > limits.head_bytes
        {
            match parse::request(input.data(), active.head_bounds(), &mut work.request) {
                Ok(Parsed::Head(len)) => {
                    input.consume(len);
                    work.input = Some(input);
                    stream.timer().disarm(Side::Read);
                    return Arrival::Head;
                }
                Ok(Parsed::Incomplete) => {}
                Err(refusal) => {
                    core.buffers.put(input);
                    return Arrival::Refused(Error::Refused(refusal));
                }
            }
        }
        if is_first {
            stream.timer().arm(Side::Read, limits.head_timeout);
            is_first = false;
        }
        seen = input.len();
        input.make_room(limits.head_bytes + 1);
        let (read, buffer) = stream.reader().read(input).await;
        input = buffer;
        if !matches!(read, Ok(count) if count > 0) {
            core.buffers.put(input);
            return match stream.timer().expired() {
                Some(Expired::Timeout(_)) => Arrival::Refused(Error::HeadTimeout),
                _ => Arrival::Gone,
            };
        }
    }
}

/// Waits for the first bytes of a request, however long that takes.
async fn first_bytes(
    core: &Core,
    connection: &mut Connection,
    spent: Option<Buffer>,
    interrupt: &mut Interrupt,
) -> Result<Buffer, End> {
    let Connection { stream, is_idle, .. } = connection;
    if !std::mem::replace(is_idle, true) {
        stream.timer().arm(Side::Read, core.active().plan.limits.idle_timeout);
    }
    let waiting = core.wait();
    // Without a place only what is here already is read: one that was parked would come back
    // at once, again and again.
    if waiting.is_none() && stream.peek() == Peeked::Nothing {
        if let Some(spent) = spent {
            core.buffers.put(spent);
        }
        return Err(End::Park);
    }
    let mut buffer = spent.unwrap_or_else(|| core.buffers.take(Size::Small));
    let end = loop {
        buffer.clear();
        stream.timer().set_idle(true);
        let (read, same) = stream.read_idle(buffer, interrupt, QUIET).await;
        stream.timer().set_idle(false);
        buffer = same;
        match read {
            // An empty line after a body is not yet a request (RFC 9112 2.2).
            IdleRead::Read(Ok(2)) if buffer.data() == b"\r\n" => {}
            IdleRead::Read(Ok(count)) if count > 0 => {
                *is_idle = false;
                return Ok(buffer);
            }
            IdleRead::Read(_) => break End::Close,
            IdleRead::Quiet => break End::Park,
        }
    };
    core.buffers.put(buffer);
    Err(end)
}

/// Ends the sending direction and discards what still comes, within bounds: a connection that
/// is closed with unread bytes is reset, and the client loses the answer. When very many do so,
/// the answer of one more is not worth its descriptor.
async fn linger(core: &Core, stream: &mut Stream) {
    let Some(_lingering) = core.linger() else { return };
    let (mut reader, mut writer) = stream.split();
    if writer.shutdown().await.is_err() {
        return;
    }
    let deadline = Instant::now() + LINGER;
    let mut discarded = 0;
    while discarded < LINGER_BYTES && Instant::now() < deadline {
        reader.timer().arm(Side::Read, LINGER_SILENCE);
        if reader.readable().await.is_err() {
            return;
        }
        // Not before there is something to read: those that are silent hold none.
        let (read, buffer) = reader.read(core.buffers.take(Size::Medium)).await;
        core.buffers.put(buffer);
        match read {
            Ok(count) if count > 0 => discarded += count,
            _ => return,
        }
    }
}
