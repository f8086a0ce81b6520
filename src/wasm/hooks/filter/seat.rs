//! The middleware of one core: an instance of each, which is called.
//!
//! Hot path: no lock, no formatting, as long as the guest does well.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use wasmtime::component::ResourceAny;

use super::crew::{Crew, Permit};
use super::instance::{Call, Code, Instance};
use super::passing::{self, Passing, Undo};
use super::stream::BodyStream;
use super::tally::{Hook, Outcome, Part};
use super::{Filter, RequestAction, ResponseAction, Summary};
use crate::net::Wheel;
use crate::wasm::Guests;
use crate::wasm::hooks::account::Kind;
use crate::wasm::hooks::asked::{self, Asked, Endpoints};
use crate::wasm::hooks::complaints::Complaints;
use crate::wasm::hooks::post::{Post, Shared};
use crate::wasm::hooks::running::Failed;
use crate::wasm::hooks::settings::Way;
use crate::wasm::outgoing::Outbox;

/// Those of the plan in force, by id.
pub type Seats = Rc<[Rc<Seat>]>;

/// All of one core.
pub struct Filters {
    core: usize,
    seats: RefCell<Seats>,
}

/// One middleware on one core.
pub struct Seat {
    pub filter: Arc<Filter>,
    core: usize,
    post: Post<Code>,
    /// In place of that, if its calls wait.
    crew: Option<Crew>,
    /// Of the call at hand.
    pub undo: RefCell<Undo>,
    complaints: Complaints,
}

impl Filters {
    pub fn new(core: usize) -> Filters {
        Filters { core, seats: RefCell::default() }
    }

    /// From now on these are there. What is the same as before keeps its instance.
    pub fn adopt(&self, guests: &Guests) {
        for filter in &guests.filters {
            filter.guest.component.store.set_most(filter.guest.settings.store_bytes);
        }
        let before = self.list();
        let seat = |filter: &Arc<Filter>| {
            let same = before.iter().find(|seat| Arc::ptr_eq(&seat.filter, filter));
            same.map_or_else(|| Rc::new(Seat::new(filter, self.core)), Rc::clone)
        };
        *self.seats.borrow_mut() = guests.filters.iter().map(seat).collect();
    }

    pub fn list(&self) -> Seats {
        Rc::clone(&self.seats.borrow())
    }

    /// What is to be done once a second.
    pub fn settle(&self) {
        for seat in self.list().iter() {
            let component = &seat.filter.guest.component;
            component.account.cores[self.core].log.report(&component.name);
            component.store.settle();
            seat.complaints.tell_untold(seat.title());
            if let Some(crew) = &seat.crew {
                crew.settle();
            }
        }
    }
}

impl Seat {
    fn new(filter: &Arc<Filter>, core: usize) -> Seat {
        Seat {
            filter: Arc::clone(filter),
            core,
            post: Post::new(&filter.guest, core),
            crew: filter.waits().then(|| Crew::new(&filter.guest, core, filter.waiting.instances)),
            undo: RefCell::default(),
            complaints: Complaints::new(),
        }
    }

    fn title(&self) -> (&str, &str) {
        ("middleware", &self.filter.guest.settings.name)
    }

    fn part(&self) -> &Part {
        &self.filter.tally.cores[self.core]
    }

    /// Counts what came of a call.
    pub fn note(&self, hook: Hook, outcome: Outcome) {
        self.part().calls(hook, outcome).add(1);
    }

    /// Whether its hooks for requests and responses wait: then they are [`Self::enter`]ed.
    pub fn waits(&self) -> bool {
        self.crew.is_some()
    }

