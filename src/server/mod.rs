//! The data process: gets its orders from `master`, compiles the plan, resolves the upstreams,
//! starts the workers, and then is their control thread, on tokio.
//!
//! Must not know: what a request is.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::timeout;

use crate::config::Sources;
use crate::plan::{self, Plan};
use crate::process::events;
use crate::process::orders::{Order, Report, Socket, State};
use crate::telemetry::panics::log_panics;
use admin::Doors;
use admin::board::Board;
use children::{Children, Interruption};
use components::Components;
use control::{Control, Event};
use exporter::Exporter;
use log_writer::LogWriter;
use names::Names;
use probes::Probes;
use reload::{Former, Generation};
use resolver::Resolver;
use rolls::Rolls;
use watchers::Watchers;
use workers::Workers;

mod admin;
mod children;
mod components;
mod control;
mod exporter;
mod journal;
mod log_writer;
mod names;
mod operation;
mod probe;
mod probes;
mod reload;
mod resolver;
mod rolls;
mod watchers;
mod workers;

/// What the names of upstreams may delay the start.
const NAMES_TIMEOUT: Duration = Duration::from_secs(2);

/// What the first checks of endpoints may delay it further.
const CHECKS_TIMEOUT: Duration = Duration::from_secs(5);

/// What the last lines of the access log may take to be written.
const LOG_TIMEOUT: Duration = Duration::from_secs(2);

/// What the last spans may take to be exported.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(1);

const EVENTS_MAX: usize = 64;

/// Everything the orders of `master` brought before `Start`.
struct Instructions {
    sources: Sources,
    listeners: Vec<(usize, TcpListener)>,
    /// What the command does that we were started in front of, if there is one.
    wrapped: Option<State>,
}

/// Runs the data process. Its standard input is the socket to `master`.
///
/// 0: drained as told. Else it is `master`'s to say what that means.
pub fn run() -> ExitCode {
    let orders = match Socket::take_stdin() {
        Ok(orders) => Arc::new(orders),
        Err(_) => {
            eprintln!("error: the data process is started by `warpdrive run` only");
            return ExitCode::FAILURE;
        }
    };
    let result = settle().and_then(|()| match receive_instructions(&orders)? {
        Some(instructions) => serve(&orders, instructions),
        None => Ok(ExitCode::SUCCESS),
    });
    let report = match &result {
        Ok(code) if *code == ExitCode::SUCCESS => Some(Report::Drained),
        Ok(_) => None,
        Err(message) => Some(Report::Failed { message: message.clone() }),
    };
    if let Some(report) = report {
        // Without a master there is nobody to tell.
        let _ = orders.send(&report);
    }
    result.unwrap_or(ExitCode::FAILURE)
}

/// Makes this process what a data process is.
fn settle() -> Result<(), String> {
    // A service manager signals every process of the unit, but only `master` decides what that
    // means. Not ignored, for that would outlive an `exec`.
    let unread = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2] {
        signal_hook::flag::register(signal, Arc::clone(&unread))
            .map_err(|error| format!("cannot catch signals: {error}"))?;
    }
    // Started through `/proc/self/exe`, it would be listed as `exe`. No harm if it stays so.
    let _ = std::fs::write("/proc/self/comm", "warpdrive");
    Ok(())
}

/// As many open files as are allowed.
fn raise_descriptor_limit() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = rustix::process::setrlimit(Resource::Nofile, raised) {
        tracing::warn!("cannot raise the limit of open files: {error}");
    }
}

/// Waits for everything up to `Start`; `None` if it is not to start at all.
fn receive_instructions(orders: &Socket) -> Result<Option<Instructions>, String> {
    let mut sources = None;
    let mut listeners = Vec::new();
    let mut wrapped = None;
    loop {
        let order: Option<Order> =
            orders.receive().map_err(|error| format!("cannot read orders: {error}"))?;
        match order {
            Some(Order::Configuration(file)) => sources = Some(decode(file)?),
            Some(Order::Listener { worker, socket, .. }) => {
                listeners.push((worker, TcpListener::from(socket)));
            }
            Some(Order::Wrapped(state)) => wrapped = Some(state),
            Some(Order::Start) => break,
            Some(Order::Drain | Order::Stop) | None => return Ok(None),
            // Everything is about to be opened.
            Some(Order::ReopenLogs) => {}
            Some(
                Order::Child(_)
                | Order::Done { .. }
                | Order::Reload { .. }
                | Order::Unreadable { .. }
                | Order::Bound { .. }
                | Order::Unbound { .. },
            ) => {
                return Err("told of what nobody asked for".to_owned());
            }
        }
    }
    let sources = sources.ok_or("told to start without a configuration")?;
    Ok(Some(Instructions { sources, listeners, wrapped }))
}

