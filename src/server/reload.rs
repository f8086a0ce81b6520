//! A new plan on its way into force: compiled beside the control thread, its names asked for, its
//! endpoints checked, and then taken over by every worker between two requests. Until that last step
//! it can fail, and then nothing has changed.

use std::any::Any;
use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc::channel;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::control::{Control, Event};
use super::names::Names;
use super::probes::Probes;
use super::watchers::Watchers;
use super::{CHECKS_TIMEOUT, NAMES_TIMEOUT};
use crate::config::{Colours, Diagnostic, Place, refusal};
use crate::plan::{self, Loaded, Plan, Server};
use crate::process::orders::Report;
use crate::telemetry::Ledger;
use crate::upstream::Endpoints;
use crate::worker::{Adoption, Own};

/// When every worker has closed the sockets of an address that it has left.
const LEAVING: Duration = Duration::from_secs(2);

/// Who wants to know what came of it, or why nothing did.
pub type Asker = oneshot::Sender<Result<String, String>>;

/// Which plan is in force, and since when.
#[derive(Clone, Copy, Debug)]
pub struct Generation {
    /// Of this process: the first one is 1.
    pub number: u64,
    pub since: SystemTime,
}

impl Generation {
    pub fn first() -> Generation {
        Generation { number: 1, since: SystemTime::now() }
    }
}

/// What a worker may still have of earlier plans. Taking it apart takes long: that is not for a
/// worker, so it is not the last to let go.
#[derive(Default)]
pub struct Former {
    plans: Vec<Arc<Plan>>,
    ledgers: Vec<Arc<Ledger>>,
}

impl Former {
    fn forget(&mut self) {
        self.plans.retain(|plan| Arc::strong_count(plan) > 1);
        self.ledgers.retain(|ledger| Arc::strong_count(ledger) > 1);
    }
}

/// What is being done to run by another plan.
pub struct Reload {
    /// Who hears how it ends; nobody, if a signal wanted it.
    askers: Vec<Asker>,
    begun: Instant,
    step: Step,
}

enum Step {
    Compiling,
    /// Its names have not all had an answer.
    Resolving {
        next: Box<Next>,
        until: Instant,
    },
    /// Addresses that were left a moment ago are not free yet.
    Leaving {
        next: Box<Next>,
    },
    /// `master` has not said that it has all addresses.
    Binding {
        next: Box<Next>,
    },
    /// Its new endpoints have not all had a result.
    Checking {
        next: Box<Next>,
    },
    /// Not every worker runs by it.
    Adopting {
        warnings: Vec<Diagnostic>,
    },
}

/// What is to take the place of what there is.
struct Next {
    plan: Arc<Plan>,
    warnings: Vec<Diagnostic>,
    names: Names,
    watchers: Watchers,
    probes: Probes,
    /// Sockets that are new, each with its worker.
    opened: Vec<(usize, TcpListener)>,
    /// Addresses that are not listened on any more.
    left: Vec<SocketAddr>,
}

impl Control {
    /// An operator wants a reload; the configuration is `master`'s to read.
    pub(super) fn ask_reload(&mut self, answer: Asker) {
        match self.master.send(&Report::Reread) {
            Ok(()) => self.reloads_asked.push_back(answer),
            Err(error) => _ = answer.send(Err(format!("cannot tell master: {error}\n"))),
        }
    }

    /// `master` has read the configuration for so many of those who asked.
    pub(super) fn begin_reload(&mut self, asked: usize, sources: OwnedFd) {
        let asked = asked.min(self.reloads_asked.len());
        let askers = self.reloads_asked.drain(..asked).collect();
        self.reload = Some(Reload { askers, begun: Instant::now(), step: Step::Compiling });
        let sources = match super::decode(sources) {
            Ok(sources) => sources,
            Err(message) => return self.refuse_reload(&format!("{message}\n")),
        };
        let (running, events_in_force) = (Arc::clone(&self.plan), self.told);
        let (events, components) = (self.sender.clone(), self.components.clone());
        // Its own thread: it may take a while, and endpoints are to be checked meanwhile.
        tokio::task::spawn_blocking(move || {
            let compiled = plan::reload(&sources, &running, events_in_force).and_then(|mut loaded| {
                let ready = components.compile(&mut loaded.plan);
                ready.map(|()| loaded).map_err(|why| vec![Diagnostic::error(Place::Default, why)])
            });
            // Nobody waits for it when the process ends.
            let _ = events.blocking_send(Event::Compiled(Box::new(compiled)));
        });
    }

