//! The policies of one core: an instance of each, which is asked for endpoints.
//!
//! Hot path: no allocation, no lock, no formatting, as long as the guest does well.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::account::{Call, Kind, Part, Verdict};
use super::asked::{Asked, Endpoints};
use super::bindings::policy::exports::warpdrive::policy::load_balancer::Endpoint;
use super::complaints::Complaints;
use super::instance::{Code, Instance, Outcome};
use super::policy::Policy;
use super::post::{Post, Shared};
use super::running::Failed;
use crate::wasm::Guests;

/// Those of the plan in force, by id.
pub type Seats = Rc<[Rc<Seat>]>;

/// All of one core.
pub struct Policies {
    core: usize,
    seats: RefCell<Seats>,
}

/// One policy on one core.
pub struct Seat {
    pub policy: Arc<Policy>,
    core: usize,
    post: Post<Code>,
    /// What the next call is given; kept, so that it is allocated once.
    endpoints: RefCell<Vec<Endpoint>>,
    complaints: Complaints,
}

/// What the guest of one core says of itself.
#[derive(Debug)]
pub struct Said {
    pub policy: String,
    pub statistics: serde_json::Value,
}

impl Policies {
    pub fn new(core: usize) -> Policies {
        Policies { core, seats: RefCell::default() }
    }

    /// From now on these are there. What is the same as before keeps its instance.
    pub fn adopt(&self, guests: &Guests) {
        for policy in &guests.policies {
            policy.guest.component.store.set_most(policy.guest.settings.store_bytes);
        }
        let before = self.list();
        let seat = |policy: &Arc<Policy>| {
            let same = before.iter().find(|seat| Arc::ptr_eq(&seat.policy, policy));
            same.map_or_else(|| Rc::new(Seat::new(policy, self.core)), Rc::clone)
        };
        *self.seats.borrow_mut() = guests.policies.iter().map(seat).collect();
    }

    pub fn list(&self) -> Seats {
        Rc::clone(&self.seats.borrow())
    }

    /// What is to be done once a second.
    pub fn settle(&self) {
        for seat in self.list().iter() {
            let component = &seat.policy.guest.component;
            component.account.cores[self.core].log.report(&component.name);
            component.store.settle();
            seat.complaints.tell_untold(seat.title());
        }
    }

    /// What they say of themselves.
    pub fn said(&self, endpoints: &dyn Endpoints) -> Vec<Said> {
        let said = |seat: &Rc<Seat>| {
            let statistics = seat.statistics(endpoints)?;
            Some(Said { policy: seat.policy.guest.settings.name.clone(), statistics })
        };
        self.list().iter().filter_map(said).collect()
    }
}

impl Seat {
    fn new(policy: &Arc<Policy>, core: usize) -> Seat {
        Seat {
            policy: Arc::clone(policy),
            core,
            post: Post::new(&policy.guest, core),
            endpoints: RefCell::default(),
            complaints: Complaints::new(),
        }
    }

    fn title(&self) -> (&str, &str) {
        ("policy", &self.policy.guest.settings.name)
    }

    fn part(&self) -> &Part {
        &self.policy.guest.component.account.cores[self.core]
    }

    /// Counts what came of a call.
    pub fn note(&self, verdict: Verdict) {
        self.part().verdict(verdict).add(1);
    }

    /// Whether there is somebody to ask.
    pub fn is_there(&self) -> bool {
        self.post.take_turn().is_some()
    }

    /// The index that the guest picks of these. Whether that can be is the caller's to find out and
    /// to [`Self::note`]; whatever else comes of the call is noted here.
    pub fn select(&self, asked: Asked<'_>, endpoints: impl Iterator<Item = Endpoint>) -> Option<u32> {
        let Some(instance) = self.post.take_turn() else {
            self.note(Verdict::Off);
            return None;
        };
        let mut list = self.endpoints.borrow_mut();
        list.clear();
        list.extend(endpoints);
        let select = |instance: &mut Instance| {
            let picked = instance.select(asked, &list);
            self.part().duration.observe(instance.taken());
            picked
        };
        match self.call(Call::Select, instance, select) {
            Ok(None) => {
                self.note(Verdict::None);
                None
            }
            Ok(picked) => picked,
            Err(kind) => {
                self.note(match kind {
                    Kind::Trap => Verdict::Trap,
                    Kind::Memory => Verdict::Memory,
                    Kind::Timeout => Verdict::Timeout,
                });
                None
            }
        }
    }

    /// Tells the guest how a request went.
    pub fn report(&self, endpoints: &dyn Endpoints, id: u32, outcome: Outcome) {
        if !self.policy.has_feedback() {
            return;
        }
        if let Some(instance) = self.post.take_turn() {
            let asked = Asked { request: None, endpoints };
            let _failed = self.call(Call::Report, instance, |one| one.report(asked, id, outcome));
        }
    }

    fn statistics(&self, endpoints: &dyn Endpoints) -> Option<serde_json::Value> {
        self.policy.about.as_ref()?;
        let instance = self.post.take_turn()?;
        let asked = Asked { request: None, endpoints };
        self.call(Call::Statistics, instance, |one| one.statistics(asked)).ok().flatten()
    }

    /// One call of an instance. A failure is counted, and told.
    fn call<R>(
        &self,
        what: Call,
        instance: Shared<Code>,
        call: impl FnOnce(&mut Instance) -> Result<R, Failed>,
    ) -> Result<R, Kind> {
        self.post.call(what as usize, instance, call).map_err(|failed| {
            self.part().failures(what, failed.kind).add(1);
            match what {
                Call::Select => self.complain(format_args!("{}: the fallback decides", failed.message)),
                Call::Report => self.complain(format_args!("feedback: {}", failed.message)),
                Call::Statistics => self.complain(format_args!("statistics: {}", failed.message)),
            }
            failed.kind
        })
    }

    /// Tells what is wrong, unless that was told too often in this second.
    pub fn complain(&self, what: std::fmt::Arguments<'_>) {
        self.complaints.tell(self.title(), what);
    }
}
