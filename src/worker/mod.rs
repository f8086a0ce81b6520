//! One core: its thread, its event loop, its inbox.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};

use crate::net;
use crate::plan::Plan;
use crate::upstream::Endpoints;

/// What `control` tells a worker.
#[derive(Clone)]
pub enum Message {
    /// Run by this plan from the next request on.
    Plan(Arc<Plan>),
    Endpoints(Endpoints),
    /// Accept what is queued, then nothing more; finish what runs, close what is idle, end.
    Drain,
    /// Cut what still runs and end.
    Stop,
}

/// What a worker needs to start.
pub struct Settings {
    pub index: usize,
    pub core: Option<core_affinity::CoreId>,
    pub io: net::Io,
    /// This worker's own sockets, bound and listening.
    pub listeners: Vec<TcpListener>,
    pub plan: Arc<Plan>,
    pub endpoints: Vec<Endpoints>,
    /// Full buffers of access-log lines; `None` when the log is off.
    pub log: Option<Sender<Vec<u8>>>,
    pub shared: Arc<Shared>,
}

/// The few things that are global by nature.
#[derive(Default)]
pub struct Shared {}

/// A running worker, seen from `control`.
pub struct Handle {
    pub thread: JoinHandle<()>,
    /// One message: which driver the event loop runs on, or why there is none.
    pub started: Receiver<Result<&'static str, String>>,
}

impl Handle {
    /// Puts a message into the inbox and wakes the worker.
    pub fn send(&self, _message: Message) {}
}

/// Starts a worker's thread.
pub fn spawn(_settings: Settings) -> io::Result<Handle> {
    Err(io::Error::other("not built yet"))
}
