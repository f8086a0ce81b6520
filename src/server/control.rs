//! The control thread once the workers run: obeys `master`, passes new addresses on, drains.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::Interest;
use tokio::net::UnixDatagram;
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::time::{sleep, timeout};

use super::admin::board::{Board, Phase as Stage};
use super::admin::{Doors, Wish};
use super::children::Children;
use super::components::Components;
use super::log_writer::Reopener;
use super::names::{Answer, Names};
use super::operation::Operation;
use super::probes::Probes;
use super::reload::{Asker, Former, Generation, Reload};
use super::rolls::Rolls;
use super::watchers::Watchers;
use super::workers::Workers;
use crate::config::Diagnostic;
use crate::plan::{Loaded, Plan};
use crate::process::events;
use crate::process::orders::{Condition, Order, Received, Report, Socket, State};
use crate::process::settings::Name;
use crate::upstream::Endpoints;
use crate::worker::Message;

/// How often the threads of the workers are looked at while they run, and while they end.
const LOOK_SERVING: Duration = Duration::from_millis(250);
const LOOK_ENDING: Duration = Duration::from_millis(10);

/// Connections refused in a row after which `master` checks whether a child is still ready.
const REFUSALS: u32 = 3;

/// What cut connections may take to be cleaned up.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// What the control thread waits for.
pub enum Event {
    Order(Order),
    /// The socket pair is closed: there is no `master` any more.
    MasterGone,
    Answer(Answer),
    /// An operator wants something.
    Asked(Wish),
    /// A child that is to take over was checked; why it is not healthy.
    Checked(Name, Option<String>),
    /// What came of a configuration that was read again.
    Compiled(Box<Result<Loaded, Vec<Diagnostic>>>),
    /// The endpoints of a plan to come have had their first checks.
    FirstChecks,
    /// Every worker runs by the new plan.
    Adopted,
}

/// The running process.
pub struct Control {
    pub plan: Arc<Plan>,
    pub workers: Workers,
    pub names: Names,
    pub watchers: Watchers,
    pub probes: Probes,
    pub children: Children,
    pub events: Receiver<Event>,
    /// For what is to come back to us.
    pub sender: Sender<Event>,
    pub master: Arc<Socket>,
    /// What is being done for an operator.
    pub operation: Option<Operation>,
    pub log: Option<Reopener>,
    pub board: Arc<Board>,
    pub generation: Generation,
    pub former: Former,
    /// Which events are told, and how.
    pub told: events::Settings,
    pub components: Components,
    pub doors: Doors,
    pub reload: Option<Reload>,
    /// What the last reload has left to do with children.
    pub rolls: Rolls,
    /// Until then, addresses that were listened on may not be free yet.
    pub left_until: Instant,
    /// Operators who want a reload for which the configuration was not read yet.
    pub reloads_asked: VecDeque<Asker>,
    /// Nobody is left who would stop the children.
    pub is_orphaned: bool,
}

enum Phase {
    Serving,
    Draining { until: Option<Instant> },
    Stopping { until: Instant },
}

impl Control {
    /// Until everything has ended. Not 0 if that was not asked for.
    pub async fn run(mut self) -> ExitCode {
        let code = self.serve().await;
        self.workers.join_ended();
        if self.is_orphaned {
            self.children.end(&self.plan.children).await;
        }
        code
    }

