//! What there is to see of the running process at one moment: what `control` knows, and what each
//! worker says of itself.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{Instant, timeout_at};

use crate::plan::Plan;
use crate::process::orders::Condition;
use crate::server::control::Control;
use crate::server::reload::Generation;
use crate::telemetry::counters::{Counter, Histogram, RouteCounters, UpstreamCounters};
use crate::telemetry::{Counters, Ledger};
use crate::upstream::{Address, Endpoints};
use crate::worker::{Load, Message};

/// What the workers may take to answer; one that does not is left out.
const LOADS_TIMEOUT: Duration = Duration::from_millis(500);

/// What `control` knows, and where the workers will say what they have to do.
pub struct Seen {
    pub plan: Arc<Plan>,
    pub generation: Generation,
    /// How many connections still run by which earlier one.
    pub former: BTreeMap<u64, usize>,
    pub endpoints: Vec<Endpoints>,
    /// In the order of the plan.
    pub children: Vec<Condition>,
    pub counters: Vec<Arc<Counters>>,
    loads: UnboundedReceiver<(usize, Load)>,
}

/// The whole of it.
pub struct Observation {
    pub plan: Arc<Plan>,
    pub generation: Generation,
    pub former: BTreeMap<u64, usize>,
    pub endpoints: Vec<Endpoints>,
    pub children: Vec<Condition>,
    /// By worker.
    pub counters: Vec<Arc<Counters>>,
    /// By worker; of one that is busy, or has ended, there is none.
    pub loads: Vec<Option<Load>>,
}

impl Control {
    /// Asks the workers, and does not wait for them.
    pub(in crate::server) fn look(&self) -> Seen {
        let (sender, loads) = unbounded_channel();
        // Nobody reads it any more if that takes too long.
        let tell: Arc<dyn Fn(usize, Load) + Send + Sync> =
            Arc::new(move |worker, load| drop(sender.send((worker, load))));
        self.workers.tell(|| Message::Tell(Arc::clone(&tell)));
        drop(tell);
        let names = self.plan.children.iter().map(|child| &child.settings.name);
        Seen {
            plan: Arc::clone(&self.plan),
            generation: self.generation,
            former: self.workers.former(),
            endpoints: self.names.endpoints(),
            children: names.filter_map(|name| self.children.condition(name).cloned()).collect(),
            counters: self.workers.counters().collect(),
            loads,
        }
    }
}

/// What all cores together have to do with an endpoint.
#[derive(Clone, Copy, Debug, Default)]
pub struct Business {
    pub in_flight: u64,
    pub idle: u64,
}

impl Observation {
    /// By upstream and address.
    pub fn businesses(&self) -> HashMap<(&str, &Address), Business> {
        let mut all: HashMap<(&str, &Address), Business> = HashMap::new();
        for upstream in self.loads.iter().flatten().flat_map(|load| &load.upstreams) {
            for endpoint in &upstream.endpoints {
                let sum = all.entry((&upstream.upstream, &endpoint.address)).or_default();
                sum.in_flight += u64::from(endpoint.in_flight);
                sum.idle += endpoint.idle as u64;
            }
        }
        all
    }

    /// Requests that wait for a connection to an upstream, and for a process behind it.
    pub fn waiting(&self, upstream: &str) -> (usize, usize) {
        let loads = self.loads.iter().flatten().flat_map(|load| &load.upstreams);
        let of_it = loads.filter(|load| load.upstream == upstream);
        of_it.fold((0, 0), |(queued, held), load| (queued + load.queued, held + load.held))
    }

    pub fn sum(&self, of: impl Fn(&Counters) -> &Counter) -> u64 {
        self.counters.iter().map(|counters| of(counters).value()).sum()
    }

    /// The counters of each route, of every core.
    pub fn routes(&self) -> Vec<Group<RouteCounters>> {
        let ledgers: Vec<Arc<Ledger>> = self.counters.iter().map(|counters| counters.ledger()).collect();
        group(ledgers.iter().flat_map(|ledger| &ledger.routes))
    }

    /// The counters of each upstream, of every core.
    pub fn upstreams(&self) -> Vec<Group<UpstreamCounters>> {
        let ledgers: Vec<Arc<Ledger>> = self.counters.iter().map(|counters| counters.ledger()).collect();
        group(ledgers.iter().flat_map(|ledger| &ledger.upstreams))
    }
}

/// What several cores count under one name.
pub struct Group<T> {
    pub name: Arc<str>,
    pub counters: Vec<Arc<T>>,
}

impl<T> Group<T> {
    pub fn sum(&self, of: impl Fn(&T) -> &Counter) -> u64 {
        self.counters.iter().map(|counters| of(counters).value()).sum()
    }

    pub fn histograms(&self, of: impl Fn(&T) -> &Histogram) -> impl Iterator<Item = &Histogram> {
        self.counters.iter().map(move |counters| of(counters))
    }
}

/// In the order in which the names come first.
fn group<'a, T: 'a>(named: impl Iterator<Item = &'a (Arc<str>, Arc<T>)>) -> Vec<Group<T>> {
    let mut groups: Vec<Group<T>> = Vec::new();
    let mut places: HashMap<Arc<str>, usize> = HashMap::new();
    for (name, counters) in named {
        let place = *places.entry(Arc::clone(name)).or_insert_with(|| {
            groups.push(Group { name: Arc::clone(name), counters: Vec::new() });
            groups.len() - 1
        });
        // Several routes of a core may have one name, and then the same counters.
        let counted = &mut groups[place].counters;
        if !counted.iter().any(|one| Arc::ptr_eq(one, counters)) {
            counted.push(Arc::clone(counters));
        }
    }
    groups
}

/// A plan is too much to be shown.
impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seen").field("children", &self.children).finish_non_exhaustive()
    }
}

impl Seen {
    /// Waits a little for what the workers say.
    pub async fn complete(mut self) -> Observation {
        let mut loads: Vec<Option<Load>> = self.counters.iter().map(|_| None).collect();
        let until = Instant::now() + LOADS_TIMEOUT;
        while let Ok(Some((worker, load))) = timeout_at(until, self.loads.recv()).await {
            if let Some(place) = loads.get_mut(worker) {
                *place = Some(load);
            }
        }
        let Seen { plan, generation, former, endpoints, children, counters, .. } = self;
        Observation { plan, generation, former, endpoints, children, counters, loads }
    }
}
