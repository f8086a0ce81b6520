//! How long a call may hold its core, and that it does not take longer.
//!
//! What counts is processor time, so that a guest which other processes keep from running is not
//! to blame. That clock is read only where a guest does not come back within a tick.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::{Result, UpdateDeadline};

use crate::wasm::engine::TICK;
use crate::wasm::meter::{Exhausted, Meter, Verdict, thread_cpu};

pub struct Watch {
    budget: Duration,
    began: Instant,
    /// The thread's processor time then, once a tick has found the call running.
    began_cpu: Option<u64>,
    /// Of a call that may wait, and others run meanwhile.
    meter: Option<Arc<Meter>>,
}

impl Watch {
    pub fn new() -> Watch {
        Watch { budget: Duration::ZERO, began: Instant::now(), began_cpu: None, meter: None }
    }

    /// A call begins.
    pub fn begin(&mut self, budget: Duration) {
        *self = Watch { budget, began: Instant::now(), began_cpu: None, meter: None };
    }

    /// A call begins that may wait, whose turns are metered.
    pub fn begin_metered(&mut self, meter: Arc<Meter>) {
        *self = Watch { meter: Some(meter), ..Watch::new() };
    }

    /// How long it is since the call began.
    pub fn taken(&self) -> Duration {
        self.began.elapsed()
    }

    /// A tick has found the call running.
    ///
    /// # Errors
    /// It has run for too long.
    pub fn tick(&mut self) -> Result<UpdateDeadline> {
        if let Some(meter) = &self.meter {
            return match meter.tick() {
                Verdict::GoOn | Verdict::Yield => Ok(UpdateDeadline::Continue(1)),
                Verdict::Exhausted => Err(Exhausted.into()),
            };
        }
        let cpu = thread_cpu();
        // Up to its first tick it has run for one at most; if it took longer, it did not run all the time.
        let first = || cpu.saturating_sub(self.began.elapsed().min(TICK).as_nanos() as u64);
        let began = *self.began_cpu.get_or_insert_with(first);
        match Duration::from_nanos(cpu.saturating_sub(began)) > self.budget {
            true => Err(Exhausted.into()),
            false => Ok(UpdateDeadline::Continue(1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spin(time: Duration) {
        let begun = thread_cpu();
        while thread_cpu() - begun < time.as_nanos() as u64 {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn the_budget_is_of_each_call_and_does_not_last_for_ever() {
        let mut watch = Watch::new();
        for _ in 0..3 {
            watch.begin(Duration::from_millis(20));
            assert!(watch.tick().is_ok());
            spin(Duration::from_millis(5));
            assert!(watch.tick().is_ok());
            spin(Duration::from_millis(30));
            assert!(watch.tick().is_err());
        }
    }
}
