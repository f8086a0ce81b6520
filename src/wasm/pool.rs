//! The instances of one core: those that serve, those that wait to be used again, and the requests
//! that wait for one. No lock, no other core.
//!
//! An instance is used again, last in first out, as often as its component's `reuse` says; by
//! default never. What has failed is never used again. When a core has no room for one more, an
//! instance of any component that nobody needs makes way.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Fault;
use super::breaker::{Admitted, Breaker, Change};
use super::compiler::{Guest, Guests, Share};
use super::instance::{End, Instance};
use super::limits::Quota;
use super::throttle::Throttle;
use crate::net::queue::Queue;
use crate::net::{Alarms, Wheel, task};
use crate::telemetry::counters::Counter;

pub use super::settings::ComponentId;

/// What the instances of one component on one core have done.
#[derive(Default, Debug)]
pub struct Counters {
    pub requests: Counter,
    /// Instances that were made.
    pub made: Counter,
    /// Requests that came to an instance which had served before.
    pub reused: Counter,
    /// Calls that failed, whatever the reason.
    pub failed: Counter,
    /// Requests that waited for an instance, and those that waited in vain.
    pub queued: Counter,
    pub refused: Counter,
    /// How often the breaker has opened, and requests that it has refused.
    pub pauses: Counter,
    pub shut_out: Counter,
    /// Microseconds on the processor.
    pub cpu_us: Counter,
    /// Requests that instances have sent.
    pub outgoing: Counter,
}

/// All pools of a core.
pub struct Pools {
    room: Rc<Room>,
    /// Indexed by [`ComponentId`] of the plan in force.
    pools: RefCell<Vec<Rc<Pool>>>,
}

/// What all pools of a core share.
pub(super) struct Room {
    pub core: usize,
    pub alarms: Alarms,
    are_alarms_served: Cell<bool>,
    quota: RefCell<Option<(Share, Arc<Quota>)>>,
    instances: Cell<u32>,
    most_instances: Cell<u32>,
    pools: RefCell<Vec<Rc<Pool>>>,
    next_number: Cell<u64>,
}

/// The instances of one component.
pub struct Pool {
    pub guest: Arc<Guest>,
    pub(super) room: Rc<Room>,
    idle: RefCell<Vec<Instance>>,
    /// Requests that are being served.
    busy: Cell<u32>,
    queue: Queue,
    breaker: Breaker,
    complaints: Cell<Complaints>,
}

/// How many failures of calls may still be told in the second at hand.
#[derive(Clone, Copy)]
struct Complaints {
    since: Instant,
    left: u32,
    left_out: u64,
}

/// Failures of calls of one component that are told in a second.
const COMPLAINTS_MAX: u32 = 10;

/// The right to one instance; given back on drop.
pub struct Permit {
    pub(super) pool: Rc<Pool>,
    _trial: Option<Trial>,
}

/// The request that decides whether the breaker closes. Without an outcome, the next one decides.
struct Trial(Rc<Pool>);

/// An instance that counts among those of its core while it lives.
pub(super) struct Counted(Rc<Room>);

impl Pools {
    pub fn new(core: usize) -> Pools {
        let room = Room {
            core,
            alarms: Alarms::default(),
            are_alarms_served: Cell::new(false),
            quota: RefCell::default(),
            instances: Cell::new(0),
            most_instances: Cell::new(0),
            pools: RefCell::default(),
            next_number: Cell::new(0),
        };
        Pools { room: Rc::new(room), pools: RefCell::default() }
    }

    /// From now on these components are served. A pool whose component stays the same keeps its
    /// instances; of the others, instances that serve finish, and those that wait end.
    pub fn adopt(&self, guests: &Guests) {
        let mut before = self.pools.take();
        let adopted: Vec<Rc<Pool>> = guests
            .components
            .iter()
            .map(|guest| match before.iter().position(|pool| Arc::ptr_eq(&pool.guest, guest)) {
                Some(at) => before.swap_remove(at),
                None => Rc::new(Pool::new(guest, &self.room)),
            })
            .collect();
        before.iter().for_each(|pool| pool.end_idle(End::Replaced));
        if let Some(first) = guests.components.first() {
            self.room.set_share(first.share);
            self.serve_alarms();
        }
        self.room.pools.borrow_mut().clone_from(&adopted);
        *self.pools.borrow_mut() = adopted;
    }