    /// An instance of one that waits, until its deadline.
    ///
    /// # Errors
    /// There is none; that is counted.
    pub async fn enter(&self, hook: Hook, wheel: &Rc<Wheel>, until: Instant) -> Result<Entered<'_>, Outcome> {
        let crew = self.crew.as_ref().expect("it was asked whether it waits");
        match crew.enter(wheel, until).await {
            Some((permit, instance)) => Ok(Entered { seat: self, hook, permit, instance }),
            None => Err(self.nobody(hook)),
        }
    }

    /// It has sent a request of its own.
    pub fn count_request(&self) {
        self.part().sent.add(1);
    }

    /// Its deadline has passed while it was waiting.
    pub fn time_out(&self, hook: Hook) -> Outcome {
        let message = "it did not answer in time".to_owned();
        self.failed(hook, &Failed { kind: Kind::Timeout, message })
    }

    /// # Errors
    /// It has failed; that is counted, and told.
    pub fn on_request<'a>(
        &self,
        passing: &'a RefCell<Passing<'a>>,
        endpoints: &dyn Endpoints,
    ) -> Result<RequestAction, Outcome> {
        self.call(Hook::Request, |instance| instance.on_request(passing, endpoints))
    }

    /// # Errors
    /// As [`Self::on_request`].
    pub fn on_response<'a>(
        &self,
        passing: &'a RefCell<Passing<'a>>,
        endpoints: &dyn Endpoints,
    ) -> Result<ResponseAction, Outcome> {
        self.call(Hook::Response, |instance| instance.on_response(passing, endpoints))
    }

    /// # Errors
    /// As [`Self::on_request`].
    pub fn on_log<'a>(
        &self,
        passing: &'a RefCell<Passing<'a>>,
        endpoints: &dyn Endpoints,
        summary: &Summary,
    ) -> Result<(), Outcome> {
        if let Some(crew) = &self.crew {
            let (permit, mut instance) = crew.take().ok_or_else(|| self.nobody(Hook::Log))?;
            let called = instance.on_log(passing, endpoints, summary);
            return self.finish(Hook::Log, permit, instance, called);
        }
        self.call(Hook::Log, |instance| instance.on_log(passing, endpoints, summary))
    }

    /// Tells the guest of a body that passes it from now on.
    ///
    /// # Errors
    /// As [`Self::on_request`].
    pub fn begin_body<'a>(
        self: &Rc<Self>,
        hook: Hook,
        passing: &'a RefCell<Passing<'a>>,
        endpoints: &dyn Endpoints,
    ) -> Result<BodyStream, Outcome> {
        let body = self.call(hook, |instance| match hook {
            Hook::RequestBody => instance.begin_request_body(passing, endpoints),
            _ => instance.begin_response_body(passing, endpoints),
        })?;
        let instance = self.post.current().expect("it was just called");
        Ok(BodyStream::new(self, hook, instance, body))
    }

    /// Tells it that one has ended.
    pub fn end_body(&self, hook: Hook, instance: &Shared<Code>, body: ResourceAny) {
        if instance.borrow().has_failed() {
            return;
        }
        // Counted and told, and nothing depends on it any more.
        let _ended: Result<(), Outcome> =
            self.call_of(hook, Rc::clone(instance), |running| running.end_body(body));
    }

    /// A call of one that waits has come back.
    fn finish<R>(
        &self,
        hook: Hook,
        permit: Permit<'_>,
        instance: Instance,
        called: Result<R, Failed>,
    ) -> Result<R, Outcome> {
        self.part().duration(hook).observe(instance.taken());
        permit.finish(instance);
        called.map_err(|failed| self.failed(hook, &failed))
    }

    fn call<R>(
        &self,
        hook: Hook,
        call: impl FnOnce(&mut Instance) -> Result<R, Failed>,
    ) -> Result<R, Outcome> {
        match self.post.take_turn() {
            Some(instance) => self.call_of(hook, instance, call),
            None => Err(self.nobody(hook)),
        }
    }

    /// A call of one instance and no other.
    ///
    /// # Errors
    /// As [`Self::on_request`].
    pub fn call_of<R>(
        &self,
        hook: Hook,
        instance: Shared<Code>,
        call: impl FnOnce(&mut Instance) -> Result<R, Failed>,
    ) -> Result<R, Outcome> {
        if instance.borrow().has_failed() {
            self.note(hook, Outcome::Lost);
            return Err(Outcome::Lost);
        }
        let called = self.post.call(hook as usize, instance, |instance| {
            let called = call(instance);
            self.part().duration(hook).observe(instance.taken());
            called
        });
        called.map_err(|failed| self.failed(hook, &failed))
    }

    #[cold]
    fn nobody(&self, hook: Hook) -> Outcome {
        let outcome = match self.filter.guest.failure() {
            Some(_) => Outcome::Absent,
            None => Outcome::Overload,
        };
        self.note(hook, outcome);
        outcome
    }

    #[cold]
    fn failed(&self, hook: Hook, failed: &Failed) -> Outcome {
        let outcome = match failed.kind {
            Kind::Trap => Outcome::Trap,
            Kind::Memory => Outcome::Memory,
            Kind::Timeout => Outcome::Timeout,
        };
        self.note(hook, outcome);
        self.complain(format_args!("{}: {}", hook.word(), failed.message));
        outcome
    }

    /// What is done after a failure, which counts it.
    pub fn way(&self, failure: Outcome) -> Way {
        let ways = &self.filter.on_failure;
        let way = match failure {
            Outcome::Timeout => ways.timeout,
            Outcome::Overload | Outcome::NoRoom => ways.overload,
            Outcome::Absent => ways.load,
            _ => ways.error,
        };
        match way {
            Way::Open => self.part().opened.add(1),
            Way::Closed => return self.close(),
        }
        way
    }

    /// There is only one way, which is counted.
    pub fn close(&self) -> Way {
        self.part().closed.add(1);
        Way::Closed
    }

    /// Tells what is wrong, unless that was told too often in this second.
    pub fn complain(&self, what: std::fmt::Arguments<'_>) {
        self.complaints.tell(self.title(), what);
    }
}

/// An instance of one that waits, which nobody else calls.
pub struct Entered<'a> {
    seat: &'a Seat,
    hook: Hook,
    permit: Permit<'a>,
    instance: Instance,
}

impl<'a> Entered<'a> {
    /// Begins a call of it; nothing happens before the first poll.
    pub fn begin<R>(self, begin: impl FnOnce(Instance) -> Call<R>) -> Waiting<'a, R> {
        let Entered { seat, hook, permit, instance } = self;
        Waiting { seat, hook, permit: Some(permit), call: begin(instance) }
    }
}

/// A call under way that may wait. Dropped before its end, its instance ends.
pub struct Waiting<'a, R> {
    seat: &'a Seat,
    hook: Hook,
    permit: Option<Permit<'a>>,
    call: Call<R>,
}

impl<R> Waiting<'_, R> {
    /// Where the instance puts the requests that it sends.
    pub fn outbox(&self) -> &Outbox {
        &self.call.outbox
    }

    /// Lets the instance run until it has to wait, or fails; that is counted, and told.
    pub fn poll<'p>(
        &mut self,
        passing: &'p RefCell<Passing<'p>>,
        endpoints: &dyn Endpoints,
        cx: &mut Context<'_>,
    ) -> Poll<Result<R, Outcome>> {
        let asked = Asked { request: None, endpoints };
        let polled = asked::lend(asked, || passing::lend(passing, || self.call.poll(cx)));
        polled.map(|(instance, called)| {
            let permit = self.permit.take().expect("a call comes back once");
            self.seat.finish(self.hook, permit, instance, called)
        })
    }
}
