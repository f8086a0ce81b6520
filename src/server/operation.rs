//! What an operator has done with children: one after the other, and one wish at a time.
//!
//! A child that is told where to listen is restarted without a gap: the new one is started beside
//! it, elsewhere, traffic moves when it is ready, and the old one goes when nothing is in flight to
//! it any more. One that is to stop gets no more requests first, in the same way.

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::Sender;
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::admin::{Failure, Verb, Wish};
use super::control::{Control, Event};
use super::probe::probe;
use crate::plan::Child;
use crate::process::orders::{Report, State};
use crate::process::readiness::Address;
use crate::process::settings::{Name, Settings};
use crate::upstream::{self, Vitals};

/// Between two checks of one that is to take over.
const CHECK_PAUSE: Duration = Duration::from_millis(100);

/// Longest path a Unix socket can have: `sun_path`, less the NUL at its end.
const SOCKET_PATH_MAX: usize = 107;

/// What is being done for an operator.
pub struct Operation {
    verb: Verb,
    name: String,
    /// The children that it is not done with, by their indices in the plan.
    left: VecDeque<usize>,
    step: Step,
    answer: Answer,
}

pub(super) type Answer = oneshot::Sender<Result<(), Failure>>;

enum Step {
    /// `master` was asked; a new one is to listen there, if that is elsewhere.
    Asked { child: usize, beside: Option<Address> },
    /// It accepts connections; it is checked.
    Checking { child: usize, beside: Address },
    /// It is not healthy; it has to be gone before another one can be tried.
    Abandoned { child: usize, failure: String },
    /// Traffic goes elsewhere; what is in flight may finish before `master` is told to end it.
    Draining { child: usize, old: Vec<Arc<Vitals>>, until: Instant, end: fn(Name) -> Report },
}

impl Control {
    /// Does what is wanted, or begins to.
    pub(super) fn ask(&mut self, wish: Wish) {
        // Who has gone away needs no answer.
        let (verb, name, answer) = match wish {
            Wish::Look(answer) => return drop(answer.send(self.look())),
            Wish::Reload(answer) => return self.ask_reload(answer),
            Wish::Child { verb, name, answer } => (verb, name, answer),
        };
        if self.reload.is_some() {
            return drop(answer.send(Err(Failure::Busy("busy with a reload".to_owned()))));
        }
        let mut left = self.named(&name);
        if let Some(running) = &self.operation {
            let busy = Failure::Busy(format!("busy with `{}`", running.name));
            return drop(answer.send(Err(busy)));
        }
        if left.is_empty() {
            return drop(answer.send(Err(self.unknown(&name))));
        }
        if verb == Verb::Stop {
            left.make_contiguous().reverse();
        }
        self.proceed(verb, name, left, answer);
    }

    fn named(&self, name: &str) -> VecDeque<usize> {
        let children = self.plan.children.iter().enumerate();
        let is_it = |child: &Child| {
            let own = &child.settings.name;
            own.upstream == name || own.to_string() == name
        };
        children.filter(|(_, child)| is_it(child)).map(|(index, _)| index).collect()
    }

    fn unknown(&self, name: &str) -> Failure {
        let names: Vec<String> =
            self.plan.children.iter().map(|child| child.settings.name.to_string()).collect();
        Failure::Unknown(match names.as_slice() {
            [] => "no upstream has a command".to_owned(),
            names => format!("`{name}` has no command; there are `{}`", names.join("`, `")),
        })
    }

    /// Begins with the next child that is left.
    pub(super) fn proceed(&mut self, verb: Verb, name: String, mut left: VecDeque<usize>, answer: Answer) {
        let Some(index) = left.pop_front() else {
            let _gone = answer.send(Ok(()));
            return;
        };
        let child = &self.plan.children[index];
        let own = child.settings.name.clone();
        let is_to_leave = self.children.condition(&own).is_some_and(|one| one.state != State::Stopped);
        let (report, beside) = match verb {
            Verb::Stop if is_to_leave => return self.leave(verb, name, left, answer, index),
            Verb::Stop => (Report::StopChild(own), None),
            Verb::Start => (Report::StartChild(own), None),
            Verb::Restart => {
                let (settings, beside) = self.next(child);
                (Report::Restart(Box::new(settings)), beside)
            }
        };
        let step = Step::Asked { child: index, beside };
        match self.master.send(&report) {
            Ok(()) => self.operation = Some(Operation { verb, name, left, step, answer }),
            Err(error) => {
                let failure = Failure::Failed(format!("cannot tell master: {error}"));
                drop(answer.send(Err(failure)));
            }
        }
    }

