//! The place of one guest on one core: the instance that is called there, and another one in its
//! place when it has failed.
//!
//! Hot path: no allocation, no lock, no formatting, as long as the guest does well.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::guest::{Code, Guest};
use super::maker::Model;
use super::running::{Failed, Rest, Running};

/// Kinds of calls that a guest can have.
const CALLS_MAX: usize = 5;

/// Messages that a guest may keep after their calls. One that keeps more is replaced as soon as
/// another one is there, and at once if it keeps many more.
pub const KEPT_MAX: u32 = 1024;
const KEPT_MOST: u32 = 16 * KEPT_MAX;

/// An instance that may outlive its time at its post, for what was begun with it.
pub type Shared<C> = Rc<RefCell<Running<<C as Code>::Exports>>>;

pub struct Post<C: Code> {
    guest: Arc<Guest<C>>,
    core: usize,
    instance: RefCell<Option<Shared<C>>>,
    /// Calls that have failed in a row, by what they were for: one that always succeeds says nothing
    /// of one that never does.
    failures: [Cell<u32>; CALLS_MAX],
    rest: Rest,
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
            rest: Rest::default(),
            is_ordered: Cell::new(false),
        }
    }

    /// The instance to call, if there is one.
    pub fn take_turn(&self) -> Option<Shared<C>> {
        let mut instance = self.instance.borrow_mut();
        if instance.is_none() && self.rest.lasts() {
            return None;
        }
        if (instance.is_none() || self.is_ordered.get())
            && let Some(spare) = self.guest.take_spare(self.core)
        {
            *instance = Some(Rc::new(RefCell::new(spare)));
            self.is_ordered.set(false);
        }
        if instance.is_none() && !self.is_ordered.get() {
            *instance = self.replace().map(|made| Rc::new(RefCell::new(made)));
        }
        instance.clone()
    }

    /// The instance that is there.
    pub fn current(&self) -> Option<Shared<C>> {
        self.instance.borrow().clone()
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

    /// One call of an instance. One that fails is replaced, sooner or later.
    ///
    /// # Errors
    /// It has failed.
    pub fn call<R>(
        &self,
        what: usize,
        instance: Shared<C>,
        call: impl FnOnce(&mut Running<C::Exports>) -> Result<R, Failed>,
    ) -> Result<R, Failed> {
        let mut running = instance.borrow_mut();
        let called = call(&mut running);
        let (memory, kept) = (running.memory(), running.kept());
        drop(running);
        self.guest.component.account.cores[self.core].memory.store(memory, Ordering::Relaxed);
        match &called {
            Ok(_) => {
                self.failures[what].set(0);
                if kept > KEPT_MAX {
                    self.wear_out(&instance, kept);
                }
            }
            Err(_) => self.fail(what, instance),
        }
        called
    }

    fn is_at_post(&self, instance: &Shared<C>) -> bool {
        self.instance.borrow().as_ref().is_some_and(|current| Rc::ptr_eq(current, instance))
    }

    #[cold]
    fn wear_out(&self, instance: &Shared<C>, kept: u32) {
        if !self.is_at_post(instance) {
            return;
        }
        if !self.is_ordered.get() {
            self.order(None);
        }
        if kept > KEPT_MOST {
            self.instance.take();
        }
    }

    #[cold]
    fn fail(&self, what: usize, instance: Shared<C>) {
        let failures = self.failures[what].get() + 1;
        self.failures[what].set(failures);
        if !self.is_at_post(&instance) {
            return;
        }
        self.rest.begin(failures);
        self.instance.take();
        // Where one is on its way already, that is the next.
        if !self.is_ordered.get() && !self.guest.is_quick() {
            // Unless something was begun with it.
            self.order(Rc::into_inner(instance).map(RefCell::into_inner));
        }
    }
}
