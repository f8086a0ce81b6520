//! The policies of one core: an instance of each, which is asked for endpoints.
//!
//! Hot path: no allocation, no lock, no formatting, as long as the guest does well.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::account::{Call, Kind, Part, Verdict};
use super::asked::{Asked, Endpoints};
use super::bindings::policy::exports::warpdrive::policy::load_balancer::Endpoint;
use super::facilities::tell_dropped;
use super::instance::{Failed, Instance, Outcome, back_off};
use super::policy::Policy;
use crate::wasm::Guests;

/// Failures that are told of one policy and core in a second.
const COMPLAINTS_MAX: u32 = 5;

/// Requests that a guest may keep after their calls. One that keeps more is replaced as soon as
/// another one is there, and at once if it keeps many more.
const KEPT_MAX: u32 = 1024;
const KEPT_MOST: u32 = 16 * KEPT_MAX;

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
    instance: RefCell<Option<Instance>>,
    /// What the next call is given; kept, so that it is allocated once.
    endpoints: RefCell<Vec<Endpoint>>,
    /// Calls that have failed in a row, by what they were for: one that always succeeds says nothing
    /// of one that never does.
    failures: [Cell<u32>; Call::ALL.len()],
    /// After repeated failures nobody is asked before this.
    rests_until: Cell<Option<Instant>>,
    /// Another one is being made in place of the instance, which goes on until then.
    is_worn: Cell<bool>,
    complaints: Cell<Complaints>,
}

#[derive(Clone, Copy)]
struct Complaints {
    since: Instant,
    told: u32,
    untold: u64,
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
            policy.component.store.set_most(policy.settings.store_bytes);
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
            match seat.part().untold_lines() {
                0 => {}
                lines => tell_dropped(&seat.policy.settings.name, lines),
            }
            seat.tell_untold();
        }
    }

    /// What they say of themselves.
    pub fn said(&self, endpoints: &dyn Endpoints) -> Vec<Said> {
        let said = |seat: &Rc<Seat>| {
            let statistics = seat.statistics(endpoints)?;
            Some(Said { policy: seat.policy.settings.name.clone(), statistics })
        };
        self.list().iter().filter_map(said).collect()
    }
}

impl Seat {
    fn new(policy: &Arc<Policy>, core: usize) -> Seat {
        let complaints = Complaints { since: Instant::now(), told: 0, untold: 0 };
        Seat {
            policy: Arc::clone(policy),
            core,
            instance: RefCell::default(),
            endpoints: RefCell::default(),
            failures: Default::default(),
            rests_until: Cell::new(None),
            is_worn: Cell::new(false),
            complaints: Cell::new(complaints),
        }
    }

    fn part(&self) -> &Part {
        &self.policy.component.account.cores[self.core]
    }

    /// Counts what came of a call.
    pub fn note(&self, verdict: Verdict) {
        self.part().verdict(verdict).add(1);
    }

    /// Whether there is somebody to ask.
    pub fn is_there(&self) -> bool {
        let mut instance = self.instance.borrow_mut();
        if instance.is_none() && self.rests() {
            return false;
        }
        if (instance.is_none() || self.is_worn.get())
            && let Some(spare) = self.policy.take_spare(self.core)
        {
            *instance = Some(spare);
            self.is_worn.set(false);
        }
        instance.is_some()
    }

    /// The index that the guest picks of these. Whether that can be is the caller's to find out and
    /// to [`Self::note`]; whatever else comes of the call is noted here.
    pub fn select(&self, asked: Asked<'_>, endpoints: impl Iterator<Item = Endpoint>) -> Option<u32> {
        if !self.is_there() {
            self.note(Verdict::Off);
            return None;
        }
        let mut list = self.endpoints.borrow_mut();
        list.clear();
        list.extend(endpoints);
        let select = |instance: &mut Instance| {
            let picked = instance.select(asked, &list);
            self.part().duration.observe(instance.taken());
            picked
        };
        match self.call(Call::Select, select) {
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

    fn rests(&self) -> bool {
        match self.rests_until.get() {
            Some(until) if Instant::now() < until => true,
            Some(_) => {
                self.rests_until.set(None);
                false
            }
            None => false,
        }
    }

    /// Tells the guest how a request went.
    pub fn report(&self, endpoints: &dyn Endpoints, id: u32, outcome: Outcome) {
        if self.policy.has_feedback() && self.is_there() {
            let asked = Asked { request: None, endpoints };
            let _failed = self.call(Call::Report, |instance| instance.report(asked, id, outcome));
        }
    }

    fn statistics(&self, endpoints: &dyn Endpoints) -> Option<serde_json::Value> {
        if self.policy.about.is_none() || !self.is_there() {
            return None;
        }
        let asked = Asked { request: None, endpoints };
        self.call(Call::Statistics, |instance| instance.statistics(asked)).ok().flatten()
    }

    /// One call of the instance, which is there. One that fails is replaced, sooner or later.
    fn call<R>(&self, what: Call, call: impl FnOnce(&mut Instance) -> Result<R, Failed>) -> Result<R, Kind> {
        let mut place = self.instance.borrow_mut();
        let instance = place.as_mut().expect("whoever calls has looked whether it is there");
        let called = call(instance);
        self.part().memory.store(instance.memory(), Ordering::Relaxed);
        match called {
            Ok(answer) => {
                self.failures[what as usize].set(0);
                if instance.kept() > KEPT_MAX {
                    self.wear_out(&mut place);
                }
                Ok(answer)
            }
            Err(failed) => {
                self.failed(what, &failed, place.take());
                Err(failed.kind)
            }
        }
    }

    #[cold]
    fn wear_out(&self, place: &mut Option<Instance>) {
        if !self.is_worn.replace(true) {
            self.policy.order(self.core, None);
        }
        if place.as_ref().is_some_and(|instance| instance.kept() > KEPT_MOST) {
            *place = None;
        }
    }

    #[cold]
    fn failed(&self, what: Call, failed: &Failed, instance: Option<Instance>) {
        self.part().failures(what, failed.kind).add(1);
        let failures = self.failures[what as usize].get() + 1;
        self.failures[what as usize].set(failures);
        self.rests_until.set(Some(back_off(failures, Instant::now())));
        // Where one is on its way already, that is the next.
        if !self.is_worn.replace(false) {
            self.policy.order(self.core, instance);
        }
        match what {
            Call::Select => self.complain(format_args!("{}: the fallback decides", failed.message)),
            Call::Report => self.complain(format_args!("feedback: {}", failed.message)),
            Call::Statistics => self.complain(format_args!("statistics: {}", failed.message)),
        }
    }

    /// Tells what is wrong, unless that was told too often in this second.
    pub fn complain(&self, what: std::fmt::Arguments<'_>) {
        let mut complaints = self.complaints.get();
        if complaints.since.elapsed() >= Duration::from_secs(1) {
            self.tell_untold();
            complaints = Complaints { since: Instant::now(), told: 0, untold: 0 };
        }
        match complaints.told {
            COMPLAINTS_MAX => complaints.untold += 1,
            told => {
                complaints.told = told + 1;
                tracing::warn!("policy `{}`: {what}", self.policy.settings.name);
            }
        }
        self.complaints.set(complaints);
    }

    fn tell_untold(&self) {
        let complaints = self.complaints.get();
        if complaints.untold > 0 && complaints.since.elapsed() >= Duration::from_secs(1) {
            let name = &self.policy.settings.name;
            tracing::warn!("policy `{name}`: {} more times like that", complaints.untold);
            self.complaints.set(Complaints { untold: 0, ..complaints });
        }
    }
}