    /// How a child is to be started anew, and where, if it can be beside the one that runs.
    fn next(&self, child: &Child) -> (Settings, Option<Address>) {
        let base = &child.settings;
        let is_away = self.names.elsewhere(&base.name.upstream, base.name.instance).is_some();
        let other = match is_away {
            true => address(base).map(|at| (base.clone(), at)),
            false => address(base)
                .and_then(|at| alternative(&at))
                .and_then(|at| child.elsewhere(&at).map(|settings| (settings, at))),
        };
        match other {
            Some((settings, at)) => (settings, Some(at)),
            None => (base.clone(), None),
        }
    }

    /// `master` is done with what it was asked for.
    pub(super) fn note_done(&mut self, name: &Name, failure: Option<String>) {
        let Some(mut operation) = self.operation.take() else { return };
        let is_it = |child: usize| self.plan.children[child].settings.name == *name;
        let (child, beside) = match &mut operation.step {
            Step::Asked { child, beside } if is_it(*child) => (*child, beside.take()),
            Step::Abandoned { child, failure } if is_it(*child) => {
                let failure = std::mem::take(failure);
                return operation.fail(name, &failure);
            }
            _ => return self.operation = Some(operation),
        };
        match (failure, beside) {
            (Some(failure), _) => {
                self.children.stay(name);
                operation.fail(name, &failure);
            }
            (None, None) => {
                if operation.verb == Verb::Restart {
                    self.children.set_stale(name, false);
                }
                self.proceed(operation.verb, operation.name, operation.left, operation.answer);
            }
            (None, Some(beside)) => match self.check(child, &beside) {
                true => {
                    operation.step = Step::Checking { child, beside };
                    self.operation = Some(operation);
                }
                false => self.move_to(operation, child, &beside),
            },
        }
    }

    /// Begins to check the one that is to take over, if its upstream has checks.
    fn check(&self, child: usize, beside: &Address) -> bool {
        let settings = &self.plan.children[child].settings;
        let upstream = self.plan.upstreams.iter().find(|one| one.name == settings.name.upstream);
        let Some((upstream, check)) = upstream.and_then(|one| Some((one, one.check.clone()?))) else {
            return false;
        };
        let place = &upstream.instances[settings.name.instance.unwrap_or(0) as usize].place;
        let (request, at) = (check.request(place), endpoint_address(beside));
        let until = Instant::now() + settings.start_timeout.unwrap_or_default();
        let (name, events): (Name, Sender<Event>) = (settings.name.clone(), self.sender.clone());
        tokio::spawn(async move {
            let failure = loop {
                match probe(&at, &request, &check).await {
                    Ok(()) => break None,
                    Err(failure) if until <= Instant::now() => break Some(failure.to_string()),
                    Err(_) => sleep(CHECK_PAUSE).await,
                }
            };
            // Nobody waits for it when the process ends.
            let _ = events.send(Event::Checked(name, failure)).await;
        });
        true
    }

    /// The one that is to take over was checked.
    pub(super) fn note_checked(&mut self, name: &Name, failure: Option<String>) {
        let Some(mut operation) = self.operation.take() else { return };
        let (child, beside) = match &operation.step {
            Step::Checking { child, beside } if self.plan.children[*child].settings.name == *name => {
                (*child, beside.clone())
            }
            _ => return self.operation = Some(operation),
        };
        match failure {
            None => self.move_to(operation, child, &beside),
            Some(failure) => {
                let failure = format!("its health check fails: {failure}");
                match self.master.send(&Report::Abandon(name.clone())) {
                    Ok(()) => {
                        operation.step = Step::Abandoned { child, failure };
                        self.operation = Some(operation);
                    }
                    // It is gone, and that with it.
                    Err(_) => operation.fail(name, &failure),
                }
            }
        }
    }