fn decode(file: OwnedFd) -> Result<Sources, String> {
    let read = |mut file: File| -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        file.rewind()?;
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read(File::from(file))
        .map_err(|error| format!("cannot read the configuration that was sent: {error}"))?;
    Sources::decode(&bytes).map_err(|error| error.to_string())
}

/// Starts everything, and runs until it has ended.
fn serve(orders: &Arc<Socket>, instructions: Instructions) -> Result<ExitCode, String> {
    let loaded = plan::load(&instructions.sources).map_err(|diagnostics| {
        let texts: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
        texts.join("\n")
    })?;
    events::init(loaded.events);
    log_panics();
    raise_descriptor_limit();
    let mut plan = loaded.plan;
    let components = Components::default();
    components.compile(&mut plan)?;
    let plan = Arc::new(plan);
    let children = match Children::order(&plan.children, instructions.wrapped, orders) {
        Ok(children) => children,
        Err(Interruption::Stopped) => return Ok(ExitCode::SUCCESS),
        Err(Interruption::Failed(message)) => return Err(message),
    };
    let log = match &plan.log {
        settings if settings.enabled => {
            let writer = LogWriter::start(&settings.destination);
            Some(writer.map_err(|error| error.to_string())?)
        }
        _ => None,
    };
    let runtime = runtime().map_err(|error| format!("cannot start the control thread: {error}"))?;
    let listeners = by_worker(instructions.listeners, plan.server.worker_threads)?;
    let result = runtime.block_on(operate(
        orders,
        (plan, loaded.events, components),
        children,
        listeners,
        log.as_ref(),
    ));
    runtime.shutdown_background();
    if log.is_some_and(|log| !log.finish(LOG_TIMEOUT)) {
        tracing::error!("the end of the access log could not be written");
    }
    result
}

