//! The place of one guest on one core: the instance that is called there, and another one in its
//! place when it has failed.
//!
//! Hot path: no allocation, no lock, no formatting, as long as the guest does well.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::guest::{Code, Guest};
use super::maker::Model;
use super::running::{Failed, Running, back_off};

/// Kinds of calls that a guest can have.
const CALLS_MAX: usize = 3;

/// Messages that a guest may keep after their calls. One that keeps more is replaced as soon as
/// another one is there, and at once if it keeps many more.
const KEPT_MAX: u32 = 1024;
const KEPT_MOST: u32 = 16 * KEPT_MAX;

pub struct Post<C: Code> {
    guest: Arc<Guest<C>>,
    core: usize,
    instance: RefCell<Option<Running<C::Exports>>>,
    /// Calls that have failed in a row, by what they were for: one that always succeeds says nothing
    /// of one that never does.
    failures: [Cell<u32>; CALLS_MAX],
    /// After repeated failures nobody is asked before this.
    rests_until: Cell<Option<Instant>>,
    /// Another one is being made in place of the instance, which goes on until then if it is there.
    is_ordered: Cell<bool>,
}

impl<C: Code> Post<C> {
    pub fn new(guest: &Arc<Guest<C>>, core: usize) -> Post<C> {
        Post {
            guest: Arc::clone(guest),
            core,
            instance: RefCell::new(None),
            failures: Default::default(),
            rests_until: Cell::new(None),
            is_ordered: Cell::new(false),
        }
    }

    /// Whether there is somebody to call.
    pub fn is_there(&self) -> bool {
        let mut instance = self.instance.borrow_mut();
        if instance.is_none() && self.rests() {
            return false;
        }
        if (instance.is_none() || self.is_ordered.get())
            && let Some(spare) = self.guest.take_spare(self.core)
        {
            *instance = Some(spare);
            self.is_ordered.set(false);
        }
        if instance.is_none() && !self.is_ordered.get() {
            *instance = self.replace();
        }
        instance.is_some()
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

    #[cold]
    fn replace(&self) -> Option<Running<C::Exports>> {
        if self.guest.is_quick() {
            match self.guest.make_here(self.core) {
                Ok(instance) => return Some(instance),
                Err(reason) => tracing::error!("{}: no instance: {reason}", self.guest.title()),
            }
        }
        self.order(None);
        None
    }

    fn order(&self, failed: Option<Running<C::Exports>>) {
        self.is_ordered.set(self.guest.order(self.core, failed));
    }

    /// One call of the instance, which is there: whoever calls has looked. One that fails is replaced,
    /// sooner or later.
    ///
    /// # Errors
    /// It has failed.
    pub fn call<R>(
        &self,
        what: usize,
        call: impl FnOnce(&mut Running<C::Exports>) -> Result<R, Failed>,
    ) -> Result<R, Failed> {
        let mut place = self.instance.borrow_mut();
        let instance = place.as_mut().expect("whoever calls has looked whether it is there");
        let called = call(instance);
        self.guest.component.account.cores[self.core].memory.store(instance.memory(), Ordering::Relaxed);
        match &called {
            Ok(_) => {
                self.failures[what].set(0);
                if instance.kept() > KEPT_MAX {
                    self.wear_out(&mut place);
                }
            }
            Err(_) => self.fail(what, place.take()),
        }
        called
    }

    #[cold]
    fn wear_out(&self, place: &mut Option<Running<C::Exports>>) {
        if !self.is_ordered.get() {
            self.order(None);
        }
        if place.as_ref().is_some_and(|instance| instance.kept() > KEPT_MOST) {
            *place = None;
        }
    }

    #[cold]
    fn fail(&self, what: usize, instance: Option<Running<C::Exports>>) {
        let failures = self.failures[what].get() + 1;
        self.failures[what].set(failures);
        self.rests_until.set(Some(back_off(failures, Instant::now())));
        // Where one is on its way already, that is the next.
        if !self.is_ordered.get() && !self.guest.is_quick() {
            self.order(instance);
        }
    }
}