    /// Sends new requests to the new one; the old one may finish what it has.
    fn move_to(&mut self, mut operation: Operation, child: usize, beside: &Address) {
        let settings = &self.plan.children[child].settings;
        let name = settings.name.clone();
        let until = Instant::now() + settings.stop_timeout;
        let elsewhere = (address(settings).as_ref() != Some(beside)).then_some(beside);
        let old = self.names.vitals(&name.upstream, name.instance);
        if let Some(table) = self.names.relocate(&name.upstream, name.instance, elsewhere) {
            self.tell_endpoints(table);
        }
        operation.step = Step::Draining { child, old, until, end: Report::Moved };
        self.operation = Some(operation);
    }

    /// Sends no more requests to one that is to stop; it may finish what it has.
    fn leave(&mut self, verb: Verb, name: String, left: VecDeque<usize>, answer: Answer, child: usize) {
        let settings = &self.plan.children[child].settings;
        let own = &settings.name;
        let until = Instant::now() + settings.stop_timeout;
        let old = self.names.vitals(&own.upstream, own.instance);
        self.children.leave(own);
        if let Some(table) = self.names.renew(&own.upstream, own.instance) {
            self.tell_endpoints(table);
        }
        let step = Step::Draining { child, old, until, end: Report::StopChild };
        self.operation = Some(Operation { verb, name, left, step, answer });
    }

    /// Nothing is in flight any more to the one that is to end, or it has had its time.
    pub(super) fn end_drained(&mut self) {
        let Some(Operation { step: Step::Draining { child, old, until, end }, .. }) = &self.operation else {
            return;
        };
        // Every core has let go of it: its table, its connections and its exchanges.
        let is_idle = old.iter().all(|vitals| Arc::strong_count(vitals) == 1);
        if !is_idle && Instant::now() < *until {
            return;
        }
        let (child, report) = (*child, end(self.plan.children[*child].settings.name.clone()));
        let Some(mut operation) = self.operation.take() else { return };
        match self.master.send(&report) {
            // It says when that one has ended.
            Ok(()) if operation.verb == Verb::Stop => {
                operation.step = Step::Asked { child, beside: None };
                self.operation = Some(operation);
            }
            Ok(()) => {
                self.children.set_stale(&self.plan.children[child].settings.name, false);
                self.proceed(operation.verb, operation.name, operation.left, operation.answer);
            }
            Err(error) => {
                let name = &self.plan.children[child].settings.name;
                operation.fail(name, &format!("cannot tell master: {error}"));
            }
        }
    }

    /// Something has to be looked at often.
    pub(super) fn is_draining_child(&self) -> bool {
        self.operation.as_ref().is_some_and(|one| matches!(one.step, Step::Draining { .. }))
    }
}

impl Operation {
    fn fail(self, name: &Name, why: &str) {
        let left = match self.left.len() {
            0 => String::new(),
            left => format!("; {left} more were left as they are"),
        };
        let failure = Failure::Failed(format!("`{name}`: {why}{left}"));
        let _gone = self.answer.send(Err(failure));
    }
}

/// Where a child listens, if that is one place.
pub(super) fn address(settings: &Settings) -> Option<Address> {
    settings.addresses.iter().flatten().next().cloned()
}

/// Another address of the same kind that nobody has.
fn alternative(address: &Address) -> Option<Address> {
    match address {
        Address::Unix(path) => {
            let mut other = path.clone().into_os_string();
            other.push("~");
            let is_short = other.len() <= SOCKET_PATH_MAX;
            is_short.then(|| Address::Unix(PathBuf::from(other)))
        }
        Address::Tcp(at) => {
            // Whoever takes it between now and its use is told of by name.
            let free = TcpListener::bind(SocketAddr::new(at.ip(), 0)).and_then(|free| free.local_addr());
            free.ok().map(Address::Tcp)
        }
    }
}

fn endpoint_address(address: &Address) -> upstream::Address {
    match address {
        Address::Tcp(at) => upstream::Address::Tcp(*at),
        Address::Unix(path) => upstream::Address::Unix(path.clone()),
    }
}