    /// Alarms are wanted by guests alone.
    fn serve_alarms(&self) {
        if self.room.are_alarms_served.replace(true) {
            return;
        }
        let alarms = self.room.alarms.clone();
        let served = async move {
            if let Err(error) = alarms.run().await {
                tracing::error!("components have no clock: {error}");
            }
        };
        task::spawn(served, || tracing::error!("the clock of components ended with a panic"));
    }

    /// The pool of a component of the plan in force.
    pub fn of(&self, component: ComponentId) -> Rc<Pool> {
        Rc::clone(&self.pools.borrow()[component.0 as usize])
    }

    /// Ends instances that nobody has needed for long, or all that nobody needs if memory is short, and
    /// tells what of their output was dropped. To be called once a second.
    pub fn expire(&self) {
        let is_short = self.room.quota.borrow().as_ref().is_some_and(|(_, quota)| quota.was_short());
        for pool in self.pools.borrow().iter() {
            pool.expire(Instant::now(), is_short);
            pool.output().report(&pool.guest.settings.name);
        }
    }
}

impl Room {
    fn set_share(&self, share: Share) {
        let mut quota = self.quota.borrow_mut();
        self.most_instances.set(share.instances);
        if quota.as_ref().is_none_or(|(before, _)| *before != share) {
            *quota = Some((share, Quota::new(share.memory)));
        }
    }

    pub fn quota(&self) -> Arc<Quota> {
        let quota = self.quota.borrow();
        let (_, quota) = quota.as_ref().expect("a pool is made where there is a share for it");
        Arc::clone(quota)
    }

    /// Counts one more instance; one that waits makes way if there is no room.
    pub fn count(self: &Rc<Room>) -> Option<Counted> {
        if self.instances.get() >= self.most_instances.get() && !self.reclaim() {
            return None;
        }
        self.instances.set(self.instances.get() + 1);
        Some(Counted(Rc::clone(self)))
    }

    /// Ends one instance that nobody needs; whether there was one.
    pub fn reclaim(&self) -> bool {
        let pools = self.pools.borrow();
        // The one that has waited longest of each is at the front.
        let waits_since = |pool: &Rc<Pool>| pool.idle.borrow().first().map(Instance::idle_since);
        let longest =
            pools.iter().filter(|pool| waits_since(pool).is_some()).min_by_key(|pool| waits_since(pool));
        let Some(pool) = longest else { return false };
        let instance = pool.idle.borrow_mut().remove(0);
        instance.end(End::MadeWay);
        true
    }

    pub fn number(&self) -> u64 {
        self.next_number.replace(self.next_number.get() + 1)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let room = &self.0;
        room.instances.set(room.instances.get() - 1);
        // Whoever waits, of whatever component, may have waited for just that.
        for pool in room.pools.borrow().iter().filter(|pool| !pool.queue.is_empty()) {
            pool.queue.call();
        }
    }
}

impl Pool {
    fn new(guest: &Arc<Guest>, room: &Rc<Room>) -> Pool {
        let complaints = Complaints { since: Instant::now(), left: COMPLAINTS_MAX, left_out: 0 };
        Pool {
            guest: Arc::clone(guest),
            room: Rc::clone(room),
            idle: RefCell::default(),
            busy: Cell::new(0),
            queue: Queue::default(),
            breaker: Breaker::new(guest.settings.limits.patience),
            complaints: Cell::new(complaints),
        }
    }

    pub fn counters(&self) -> &Counters {
        &self.guest.counters[self.room.core]
    }

    /// Of what its instances write to the log.
    pub(super) fn output(&self) -> Arc<Throttle> {
        Arc::clone(&self.guest.output[self.room.core])
    }

    /// The right to an instance, at once or after a wait.
    ///
    /// # Errors
    /// Too many wait, it took too long, or the component has failed too often.
    pub async fn enter(self: &Rc<Pool>, wheel: &Rc<Wheel>) -> Result<Permit, Fault> {
        if self.queue.is_empty()
            && let Some(permit) = self.permit()?
        {
            return Ok(permit);
        }
        let limits = &self.guest.settings.limits;
        let refused = |fault| {
            self.counters().refused.add(1);
            fault
        };
        let place = self.queue.enter(limits.waiting).ok_or_else(|| refused(Fault::QueueFull))?;
        self.counters().queued.add(1);
        let until = Instant::now() + limits.waiting_timeout;
        loop {
            if place.is_first()
                && let Some(permit) = self.permit()?
            {
                return Ok(permit);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return Err(refused(Fault::QueueTimeout));
            }
            place.wait(wheel, left).await;
        }
    }

