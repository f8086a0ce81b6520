//! One core: its thread, its event loop, its inbox.
//!
//! `runtime` builds the event loop, `accept` takes connections in, `inbox` brings messages from
//! `control`. What is done with a connection is `proxy`'s.

mod accept;
#[cfg(test)]
mod cancel_tests;
mod ebb;
mod inbox;
mod runtime;

use std::io;
use std::net::TcpListener;
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
use crate::sys;
use crate::telemetry::{AccessLog, Counters};
use crate::upstream::Endpoints;

use ebb::Ebb;

pub use crate::proxy::Load;

/// Idle streams that a drain ends with one tick.
const RETIRED_PER_TICK: usize = 4096;

/// Ticks that cut exchanges have to tell of their end.
const CUT_TICKS_MAX: usize = 5;

/// What `control` tells a worker.
#[derive(Clone)]
pub enum Message {
    /// Run by this plan from the next request on.
    Plan(Arc<Plan>),
    Endpoints(Endpoints),
    /// Say what you have to do now; whoever asks gets your number with it.
    Tell(Arc<dyn Fn(usize, Load) + Send + Sync>),
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
pub struct Shared {
    pub admission: Arc<Admission>,
}

/// A running worker, seen from `control`.
pub struct Handle {
    pub thread: JoinHandle<()>,
    /// One message: which driver the event loop runs on, or why there is none.
    pub started: Receiver<Result<&'static str, String>>,
    pub counters: Arc<Counters>,
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
                    let started = run(settings, (own, messages), own_counters, |result| {
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
    Ok(Handle { thread, started, counters, inbox })
}

/// The life of a worker, inside its event loop.
async fn run(
    settings: Settings,
    (own, messages): (inbox::Sender, inbox::Receiver),
    counters: Arc<Counters>,
    report: impl FnOnce(Result<(), String>),
) -> io::Result<()> {
    let log = settings.log.map(AccessLog::new);
    let admission = Arc::clone(&settings.shared.admission);
    let core = Core::new(settings.index, settings.plan, counters, admission, log);
    // Not kept: who wants to know when an endpoint is let go of counts those who know it.
    for table in settings.endpoints {
        core.upstreams.set_endpoints(&table);
    }
    let begun = begin(&core, settings.listeners, messages);
    report(begun.as_ref().map(|_| ()).map_err(io::Error::to_string));
    let (listeners, mut messages) = begun?;
    while let Some(message) = messages.next().await {
        match message {
            Message::Plan(plan) => core.adopt(plan),
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
    core.counters.ended.add(1);
    Ok(())
}

/// Starts to tick and to accept.
fn begin(
    core: &Rc<Core>,
    sockets: Vec<TcpListener>,
    messages: inbox::Receiver,
) -> io::Result<(Vec<Rc<accept::Listener>>, inbox::Messages)> {
    let messages = messages.open()?;
    let ticker = Ticker::start()?;
    let ticks = Rc::clone(core);
    task::spawn(async move { tick(&ticks, &ticker).await }, || {
        tracing::error!("the ticker ended with a panic");
    });
    let mut listeners = Vec::new();
    for socket in sockets {
        let listener = Rc::new(accept::Listener::new(socket)?);
        listeners.push(Rc::clone(&listener));
        let core = Rc::clone(core);
        task::spawn(async move { accept::run(&core, &listener).await }, || {
            tracing::error!("accepting ended with a panic");
        });
    }
    Ok((listeners, messages))
}

/// Closes the listeners and, once nothing is open any more, says so to the worker itself.
fn drain(core: &Rc<Core>, listeners: &[Rc<accept::Listener>], own: inbox::Sender) {
    core.drain();
    for listener in listeners {
        listener.close();
    }
    let (core, listeners) = (Rc::clone(core), listeners.to_vec());
    let until_empty = async move {
        while core.open() > 0 || listeners.iter().any(|listener| !listener.is_closed()) {
            core.wheel.sleep(Duration::ZERO).await;
        }
        own.send(Message::Stop);
    };
    task::spawn(until_empty, || tracing::error!("draining ended with a panic"));
}

/// Turns the wheel, and does once a second what needs no more.
async fn tick(core: &Core, ticker: &Ticker) {
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
        if core.is_draining() {
            core.wheel.retire_idle(RETIRED_PER_TICK);
        }
        if now.duration_since(last_second) >= Duration::from_secs(1) {
            last_second = now;
            core.read_wall();
            core.upstreams.pools.expire(now);
            if let Some(log) = &core.log {
                log.flush(&core.counters);
            }
            if ebb.is_over(core.open(), core.most_open()) {
                core.shed();
                sys::process::give_memory_back();
            }
        }
    }
}
