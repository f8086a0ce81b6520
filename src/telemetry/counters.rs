//! Numbers of one core. Each has one writer; anyone may read them, a little late.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that one thread adds to and others read.
#[derive(Default, Debug)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Only the core that owns the counter calls this, so a load and a store are enough.
    pub fn add(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Default, Debug)]
pub struct Counters {
    /// Exchanges that ended, whatever came of them.
    pub exchanges: Counter,
    /// Downstream connections accepted.
    pub connections: Counter,
    /// Connections that were ended by a panic.
    pub panics: Counter,
    /// Requests that were tried on another endpoint.
    pub retries: Counter,
    /// Endpoints that got no requests for a while because several had failed.
    pub ejections: Counter,
    /// Requests for which no endpoint was up.
    pub without_endpoint: Counter,
    /// Access-log lines that were dropped because the writer was behind.
    pub log_dropped: Counter,
}
