//! Who is asked: one task for each endpoint of an upstream that has checks, for the whole process.
//!
//! What it finds is in the endpoint's vitals, where the workers read it, and, if it is new, in
//! the log.

use std::collections::HashMap;
use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Semaphore;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until};

use super::names::Names;
use super::probe::{Failure, probe};
use crate::plan::Plan;
use crate::upstream::health::{Initial, Progress};
use crate::upstream::{self, Check, Endpoint, Endpoints, Health, Place, Supervision};

/// Checks that run at the same time, of all upstreams together.
const RUNNING_MAX: usize = 128;

/// How often it is looked whether a process is there again.
const LOOK: Duration = Duration::from_millis(20);

/// The checks of all upstreams.
pub struct Probes {
    /// By upstream id.
    upstreams: Vec<Watched>,
    permits: Arc<Semaphore>,
    /// Each endpoint of the first round holds one until it has a result.
    first: Option<(Sender<Infallible>, Receiver<Infallible>)>,
}

struct Watched {
    name: Arc<str>,
    check: Option<Arc<Check>>,
    places: Vec<Place>,
    running: Vec<Probe>,
}

/// Whether an endpoint that nobody checks yet may have served before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Age {
    New,
    Known,
}

/// The task for one endpoint; it ends with this value.
struct Probe {
    endpoint: Endpoint,
    task: AbortHandle,
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Probes {
    pub fn new(upstreams: &[upstream::Settings]) -> Probes {
        Probes::with(upstreams, Arc::new(Semaphore::new(RUNNING_MAX)))
    }

    fn with(upstreams: &[upstream::Settings], permits: Arc<Semaphore>) -> Probes {
        let watched = |settings: &upstream::Settings| Watched {
            name: settings.name.as_str().into(),
            check: settings.check.clone().map(Arc::new),
            places: settings.instances.iter().map(|instance| instance.place.clone()).collect(),
            running: Vec::new(),
        };
        let upstreams = upstreams.iter().map(watched).collect();
        Probes { upstreams, permits, first: Some(channel(1)) }
    }

    /// For the upstreams of another plan: begins to check the endpoints in its tables that no
    /// plan has had before, but not those of processes that are still to be started.
    pub fn succeed(&self, plan: &Plan, tables: &[Endpoints], before: &Names) -> Probes {
        let mut next = Probes::with(&plan.upstreams, Arc::clone(&self.permits));
        for table in tables {
            let name = &plan.upstreams[table.upstream.0 as usize].name;
            if plan.children.iter().any(|child| child.settings.name.upstream == *name) {
                continue;
            }
            let known = before.vitals(name, None);
            let is_new = |one: &&Endpoint| !known.iter().any(|known| Arc::ptr_eq(known, &one.vitals));
            let endpoints: Vec<Endpoint> = table.endpoints.iter().filter(is_new).cloned().collect();
            next.follow(&Endpoints { endpoints: endpoints.into(), ..*table });
        }
        next
    }

    /// Takes over from the former ones those that check the same in the same way, and ends the
    /// others. These tables are what is followed from now on.
    pub fn inherit(&mut self, former: Probes, tables: &[Endpoints]) {
        self.first = None;
        let mut former: HashMap<Arc<str>, Watched> =
            former.upstreams.into_iter().map(|watched| (Arc::clone(&watched.name), watched)).collect();
        for table in tables {
            let watched = &mut self.upstreams[table.upstream.0 as usize];
            match former.remove(&watched.name) {
                Some(former) if former.check == watched.check => watched.running.extend(former.running),
                _ => {}
            }
            if watched.check.is_none() {
                // Nobody would bring them back.
                table.endpoints.iter().for_each(|one| one.vitals.set_health(Health::Unknown, now_ms()));
            }
            self.begin(table, Age::Known);
        }
    }

    /// Begins to check the endpoints that are new in this table, and leaves those that are gone.
    /// To be called before the workers get the table: what is to count as down until its first
    /// result is marked here.
    pub fn follow(&mut self, table: &Endpoints) {
        self.begin(table, Age::New);
    }

    fn begin(&mut self, table: &Endpoints, unchecked: Age) {
        let watched = &mut self.upstreams[table.upstream.0 as usize];
        let Some(check) = &watched.check else { return };
        let mut before = std::mem::take(&mut watched.running);
        for endpoint in table.endpoints.iter() {
            let is_same = |probe: &Probe| Arc::ptr_eq(&probe.endpoint.vitals, &endpoint.vitals);
            if let Some(index) = before.iter().position(is_same) {
                watched.running.push(before.swap_remove(index));
                continue;
            }
            if check.initial == Initial::Down && unchecked == Age::New {
                endpoint.vitals.set_health(Health::Down, now_ms());
            }
            let prober = Prober {
                upstream: Arc::clone(&watched.name),
                check: Arc::clone(check),
                request: check.request(&watched.places[endpoint.instance as usize]),
                endpoint: endpoint.clone(),
                permits: Arc::clone(&self.permits),
            };
            let first = self.first.as_ref().map(|(sender, _)| sender.clone());
            let task = tokio::spawn(prober.run(first)).abort_handle();
            watched.running.push(Probe { endpoint: endpoint.clone(), task });
        }
    }

    /// Until each endpoint that was followed so far has its first result.
    pub fn first_round(&mut self) -> impl Future<Output = ()> + 'static {
        let first = self.first.take();
        async move {
            if let Some((ours, mut done)) = first {
                drop(ours);
                let _: Option<Infallible> = done.recv().await;
            }
        }
    }
}

