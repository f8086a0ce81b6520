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

use super::admin::{Request, Verb, Wish};
use super::control::{Control, Event};
use super::probe::probe;
use crate::plan::Child;
use crate::process::orders::{Condition, Report, State};
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
    answer: oneshot::Sender<String>,
}

enum Step {
    /// `master` was asked; a new one is to listen there, if that is elsewhere.
    Asked { child: usize, beside: Option<Address> },
    /// It accepts connections; it is checked.
    Checking { child: usize, beside: Address },
    /// Traffic goes elsewhere; what is in flight may finish before `master` is told to end it.
    Draining { child: usize, old: Vec<Arc<Vitals>>, until: Instant, end: fn(Name) -> Report },
}

impl Control {
    /// Does what is wanted, or begins to.
    pub(super) fn ask(&mut self, request: Request) {
        let Request { wish, answer } = request;
        let outcome = match wish {
            Wish::Status => Some(self.status()),
            Wish::Child(verb, name) => match (&self.operation, self.named(&name)) {
                (Some(running), _) => Some(format!("error: busy with `{}`\n", running.name)),
                (None, children) if children.is_empty() => Some(self.unknown(&name)),
                (None, mut left) => {
                    if verb == Verb::Stop {
                        left.make_contiguous().reverse();
                    }
                    return self.proceed(verb, name, left, answer);
                }
            },
        };
        // Who has gone away needs none.
        let _ = outcome.map(|text| answer.send(text));
    }

    fn named(&self, name: &str) -> VecDeque<usize> {
        let children = self.plan.children.iter().enumerate();
        let is_it = |child: &Child| {
            let own = &child.settings.name;
            own.upstream == name || own.to_string() == name
        };
        children.filter(|(_, child)| is_it(child)).map(|(index, _)| index).collect()
    }

    fn unknown(&self, name: &str) -> String {
        let names: Vec<String> =
            self.plan.children.iter().map(|child| child.settings.name.to_string()).collect();
        match names.as_slice() {
            [] => "error: no upstream has a command\n".to_owned(),
            names => format!("error: `{name}` has no command; there are `{}`\n", names.join("`, `")),
        }
    }

    fn status(&self) -> String {
        let mut lines = String::new();
        for child in &self.plan.children {
            let name = &child.settings.name;
            let Some(condition) = self.children.condition(name) else { continue };
            let Condition { state, pid, elsewhere, restarts, last_end, .. } = condition;
            lines += &format!("{name} {}", state.word());
            if let Some(pid) = pid {
                lines += &format!(", process {pid}");
            }
            if let Some(at) = elsewhere.as_ref().or(address(&child.settings).as_ref()) {
                lines += &format!(", at {at}");
            }
            if *restarts > 0 {
                lines += &format!(", started again {restarts} times; it ended last with {last_end}");
            }
            lines.push('\n');
        }
        lines + "ok\n"
    }

    /// Begins with the next child that is left.
    fn proceed(
        &mut self,
        verb: Verb,
        name: String,
        mut left: VecDeque<usize>,
        answer: oneshot::Sender<String>,
    ) {
        let Some(index) = left.pop_front() else {
            let _gone = answer.send("ok\n".to_owned());
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
            Err(error) => _ = answer.send(format!("error: cannot tell master: {error}\n")),
        }
    }

    /// How a child is to be started anew, and where, if it can be beside the one that runs.
    fn next(&self, child: &Child) -> (Settings, Option<Address>) {
        let base = &child.settings;
        let is_away = self.children.condition(&base.name).is_some_and(|one| one.elsewhere.is_some());
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
        let (child, beside) = match &mut operation.step {
            Step::Asked { child, beside } if self.plan.children[*child].settings.name == *name => {
                (*child, beside.take())
            }
            _ => return self.operation = Some(operation),
        };
        match (failure, beside) {
            (Some(failure), _) => {
                self.children.stay(name);
                operation.fail(name, &failure);
            }
            (None, None) => self.proceed(operation.verb, operation.name, operation.left, operation.answer),
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
        let Some(operation) = self.operation.take() else { return };
        let (child, beside) = match &operation.step {
            Step::Checking { child, beside } if self.plan.children[*child].settings.name == *name => {
                (*child, beside.clone())
            }
            _ => return self.operation = Some(operation),
        };
        match failure {
            None => self.move_to(operation, child, &beside),
            Some(failure) => {
                // If it cannot be told, it is gone, and that with it.
                let _ = self.master.send(&Report::Abandon(name.clone()));
                operation.fail(name, &format!("its health check fails: {failure}"));
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
    fn leave(
        &mut self,
        verb: Verb,
        name: String,
        left: VecDeque<usize>,
        answer: oneshot::Sender<String>,
        child: usize,
    ) {
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
            Ok(()) => self.proceed(operation.verb, operation.name, operation.left, operation.answer),
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
        let _gone = self.answer.send(format!("error: `{name}`: {why}{left}\n"));
    }
}

/// Where a child listens, if that is one place.
fn address(settings: &Settings) -> Option<Address> {
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
