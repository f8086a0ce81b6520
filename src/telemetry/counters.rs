//! Numbers of one core. Each has one writer; anyone may read them, a little late.
//!
//! Hot path: no allocation, no lock, no shared write.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::http::status::Status;

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

/// Upper ends of the buckets of a [`Histogram`], in microseconds.
pub const BOUNDS_US: [u32; 16] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000,
];

/// How many things took how long.
#[derive(Default, Debug)]
pub struct Histogram {
    /// Not those of lower buckets as well; the last one is what took longer than all bounds.
    counts: [Counter; BOUNDS_US.len() + 1],
    sum_ns: Counter,
}

impl Histogram {
    pub fn observe(&self, taken: Duration) {
        let ns = taken.as_secs().wrapping_mul(1_000_000_000).wrapping_add(taken.subsec_nanos().into());
        // Most are in one of the first: all of them at once would take five times as many instructions.
        let bucket = BOUNDS_US.iter().position(|us| ns <= u64::from(*us) * 1_000);
        self.counts[bucket.unwrap_or(BOUNDS_US.len())].add(1);
        self.sum_ns.add(ns);
    }

    pub fn counts(&self) -> impl Iterator<Item = u64> {
        self.counts.iter().map(Counter::value)
    }

    pub fn count(&self) -> u64 {
        self.counts().sum()
    }

    pub fn sum_ns(&self) -> u64 {
        self.sum_ns.value()
    }
}

/// What came of the requests of one route.
#[derive(Default, Debug)]
#[repr(align(64))]
pub struct RouteCounters {
    /// By the first digit of the status; the first is of exchanges without one.
    pub statuses: [Counter; 6],
    /// Bytes of requests' bodies, and of responses'.
    pub bytes_in: Counter,
    pub bytes_out: Counter,
    pub duration: Histogram,
}

impl RouteCounters {
    pub fn note(&self, status: Status, bytes_in: u64, bytes_out: u64, duration: Duration) {
        let class = usize::from(status.0 / 100);
        self.statuses[if class < self.statuses.len() { class } else { 0 }].add(1);
        self.bytes_in.add(bytes_in);
        self.bytes_out.add(bytes_out);
        self.duration.observe(duration);
    }
}

/// What an endpoint did wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    Connect,
    Timeout,
    Broken,
    Protocol,
}

impl Failure {
    pub const ALL: [(Failure, &str); 4] = [
        (Failure::Connect, "connect"),
        (Failure::Timeout, "timeout"),
        (Failure::Broken, "broken"),
        (Failure::Protocol, "protocol"),
    ];
}

/// Why a request came to no endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    NoEndpoint,
    QueueFull,
    QueueTimeout,
    HoldFull,
    HoldTimeout,
}

impl Rejection {
    pub const ALL: [(Rejection, &str); 5] = [
        (Rejection::NoEndpoint, "no_endpoint"),
        (Rejection::QueueFull, "queue_full"),
        (Rejection::QueueTimeout, "queue_timeout"),
        (Rejection::HoldFull, "hold_full"),
        (Rejection::HoldTimeout, "hold_timeout"),
    ];
}

/// What came of the requests to one upstream.
#[derive(Default, Debug)]
#[repr(align(64))]
pub struct UpstreamCounters {
    /// From the request's head to that of the response, with all that was waited for.
    pub response: Histogram,
    /// Of connections that came about.
    pub connect: Histogram,
    failures: [Counter; Failure::ALL.len()],
    rejections: [Counter; Rejection::ALL.len()],
    /// Requests that were tried on another endpoint.
    pub retries: Counter,
    /// Endpoints that got no requests for a while because several had failed.
    pub ejections: Counter,
}

impl UpstreamCounters {
    pub fn failures(&self, failure: Failure) -> &Counter {
        &self.failures[failure as usize]
    }

    pub fn rejections(&self, rejection: Rejection) -> &Counter {
        &self.rejections[rejection as usize]
    }
}

/// Requests that no route took are counted under this name.
pub const NO_ROUTE: &str = "(none)";

/// What is counted by name, of the plan in force. A name that is twice there is counted together.
#[derive(Default, Debug)]
pub struct Ledger {
    /// In the order of the plan; the last one is [`NO_ROUTE`].
    pub routes: Box<[(Arc<str>, Arc<RouteCounters>)]>,
    pub upstreams: Box<[(Arc<str>, Arc<UpstreamCounters>)]>,
}