/// The life of the control thread.
async fn operate(
    orders: &Arc<Socket>,
    (plan, told, components): (Arc<Plan>, events::Settings, Components),
    children: Children,
    listeners: Vec<Vec<TcpListener>>,
    log: Option<&LogWriter>,
) -> Result<ExitCode, String> {
    let (sender, mut events) = channel(EVENTS_MAX);
    let board = Arc::new(Board::new());
    let mut doors = Doors::new(Arc::clone(&board), &sender);
    doors.open(&plan.admin);
    let (mut names, watchers) = resolve(&plan, &sender, &mut events).await;
    for (name, address) in children.moved() {
        names.relocate(&name.upstream, name.instance, Some(address));
    }
    let endpoints = names.endpoints();
    endpoints.iter().for_each(|table| children.mark(&plan, table));
    let probes = check(&plan, &names).await;
    let lines = log.map(LogWriter::sender);
    let export = plan.tracing.export.as_ref();
    let (exporter, spans) =
        export.map(|export| Exporter::start(export, Resolver::new(&plan.dns.servers))).unzip();
    let settings = workers::Settings { endpoints, plan: Arc::clone(&plan), log: lines, spans, listeners };
    let (workers, driver) = Workers::start(settings)?;
    let count = workers.count();
    let plural = if count == 1 { "" } else { "s" };
    tracing::info!("{count} worker{plural} on {driver}");
    let ready = Report::Ready { workers: count, driver };
    // If `master` is gone, that is seen next.
    let _ = orders.send(&ready);
    tokio::spawn(control::listen(Arc::clone(orders), sender.clone()));
    board.serve(workers.counters());
    let master = Arc::clone(orders);
    let operation = None;
    let control = Control {
        plan,
        workers,
        names,
        watchers,
        probes,
        children,
        events,
        sender,
        master,
        operation,
        log: log.map(LogWriter::reopener),
        board,
        generation: Generation::first(),
        former: Former::default(),
        told,
        components,
        reload: None,
        doors,
        rolls: Rolls::default(),
        left_until: Instant::now(),
        reloads_asked: VecDeque::new(),
        is_orphaned: false,
    };
    let code = control.run().await;
    if let Some(exporter) = exporter {
        exporter.finish(EXPORT_TIMEOUT).await;
    }
    Ok(code)
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// Begins to watch all names, and waits a little for their first answers.
async fn resolve(plan: &Plan, sender: &Sender<Event>, events: &mut Receiver<Event>) -> (Names, Watchers) {
    let mut names = Names::new(&plan.upstreams);
    let watchers = Watchers::start(&plan.dns, &names, sender);
    let until = Instant::now() + NAMES_TIMEOUT;
    while !names.are_all_asked() {
        let left = until.saturating_duration_since(Instant::now());
        match timeout(left, events.recv()).await {
            Ok(Some(Event::Answer(answer))) => drop(names.learn(answer)),
            // Orders are not listened to yet.
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(_) => {
                tracing::warn!("not all names of upstreams are resolved yet; starting without");
                break;
            }
        }
    }
    (names, watchers)
}

/// Begins to check the endpoints, and waits a little for the first results.
async fn check(plan: &Plan, names: &Names) -> Probes {
    let mut probes = Probes::new(&plan.upstreams);
    names.endpoints().iter().for_each(|table| probes.follow(table));
    if timeout(CHECKS_TIMEOUT, probes.first_round()).await.is_err() {
        tracing::warn!("not all endpoints are checked yet; starting without");
    }
    probes
}

/// One list of sockets a worker.
fn by_worker(listeners: Vec<(usize, TcpListener)>, workers: usize) -> Result<Vec<Vec<TcpListener>>, String> {
    let mut lists: Vec<Vec<TcpListener>> = std::iter::repeat_with(Vec::new).take(workers).collect();
    for (worker, socket) in listeners {
        let list = lists.get_mut(worker);
        list.ok_or("a listening socket for a worker that does not exist")?.push(socket);
    }
    match lists.iter().all(|list| !list.is_empty()) {
        true => Ok(lists),
        false => Err("a worker without a listening socket".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use rustix::fs::MemfdFlags;

    use super::*;

    type Counts = Result<Vec<usize>, &'static str>;

    #[test]
    fn every_worker_gets_its_own_sockets() {
        let cases: [(&[usize], usize, Counts); 4] = [
            (&[0, 1, 0, 1], 2, Ok(vec![2, 2])),
            (&[1, 0, 0], 2, Ok(vec![2, 1])),
            (&[0, 0], 2, Err("a worker without a listening socket")),
            (&[0, 2, 1], 2, Err("a listening socket for a worker that does not exist")),
        ];
        for (owners, workers, expected) in cases {
            let socket = || TcpListener::bind(("127.0.0.1", 0)).unwrap();
            let sockets = owners.iter().map(|owner| (*owner, socket())).collect();
            let lists = by_worker(sockets, workers);
            let counts = lists.map(|lists| lists.iter().map(Vec::len).collect::<Vec<_>>());
            assert_eq!(counts, expected.map_err(str::to_owned));
        }
    }

    #[test]
    fn the_instructions_end_with_start() {
        let sources = Sources {
            environment: vec![("WARPDRIVE_HTTP_PORT".to_owned(), "0".to_owned())],
            ..Sources::default()
        };
        let file = || {
            let memory = rustix::fs::memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
            let mut memory = File::from(memory);
            memory.write_all(&sources.encode()).unwrap();
            Order::Configuration(memory)
        };
        let cases = [
            (vec![file(), Order::Start], Ok(true)),
            (vec![file(), Order::Drain], Ok(false)),
            (vec![Order::Stop], Ok(false)),
            (vec![file()], Ok(false)),
            (vec![Order::Start], Err("told to start without a configuration".to_owned())),
        ];
        for (orders, expected) in cases {
            let (ours, theirs) = Socket::pair().unwrap();
            for order in orders {
                ours.send(&order).unwrap();
            }
            drop(ours);
            let received = receive_instructions(&theirs);
            let received = received.map(|instructions| match instructions {
                Some(instructions) => instructions.sources == sources,
                None => false,
            });
            assert_eq!(received, expected);
        }
    }
}
