//! How many requests may be tried again: a share of the recent ones, so that retries never
//! multiply an outage. Per core and upstream. Pure; hot path: no allocation.

use std::cell::{Cell, RefCell};

/// How far back requests count, in seconds.
const WINDOW: usize = 10;

/// One retry to so many requests.
const REQUESTS_PER_RETRY: u32 = 5;

/// So many retries in a window are always allowed: of a few requests a share would be none.
const RETRIES_MIN: u32 = 10 * WINDOW as u32;

#[derive(Clone, Copy, Debug, Default)]
struct Second {
    requests: u32,
    retries: u32,
}

/// The requests and retries of the last ten seconds.
#[derive(Debug, Default)]
pub struct Budget {
    seconds: RefCell<[Second; WINDOW]>,
    /// The second that is being counted, since 1970.
    now: Cell<u64>,
    sum: Cell<Second>,
}

impl Budget {
    /// A request came, at `now_ms` since 1970.
    pub fn note_request(&self, now_ms: u64) {
        self.count(now_ms, Second { requests: 1, retries: 0 });
    }

    /// Takes one retry, if there is one left.
    #[must_use]
    pub fn take_retry(&self, now_ms: u64) -> bool {
        self.count(now_ms, Second::default());
        let Second { requests, retries } = self.sum.get();
        let is_allowed = retries < RETRIES_MIN.max(requests / REQUESTS_PER_RETRY);
        if is_allowed {
            self.count(now_ms, Second { requests: 0, retries: 1 });
        }
        is_allowed
    }

    fn count(&self, now_ms: u64, more: Second) {
        let second = now_ms / 1000;
        if second != self.now.get() {
            self.advance(second);
        }
        let mut seconds = self.seconds.borrow_mut();
        let current = &mut seconds[second as usize % WINDOW];
        let mut sum = self.sum.get();
        for counted in [current, &mut sum] {
            counted.requests = counted.requests.saturating_add(more.requests);
            counted.retries = counted.retries.saturating_add(more.retries);
        }
        self.sum.set(sum);
    }

    /// Forgets what is too long ago; all, if the clock was set back.
    #[cold]
    fn advance(&self, second: u64) {
        let mut seconds = self.seconds.borrow_mut();
        let passed = second.checked_sub(self.now.get()).unwrap_or(u64::MAX);
        for step in 0..passed.min(WINDOW as u64) {
            seconds[(second - step) as usize % WINDOW] = Second::default();
        }
        let sum = |of: fn(&Second) -> u32| seconds.iter().map(of).fold(0, u32::saturating_add);
        self.sum.set(Second { requests: sum(|one| one.requests), retries: sum(|one| one.retries) });
        self.now.set(second);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(budget: &Budget, now_ms: u64) -> usize {
        std::iter::repeat_with(|| budget.take_retry(now_ms)).take_while(|taken| *taken).count()
    }

    #[test]
    fn retries_are_a_fifth_of_the_requests_of_ten_seconds() {
        let budget = Budget::default();
        let start = 1_700_000_000_000;
        for request in 0..10_000 {
            budget.note_request(start + request);
        }
        assert_eq!(taken(&budget, start + 9_999), 2_000);
        // What was taken comes back when the second in which it was taken is ten seconds ago; the
        // requests are gone by then, and the least is left.
        assert_eq!(taken(&budget, start + 12_000), 0);
        assert_eq!(taken(&budget, start + 18_999), 0);
        assert_eq!(taken(&budget, start + 19_000), 100);
    }

    #[test]
    fn a_few_are_always_allowed() {
        let budget = Budget::default();
        assert_eq!(taken(&budget, 5_000), 100);
        assert_eq!(taken(&budget, 14_999), 0);
        assert_eq!(taken(&budget, 15_000), 100);
    }

    #[test]
    fn a_clock_that_is_set_back_takes_nothing_away() {
        let budget = Budget::default();
        assert_eq!(taken(&budget, 1_000_000), 100);
        assert_eq!(taken(&budget, 900_000), 100);
    }

    #[test]
    fn an_outage_is_not_multiplied() {
        // Every request fails, 1,000 a second for a minute: each is tried 1.2 times.
        let budget = Budget::default();
        let (mut sent, mut now_ms) = (0u32, 0);
        for _ in 0..60_000 {
            now_ms += 1;
            budget.note_request(now_ms);
            sent += 1 + u32::from(budget.take_retry(now_ms));
        }
        assert!((71_000..=72_200).contains(&sent), "{sent}");
    }
}