/// All numbers of one core.
#[derive(Default, Debug)]
pub struct Counters {
    /// Exchanges that ended, whatever came of them.
    pub exchanges: Counter,
    /// Downstream connections accepted.
    pub connections: Counter,
    /// Those of them that were one too many, of all and of one address.
    pub denied: Counter,
    pub denied_by_address: Counter,
    /// Connections that were ended by a panic.
    pub panics: Counter,
    /// Tunnels that began, and that ended.
    pub tunnels: Counter,
    pub tunnels_ended: Counter,
    /// Access-log lines that were dropped because the writer was behind.
    pub log_dropped: Counter,
    /// Spans that were dropped because the exporter was behind.
    pub spans_dropped: Counter,
    /// How late the ticks of the event loop were: it was busy with something else.
    pub ticks: Histogram,
    /// 1 when the worker has come to its end.
    pub ended: Counter,
    /// Taken when a plan comes and when somebody reads, never for a request.
    ledger: Mutex<Arc<Ledger>>,
}

impl Counters {
    /// What is counted by the names of a new plan: who was there before is counted on.
    pub fn adopt<'a>(
        &self,
        routes: impl Iterator<Item = &'a str>,
        upstreams: impl Iterator<Item = &'a str>,
    ) -> Arc<Ledger> {
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        let next = Arc::new(Ledger {
            routes: carry_over(&ledger.routes, routes.chain([NO_ROUTE])),
            upstreams: carry_over(&ledger.upstreams, upstreams),
        });
        *ledger = Arc::clone(&next);
        next
    }

    pub fn ledger(&self) -> Arc<Ledger> {
        Arc::clone(&self.ledger.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

type Named<T> = (Arc<str>, Arc<T>);

/// Most names stand where they stood before; only for the others all are looked through.
fn carry_over<'a, T: Default>(before: &[Named<T>], names: impl Iterator<Item = &'a str>) -> Box<[Named<T>]> {
    let mut known: Option<HashMap<Arc<str>, Arc<T>>> = None;
    let mut named = |(index, name): (usize, &str)| {
        if let Some(same) = before.get(index).filter(|(before, _)| **before == *name) {
            return same.clone();
        }
        let known = known.get_or_insert_with(|| before.iter().cloned().collect());
        match known.get_key_value(name) {
            Some((name, counters)) => (Arc::clone(name), Arc::clone(counters)),
            None => {
                let fresh: Named<T> = (name.into(), Arc::default());
                known.insert(Arc::clone(&fresh.0), Arc::clone(&fresh.1));
                fresh
            }
        }
    };
    names.enumerate().map(&mut named).collect()
}

/// What is counted of one exchange.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Places in the plan.
    pub route: Option<u32>,
    pub upstream: Option<u32>,
    /// 0 if there is none.
    pub status: Status,
    /// Bytes of the bodies.
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub duration: Duration,
    /// Until the head of the upstream's response was here.
    pub upstream_duration: Option<Duration>,
    /// Why it came to no endpoint.
    pub rejection: Option<Rejection>,
}

impl Ledger {
    /// Counts an exchange that has ended. A tunnel counts with the time until it began: how long it
    /// then lives says nothing of anyone.
    pub fn note(&self, outcome: &Outcome) {
        let is_tunnel = outcome.status == Status::SWITCHING_PROTOCOLS;
        let duration = outcome.upstream_duration.filter(|_| is_tunnel).unwrap_or(outcome.duration);
        if let Some(route) = self.route(outcome.route) {
            route.note(outcome.status, outcome.bytes_in, outcome.bytes_out, duration);
        }
        let Some(upstream) = outcome.upstream.and_then(|index| self.upstream(index)) else { return };
        if let Some(taken) = outcome.upstream_duration {
            upstream.response.observe(taken);
        }
        if let Some(rejection) = outcome.rejection {
            upstream.rejections(rejection).add(1);
        }
    }

    /// What is counted of exchanges by this route with this upstream, which are now the first.
    pub fn only(&self, route: Option<u32>, upstream: Option<u32>) -> Ledger {
        let route = route.and_then(|index| self.routes.get(index as usize));
        let upstream = upstream.and_then(|index| self.upstreams.get(index as usize));
        Ledger {
            routes: route.into_iter().chain(self.routes.last()).cloned().collect(),
            upstreams: upstream.into_iter().cloned().collect(),
        }
    }