struct Prober {
    upstream: Arc<str>,
    check: Arc<Check>,
    request: Vec<u8>,
    endpoint: Endpoint,
    permits: Arc<Semaphore>,
}

impl Prober {
    async fn run(self, mut first: Option<Sender<Infallible>>) {
        let mut progress = Progress::default();
        let mut due = Instant::now();
        let mut done = 0;
        loop {
            if self.is_without_process() {
                // What the next one answers has nothing to do with what the last one did.
                (progress, done) = (Progress::default(), 0);
                self.endpoint.vitals.set_health(self.check.initial.health(), now_ms());
                first.take();
                while self.is_without_process() {
                    sleep(LOOK).await;
                }
                due = Instant::now();
            }
            // What many others delay is asked later, not judged the sooner.
            let Ok(permit) = self.permits.acquire().await else { return };
            let result = probe(&self.endpoint.address, &self.request, &self.check).await;
            drop(permit);
            if let Some(health) = progress.note(result.is_ok(), &self.check) {
                self.tell(health, &result, done == 0);
            }
            first.take();
            done += 1;
            due = Instant::now().max(due + self.check.pause(done, random()));
            sleep_until(due).await;
        }
    }

    /// It is one of ours, and is not there now.
    fn is_without_process(&self) -> bool {
        matches!(self.endpoint.vitals.supervision(), Supervision::Starting | Supervision::Stopped)
    }

    fn tell(&self, health: Health, result: &Result<(), Failure>, is_first: bool) {
        self.endpoint.vitals.set_health(health, now_ms());
        let (upstream, endpoint) = (&*self.upstream, &self.endpoint.address);
        match result {
            Err(failure) => tracing::warn!("{endpoint} of upstream {upstream} is down: {failure}"),
            Ok(()) if is_first => tracing::debug!("{endpoint} of upstream {upstream} is up"),
            Ok(()) => tracing::info!("{endpoint} of upstream {upstream} is up again"),
        }
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// At least 0 and less than 1. Good enough to spread what would meet, and for nothing else.
fn random() -> f64 {
    // Each state hashes with keys of its own, which come from the kernel.
    let bits = RandomState::new().hash_one(0) >> 32;
    bits as f64 / (1_u64 << 32) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_numbers_fill_their_range() {
        let numbers: Vec<f64> = (0..1000).map(|_| random()).collect();
        assert!(numbers.iter().all(|number| (0.0..1.0).contains(number)));
        let mean = numbers.iter().sum::<f64>() / 1000.0;
        assert!((0.4..0.6).contains(&mean), "{mean}");
    }
}
