//! How long a guest has been on the processor for one request, and what happens when it has been
//! too long.
//!
//! What counts is processor time of the thread while the guest is polled: a guest that waits costs
//! nothing, and one that other processes keep from running is not to blame. The clock of the
//! processor is read only where a guest does not come back within a tick.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::engine::{Beat, TICK};

/// What a short turn is taken to have cost at most: how long it was on the processor is not known.
const SHORT: Duration = TICK.saturating_mul(2);

const RESTING: u64 = u64::MAX;

/// The processor time of one instance. Written by its own core alone.
pub struct Meter {
    origin: Instant,
    /// When the turn at hand began, since `origin`; [`RESTING`] between two of them.
    began: AtomicU64,
    /// The thread's processor time then, once the turn has become long; else 0.
    began_cpu: AtomicU64,
    /// Of the request at hand, before this turn.
    used: AtomicU64,
    budget: AtomicU64,
    /// Of all requests before.
    total: AtomicU64,
}

/// What a guest that is still running is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has only just begun.
    GoOn,
    /// Others have their turn now.
    Yield,
    Exhausted,
}

/// The error that ends a call which has used its time.
#[derive(Debug)]
pub struct Exhausted;

impl std::fmt::Display for Exhausted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("out of processor time")
    }
}

impl std::error::Error for Exhausted {}

impl Meter {
    pub fn new() -> Arc<Meter> {
        Arc::new(Meter {
            origin: Instant::now(),
            began: AtomicU64::new(RESTING),
            began_cpu: AtomicU64::new(0),
            used: AtomicU64::new(0),
            budget: AtomicU64::new(u64::MAX),
            total: AtomicU64::new(0),
        })
    }

    /// A new request has all of the budget: none of it is left over from the one before.
    pub fn refill(&self, budget: Duration) {
        store(&self.total, load(&self.total) + load(&self.used));
        store(&self.used, 0);
        store(&self.budget, nanos(budget));
    }

    /// Of all requests together, and of the turn at hand as far as it has come.
    pub fn total(&self) -> Duration {
        Duration::from_nanos(load(&self.total) + load(&self.used) + self.turn())
    }

    /// To be asked at each tick of the epoch that finds the guest running.
    pub fn tick(&self) -> Verdict {
        let ran = self.since_begun();
        if ran < TICK {
            return Verdict::GoOn;
        }
        let cpu = thread_cpu();
        if load(&self.began_cpu) == 0 {
            store(&self.began_cpu, cpu.saturating_sub(nanos(ran.min(SHORT))));
        }
        let used = load(&self.used) + (cpu - load(&self.began_cpu));
        if used > load(&self.budget) { Verdict::Exhausted } else { Verdict::Yield }
    }

    fn begin(&self) {
        store(&self.began, nanos(self.origin.elapsed()));
        store(&self.began_cpu, 0);
    }

    fn end(&self) {
        store(&self.used, load(&self.used) + self.turn());
        store(&self.began, RESTING);
    }

    /// What the turn at hand has cost so far.
    fn turn(&self) -> u64 {
        match (load(&self.began), load(&self.began_cpu)) {
            (RESTING, _) => 0,
            (_, 0) => nanos(self.since_begun().min(SHORT)),
            (_, began) => thread_cpu().saturating_sub(began),
        }
    }

    fn since_begun(&self) -> Duration {
        self.origin.elapsed().saturating_sub(Duration::from_nanos(load(&self.began)))
    }
}

fn load(number: &AtomicU64) -> u64 {
    number.load(Ordering::Relaxed)
}

fn store(number: &AtomicU64, value: u64) {
    number.store(value, Ordering::Relaxed);
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Nanoseconds that this thread has had of the processor.
pub fn thread_cpu() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    // A thread that has run for less than no time, or for centuries, is none of ours.
    u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec).unwrap_or(0)
}

/// What runs a guest: its time is metered, and the epoch ticks while it runs.
pub struct Metered<T> {
    meter: Arc<Meter>,
    beat: Arc<Beat>,
    core: usize,
    future: Pin<Box<dyn Future<Output = T>>>,
}

impl<T> Metered<T> {
    pub fn new(
        meter: Arc<Meter>,
        beat: Arc<Beat>,
        core: usize,
        future: impl Future<Output = T> + 'static,
    ) -> Metered<T> {
        Metered { meter, beat, core, future: Box::pin(future) }
    }
}

impl<T> Future for Metered<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        self.meter.begin();
        self.beat.begin(self.core);
        let polled = self.future.as_mut().poll(cx);
        self.beat.end(self.core);
        self.meter.end();
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spin(until: impl Fn() -> bool) {
        while !until() {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn a_guest_that_does_not_come_back_is_told_to() {
        let meter = Meter::new();
        meter.refill(Duration::from_millis(20));
        meter.begin();
        let begun = thread_cpu();
        assert_eq!(meter.tick(), Verdict::GoOn);
        spin(|| thread_cpu() - begun > 3_000_000);
        assert_eq!(meter.tick(), Verdict::Yield);
        spin(|| thread_cpu() - begun > 40_000_000);
        assert_eq!(meter.tick(), Verdict::Exhausted);
        let within = meter.total();
        meter.end();
        let total = meter.total();
        assert!(Duration::from_millis(20) < within && within <= total, "{within:?} of {total:?}");
        assert_eq!(meter.total(), total, "between two turns it costs nothing");
        meter.refill(Duration::from_millis(20));
        meter.begin();
        spin(|| meter.since_begun() > 2 * TICK);
        assert_eq!(meter.tick(), Verdict::Yield, "a request has a budget of its own");
    }

    #[test]
    fn many_short_turns_are_not_taken_for_long_ones() {
        let meter = Meter::new();
        meter.refill(Duration::from_millis(20));
        for _ in 0..1000 {
            meter.begin();
            assert_eq!(meter.tick(), Verdict::GoOn);
            meter.end();
        }
    }
}
