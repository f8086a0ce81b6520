//! What is counted of one component, whatever becomes of its code: a reload counts on.
//!
//! Each core has a part of its own, which other threads only read, but for the one that makes
//! instances.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use crate::telemetry::counters::{Counter, Histogram};
use crate::wasm::throttle::{Bounds, Throttle};

/// Names of numbers of one component.
const NAMES_MAX: usize = 64;
const NAME_BYTES_MAX: usize = 64;

/// What a component may write to the log on one core in a second.
const LOG_BOUNDS: Bounds = Bounds { lines: 100, bytes: 256 << 10 };

/// What came of a call for an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Picked,
    /// It left the choice to the fallback.
    None,
    OutOfRange,
    Unhealthy,
    Trap,
    /// It ended after it was refused memory.
    Memory,
    Timeout,
    /// There was nobody to call: the component was not loaded, or is switched off for a while.
    Off,
}

impl Verdict {
    pub const ALL: [(Verdict, &str); 8] = [
        (Verdict::Picked, "picked"),
        (Verdict::None, "none"),
        (Verdict::OutOfRange, "out_of_range"),
        (Verdict::Unhealthy, "unhealthy"),
        (Verdict::Trap, "trap"),
        (Verdict::Memory, "memory"),
        (Verdict::Timeout, "timeout"),
        (Verdict::Off, "off"),
    ];

    pub fn word(self) -> &'static str {
        Verdict::ALL[self as usize].1
    }
}

/// What a guest is called for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Select,
    Report,
    Statistics,
}

impl Call {
    pub const ALL: [(Call, &str); 3] =
        [(Call::Select, "select"), (Call::Report, "report"), (Call::Statistics, "statistics")];
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Trap,
    /// It ended after it was refused memory.
    Memory,
    Timeout,
}

impl Kind {
    pub const ALL: [(Kind, &str); 3] =
        [(Kind::Trap, "trap"), (Kind::Memory, "memory"), (Kind::Timeout, "timeout")];
}

/// The numbers of one component.
pub struct Account {
    pub cores: Box<[Part]>,
    names: [OnceLock<Box<str>>; NAMES_MAX],
}

/// Those of one core.
#[repr(align(128))]
pub struct Part {
    verdicts: [Counter; Verdict::ALL.len()],
    failures: [[Counter; Kind::ALL.len()]; Call::ALL.len()],
    /// Of calls for an endpoint that were made, whatever came of them.
    pub duration: Histogram,
    /// Instances that were made.
    pub made: Counter,
    /// Bytes of memory of the instance that is there.
    pub memory: AtomicU64,
    /// What the component observed, by name.
    observations: [Observation; NAMES_MAX],
    pub observations_dropped: AtomicU64,
    /// Of what it writes to the log.
    pub log: Arc<Throttle>,
}

#[derive(Default)]
struct Observation {
    /// The bits of an `f64`.
    sum: AtomicU64,
    count: AtomicU64,
}

impl Account {
    pub fn new(cores: usize) -> Account {
        let cores = std::iter::repeat_with(Part::new).take(cores).collect();
        Account { cores, names: [const { OnceLock::new() }; NAMES_MAX] }
    }

    /// Adds an observation on a core, if its name and its value are such as may be.
    pub fn observe(&self, core: usize, name: &str, value: f64) {
        let part = &self.cores[core];
        let is_number = value.is_finite() && value >= 0.0;
        match self.place(name).filter(|_| is_number) {
            Some(place) => part.observations[place].add(value),
            None => drop(part.observations_dropped.fetch_add(1, Relaxed)),
        }
    }

    fn place(&self, name: &str) -> Option<usize> {
        let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_fit) {
            return None;
        }
        // Whoever comes first to a free place has it, on whatever core.
        self.names.iter().position(|place| &**place.get_or_init(|| name.into()) == name)
    }

    /// Every name, its sum, and how many there were, of all cores.
    pub fn observations(&self) -> impl Iterator<Item = (&str, f64, u64)> {
        let named = self.names.iter().map_while(|name| name.get()).enumerate();
        named.map(|(place, name)| {
            let observations = self.cores.iter().map(|part| &part.observations[place]);
            let (mut sum, mut count) = (0.0, 0);
            for one in observations {
                sum += f64::from_bits(one.sum.load(Relaxed));
                count += one.count.load(Relaxed);
            }
            (&**name, sum, count)
        })
    }

    pub fn count(&self, verdict: Verdict) -> u64 {
        self.cores.iter().map(|part| part.verdict(verdict).value()).sum()
    }

    pub fn sum(&self, of: impl Fn(&Part) -> u64) -> u64 {
        self.cores.iter().map(of).sum()
    }
}

impl Part {
    fn new() -> Part {
        Part {
            verdicts: Default::default(),
            failures: Default::default(),
            duration: Histogram::default(),
            made: Counter::default(),
            memory: AtomicU64::new(0),
            observations: std::array::from_fn(|_| Observation::default()),
            observations_dropped: AtomicU64::new(0),
            log: Arc::new(Throttle::new(LOG_BOUNDS)),
        }
    }

    pub fn verdict(&self, verdict: Verdict) -> &Counter {
        &self.verdicts[verdict as usize]
    }

    pub fn failures(&self, call: Call, kind: Kind) -> &Counter {
        &self.failures[call as usize][kind as usize]
    }
}

impl Observation {
    fn add(&self, value: f64) {
        let more = |bits: u64| Some((f64::from_bits(bits) + value).to_bits());
        // It always says some.
        let _before = self.sum.fetch_update(Relaxed, Relaxed, more);
        self.count.fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_add_up_over_cores_and_names_are_bounded() {
        let account = Account::new(2);
        account.observe(0, "tokens", 1.5);
        account.observe(1, "tokens", 2.0);
        account.observe(1, "calls", 1.0);
        for (name, value) in [("", 1.0), ("a b", 1.0), ("tokens", -1.0), ("tokens", f64::NAN)] {
            account.observe(0, name, value);
        }
        account.observe(0, &"x".repeat(65), 1.0);
        let all: Vec<_> = account.observations().collect();
        assert_eq!(all, [("tokens", 3.5, 2), ("calls", 1.0, 1)]);
        assert_eq!(account.sum(|part| part.observations_dropped.load(Relaxed)), 5);
        (0..100).for_each(|number| account.observe(0, &format!("n{number}"), 1.0));
        assert_eq!(account.observations().count(), NAMES_MAX);
        assert_eq!(
            account.sum(|part| part.observations_dropped.load(Relaxed)),
            5 + 100 + 2 - NAMES_MAX as u64
        );
    }

    #[test]
    fn words_stand_in_the_order_of_what_they_name() {
        let verdicts = Verdict::ALL.iter().map(|(verdict, _)| *verdict as usize);
        let calls = Call::ALL.iter().map(|(call, _)| *call as usize);
        let kinds = Kind::ALL.iter().map(|(kind, _)| *kind as usize);
        assert!(verdicts.eq(0..8) && calls.eq(0..3) && kinds.eq(0..3));
    }
}
