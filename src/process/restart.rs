//! When a process that died is started again. Pure: no clock.

use std::time::Duration;

/// Who lived this long was started well.
const LONG_LIFE: Duration = Duration::from_secs(10);

const DELAY_MIN: Duration = Duration::from_millis(100);
const DELAY_MAX: Duration = Duration::from_secs(5);

/// At once after a long life, and the first time; else after 100 ms to 5 s, each twice the last.
#[derive(Debug, Default)]
pub struct Backoff {
    next: Option<Duration>,
}

impl Backoff {
    /// What to wait before the next start, now that a process died which lived so long.
    pub fn delay(&mut self, lived: Duration) -> Duration {
        if lived >= LONG_LIFE {
            self.next = None;
        }
        let delay = self.next.unwrap_or_default();
        self.next = Some((delay * 2).clamp(DELAY_MIN, DELAY_MAX));
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_lives_wait_longer_and_longer() {
        let second = 1000;
        let cases: [(&str, &[(u64, u64)]); 3] = [
            (
                "short lives",
                &[
                    (0, 0),
                    (0, 100),
                    (1, 200),
                    (9999, 400),
                    (0, 800),
                    (0, 1600),
                    (0, 3200),
                    (0, 5000),
                    (0, 5000),
                ],
            ),
            ("long lives", &[(20 * second, 0), (10 * second, 0), (86_400 * second, 0)]),
            ("a long life among short ones", &[(0, 0), (0, 100), (10 * second, 0), (0, 100), (0, 200)]),
        ];
        for (name, lives) in cases {
            let mut backoff = Backoff::default();
            for (lived, expected) in lives {
                let delay = backoff.delay(Duration::from_millis(*lived));
                assert_eq!(delay, Duration::from_millis(*expected), "{name}");
            }
        }
    }
}
