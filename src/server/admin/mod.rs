//! Where operators and their programs reach the running process, by HTTP/1.1: a Unix socket for
//! its owner alone, where everything may be asked and done, and a TCP port, where one may look.
//!
//! Must not know: what comes of a request.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustix::fs::Mode;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc::Sender;
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::control::Event;
use board::Board;
use clients::{Bounds, Client, Clients, Watched};
use observation::Seen;

pub use doors::Doors;
pub use guard::Door;

mod answer;
pub mod board;
mod clients;
mod doors;
#[cfg(feature = "wasm")]
mod filters;
#[cfg(not(feature = "wasm"))]
#[path = "filters_absent.rs"]
mod filters;
mod guard;
#[cfg(feature = "wasm")]
mod guests;
mod metrics;
mod observation;
#[cfg(feature = "wasm")]
mod policies;
#[cfg(not(feature = "wasm"))]
#[path = "policies_absent.rs"]
mod policies;
mod status;

/// Connections at the same time, by socket and by port. A browser has up to six.
const SOCKET_BOUNDS: Bounds = Bounds { total: 16, per_address: 16 };
const PORT_BOUNDS: Bounds = Bounds { total: 64, per_address: 8 };

/// Longest head of a request, in bytes.
const HEAD_MAX: usize = 16 << 10;

/// Between two attempts to accept when there are no descriptors, and to listen.
const PAUSE: Duration = Duration::from_millis(100);
const LISTEN_PAUSE: Duration = Duration::from_secs(1);

/// What is wanted of the control thread.
#[derive(Debug)]
pub enum Wish {
    /// What there is to see.
    Look(oneshot::Sender<Seen>),
    /// To run by the configuration as it is now: what came of it, or why nothing did.
    Reload(oneshot::Sender<Result<String, String>>),
    /// To do something with an upstream's children, or one of them.
    Child { verb: Verb, name: String, answer: oneshot::Sender<Result<(), Failure>> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Restart,
    Start,
    Stop,
}

/// Why what was wanted was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// There is nothing of that name.
    Unknown(String),
    /// Something else is being done.
    Busy(String),
    Failed(String),
}

impl Failure {
    pub fn message(&self) -> &str {
        match self {
            Failure::Unknown(message) | Failure::Busy(message) | Failure::Failed(message) => message,
        }
    }
}

/// What every answer is made with.
pub struct Desk {
    pub board: Arc<Board>,
    pub events: Sender<Event>,
}

/// Binds the socket, for its owner alone. A file that an earlier process left there is replaced.
///
/// # Errors
/// Another process listens there, or it cannot be bound.
pub fn bind(path: &Path) -> io::Result<net::UnixListener> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    if is_socket && net::UnixStream::connect(path).is_err() {
        std::fs::remove_file(path)?;
    }
    // Not changed afterwards: it is never anybody else's.
    let before = rustix::process::umask(Mode::RWXG | Mode::RWXO | Mode::XUSR);
    let listener = net::UnixListener::bind(path);
    rustix::process::umask(before);
    listener.and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
}

/// Serves who comes to the socket.
pub async fn serve_socket(listener: net::UnixListener, desk: Arc<Desk>) {
    let listener = match UnixListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!("cannot listen on the admin socket: {error}"),
    };
    let clients = Clients::new(SOCKET_BOUNDS);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let client = clients.enter(None).await;
                tokio::spawn(serve(stream, Door::Socket, Arc::clone(&desk), client));
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// Serves who comes to the port, as soon as it can be had: requests are served without it.
pub async fn serve_port(address: SocketAddr, door: Door, desk: Arc<Desk>) {
    let listener = listen(address).await;
    if let Ok(address) = listener.local_addr() {
        tracing::info!("metrics and status are at http://{address}/");
    }
    let clients = Clients::new(PORT_BOUNDS);
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let client = clients.enter(Some(peer.ip())).await;
                tokio::spawn(serve(stream, door.clone(), Arc::clone(&desk), client));
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// The process before this one may not have let go of it yet, or another one has it.
async fn listen(address: SocketAddr) -> TcpListener {
    let mut is_told = false;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) if !is_told => {
                tracing::error!(
                    "cannot listen on {address}, which is `listen` of [admin]: {error}; trying again"
                );
                is_told = true;
            }
            Err(_) => {}
        }
        sleep(LISTEN_PAUSE).await;
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, door: Door, desk: Arc<Desk>, client: Client) {
    let answer = service_fn(|request| {
        let (door, desk, client) = (&door, &desk, &client);
        client.begin_answer();
        async move {
            let answer = answer::answer(door, desk, &request).await;
            client.begin_delivery();
            Ok::<_, Infallible>(answer)
        }
    });
    let stream = TokioIo::new(Watched { stream, client: &client });
    // Without a timer: `client` has the deadlines, which depend on how far a connection is.
    let served = http1::Builder::new().max_buf_size(HEAD_MAX).serve_connection(stream, answer);
    tokio::select! {
        // A connection whose place is taken does not begin another request.
        biased;
        () = client.ended() => {}
        ended = served => {
            if let Err(error) = ended {
                tracing::debug!("an admin connection ended: {error}");
            }
        }
    }
}
