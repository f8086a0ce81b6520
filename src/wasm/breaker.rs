//! Repeated failures of a component, and the pauses that it gets for them.
//!
//! After so many failed calls in a row it is asked nothing for a while. Then one request tries it:
//! if that fails, the next pause is twice as long; otherwise all is as before. Each core judges by
//! what it has seen itself.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::settings::Patience;

#[derive(Debug)]
pub struct Breaker {
    patience: Patience,
    state: Cell<State>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Calls run; the last so many have failed.
    Closed { failures: u32 },
    /// Nothing is asked.
    Open { until: Instant, pause: Duration },
    /// One call decides; `pause` was the last one.
    HalfOpen { pause: Duration },
}

/// Whether a request may go on, if not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    Freely,
    /// The one that decides. Its end without an outcome is to be told, too.
    OnTrial,
}

/// What the outcome of a call has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Nothing,
    /// For so long nothing is asked.
    Opened(Duration),
    Closed,
}

impl Breaker {
    pub fn new(patience: Patience) -> Breaker {
        Breaker { patience, state: Cell::new(State::Closed { failures: 0 }) }
    }

    /// # Errors
    /// What is left of the pause, or how long the one that tries may have to wait for its turn: the
    /// last pause.
    pub fn admit(&self, now: impl FnOnce() -> Instant) -> Result<Admitted, Duration> {
        match self.state.get() {
            State::Closed { .. } => Ok(Admitted::Freely),
            State::Open { until, pause } => match until.saturating_duration_since(now()) {
                Duration::ZERO => {
                    self.state.set(State::HalfOpen { pause });
                    Ok(Admitted::OnTrial)
                }
                left => Err(left),
            },
            State::HalfOpen { pause } => Err(pause),
        }
    }

    pub fn succeeded(&self) -> Change {
        match self.state.get() {
            State::Closed { .. } => {
                self.state.set(State::Closed { failures: 0 });
                Change::Nothing
            }
            // A call that began before the pause says nothing of those that failed after it.
            State::Open { .. } => Change::Nothing,
            State::HalfOpen { .. } => {
                self.state.set(State::Closed { failures: 0 });
                Change::Closed
            }
        }
    }

    pub fn failed(&self, now: Instant) -> Change {
        let pause = match self.state.get() {
            State::Closed { failures } => {
                let failures = failures.saturating_add(1);
                if self.patience.failures == 0 || failures < self.patience.failures {
                    self.state.set(State::Closed { failures });
                    return Change::Nothing;
                }
                self.patience.pause
            }
            State::Open { .. } => return Change::Nothing,
            State::HalfOpen { pause } => pause.saturating_mul(2),
        };
        let pause = pause.min(self.patience.pause_max);
        self.state.set(State::Open { until: now + pause, pause });
        Change::Opened(pause)
    }

    /// The request that was to decide has not: the next one may.
    pub fn trial_is_over(&self, now: Instant) {
        if let State::HalfOpen { pause } = self.state.get() {
            self.state.set(State::Open { until: now, pause });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn breaker(failures: u32) -> Breaker {
        Breaker::new(Patience { failures, pause: SECOND, pause_max: 5 * SECOND })
    }

    #[test]
    fn only_failures_in_a_row_open_it() {
        let (breaker, now) = (breaker(3), Instant::now());
        for _ in 0..10 {
            assert_eq!(breaker.failed(now), Change::Nothing);
            assert_eq!(breaker.failed(now), Change::Nothing);
            assert_eq!(breaker.succeeded(), Change::Nothing);
        }
        assert_eq!(breaker.failed(now), Change::Nothing);
        assert_eq!(breaker.failed(now), Change::Nothing);
        assert_eq!(breaker.admit(|| now), Ok(Admitted::Freely));
        assert_eq!(breaker.failed(now), Change::Opened(SECOND));
        assert_eq!(breaker.admit(|| now), Err(SECOND));
        // Of calls that were under way.
        assert_eq!(breaker.failed(now), Change::Nothing);
        assert_eq!(breaker.succeeded(), Change::Nothing);
        assert_eq!(breaker.admit(|| now + SECOND / 2), Err(SECOND / 2));
    }

    #[test]
    fn one_request_tries_after_each_pause_and_pauses_grow() {
        let (breaker, mut now) = (breaker(1), Instant::now());
        assert_eq!(breaker.failed(now), Change::Opened(SECOND));
        for (pause, next) in [(1, 2), (2, 4), (4, 5), (5, 5)] {
            now += pause * SECOND;
            assert_eq!(breaker.admit(|| now), Ok(Admitted::OnTrial));
            assert_eq!(breaker.admit(|| now), Err(pause * SECOND), "one at a time");
            assert_eq!(breaker.failed(now), Change::Opened(next * SECOND));
        }
        now += 5 * SECOND;
        assert_eq!(breaker.admit(|| now), Ok(Admitted::OnTrial));
        assert_eq!(breaker.succeeded(), Change::Closed);
        assert_eq!(breaker.admit(|| now), Ok(Admitted::Freely));
        assert_eq!(breaker.failed(now), Change::Opened(SECOND), "the next pause is a first one");
    }

    #[test]
    fn a_trial_without_an_outcome_lets_the_next_one_try() {
        let (breaker, now) = (breaker(1), Instant::now());
        breaker.failed(now);
        let now = now + SECOND;
        assert_eq!(breaker.admit(|| now), Ok(Admitted::OnTrial));
        breaker.trial_is_over(now);
        assert_eq!(breaker.admit(|| now), Ok(Admitted::OnTrial));
        breaker.failed(now);
        breaker.trial_is_over(now);
        assert_eq!(breaker.admit(|| now), Err(2 * SECOND), "an outcome is kept");
    }

    #[test]
    fn without_a_number_it_never_opens() {
        let (breaker, now) = (breaker(0), Instant::now());
        for _ in 0..1000 {
            assert_eq!(breaker.failed(now), Change::Nothing);
        }
        assert_eq!(breaker.admit(|| now), Ok(Admitted::Freely));
    }
}
