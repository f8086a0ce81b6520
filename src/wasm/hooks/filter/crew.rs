//! The instances of a middleware whose calls wait for others: while one waits, the next request has
//! another. Those that are free wait to be used again, last in first out.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::instance::{Code, Instance};
use crate::net::Wheel;
use crate::net::queue::Queue;
use crate::wasm::hooks::guest::Guest;
use crate::wasm::hooks::post::KEPT_MAX;
use crate::wasm::hooks::running::Rest;

/// Calls that wait for an instance, of one core.
const WAITING_MAX: usize = 128;

/// Instances that another thread has made are looked for so often: it calls nobody.
const LOOK: Duration = Duration::from_millis(20);

pub struct Crew {
    guest: Arc<Guest<Code>>,
    core: usize,
    /// Instances at most, those that are called and those that are free.
    most: usize,
    idle: RefCell<Vec<Instance>>,
    busy: Cell<usize>,
    /// Since it was last looked at, so many were called at once.
    busiest: Cell<usize>,
    queue: Queue,
    /// Calls that have failed in a row.
    failures: Cell<u32>,
    rest: Rest,
    is_ordered: Cell<bool>,
}

/// The right to call an instance; given back on drop.
pub struct Permit<'a>(&'a Crew);

impl Crew {
    pub fn new(guest: &Arc<Guest<Code>>, core: usize, most: usize) -> Crew {
        Crew {
            guest: Arc::clone(guest),
            core,
            most,
            idle: RefCell::default(),
            busy: Cell::new(0),
            busiest: Cell::new(0),
            queue: Queue::default(),
            failures: Cell::new(0),
            rest: Rest::default(),
            is_ordered: Cell::new(false),
        }
    }

    /// An instance to call, as soon as one is free. None if there is none until then, too many wait
    /// already, or those before have failed too often.
    pub async fn enter(&self, wheel: &Rc<Wheel>, until: Instant) -> Option<(Permit<'_>, Instance)> {
        if self.rest.lasts() {
            return None;
        }
        if self.queue.is_empty()
            && let Some(entered) = self.take()
        {
            return Some(entered);
        }
        let place = self.queue.enter(WAITING_MAX)?;
        loop {
            if place.is_first()
                && let Some(entered) = self.take()
            {
                return Some(entered);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.rest.lasts() {
                return None;
            }
            place.wait(wheel, left.min(LOOK)).await;
        }
    }

    /// An instance, if one is free or can be made now.
    pub fn take(&self) -> Option<(Permit<'_>, Instance)> {
        if self.rest.lasts() || self.busy.get() == self.most {
            return None;
        }
        let idle = self.idle.borrow_mut().pop();
        let instance = idle.or_else(|| self.spare()).or_else(|| self.another())?;
        self.busy.set(self.busy.get() + 1);
        self.busiest.set(self.busiest.get().max(self.busy.get()));
        Some((Permit(self), instance))
    }

    fn spare(&self) -> Option<Instance> {
        let spare = self.guest.take_spare(self.core)?;
        self.is_ordered.set(false);
        Some(spare)
    }

    fn another(&self) -> Option<Instance> {
        if self.guest.is_quick() {
            match self.guest.make_here(self.core) {
                Ok(instance) => return Some(instance),
                Err(reason) => {
                    tracing::error!("middleware `{}`: no instance: {reason}", self.guest.settings.name);
                }
            }
        }
        if !self.is_ordered.get() {
            self.is_ordered.set(self.guest.order(self.core, None));
        }
        None
    }

    /// Ends what was not needed since it was last called: once a second.
    pub fn settle(&self) {
        let needed = self.busiest.replace(self.busy.get()).max(1).saturating_sub(self.busy.get());
        let mut idle = self.idle.borrow_mut();
        let unneeded = idle.len().saturating_sub(needed);
        idle.drain(..unneeded);
        let memory = idle.iter().map(Instance::memory).sum();
        drop(idle);
        if self.busy.get() == 0 {
            self.guest.component.account.cores[self.core].memory.store(memory, Ordering::Relaxed);
        }
    }
}

impl Permit<'_> {
    /// The call has come back.
    pub fn finish(self, instance: Instance) {
        let crew = self.0;
        if instance.has_failed() {
            let failures = crew.failures.get() + 1;
            crew.failures.set(failures);
            crew.rest.begin(failures);
            return;
        }
        crew.failures.set(0);
        let account = &crew.guest.component.account.cores[crew.core];
        let all = crew.busy.get() + crew.idle.borrow().len();
        account.memory.store(instance.memory() * all as u64, Ordering::Relaxed);
        if instance.kept() <= KEPT_MAX {
            crew.idle.borrow_mut().push(instance);
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.busy.set(self.0.busy.get() - 1);
        self.0.queue.call();
    }
}
