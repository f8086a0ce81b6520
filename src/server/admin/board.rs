//! What can be said of the process without asking its control loop: how far it is, and whether
//! its workers still turn.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::time::sleep;

use crate::telemetry::Counters;

/// A worker that has not turned for so long is stuck: it does so ten times a second.
const STUCK_AFTER: Duration = Duration::from_secs(5);

/// How often it is looked whether they turn.
const LOOK: Duration = Duration::from_millis(250);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nobody listens yet.
    Starting,
    Serving,
    /// Nobody listens any more.
    Draining,
}

#[derive(Debug)]
pub struct Board {
    started: Instant,
    /// The same since 1970.
    pub started_at: Duration,
    phase: AtomicU8,
    pulses: OnceLock<Box<[Pulse]>>,
}

/// When a worker was last seen to turn.
#[derive(Debug)]
struct Pulse {
    counters: Arc<Counters>,
    turns: AtomicU64,
    /// Since the start of the process.
    seen_ms: AtomicU64,
}

impl Board {
    pub fn new() -> Board {
        Board {
            started: Instant::now(),
            started_at: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            phase: AtomicU8::new(Phase::Starting as u8),
            pulses: OnceLock::new(),
        }
    }

    pub fn phase(&self) -> Phase {
        match self.phase.load(Relaxed) {
            0 => Phase::Starting,
            1 => Phase::Serving,
            _ => Phase::Draining,
        }
    }

    pub fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Relaxed);
    }

    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Begins to watch the workers, which listen.
    pub fn serve(self: &Arc<Board>, workers: impl Iterator<Item = Arc<Counters>>) {
        let now = self.now_ms();
        let pulse = |counters: Arc<Counters>| Pulse {
            turns: AtomicU64::new(counters.ticks.count()),
            seen_ms: AtomicU64::new(now),
            counters,
        };
        if self.pulses.set(workers.map(pulse).collect()).is_ok() {
            let board = Arc::clone(self);
            tokio::spawn(async move {
                loop {
                    sleep(LOOK).await;
                    board.look();
                }
            });
        }
        self.set_phase(Phase::Serving);
    }

    fn look(&self) {
        let now = self.now_ms();
        for pulse in self.pulses.get().into_iter().flatten() {
            let turns = pulse.counters.ticks.count();
            if pulse.turns.swap(turns, Relaxed) != turns || pulse.counters.ended.value() > 0 {
                pulse.seen_ms.store(now, Relaxed);
            }
        }
    }

    /// How long ago each worker was last seen to turn.
    pub fn silences(&self) -> impl Iterator<Item = Duration> {
        let now = self.now_ms();
        let pulses = self.pulses.get().into_iter().flatten();
        pulses.map(move |pulse| Duration::from_millis(now.saturating_sub(pulse.seen_ms.load(Relaxed))))
    }

    /// Those that are stuck, and for how long.
    pub fn stuck(&self) -> impl Iterator<Item = (usize, Duration)> {
        self.silences().enumerate().filter(|(_, silence)| *silence >= STUCK_AFTER)
    }

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }
}