    /// The counters of a route by its place in the plan.
    pub fn route(&self, index: Option<u32>) -> Option<&RouteCounters> {
        let index = index.map_or(self.routes.len().wrapping_sub(1), |index| index as usize);
        self.routes.get(index).map(|(_, counters)| &**counters)
    }

    pub fn upstream(&self, index: u32) -> Option<&UpstreamCounters> {
        self.upstreams.get(index as usize).map(|(_, counters)| &**counters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let cases = [
            (Duration::ZERO, 0),
            (Duration::from_micros(250), 0),
            (Duration::from_nanos(250_001), 1),
            (Duration::from_micros(251), 1),
            (Duration::from_millis(1), 2),
            (Duration::from_secs(30), 15),
            (Duration::from_secs(31), 16),
            (Duration::from_secs(u64::from(u32::MAX)), 16),
        ];
        for (taken, bucket) in cases {
            let histogram = Histogram::default();
            histogram.observe(taken);
            assert_eq!(histogram.counts().position(|count| count == 1), Some(bucket), "{taken:?}");
            assert_eq!((histogram.count(), histogram.sum_ns()), (1, taken.as_nanos() as u64));
        }
    }

    #[test]
    fn every_status_has_a_class() {
        let counters = RouteCounters::default();
        for status in [0, 101, 200, 404, 499, 599, 999] {
            counters.note(Status(status), 1, 2, Duration::ZERO);
        }
        let counts: Vec<u64> = counters.statuses.iter().map(Counter::value).collect();
        assert_eq!(counts, [2, 1, 1, 0, 2, 1]);
        assert_eq!((counters.bytes_in.value(), counters.bytes_out.value()), (7, 14));
    }

    #[test]
    fn a_tunnel_counts_with_the_time_until_it_began() {
        let ledger = Counters::default().adopt([].into_iter(), ["app"].into_iter());
        let hour = Duration::from_secs(3600);
        let mut outcome = Outcome {
            route: None,
            upstream: Some(0),
            status: Status::SWITCHING_PROTOCOLS,
            bytes_in: 1,
            bytes_out: 2,
            duration: hour,
            upstream_duration: Some(Duration::from_millis(1)),
            rejection: None,
        };
        ledger.note(&outcome);
        outcome.status = Status(200);
        ledger.note(&outcome);
        outcome.upstream_duration = None;
        outcome.rejection = Some(Rejection::QueueFull);
        ledger.note(&outcome);
        let route = ledger.route(None).unwrap();
        let taken = Duration::from_millis(1) + hour * 2;
        assert_eq!((route.duration.count(), route.duration.sum_ns()), (3, taken.as_nanos() as u64));
        let upstream = ledger.upstream(0).unwrap();
        assert_eq!(upstream.response.count(), 2);
        assert_eq!(upstream.rejections(Rejection::QueueFull).value(), 1);
        assert_eq!(upstream.rejections(Rejection::NoEndpoint).value(), 0);
    }

    #[test]
    fn names_that_stay_are_counted_on_wherever_they_stand() {
        let counters = Counters::default();
        let first = counters.adopt(["a", "b"].into_iter(), ["x"].into_iter());
        let note = |ledger: &Ledger, route| {
            ledger.route(route).unwrap().note(Status(200), 0, 0, Duration::ZERO);
        };
        note(&first, Some(1));
        note(&first, None);
        let second = counters.adopt(["c", "b", "b", "a"].into_iter(), ["y", "x"].into_iter());
        note(&second, Some(2));
        // An exchange that still runs by the old plan.
        note(&first, Some(1));
        let counts = |ledger: &Ledger| -> Vec<(String, u64)> {
            let routes = ledger.routes.iter();
            routes.map(|(name, counters)| (name.to_string(), counters.duration.count())).collect()
        };
        let named = |name: &str, count| (name.to_owned(), count);
        let expected = [named("c", 0), named("b", 3), named("b", 3), named("a", 0), named(NO_ROUTE, 1)];
        assert_eq!(counts(&counters.ledger()), expected);
        assert!(Arc::ptr_eq(&first.upstreams[0].1, &second.upstreams[1].1));
        assert!(Ledger::default().route(None).is_none());
    }
}
