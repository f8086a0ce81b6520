//! Who asks for the names of upstreams: one task for each name, for the whole process.
//!
//! Must not know: what an answer changes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::Sender;
use tokio::task::AbortHandle;
use tokio::time::sleep;

use super::control::Event;
use super::names::{Answer, Names};
use super::resolver::Resolver;
use crate::plan::Dns;

/// How long after the first failure a name is asked for again; twice as long after each more.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// The tasks of all names of a plan; they end with this value.
pub struct Watchers {
    dns: Dns,
    resolver: Arc<Resolver>,
    events: Sender<Event>,
    tasks: HashMap<String, Watch>,
}

struct Watch(AbortHandle);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Watchers {
    /// Begins to ask for all names; answers become events.
    pub fn start(dns: &Dns, names: &Names, events: &Sender<Event>) -> Watchers {
        let resolver = Arc::new(Resolver::new(&dns.servers));
        let mut watchers =
            Watchers { dns: dns.clone(), resolver, events: events.clone(), tasks: HashMap::new() };
        names.all().for_each(|name| watchers.watch(name));
        watchers
    }

    /// Who asks for nothing.
    pub fn none(events: &Sender<Event>) -> Watchers {
        let dns = Dns { servers: [].into(), min_ttl: Duration::ZERO, max_ttl: Duration::ZERO };
        let resolver = Arc::new(Resolver::new(&[]));
        Watchers { dns, resolver, events: events.clone(), tasks: HashMap::new() }
    }

    /// For the names of another plan: begins to ask for those that nobody asks for yet, or, if all
    /// are to be asked for otherwise, for all.
    pub fn succeed(&self, dns: &Dns, names: &Names) -> Watchers {
        if *dns != self.dns {
            return Watchers::start(dns, names, &self.events);
        }
        let mut next = Watchers {
            dns: dns.clone(),
            resolver: Arc::clone(&self.resolver),
            events: self.events.clone(),
            tasks: HashMap::new(),
        };
        names.all().filter(|name| !self.tasks.contains_key(*name)).for_each(|name| next.watch(name));
        next
    }

    /// Takes over from the former ones those that ask for these names, and ends the others.
    pub fn inherit(&mut self, mut former: Watchers, names: &Names) {
        for name in names.all() {
            if !self.tasks.contains_key(name)
                && let Some(task) = former.tasks.remove(name)
            {
                self.tasks.insert(name.to_owned(), task);
            }
        }
    }

    fn watch(&mut self, name: &str) {
        let (events, host) = (self.events.clone(), name.to_owned());
        let schedule = Schedule::new(self.dns.min_ttl, self.dns.max_ttl);
        let task = tokio::spawn(watch(host, Arc::clone(&self.resolver), schedule, events));
        self.tasks.insert(name.to_owned(), Watch(task.abort_handle()));
    }
}

/// When a name is asked for again.
#[derive(Clone, Copy, Debug)]
struct Schedule {
    ttl_min: Duration,
    ttl_max: Duration,
    failures: u32,
}

impl Schedule {
    /// `ttl_min` is at most `ttl_max`.
    fn new(ttl_min: Duration, ttl_max: Duration) -> Schedule {
        Schedule { ttl_min, ttl_max, failures: 0 }
    }

    /// How long after an answer; `ttl` is how long it may be used, `None` for a failure.
    fn pause(&mut self, ttl: Option<Duration>) -> Duration {
        match ttl {
            Some(ttl) => {
                self.failures = 0;
                ttl.clamp(self.ttl_min, self.ttl_max)
            }
            None => {
                let pause = RETRY_FIRST.saturating_mul(2_u32.saturating_pow(self.failures));
                self.failures = self.failures.saturating_add(1);
                pause.min(RETRY_MAX)
            }
        }
    }
}

/// Asks for one name again and again, until nobody wants the answers.
async fn watch(name: String, resolver: Arc<Resolver>, mut schedule: Schedule, events: Sender<Event>) {
    loop {
        let found = resolver.look_up(&name).await;
        let ttl = found.failure().is_none().then_some(found.ttl);
        let answer = Answer { name: name.clone(), found };
        if events.send(Event::Answer(answer)).await.is_err() {
            return;
        }
        sleep(schedule.pause(ttl)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_used_as_long_as_it_says_and_a_failure_is_tried_again_later_and_later() {
        let mut schedule = Schedule::new(Duration::from_secs(2), Duration::from_secs(60));
        let cases = [
            (Some(20), 20),
            (Some(0), 2),
            (Some(86_400), 60),
            (None, 1),
            (None, 2),
            (None, 4),
            (None, 8),
            (None, 16),
            (None, 30),
            (None, 30),
            (Some(5), 5),
            (None, 1),
        ];
        for (ttl, expected) in cases {
            let pause = schedule.pause(ttl.map(Duration::from_secs));
            assert_eq!(pause, Duration::from_secs(expected), "{ttl:?}");
        }
        (0..100).for_each(|_| assert!(schedule.pause(None) <= RETRY_MAX));
    }
}
