//! Instances that wait, each until its core takes it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// One place for each core.
pub struct Spares<I>(Box<[Spare<I>]>);

struct Spare<I> {
    is_there: AtomicBool,
    instance: Mutex<Option<I>>,
}

impl<I> Spares<I> {
    pub fn new(cores: usize) -> Spares<I> {
        let empty = || Spare { is_there: AtomicBool::new(false), instance: Mutex::new(None) };
        Spares(std::iter::repeat_with(empty).take(cores).collect())
    }

    pub fn put(&self, core: usize, instance: I) {
        let spare = &self.0[core];
        *spare.instance.lock().unwrap_or_else(PoisonError::into_inner) = Some(instance);
        spare.is_there.store(true, Ordering::Release);
    }

    /// One load if there is none.
    pub fn take(&self, core: usize) -> Option<I> {
        let spare = &self.0[core];
        if !spare.is_there.load(Ordering::Acquire) {
            return None;
        }
        spare.is_there.store(false, Ordering::Relaxed);
        spare.instance.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
