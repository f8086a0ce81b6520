//! What a change of plans meant for one core, for `control` to see: how many exchanges still run by
//! earlier ones, and how long the core stood still for it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::proxy::Core;

/// The number of exchanges by the generation of their plan, the oldest first. Written between
/// requests, and only while there are any.
#[derive(Default)]
pub struct Former {
    counts: Mutex<Vec<(u64, usize)>>,
    /// How long taking over the last plan took, in nanoseconds: nothing else was done meanwhile.
    pause_ns: AtomicU64,
}

impl Former {
    /// Lets go of plans by which nothing runs any more, and tells of the others.
    pub fn update(&self, core: &Core) {
        core.forget_former();
        let counts = core.former();
        let mut told = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *told = counts;
    }

    /// As of a moment ago.
    pub fn counts(&self) -> Vec<(u64, usize)> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_pause(&self, pause: Duration) {
        self.pause_ns.store(u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// How long the worker did nothing but take over the last plan.
    pub fn pause(&self) -> Duration {
        Duration::from_nanos(self.pause_ns.load(Relaxed))
    }

    pub fn is_empty(&self) -> bool {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}
