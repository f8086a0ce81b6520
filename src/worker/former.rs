//! How many exchanges of one core still run by earlier plans, for `control` to see.

use std::sync::{Mutex, PoisonError};

use crate::proxy::Core;

/// The number of exchanges by the generation of their plan, the oldest first. Written between
/// requests, and only while there are any.
#[derive(Default)]
pub struct Former(Mutex<Vec<(u64, usize)>>);

impl Former {
    /// Lets go of plans by which nothing runs any more, and tells of the others.
    pub fn update(&self, core: &Core) {
        core.forget_former();
        let counts = core.former();
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *told = counts;
    }

    /// As of a moment ago.
    pub fn counts(&self) -> Vec<(u64, usize)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}