    /// `master` could not read it.
    pub(super) fn note_unreadable(&mut self, asked: usize, why: &str) {
        let asked = asked.min(self.reloads_asked.len());
        let askers = self.reloads_asked.drain(..asked).collect();
        self.answer_refused(askers, why);
    }

    pub(super) fn note_compiled(&mut self, compiled: Result<Loaded, Vec<Diagnostic>>) {
        let Some(reload) = &mut self.reload else { return };
        let Loaded { plan, warnings, .. } = match compiled {
            Ok(loaded) => loaded,
            Err(mistakes) => return self.refuse_reload(&refusal(&mistakes, Colours::Off)),
        };
        let names = self.names.succeed(&plan.upstreams);
        let watchers = self.watchers.succeed(&plan.dns, &names);
        let next = Box::new(Next {
            plan: Arc::new(plan),
            warnings,
            names,
            watchers,
            probes: Probes::new(&[]),
            opened: Vec::new(),
            left: Vec::new(),
        });
        reload.step = Step::Resolving { next, until: Instant::now() + NAMES_TIMEOUT };
    }

    /// The names of the plan to come, while there is one.
    pub(super) fn names_to_come(&mut self) -> Option<&mut Names> {
        match &mut self.reload.as_mut()?.step {
            Step::Resolving { next, .. }
            | Step::Leaving { next }
            | Step::Binding { next }
            | Step::Checking { next } => Some(&mut next.names),
            Step::Compiling | Step::Adopting { .. } => None,
        }
    }

    /// Does what its time has come for.
    pub(super) fn advance_reload(&mut self) {
        self.former.forget();
        // What an operator has done to a child is over first: it is not to be lost.
        if self.operation.is_some() {
            return;
        }
        let Some(mut reload) = self.reload.take() else { return };
        reload.step = match reload.step {
            Step::Resolving { next, until } if next.names.are_all_asked() || until <= Instant::now() => {
                if !next.names.are_all_asked() {
                    tracing::warn!("not all names of upstreams are resolved yet; reloading without");
                }
                self.bind(next)
            }
            Step::Leaving { next } => self.bind(next),
            step => step,
        };
        self.reload = Some(reload);
    }

    /// Has `master` bind what is new, if the addresses are others.
    fn bind(&self, next: Box<Next>) -> Step {
        let addresses = &next.plan.server.listen;
        if *addresses == self.plan.server.listen {
            return self.check_endpoints(next);
        }
        if Instant::now() < self.left_until {
            return Step::Leaving { next };
        }
        if let Err(error) = self.master.send(&Report::Listen(addresses.clone())) {
            tracing::error!("cannot tell master where to listen: {error}");
        }
        Step::Binding { next }
    }

    /// `master` has handed over one of the sockets.
    pub(super) fn note_socket(&mut self, worker: usize, socket: OwnedFd) {
        if let Some(Reload { step: Step::Binding { next }, .. }) = &mut self.reload {
            next.opened.push((worker, TcpListener::from(socket)));
        }
    }

    /// It has handed over all of them.
    pub(super) fn note_bound(&mut self, left: Vec<SocketAddr>) {
        let Some(mut reload) = self.reload.take() else { return };
        reload.step = match reload.step {
            Step::Binding { mut next } => {
                next.left = left;
                self.check_endpoints(next)
            }
            step => step,
        };
        self.reload = Some(reload);
    }

    /// One of the addresses cannot be had.
    pub(super) fn note_unbound(&mut self, why: &str) {
        self.refuse_reload(&format!("error: {why}\n\n"));
    }

    /// Begins to check the endpoints that are new.
    fn check_endpoints(&self, mut next: Box<Next>) -> Step {
        let tables = next.names.endpoints();
        next.probes = self.probes.succeed(&next.plan, &tables, &self.names);
        let (round, events) = (next.probes.first_round(), self.sender.clone());
        tokio::spawn(async move {
            if timeout(CHECKS_TIMEOUT, round).await.is_err() {
                tracing::warn!("not all endpoints are checked yet; reloading without");
            }
            let _ = events.send(Event::FirstChecks).await;
        });
        Step::Checking { next }
    }

