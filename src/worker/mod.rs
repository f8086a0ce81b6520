//! One core: its thread, its event loop, its inbox.
//!
//! `runtime` builds the event loop, `accept` takes connections in, `inbox` brings messages from
//! `control`. What is done with a connection is `proxy`'s.

mod accept;
#[cfg(test)]
mod cancel_tests;
mod ebb;
mod former;
mod inbox;
mod listeners;
mod runtime;

use std::any::Any;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};

use crate::net::admission::Admission;
use crate::net::deadline::TICK;
use crate::net::ticker::Ticker;
use crate::net::{self, task};
use crate::plan::Plan;
use crate::proxy::Core;
pub use crate::proxy::Own;
use crate::sys;
use crate::telemetry::{AccessLog, Counters, Spans};
use crate::upstream::Endpoints;

use ebb::Ebb;
use former::Former;
use listeners::Listeners;

pub use crate::proxy::Load;

/// Idle streams that a drain ends with one tick.
const RETIRED_PER_TICK: usize = 4096;

/// Ticks that cut exchanges have to tell of their end.
const CUT_TICKS_MAX: usize = 5;

/// What `control` tells a worker.
pub enum Message {
    Plan(Adoption),
    /// Accept on this socket, too.
    Listen(TcpListener),
    Endpoints(Endpoints),
    /// Say what you have to do now; whoever asks gets your number with it.
    Tell(Arc<dyn Fn(usize, Load) + Send + Sync>),
    /// Accept what is queued, then nothing more; finish what runs, close what is idle, end.
    Drain,
    /// Cut what still runs and end.
    Stop,
}

/// A plan to run by from the next request on, with everything that belongs to it: it is taken over
/// between two requests, or not at all.
pub struct Adoption {
    pub plan: Arc<Plan>,
    pub generation: u64,
    pub own: Box<Own>,
    /// Of all of its upstreams.
    pub endpoints: Arc<[Endpoints]>,
    /// Addresses that are not listened on any more.
    pub left: Arc<[SocketAddr]>,
    /// Let go of when the worker runs by it.
    pub pending: Arc<dyn Any + Send + Sync>,
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
    /// Full buffers of spans; `None` when they go nowhere.
    pub spans: Option<Sender<Vec<u8>>>,
    pub shared: Arc<Shared>,
}

/// The few things that are global by nature.
#[derive(Default)]
pub struct Shared {
    pub admission: Arc<Admission>,
}

/// A running worker, seen from `control`.
pub struct Handle {
    pub thread: JoinHandle<()>,
    /// One message: which driver the event loop runs on, or why there is none.
    pub started: Receiver<Result<&'static str, String>>,
    pub counters: Arc<Counters>,
    pub former: Arc<Former>,
    inbox: inbox::Sender,
}

impl Handle {
    /// Puts a message into the inbox and wakes the worker.
    pub fn send(&self, message: Message) {
        self.inbox.send(message);
    }
}

/// Starts a worker's thread.
pub fn spawn(settings: Settings) -> io::Result<Handle> {
    let (inbox, messages) = inbox::pair()?;
    let (report, started) = crossbeam_channel::bounded(1);
    let counters = Arc::new(Counters::default());
    let own_counters = Arc::clone(&counters);
    let former = Arc::new(Former::default());
    let own_former = Arc::clone(&former);
    let own = inbox.clone();
    let thread = std::thread::Builder::new().name(format!("worker-{}", settings.index)).spawn(move || {
        if let Some(core) = settings.core
            && !core_affinity::set_for_current(core)
        {
            tracing::warn!("worker {} could not be pinned to core {}", settings.index, core.id);
        }
        match runtime::build(settings.io) {
            Ok(runtime) => {
                let driver = runtime.name();
                runtime.block_on(async move {
                    let started = run(settings, (own, messages), (own_counters, own_former), |result| {
                        // Control has given up on this worker if nobody listens.
                        let _unheard = report.try_send(result.map(|()| driver));
                    });
                    if let Err(error) = started.await {
                        tracing::error!("a worker ended: {error}");
                    }
                });
            }
            Err(reason) => {
                let _unheard = report.try_send(Err(reason));
            }
        }
    })?;
    Ok(Handle { thread, started, counters, former, inbox })
}

/// Runs a future on an event loop of this thread, without a core, and says what came of it.
///
/// # Errors
/// There is no event loop.
#[cfg(feature = "wasm")]
pub fn run_alone<T>(future: impl Future<Output = T>) -> Result<T, String> {
    let output = std::cell::Cell::new(None);
    runtime::build(net::Io::Auto)?.block_on(async { output.set(Some(future.await)) });
    output.into_inner().ok_or_else(|| "the event loop has ended".to_owned())
}

