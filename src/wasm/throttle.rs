//! How much of what one component writes on one core goes to the log: so many lines and bytes a
//! second. The rest is dropped and counted, and told of in one line every few seconds.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of one line that are told.
pub const LINE_MAX: usize = 4096;

const SECOND: Duration = Duration::from_secs(1);

/// Between two lines about what was dropped.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// What may be written in a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub lines: u32,
    pub bytes: u64,
}

/// Not shared by cores: its lock is free.
pub struct Throttle {
    bounds: Bounds,
    state: Mutex<State>,
}

struct State {
    /// Of the second at hand.
    since: Instant,
    lines: u32,
    bytes: u64,
    /// All that was dropped, and the part of it that was not reported yet.
    dropped: Dropped,
    unreported: Dropped,
    reported: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    pub lines: u64,
    pub bytes: u64,
}

impl Dropped {
    fn add(&mut self, other: Dropped) {
        self.lines = self.lines.wrapping_add(other.lines);
        self.bytes = self.bytes.wrapping_add(other.bytes);
    }
}

impl Throttle {
    pub fn new(bounds: Bounds) -> Throttle {
        let (dropped, unreported) = (Dropped::default(), Dropped::default());
        let state = State { since: Instant::now(), lines: 0, bytes: 0, dropped, unreported, reported: None };
        Throttle { bounds, state: Mutex::new(state) }
    }

    /// Whether a line of so many bytes may be told now. Only the part of it that is told counts.
    #[must_use]
    pub fn permit(&self, bytes: usize, now: Instant) -> bool {
        let mut state = self.state();
        if now.saturating_duration_since(state.since) >= SECOND {
            (state.since, state.lines, state.bytes) = (now, 0, 0);
        }
        let told = state.bytes.saturating_add(bytes.min(LINE_MAX) as u64);
        if state.lines >= self.bounds.lines || told > self.bounds.bytes {
            state.note(Dropped { lines: 1, bytes: bytes as u64 });
            return false;
        }
        state.lines += 1;
        state.bytes = told;
        true
    }

    /// So many bytes were dropped for another reason.
    pub fn note_dropped(&self, bytes: usize) {
        self.state().note(Dropped { lines: 0, bytes: bytes as u64 });
    }

    /// Tells under this name what was dropped since it was last told, unless that was just now. To be
    /// called once a second.
    pub fn report(&self, name: &str) {
        if let Some(Dropped { lines, bytes }) = self.unreported(Instant::now()) {
            tracing::warn!("{name} writes too much: {lines} lines were dropped, {bytes} bytes in all");
        }
    }

    fn unreported(&self, now: Instant) -> Option<Dropped> {
        let mut state = self.state();
        let is_due = state.reported.is_none_or(|then| now.duration_since(then) >= REPORT_INTERVAL);
        if !is_due || state.unreported == Dropped::default() {
            return None;
        }
        state.reported = Some(now);
        Some(std::mem::take(&mut state.unreported))
    }

    pub fn dropped(&self) -> Dropped {
        self.state().dropped
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What a panic left behind are counts, and still as good.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn note(&mut self, more: Dropped) {
        self.dropped.add(more);
        self.unreported.add(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { lines: 10, bytes: 10_000 };

    #[test]
    fn so_many_lines_and_bytes_are_permitted_in_a_second() {
        // Lines of this length in one second, and how many of them may be told.
        let cases = [(0, 10), (1, 10), (1000, 10), (1001, 9), (LINE_MAX, 2), (1 << 20, 2)];
        for (len, expected) in cases {
            let throttle = Throttle::new(BOUNDS);
            let start = Instant::now();
            for second in 0..3 {
                let now = start + SECOND * second;
                let permitted = (0..100).filter(|_| throttle.permit(len, now)).count();
                assert_eq!(permitted, expected, "{len} in second {second}");
            }
            let lines = 3 * (100 - expected as u64);
            assert_eq!(throttle.dropped(), Dropped { lines, bytes: lines * len as u64 });
        }
        let nothing = Throttle::new(Bounds { lines: 10, bytes: 0 });
        assert!(!nothing.permit(1, Instant::now()));
    }

    #[test]
    fn what_was_dropped_is_told_once_in_a_while() {
        let throttle = Throttle::new(BOUNDS);
        let start = Instant::now();
        assert_eq!(throttle.unreported(start), None);
        let mut told = Vec::new();
        for tenth in 0..120 {
            let now = start + SECOND * tenth / 10;
            let _permitted = throttle.permit(LINE_MAX, now);
            throttle.note_dropped(1);
            told.extend(throttle.unreported(now).map(|dropped| (tenth, dropped.lines)));
        }
        // Two lines of each second may be told.
        assert_eq!(told, [(0, 0), (50, 40), (100, 40)]);
        let last = throttle.unreported(start + SECOND * 60).unwrap();
        assert_eq!((last.lines, throttle.dropped().lines), (16, 96));
        assert_eq!(throttle.dropped().bytes, 96 * LINE_MAX as u64 + 120);
        assert_eq!(throttle.unreported(start + SECOND * 90), None);
    }
}
