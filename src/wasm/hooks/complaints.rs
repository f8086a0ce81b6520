//! What goes wrong with a guest, told a few times a second at most.

use std::cell::Cell;
use std::fmt::Arguments;
use std::time::{Duration, Instant};

/// Complaints about one guest and core in a second.
const TOLD_MAX: u32 = 5;

pub struct Complaints {
    since: Cell<Instant>,
    told: Cell<u32>,
    untold: Cell<u64>,
}

impl Complaints {
    pub fn new() -> Complaints {
        Complaints { since: Cell::new(Instant::now()), told: Cell::new(0), untold: Cell::new(0) }
    }

    /// Says this of a guest of that kind and name, unless enough was said in this second.
    pub fn tell(&self, (kind, name): (&str, &str), what: Arguments<'_>) {
        if self.since.get().elapsed() >= Duration::from_secs(1) {
            self.tell_untold((kind, name));
            self.since.set(Instant::now());
            self.told.set(0);
        }
        match self.told.get() {
            TOLD_MAX => self.untold.set(self.untold.get() + 1),
            told => {
                self.told.set(told + 1);
                tracing::warn!("{kind} `{name}`: {what}");
            }
        }
    }

    /// How many were not told, once their second is over.
    pub fn tell_untold(&self, (kind, name): (&str, &str)) {
        let untold = self.untold.get();
        if untold > 0 && self.since.get().elapsed() >= Duration::from_secs(1) {
            tracing::warn!("{kind} `{name}`: {untold} more times like that");
            self.untold.set(0);
        }
    }
}