    /// All is there: has every worker run by it.
    pub(super) fn adopt(&mut self) {
        let Some(mut reload) = self.reload.take() else { return };
        let Step::Checking { next } = reload.step else {
            self.reload = Some(reload);
            return;
        };
        let Next { plan, warnings, mut names, mut watchers, mut probes, opened, left } = *next;
        names.inherit(&self.names);
        self.change_children(&plan, &mut names);
        let tables = names.endpoints();
        tables.iter().for_each(|table| self.children.mark(&plan, table));
        watchers.inherit(std::mem::replace(&mut self.watchers, Watchers::none(&self.sender)), &names);
        probes.inherit(std::mem::replace(&mut self.probes, Probes::new(&[])), &tables);
        let former = std::mem::replace(&mut self.plan, plan);
        self.former.plans.push(former);
        (self.names, self.watchers, self.probes) = (names, watchers, probes);
        self.generation = Generation { number: self.generation.number + 1, since: SystemTime::now() };
        self.doors.open(&self.plan.admin);
        if !left.is_empty() {
            self.left_until = Instant::now() + LEAVING;
        }
        let (pending, mut adopted) = channel::<Infallible>(1);
        let (pending, endpoints): (Arc<dyn Any + Send + Sync>, Arc<[Endpoints]>) =
            (Arc::new(pending), tables.into());
        let left: Arc<[SocketAddr]> = left.into();
        self.former.ledgers.extend(self.workers.counters().map(|counters| counters.ledger()));
        self.workers.adopt(|counters| Adoption {
            plan: Arc::clone(&self.plan),
            generation: self.generation.number,
            own: Box::new(Own::of(&self.plan, counters)),
            endpoints: Arc::clone(&endpoints),
            left: Arc::clone(&left),
            pending: Arc::clone(&pending),
        });
        drop(pending);
        opened.into_iter().for_each(|(worker, socket)| self.workers.open(worker, socket));
        let events = self.sender.clone();
        tokio::spawn(async move {
            let _: Option<Infallible> = adopted.recv().await;
            let _ = events.send(Event::Adopted).await;
        });
        reload.step = Step::Adopting { warnings };
        self.reload = Some(reload);
    }

    /// Every worker runs by it.
    pub(super) fn note_adopted(&mut self) {
        let Some(Reload { askers, begun, step: Step::Adopting { warnings } }) = self.reload.take() else {
            return;
        };
        let Server { shutdown_timeout, watch, .. } = self.plan.server;
        let adopted = Report::Adopted { shutdown_timeout, watch };
        if let Err(error) = self.master.send(&adopted) {
            tracing::error!("cannot tell master of the reload: {error}");
        }
        self.board.note_reload(true);
        let (number, workers) = (self.generation.number, self.workers.count());
        let plural = if workers == 1 { "" } else { "s" };
        let taken = begun.elapsed();
        let pause = self.workers.pause();
        tracing::info!(
            "reloaded: generation {number} is in force on {workers} worker{plural} after {taken:.1?}, \
             for at most {pause:.1?} of which one stood still"
        );
        let mut text = String::new();
        for warning in &warnings {
            tracing::warn!("{warning}");
            text += &format!("{warning}\n\n");
        }
        text += &format!("generation {number} is in force on {workers} worker{plural}\n");
        askers.into_iter().for_each(|asker| _ = asker.send(Ok(text.clone())));
    }

    /// Nothing has changed, and nothing will.
    fn refuse_reload(&mut self, why: &str) {
        let Some(reload) = self.reload.take() else { return };
        if let Err(error) = self.master.send(&Report::Kept) {
            tracing::error!("cannot tell master of the reload: {error}");
        }
        self.answer_refused(reload.askers, why);
    }

    fn answer_refused(&self, askers: Vec<Asker>, why: &str) {
        self.board.note_reload(false);
        let number = self.generation.number;
        tracing::error!("nothing was reloaded, generation {number} stays in force:\n{}", why.trim_end());
        let text = format!("{why}error: nothing was reloaded: generation {number} stays in force\n");
        askers.into_iter().for_each(|asker| _ = asker.send(Err(text.clone())));
    }
}
