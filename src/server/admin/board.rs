//! What can be said of the process without asking its control loop: how far it is, and whether
//! its workers still turn.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
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
    /// Reloads that were done, and that were refused.
    reloads: [AtomicU64; 2],
    pulses: OnceLock<Box<[Pulse]>>,
}

/// How a worker turns.
#[derive(Debug)]
struct Pulse {
    counters: Arc<Counters>,
    turns: AtomicU64,
    /// Looks since it was last seen to turn. Not a time: while we do not look ourselves, perhaps
    /// because the whole process was stopped, nothing can be said of others.
    misses: AtomicU32,
}

impl Board {
    pub fn new() -> Board {
        Board {
            started: Instant::now(),
            started_at: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            phase: AtomicU8::new(Phase::Starting as u8),
            reloads: Default::default(),
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

    pub fn note_reload(&self, is_done: bool) {
        self.reloads[usize::from(!is_done)].fetch_add(1, Relaxed);
    }

    /// How often there was another configuration, and how often it was refused.
    pub fn reloads(&self) -> [u64; 2] {
        [0, 1].map(|index: usize| self.reloads[index].load(Relaxed))
    }

    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Begins to watch the workers, which listen.
    pub fn serve(self: &Arc<Board>, workers: impl Iterator<Item = Arc<Counters>>) {
        let pulse = |counters: Arc<Counters>| Pulse {
            turns: AtomicU64::new(counters.ticks.count()),
            misses: AtomicU32::new(0),
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
        for pulse in self.pulses.get().into_iter().flatten() {
            let turns = pulse.counters.ticks.count();
            let has_turned = pulse.turns.swap(turns, Relaxed) != turns || pulse.counters.ended.value() > 0;
            let misses = if has_turned { 0 } else { pulse.misses.load(Relaxed).saturating_add(1) };
            pulse.misses.store(misses, Relaxed);
        }
    }

    /// For how long each worker has not turned.
    pub fn silences(&self) -> impl Iterator<Item = Duration> {
        let pulses = self.pulses.get().into_iter().flatten();
        pulses.map(|pulse| LOOK.saturating_mul(pulse.misses.load(Relaxed)))
    }

    /// Those that are stuck, and for how long.
    pub fn stuck(&self) -> impl Iterator<Item = (usize, Duration)> {
        self.silences().enumerate().filter(|(_, silence)| *silence >= STUCK_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_turn_is_stuck_until_it_does() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _entered = runtime.enter();
        let board = Arc::new(Board::new());
        assert_eq!(board.phase(), Phase::Starting);
        let workers: Vec<Arc<Counters>> = (0..3).map(|_| Arc::default()).collect();
        board.serve(workers.iter().cloned());
        assert_eq!(board.phase(), Phase::Serving);
        workers[2].ended.add(1);
        let looks = (STUCK_AFTER.as_millis() / LOOK.as_millis()) as usize;
        for look in 1..=looks {
            assert_eq!(board.stuck().count(), 0, "{look}");
            workers[0].ticks.observe(Duration::ZERO);
            board.look();
        }
        assert_eq!(board.stuck().collect::<Vec<_>>(), [(1, STUCK_AFTER)]);
        workers[1].ticks.observe(Duration::ZERO);
        board.look();
        assert_eq!(board.stuck().count(), 0);
    }
}