    fn permit(self: &Rc<Pool>) -> Result<Option<Permit>, Fault> {
        let trial = match self.breaker.admit(Instant::now) {
            Ok(Admitted::Freely) => None,
            Ok(Admitted::OnTrial) => Some(Trial(Rc::clone(self))),
            Err(left) => {
                self.counters().shut_out.add(1);
                let secs = left.as_secs() + u64::from(left.subsec_nanos() > 0);
                return Err(Fault::Paused { secs: u16::try_from(secs).unwrap_or(u16::MAX) });
            }
        };
        let has_place = self.busy.get() < self.guest.settings.limits.instances;
        Ok(has_place.then(|| {
            self.busy.set(self.busy.get() + 1);
            Permit { pool: Rc::clone(self), _trial: trial }
        }))
    }

    pub(super) fn has_succeeded(&self) {
        if self.breaker.succeeded() == Change::Closed {
            let (name, core) = (&self.guest.settings.name, self.room.core);
            tracing::info!("component `{name}` gets requests again on core {core}");
        }
    }

    /// A call has failed through the component's own fault.
    pub fn has_failed(&self) {
        self.counters().failed.add(1);
        if let Change::Opened(pause) = self.breaker.failed(Instant::now()) {
            self.counters().pauses.add(1);
            let (name, core) = (&self.guest.settings.name, self.room.core);
            tracing::warn!(
                "component `{name}` has failed too often and gets no requests on core {core} for {pause:?}"
            );
        }
    }

    /// Keeps an instance for the next request, or ends it.
    pub(super) fn put_back(&self, mut instance: Instance) {
        let is_current = self.room.pools.borrow().iter().any(|pool| std::ptr::eq(&**pool, self));
        if !is_current {
            return instance.end(End::Replaced);
        }
        if instance.calls() >= self.guest.settings.limits.reuse {
            return instance.end(End::Spent);
        }
        instance.rest(Instant::now());
        self.idle.borrow_mut().push(instance);
    }

    fn take_idle(&self) -> Option<Instance> {
        self.idle.borrow_mut().pop()
    }

    /// Bytes of memory of an instance that waits, if one does.
    pub(super) fn idle_memory(&self) -> Option<u64> {
        self.idle.borrow().last().map(Instance::memory)
    }

    fn expire(&self, now: Instant, is_short: bool) {
        let mut expired = Vec::new();
        {
            let mut idle = self.idle.borrow_mut();
            let limit = self.guest.settings.limits.idle;
            let is_over = |one: &Instance| is_short || now.duration_since(one.idle_since()) >= limit;
            // The one that has waited longest is at the front.
            let count = idle.iter().take_while(|one| is_over(one)).count();
            expired.extend(idle.drain(..count));
        }
        // What waits is called when an instance ends, and looks at this pool.
        let end = if is_short { End::MadeWay } else { End::Idle };
        expired.into_iter().for_each(|instance| instance.end(end));
    }

    fn end_idle(&self, end: End) {
        let idle = self.idle.take();
        idle.into_iter().for_each(|instance| instance.end(end));
    }

    /// Tells why a call failed, unless that was told too often in this second.
    pub fn complain(&self, who: &str, why: std::fmt::Arguments<'_>) {
        let mut complaints = self.complaints.get();
        if complaints.since.elapsed() >= Duration::from_secs(1) {
            if complaints.left_out > 0 {
                let name = &self.guest.settings.name;
                tracing::warn!("{name}: {} more calls failed", complaints.left_out);
            }
            complaints = Complaints { since: Instant::now(), left: COMPLAINTS_MAX, left_out: 0 };
        }
        match complaints.left {
            0 => complaints.left_out += 1,
            left => {
                complaints.left = left - 1;
                tracing::warn!("{who}: {why}");
            }
        }
        self.complaints.set(complaints);
    }
}

impl Permit {
    /// An instance that has served before, if one waits.
    pub(super) fn take_idle(&self) -> Option<Instance> {
        self.pool.take_idle()
    }

    pub fn pool(&self) -> &Rc<Pool> {
        &self.pool
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        self.0.breaker.trial_is_over(Instant::now());
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.pool.busy.set(self.pool.busy.get() - 1);
        self.pool.queue.call();
    }
}