    async fn serve(&mut self) -> ExitCode {
        let mut phase = Phase::Serving;
        loop {
            let running = self.workers.running();
            if let Phase::Serving = phase {
                if running < self.workers.count() {
                    tracing::error!("a worker ended that should run");
                    // The others cannot serve its socket: all start anew.
                    self.workers.tell(|| Message::Stop);
                    return ExitCode::FAILURE;
                }
            } else if running == 0 {
                return ExitCode::SUCCESS;
            }
            phase = match phase {
                Phase::Draining { until: Some(until) } if until <= Instant::now() => {
                    tracing::warn!("cutting what still runs after {:?}", self.plan.server.shutdown_timeout);
                    self.stop()
                }
                Phase::Stopping { until } if until <= Instant::now() => {
                    tracing::error!("{running} workers do not end");
                    return ExitCode::SUCCESS;
                }
                phase => phase,
            };
            self.end_drained();
            self.advance_reload();
            self.advance_rolls();
            self.doubt_children();
            let look = match phase {
                Phase::Serving if self.is_draining_child() || self.rolls.are_pending() => LOOK_ENDING,
                Phase::Serving => LOOK_SERVING,
                Phase::Draining { .. } | Phase::Stopping { .. } => LOOK_ENDING,
            };
            match timeout(look, self.events.recv()).await {
                Ok(Some(event)) => phase = self.obey(event, phase),
                // Nobody is left who could say anything.
                Ok(None) => sleep(look).await,
                Err(_) => {}
            }
        }
    }

    fn obey(&mut self, event: Event, phase: Phase) -> Phase {
        match (event, phase) {
            (Event::Order(Order::Drain), Phase::Serving) => self.drain(),
            (Event::MasterGone, Phase::Serving) => {
                tracing::error!("the master process is gone: draining");
                self.is_orphaned = true;
                self.drain()
            }
            (Event::Order(Order::Stop), Phase::Serving | Phase::Draining { .. }) => self.stop(),
            (Event::MasterGone, phase) => {
                self.is_orphaned = true;
                phase
            }
            // Too late.
            (
                Event::Order(Order::Reload { .. }),
                phase @ (Phase::Draining { .. } | Phase::Stopping { .. }),
            ) => phase,
            (Event::Order(order), phase) => {
                self.take(order);
                phase
            }
            (event, phase) => {
                self.note(event);
                phase
            }
        }
    }

    /// What does not change what all is about.
    fn note(&mut self, event: Event) {
        match event {
            Event::Answer(answer) => {
                if let Some(names) = self.names_to_come() {
                    names.learn(answer.clone());
                }
                self.names.learn(answer).into_iter().for_each(|table| self.tell_endpoints(table));
            }
            Event::Compiled(compiled) => self.note_compiled(*compiled),
            Event::FirstChecks => self.adopt(),
            Event::Adopted => self.note_adopted(),
            Event::Checked(name, failure) => self.note_checked(&name, failure),
            Event::Asked(wish) => self.ask(wish),
            // Obeyed already.
            Event::Order(_) | Event::MasterGone => {}
        }
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Child(condition) => self.learn_child(condition),
            Order::Wrapped(state) => self.learn_wrapped(state),
            Order::Done { name, failure } => self.note_done(&name, failure),
            Order::Reload { asked, sources } => self.begin_reload(asked, sources),
            Order::Unreadable { asked, why } => self.note_unreadable(asked, &why),
            Order::Listener { worker, socket, .. } => self.note_socket(worker, socket),
            Order::Bound { left } => self.note_bound(left),
            Order::Unbound { why } => self.note_unbound(&why),
            Order::ReopenLogs => self.log.iter().for_each(Reopener::reopen),
            // Said again, or too late.
            Order::Configuration(_) | Order::Start | Order::Drain | Order::Stop => {}
        }
    }

    fn learn_child(&mut self, condition: Condition) {
        let upstream = condition.name.upstream.clone();
        // One that a reload has let go of is nobody's.
        if self.plan.children.iter().any(|child| child.settings.name == condition.name) {
            self.children.learn(condition);
        }
        self.mark_again(Some(&upstream));
    }

    fn learn_wrapped(&mut self, state: State) {
        self.children.learn_wrapped(state);
        self.mark_again(None);
    }

    /// Notes on the endpoints of one upstream, or of all, what has become of their children.
    fn mark_again(&self, upstream: Option<&str>) {
        let name = |table: &Endpoints| self.plan.upstreams[table.upstream.0 as usize].name.as_str();
        let is_it = |table: &Endpoints| upstream.is_none_or(|upstream| name(table) == upstream);
        for table in self.names.endpoints().into_iter().filter(is_it) {
            self.children.mark(&self.plan, &table);
            // The same once more: it wakes those who wait for a change.
            self.workers.tell(|| Message::Endpoints(table.clone()));
        }
    }

    /// Has `master` check ready children that refuse connections repeatedly.
    fn doubt_children(&self) {
        let refuses = |name: &Name| {
            let endpoints = self.names.vitals(&name.upstream, name.instance);
            self.children.is_ready(name) && endpoints.iter().any(|one| one.has_refused(REFUSALS))
        };
        let names = self.plan.children.iter().map(|child| &child.settings.name);
        for name in names.filter(|name| refuses(name)) {
            self.tell_master(&Report::Refuses(name.clone()));
        }
    }

    /// Passes on where an upstream is now: its children's part first, or one that does not run
    /// would get requests.
    pub(super) fn tell_endpoints(&mut self, table: Endpoints) {
        self.children.mark(&self.plan, &table);
        self.probes.follow(&table);
        self.workers.tell(|| Message::Endpoints(table.clone()));
    }

    /// It would be for nobody. Those who wait for it are told that the process ends.
    fn forget_reload(&mut self) {
        (self.reload, self.reloads_asked, self.rolls) = (None, VecDeque::new(), Rolls::default());
    }

    fn drain(&mut self) -> Phase {
        self.forget_reload();
        self.board.set_phase(Stage::Draining);
        self.workers.tell(|| Message::Drain);
        Phase::Draining {
            // An end beyond the clock never comes.
            until: Instant::now().checked_add(self.plan.server.shutdown_timeout),
        }
    }

    fn stop(&mut self) -> Phase {
        self.forget_reload();
        self.board.set_phase(Stage::Draining);
        self.workers.tell(|| Message::Stop);
        Phase::Stopping { until: Instant::now() + STOP_TIMEOUT }
    }
}

