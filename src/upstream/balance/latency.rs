//! How long an endpoint takes to answer: a mean that moves with time and jumps to every peak
//! (the peak EWMA of Finagle and linkerd). What slows down is seen at once, what has become
//! quick again is believed slowly.

use std::cell::Cell;
use std::time::Duration;

/// After so long without a word, an observation has lost 63 % of its weight.
const DECAY_MS: f32 = 10_000.0;
/// What a failure is taken to have cost at most, in microseconds; also what is thought of an
/// endpoint that has not answered its first request yet.
const FAILURE_US: f32 = 1_000_000.0;
/// What it is taken to have cost at least.
const FAILURE_MIN_US: f32 = 1_000.0;
/// And what in relation to the mean: one failure is forgotten within half a minute, and with
/// several in a row it is the most soon.
const FAILURE_MEANS: f32 = 16.0;

/// The mean, in microseconds, and when it was that.
#[derive(Debug, Default)]
pub struct Latency {
    mean_us: Cell<f32>,
    at_ms: Cell<u64>,
}

impl Latency {
    pub fn observe(&self, taken: Duration, now_ms: u64) {
        self.learn(taken.as_secs_f32() * 1e6, now_ms);
    }

    /// There was no answer.
    pub fn fail(&self, now_ms: u64) {
        let us = match self.mean_us.get() {
            mean if mean > 0.0 => (mean * FAILURE_MEANS).clamp(FAILURE_MIN_US, FAILURE_US),
            _ => FAILURE_US,
        };
        self.learn(us, now_ms);
    }

    /// The mean in whole microseconds, at least 1; 0 if nothing is known.
    pub fn mean_us(&self) -> u32 {
        match self.mean_us.get() {
            mean if mean > 0.0 => (mean as u32).max(1),
            _ => 0,
        }
    }

    /// It is another one now, or as good as that.
    pub fn forget(&self) {
        self.mean_us.set(0.0);
    }

    /// What the next request costs where `in_flight` others are and the endpoint can bear
    /// `share` times what the average does.
    pub fn cost(&self, in_flight: u32, share: f32, now_ms: u64) -> f32 {
        let mean = match self.mean_us.get() {
            mean if mean > 0.0 => mean * self.kept(now_ms),
            _ if in_flight == 0 => 0.0,
            _ => FAILURE_US,
        };
        mean * (1.0 + in_flight as f32 / share)
    }

    fn learn(&self, us: f32, now_ms: u64) {
        let kept = self.kept(now_ms);
        let mean = self.mean_us.get();
        self.mean_us.set(if us > mean { us } else { mean * kept + us * (1.0 - kept) });
        self.at_ms.set(self.at_ms.get().max(now_ms));
    }

    /// What is left of the weight of the past.
    fn kept(&self, now_ms: u64) -> f32 {
        match now_ms.saturating_sub(self.at_ms.get()) {
            0 => 1.0,
            passed => (passed as f32 / -DECAY_MS).exp(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peaks_are_believed_at_once_and_forgotten_slowly() {
        let latency = Latency::default();
        let ms = Duration::from_millis;
        let cost = |now_ms| latency.cost(0, 1.0, now_ms).round();
        assert_eq!(cost(1), 0.0, "it has to be tried");
        assert_eq!(latency.cost(1, 1.0, 1), 2.0 * FAILURE_US, "but not by everyone at once");
        latency.observe(ms(2), 1_000);
        assert_eq!(cost(1_000), 2_000.0);
        latency.observe(ms(100), 1_001);
        assert_eq!(cost(1_001), 100_000.0);
        latency.observe(ms(2), 1_101);
        assert_eq!(cost(1_101), 99_025.0);
        (0..100).for_each(|nth| latency.observe(ms(2), 1_101 + nth * 1_000));
        assert!(cost(100_101) < 2_010.0);
        assert_eq!(cost(110_101), (cost(100_101) * (-1.0_f32).exp()).round(), "silence is forgotten, too");
        latency.fail(100_102);
        assert!((31_000.0..33_000.0).contains(&cost(100_102)), "a failure is worse, and no end");
        (0..3).for_each(|_| latency.fail(100_102));
        assert_eq!(cost(100_102), FAILURE_US);
        assert_eq!(latency.cost(3, 1.0, 100_102), 4.0 * FAILURE_US);
        assert_eq!(latency.cost(3, 3.0, 100_102), 2.0 * FAILURE_US);
        latency.forget();
        assert_eq!(cost(100_102), 0.0, "it has to be tried again");
    }
}