/// The life of a worker, inside its event loop.
async fn run(
    settings: Settings,
    (own, messages): (inbox::Sender, inbox::Receiver),
    (counters, former): (Arc<Counters>, Arc<Former>),
    report: impl FnOnce(Result<(), String>),
) -> io::Result<()> {
    let log = settings.log.map(AccessLog::new);
    let spans = settings.spans.map(Spans::new);
    let admission = Arc::clone(&settings.shared.admission);
    let core = Core::new(settings.index, settings.plan, &settings.endpoints, counters, admission, log, spans);
    // Not kept: who wants to know when an endpoint is let go of counts those who know it.
    drop(settings.endpoints);
    let listeners = Listeners::default();
    let begun = begin(&core, &former, &listeners, settings.listeners, messages);
    report(begun.as_ref().map(|_| ()).map_err(io::Error::to_string));
    let mut messages = begun?;
    while let Some(message) = messages.next().await {
        match message {
            Message::Plan(adoption) => {
                let begun = Instant::now();
                core.adopt(adoption.plan, adoption.generation, *adoption.own, &adoption.endpoints);
                former.update(&core);
                former.set_pause(begun.elapsed());
                listeners.leave(&core, &adoption.left);
            }
            Message::Listen(socket) => {
                if let Err(error) = listeners.open(&core, socket) {
                    tracing::error!("cannot accept on a new socket: {error}");
                }
            }
            Message::Endpoints(table) => core.upstreams.set_endpoints(&table),
            Message::Tell(tell) => tell(core.index, core.load()),
            Message::Drain => drain(&core, &listeners, own.clone()),
            Message::Stop => break,
        }
    }
    core.cut();
    for _ in 0..CUT_TICKS_MAX {
        if core.open() == 0 {
            break;
        }
        core.wheel.sleep(Duration::ZERO).await;
    }
    if let Some(log) = &core.log {
        log.close(&core.counters);
    }
    if let Some(spans) = &core.spans {
        spans.close(&core.counters);
    }
    core.counters.ended.add(1);
    Ok(())
}

/// Starts to tick and to accept.
fn begin(
    core: &Rc<Core>,
    former: &Arc<Former>,
    listeners: &Listeners,
    sockets: Vec<TcpListener>,
    messages: inbox::Receiver,
) -> io::Result<inbox::Messages> {
    let messages = messages.open()?;
    let ticker = Ticker::start()?;
    let (ticks, former, looks) = (Rc::clone(core), Arc::clone(former), listeners.clone());
    task::spawn(async move { tick(&ticks, &former, &looks, &ticker).await }, || {
        tracing::error!("the ticker ended with a panic");
    });
    sockets.into_iter().try_for_each(|socket| listeners.open(core, socket))?;
    Ok(messages)
}

/// Closes the listeners and, once nothing is open any more, says so to the worker itself.
fn drain(core: &Rc<Core>, listeners: &Listeners, own: inbox::Sender) {
    core.drain();
    listeners.close();
    let (core, listeners) = (Rc::clone(core), listeners.clone());
    let until_empty = async move {
        while core.open() > 0 || !listeners.are_closed() {
            core.wheel.sleep(Duration::ZERO).await;
        }
        own.send(Message::Stop);
    };
    task::spawn(until_empty, || tracing::error!("draining ended with a panic"));
}

/// Turns the wheel, and does once a second what needs no more.
async fn tick(core: &Core, former: &Former, listeners: &Listeners, ticker: &Ticker) {
    let mut last_second = Instant::now();
    let mut last_tick = last_second;
    let mut ebb = Ebb::default();
    loop {
        if let Err(error) = ticker.tick().await {
            tracing::error!("timeouts are off: {error}");
            return;
        }
        let now = Instant::now();
        core.counters.ticks.observe(now.duration_since(last_tick).saturating_sub(TICK));
        last_tick = now;
        core.wheel.advance(now);
        core.upstreams.relieve();
        if !former.is_empty() {
            former.update(core);
        }
        if core.is_draining() {
            core.wheel.retire_idle(RETIRED_PER_TICK);
        }
        if now.duration_since(last_second) >= Duration::from_secs(1) {
            last_second = now;
            core.read_wall();
            listeners.look();
            core.upstreams.pools.expire(now);
            core.guests.expire();
            core.policies.settle();
            core.filters.settle();
            if let Some(log) = &core.log {
                log.flush(&core.counters);
            }
            if let Some(spans) = &core.spans {
                spans.flush(&core.counters);
            }
            if ebb.is_over(core.open(), core.most_open()) {
                core.shed();
                sys::process::give_memory_back();
            }
        }
    }
}
