//! Active checks of endpoints: what is asked, what the results make of an endpoint, and when the
//! next check is due.
//!
//! Pure: no clock, no connection; `random` is an argument. Who asks is the control thread.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::{Health, Place};

/// By so much a check may come earlier or later than its interval says.
const SPREAD: f64 = 0.1;

/// What an upstream's endpoints are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Target of the request.
    pub path: String,
    /// Its `Host`; without, the place of the instance.
    pub host: Option<String>,
    /// From one check to the next.
    pub interval: Duration,
    /// From connecting to the end of the response's head.
    pub timeout: Duration,
    /// So many failures in a row make an endpoint down; at least 1.
    pub unhealthy_threshold: u32,
    /// So many successes in a row make it up again; at least 1.
    pub healthy_threshold: u32,
    /// The statuses that are a success.
    pub expect_status: Box<[RangeInclusive<u16>]>,
    /// What an endpoint is until its first result.
    pub initial: Initial,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initial {
    Up,
    Down,
}

impl Initial {
    pub fn health(self) -> Health {
        match self {
            Initial::Up => Health::Unknown,
            Initial::Down => Health::Down,
        }
    }
}

impl Check {
    pub fn expects(&self, status: u16) -> bool {
        self.expect_status.iter().any(|range| range.contains(&status))
    }

    /// The request to an instance at this place. The connection is not used again.
    pub fn request(&self, place: &Place) -> Vec<u8> {
        let host = match (&self.host, place) {
            (Some(host), _) => host.clone(),
            (None, Place::Socket(_)) => "localhost".to_owned(),
            (None, Place::Host { host, port: 80 }) if !host.contains(':') => host.clone(),
            (None, place @ Place::Host { .. }) => place.to_string(),
        };
        let fields = "User-Agent: warpdrive-health\r\nAccept: */*\r\nConnection: close\r\n";
        format!("GET {} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n", self.path).into_bytes()
    }

    /// How long after the beginning of a check the next one begins. `done` counts the checks so
    /// far, with this one; `random` is at least 0 and less than 1.
    ///
    /// The first checks of many endpoints come all at once, at start, so the second ones are
    /// spread over a whole interval; from then on each goes a little astray, lest they meet again.
    pub fn pause(&self, done: u64, random: f64) -> Duration {
        match done {
            0 | 1 => self.interval.mul_f64(random),
            _ => self.interval.mul_f64(1.0 - SPREAD + 2.0 * SPREAD * random),
        }
    }
}

/// What the results so far make of one endpoint.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    health: Health,
    /// Results in a row that speak against it.
    against: u32,
}

impl Default for Progress {
    fn default() -> Progress {
        Progress { health: Health::Unknown, against: 0 }
    }
}

impl Progress {
    /// Takes a result in; what the endpoint has become, if that is new. The first result counts
    /// at once: nothing speaks against it.
    pub fn note(&mut self, is_success: bool, check: &Check) -> Option<Health> {
        let (found, threshold) = match is_success {
            true => (Health::Up, check.healthy_threshold),
            false => (Health::Down, check.unhealthy_threshold),
        };
        if found == self.health {
            self.against = 0;
            return None;
        }
        self.against += 1;
        if self.health != Health::Unknown && self.against < threshold {
            return None;
        }
        *self = Progress { health: found, against: 0 };
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check() -> Check {
        Check {
            path: "/health?deep".to_owned(),
            host: None,
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(2),
            unhealthy_threshold: 3,
            healthy_threshold: 2,
            expect_status: [200..=204, 301..=301].into(),
            initial: Initial::Up,
        }
    }

    /// `+` is a success, `-` a failure; `U` and `D` are what it becomes, `.` is no change.
    #[test]
    fn only_as_many_results_in_a_row_change_an_endpoint() {
        let cases = [
            ("the first success", "+++", "U.."),
            ("the first failure", "---", "D.."),
            ("failures below the threshold", "+--+--+", "U......"),
            ("failures in a row", "+---", "U..D"),
            ("successes below the threshold", "-+-+-", "D...."),
            ("successes in a row", "-++", "D.U"),
            ("there and back", "+---++---", "U..D.U..D"),
            ("a failure while it recovers", "-+-++", "D...U"),
        ];
        for (name, results, expected) in cases {
            let mut progress = Progress::default();
            let show = |result| match progress.note(result == '+', &check()) {
                Some(Health::Up) => 'U',
                Some(Health::Down) => 'D',
                Some(Health::Unknown) => '?',
                None => '.',
            };
            assert_eq!(results.chars().map(show).collect::<String>(), expected, "{name}");
        }
    }

    #[test]
    fn the_second_checks_are_spread_and_later_ones_stay_near_the_interval() {
        let cases = [
            (1, 0.0, 0),
            (1, 0.25, 2_500),
            (1, 0.999, 9_990),
            (2, 0.0, 9_000),
            (2, 0.5, 10_000),
            (3, 0.999, 10_998),
            (u64::MAX, 0.0, 9_000),
        ];
        for (done, random, expected) in cases {
            assert_eq!(check().pause(done, random).as_millis(), expected, "{done} {random}");
        }
    }

    /// A thousand endpoints that were all found at the same instant.
    #[test]
    fn checks_of_many_endpoints_do_not_meet() {
        let check = check();
        let random = |one: u64, of: u64| (one * of % 1000) as f64 / 1000.0;
        let mut in_second = [0; 100];
        for endpoint in 0..1000 {
            let mut at = Duration::ZERO;
            for done in 1..=8 {
                // Other draws in each round, from the whole range.
                at += check.pause(done, random(endpoint, [1, 3, 7, 9, 11, 13, 17, 19][done as usize - 1]));
                in_second[at.as_secs() as usize] += 1;
            }
        }
        // A hundred each second would be even.
        let busiest = in_second.iter().max().copied();
        assert!(busiest < Some(200), "{in_second:?}");
    }

    #[test]
    fn the_statuses_that_are_expected() {
        let cases = [(199, false), (200, true), (204, true), (205, false), (301, true), (503, false)];
        for (status, expected) in cases {
            assert_eq!(check().expects(status), expected, "{status}");
        }
    }

    #[test]
    fn a_check_names_the_place_as_its_host() {
        let host = |host: &str, port| Place::Host { host: host.to_owned(), port };
        let cases = [
            (None, host("app.internal", 80), "app.internal"),
            (None, host("app.internal", 3000), "app.internal:3000"),
            (None, host("::1", 80), "[::1]:80"),
            (None, Place::Socket("/run/app.sock".into()), "localhost"),
            (Some("example.com"), host("10.0.0.1", 3000), "example.com"),
        ];
        for (configured, place, expected) in cases {
            let check = Check { host: configured.map(str::to_owned), ..check() };
            let request = String::from_utf8(check.request(&place)).unwrap();
            let start =
                format!("GET /health?deep HTTP/1.1\r\nHost: {expected}\r\nUser-Agent: warpdrive-health\r\n");
            assert!(request.starts_with(&start), "{request}");
            assert!(request.ends_with("\r\nConnection: close\r\n\r\n"), "{request}");
        }
    }
}
