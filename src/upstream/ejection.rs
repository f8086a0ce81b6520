//! Passive health: what requests themselves find out about an endpoint.
//!
//! So many failures within a time, and it gets no requests for as long. Then one request tries
//! it; the others follow once that one was answered. For the whole process: one core's failures
//! spare the others theirs. Pure but for the atomics; hot path: one load.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// When an endpoint is ejected, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Failures; 0 is never.
    pub max_fails: u32,
    /// In which they count, and for which the endpoint then rests.
    pub fail_timeout: Duration,
}

impl Settings {
    pub const NEVER: Settings = Settings { max_fails: 0, fail_timeout: Duration::ZERO };
}

/// Whether an endpoint is ejected, and its failures so far.
#[derive(Debug, Default)]
pub struct Ejection {
    /// When the first of the failures was, in milliseconds since 1970, and their number in the
    /// lowest 16 bits: one value, so that no core sees half of it.
    failures: AtomicU64,
    /// Until when it rests, in milliseconds since 1970; 0 if it is not ejected.
    until_ms: AtomicU64,
}

/// What one answer has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Nothing,
    Ejected,
    Returned,
}

const COUNT: u64 = 0xffff;

impl Ejection {
    /// It may get a request at `now_ms`; if it is ejected, one only.
    pub fn admits(&self, now_ms: u64) -> bool {
        let until = self.until_ms.load(Relaxed);
        until == 0 || until <= now_ms
    }

    pub fn is_ejected(&self) -> bool {
        self.until_ms.load(Relaxed) != 0
    }

    /// Takes the request that tries an ejected endpoint; of several at once one gets it. Says
    /// yes if it is not ejected.
    #[must_use]
    pub fn take_trial(&self, settings: &Settings, now_ms: u64) -> bool {
        let until = self.until_ms.load(Relaxed);
        if until == 0 {
            return true;
        }
        let next = now_ms + millis(settings);
        until <= now_ms && self.until_ms.compare_exchange(until, next, Relaxed, Relaxed).is_ok()
    }

    /// Forgets all failures: another one answers there now.
    pub fn clear(&self) {
        self.failures.store(0, Relaxed);
        self.until_ms.store(0, Relaxed);
    }

    pub fn note_failure(&self, settings: &Settings, now_ms: u64) -> Change {
        if settings.max_fails == 0 {
            return Change::Nothing;
        }
        let counted = |before: u64| {
            let is_recent = now_ms.saturating_sub(before >> 16) <= millis(settings);
            Some(match before & COUNT {
                count if count > 0 && is_recent => before - count + (count + 1).min(COUNT),
                _ => now_ms << 16 | 1,
            })
        };
        let before = self.failures.fetch_update(Relaxed, Relaxed, counted).unwrap_or_default();
        let count = counted(before).unwrap_or_default() & COUNT;
        let was_ejected = self.is_ejected();
        if !was_ejected && count < u64::from(settings.max_fails) {
            return Change::Nothing;
        }
        let before = self.until_ms.swap(now_ms + millis(settings), Relaxed);
        if before == 0 { Change::Ejected } else { Change::Nothing }
    }

    /// An answer came to a request that was sent at `sent_ms`. One that was under way when the
    /// endpoint was ejected says nothing new.
    pub fn note_success(&self, settings: &Settings, sent_ms: u64) -> Change {
        let until = self.until_ms.load(Relaxed);
        if until == 0 || sent_ms + millis(settings) < until {
            return Change::Nothing;
        }
        self.failures.store(0, Relaxed);
        match self.until_ms.swap(0, Relaxed) {
            0 => Change::Nothing,
            _ => Change::Returned,
        }
    }
}

fn millis(settings: &Settings) -> u64 {
    u64::try_from(settings.fail_timeout.as_millis()).unwrap_or(u64::MAX >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: Settings = Settings { max_fails: 3, fail_timeout: Duration::from_secs(10) };
    const START: u64 = 1_700_000_000_000;

    fn fail(ejection: &Ejection, after_ms: u64) -> Change {
        ejection.note_failure(&SETTINGS, START + after_ms)
    }

    #[test]
    fn so_many_failures_within_the_time_eject() {
        let ejection = Ejection::default();
        let steps = [(0, Change::Nothing), (1, Change::Nothing), (10_001, Change::Nothing)];
        // The third is a new first: the window had passed.
        for (after, expected) in
            steps.into_iter().chain([(10_002, Change::Nothing), (20_000, Change::Ejected)])
        {
            assert_eq!(fail(&ejection, after), expected, "{after}");
        }
        assert!(ejection.is_ejected());
        assert!(!ejection.admits(START + 29_999));
        assert!(ejection.admits(START + 30_000));
        // What was under way still fails, and is no news.
        assert_eq!(fail(&ejection, 20_500), Change::Nothing);
        assert!(!ejection.admits(START + 30_000));
    }

    #[test]
    fn one_request_tries_and_decides() {
        let ejection = Ejection::default();
        assert!(ejection.take_trial(&SETTINGS, START));
        for after in 0..3 {
            fail(&ejection, after);
        }
        assert!(!ejection.take_trial(&SETTINGS, START + 10_001));
        assert!(ejection.take_trial(&SETTINGS, START + 10_002));
        assert!(!ejection.take_trial(&SETTINGS, START + 10_002));
        assert!(!ejection.admits(START + 20_001));
        assert_eq!(fail(&ejection, 12_000), Change::Nothing);
        assert!(!ejection.admits(START + 21_999));
        assert!(ejection.take_trial(&SETTINGS, START + 22_000));
        let succeed = |sent_ms: u64| ejection.note_success(&SETTINGS, START + sent_ms);
        assert_eq!(succeed(21_999), Change::Nothing);
        assert_eq!(succeed(22_000), Change::Returned);
        assert!(ejection.admits(START + 22_001));
        assert_eq!(succeed(22_000), Change::Nothing);
        // It begins anew.
        assert_eq!(fail(&ejection, 22_002), Change::Nothing);
    }

    #[test]
    fn without_a_limit_nothing_is_ejected() {
        let never = Settings::NEVER;
        let ejection = Ejection::default();
        for after in 0..100 {
            assert_eq!(ejection.note_failure(&never, START + after), Change::Nothing);
        }
        assert!(ejection.admits(START));
    }

    #[test]
    fn of_several_cores_one_ejects_and_one_tries() {
        let ejection = Ejection::default();
        let count = |act: &(dyn Fn() -> bool + Sync)| {
            std::thread::scope(|scope| {
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(act)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).filter(|yes| *yes).count()
            })
        };
        assert_eq!(count(&|| fail(&ejection, 0) == Change::Ejected), 1);
        assert_eq!(count(&|| ejection.take_trial(&SETTINGS, START + 10_000)), 1);
        assert_eq!(count(&|| ejection.note_success(&SETTINGS, START + 10_000) == Change::Returned), 1);
    }
}