/// Makes events of what `master` says, until it has said its last word.
pub async fn listen(socket: Arc<Socket>, events: Sender<Event>) {
    let end = match relay(&socket, &events).await {
        Ok(()) => "the socket is closed".to_owned(),
        Err(error) => error.to_string(),
    };
    tracing::debug!("no more orders: {end}");
    // Without a control loop nobody needs to know.
    let _ = events.send(Event::MasterGone).await;
}

async fn relay(socket: &Socket, events: &Sender<Event>) -> io::Result<()> {
    // Only to be woken: tokio has no type for sequenced packets, and its `AsyncFd` is unsafe.
    let copy = net::UnixDatagram::from(socket.as_fd().try_clone_to_owned()?);
    copy.set_nonblocking(true)?;
    let readable = UnixDatagram::from_std(copy)?;
    let receive = || match socket.try_receive()? {
        Received::Message(order) => Ok(Some(order)),
        Received::Nothing => Err(io::ErrorKind::WouldBlock.into()),
        Received::End => Ok(None),
    };
    while let Some(order) = readable.async_io(Interest::READABLE, receive).await? {
        if events.send(Event::Order(order)).await.is_err() {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Builder;
    use tokio::sync::mpsc::channel;

    use super::*;

    #[test]
    fn orders_become_events_and_the_end_is_one() {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let (ours, theirs) = Socket::pair().unwrap();
        runtime.block_on(async {
            let (sender, mut events) = channel(1);
            tokio::spawn(listen(Arc::new(theirs), sender));
            for order in [Order::<io::Stdin>::Drain, Order::Stop] {
                let expected = format!("{order:?}");
                ours.send(&order).unwrap();
                let Some(Event::Order(order)) = events.recv().await else {
                    panic!("no order");
                };
                assert_eq!(format!("{order:?}"), expected);
            }
            drop(ours);
            assert!(matches!(events.recv().await, Some(Event::MasterGone)));
            assert!(events.recv().await.is_none());
        });
    }
}
