//! Takes connections in, from one listening socket that is this worker's own.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use monoio::io::Canceller;
use monoio::net::{TcpListener, TcpStream};
use rustix::io::Errno;

use super::runtime::needs_nonblocking;
use crate::net::Stream;
use crate::net::task::Turn;
use crate::proxy::{Core, connection};
use crate::sys::socket::{self, Ended};

/// Connections taken from the queue of a socket that is about to be closed.
const LAST_MAX: usize = 4096;
/// Pause after the process has run out of descriptors.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(100);
/// Idle connections closed at each pause, to make room.
const SHORTAGE_RETIRED: usize = 32;
/// Pauses after which a waiting client is turned away rather than left hanging.
const SHORTAGE_PATIENCE: u32 = 20;

pub struct Listener {
    socket: RefCell<Option<Rc<TcpListener>>>,
    pub address: SocketAddr,
    is_closing: Cell<bool>,
    /// Since the last look.
    accepted: Cell<usize>,
    canceller: RefCell<Canceller>,
}

impl Listener {
    pub fn new(socket: std::net::TcpListener) -> io::Result<Listener> {
        let address = socket.local_addr()?;
        socket.set_nonblocking(needs_nonblocking())?;
        // Accepted sockets inherit it: a system call less for each.
        rustix::net::sockopt::set_tcp_nodelay(&socket, true)?;
        let socket = RefCell::new(Some(Rc::new(TcpListener::from_std(socket)?)));
        let (is_closing, accepted) = (Cell::new(false), Cell::new(0));
        Ok(Listener { socket, address, is_closing, accepted, canceller: RefCell::default() })
    }

    /// Lets nobody begin to connect any more; who has begun still may finish. A socket that is
    /// closed resets those whom nobody has accepted: first there are to be none.
    pub fn refuse_new(&self) {
        if let Some(socket) = &*self.socket.borrow()
            && let Err(error) = socket::refuse_new(&**socket)
        {
            tracing::warn!("{}: cannot stop new connections before it closes: {error}", self.address);
        }
    }

    /// Takes what is queued, then closes the socket.
    pub fn close(&self) {
        self.is_closing.set(true);
        self.interrupt();
    }

    /// Accepts anew if somebody waits who was not announced: when a process dies, the kernel may
    /// announce a connection to its ring, which is as good as gone.
    pub fn look(&self) {
        let is_idle = self.accepted.take() == 0;
        if is_idle && self.socket.borrow().as_ref().is_some_and(|socket| socket::is_readable_now(&**socket)) {
            self.interrupt();
        }
    }

    fn interrupt(&self) {
        let canceller = self.canceller.take();
        *self.canceller.borrow_mut() = canceller.cancel();
    }

    pub fn is_closed(&self) -> bool {
        self.socket.borrow().is_none()
    }
}

/// Accepts until the listener is closed.
pub async fn run(core: &Rc<Core>, listener: &Listener) {
    let Some(socket) = listener.socket.borrow().clone() else { return };
    let (mut shortage, mut turn) = (Shortage::default(), Turn::default());
    while !listener.is_closing.get() {
        turn.step().await;
        let handle = listener.canceller.borrow().handle();
        // Not dropped before it completes: a completed accept that is dropped is a lost client.
        match socket.cancelable_accept(handle).await {
            Ok((stream, peer)) => {
                shortage.end();
                listener.accepted.set(listener.accepted.get() + 1);
                start(core, stream, peer);
            }
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    shortage.pause(core, &socket, &error).await;
                }
                Some(Errno::CANCELED | Errno::CONNABORTED | Errno::INTR) => {}
                _ => {
                    tracing::warn!("accepting on port {}: {error}", listener.address.port());
                    core.wheel.sleep(SHORTAGE_PAUSE).await;
                }
            },
        }
    }
    for _ in 0..LAST_MAX {
        if !socket::is_readable_now(&*socket) {
            break;
        }
        match socket.accept().await {
            Ok((stream, peer)) => start(core, stream, peer),
            Err(_) => break,
        }
    }
    listener.socket.take();
}

fn start(core: &Rc<Core>, stream: TcpStream, peer: std::net::SocketAddr) {
    connection::start(core, Stream::tcp(stream, &core.wheel, Ended::Read), peer.ip());
}

/// The process has no descriptor left. The queue waits meanwhile, and nothing spins.
#[derive(Default)]
struct Shortage {
    pauses: u32,
    reserve: Option<File>,
}

impl Shortage {
    fn end(&mut self) {
        self.pauses = 0;
        if self.reserve.is_none() {
            self.reserve = File::open("/dev/null").ok();
        }
    }

    async fn pause(&mut self, core: &Core, socket: &TcpListener, error: &io::Error) {
        if self.pauses == 0 {
            tracing::warn!("no descriptor for a new connection: {error}; idle ones are closed");
        }
        self.pauses += 1;
        core.wheel.retire_idle(SHORTAGE_RETIRED);
        core.wheel.sleep(SHORTAGE_PAUSE).await;
        if self.pauses > SHORTAGE_PATIENCE && self.reserve.take().is_some() {
            if socket::is_readable_now(socket) {
                // Accepted only to be closed: the client learns at once that it has no place.
                drop(socket.accept().await);
            }
            core.wheel.sleep(Duration::ZERO).await;
            self.reserve = File::open("/dev/null").ok();
        }
    }
}
