//! The upstreams of one core: endpoints as last told, balancers by name, pools by address.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::balance::hash::hash;
use super::balance::{Balancer, Group, HashKey, Rank, Strategy, Wish};
use super::budget::Budget;
use super::endpoint::{Endpoint, Endpoints, Supervision, Vitals, Waiting};
use super::pool::Pools;
use super::queue::{self, Queue};
use super::state::{Pick, State, Tried};
use super::{Address, Settings, UpstreamId};
use crate::http::forwarding::Peer;
use crate::http::head::RequestHead;
use crate::net::buffer::Size;

/// One upstream on one core.
pub struct Upstream {
    pub settings: Settings,
    balancer: Rc<Balancer>,
    endpoints: RefCell<Table>,
    /// What an earlier plan knew of the endpoints, until the first table is here.
    former: RefCell<Vec<Rc<State>>>,
    pub budget: Rc<Budget>,
    /// Those who wait for a connection.
    pub queue: Rc<Queue>,
    /// Those who wait for a process that starts.
    held: Rc<Queue>,
    /// Some of its endpoints may have only so many connections.
    pub is_limited: bool,
    /// What the last response would have fitted in.
    response_size: Cell<Size>,
}

struct Table {
    generation: u64,
    primaries: Group,
    backups: Group,
}

/// States by their vitals, which are the same for as long as the endpoint is.
type Known = HashMap<*const Vitals, Rc<State>>;

/// The request for which an endpoint is wanted.
pub struct Question<'a> {
    pub request: &'a RequestHead,
    pub peer: &'a Peer,
    pub now: Instant,
    /// `now`, in milliseconds since 1970.
    pub now_ms: u64,
    /// Not these again.
    pub tried: Option<&'a Tried>,
}

/// Why no endpoint is available.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// There is none, or all are down.
    Down,
    /// All have as many connections as they may.
    Full,
}

/// What one core has to do with an upstream at one moment.
#[derive(Debug)]
pub struct Load {
    pub upstream: String,
    /// Requests that wait for a connection.
    pub queued: usize,
    /// Requests that wait for a process that starts.
    pub held: usize,
    pub endpoints: Vec<EndpointLoad>,
}

#[derive(Debug)]
pub struct EndpointLoad {
    pub address: Address,
    /// Exchanges that are with it.
    pub in_flight: u32,
    /// Connections that wait for one.
    pub idle: usize,
}

/// All upstreams of the plan in force, by id.
pub struct Upstreams {
    core: usize,
    seed: u64,
    list: RefCell<Rc<[Rc<Upstream>]>>,
    /// Kept across plans, so that a reload does not begin with the first endpoint again.
    balancers: RefCell<HashMap<String, Rc<Balancer>>>,
    pub pools: Pools,
}

impl Upstreams {
    /// For the core with this number; from `seed` come its random numbers.
    pub fn new(core: usize, seed: u64) -> Upstreams {
        Upstreams {
            core,
            seed,
            list: RefCell::default(),
            balancers: RefCell::default(),
            pools: Pools::default(),
        }
    }

    /// Takes over the upstreams of a new plan.
    pub fn adopt(&self, settings: &[Settings]) {
        let mut balancers = self.balancers.borrow_mut();
        let before = self.list.take();
        let list: Rc<[Rc<Upstream>]> = settings
            .iter()
            .map(|settings| {
                let kept = before.iter().find(|upstream| upstream.settings.name == settings.name);
                let former =
                    kept.map_or(Vec::new(), |kept| kept.endpoints.borrow().states().cloned().collect());
                let balancer = balancers.entry(settings.name.clone()).or_insert_with(|| {
                    Rc::new(Balancer::new(self.core, self.seed ^ hash(settings.name.as_bytes())))
                });
                Rc::new(Upstream {
                    balancer: Rc::clone(balancer),
                    endpoints: RefCell::new(Table::new(0, settings, &[])),
                    former: RefCell::new(former),
                    budget: kept.map_or_else(Rc::default, |kept| Rc::clone(&kept.budget)),
                    queue: kept.map_or_else(Rc::default, |kept| Rc::clone(&kept.queue)),
                    held: kept.map_or_else(Rc::default, |kept| Rc::clone(&kept.held)),
                    is_limited: settings.instances.iter().any(|instance| instance.connections_max > 0),
                    response_size: Cell::new(Size::Small),
                    settings: settings.clone(),
                })
            })
            .collect();
        balancers.retain(|name, _| settings.iter().any(|settings| settings.name == *name));
        *self.list.borrow_mut() = list;
    }

    /// Takes a table of endpoints, unless a later one is in force.
    pub fn set_endpoints(&self, table: &Endpoints) {
        let upstream = self.of(table.upstream);
        let mut current = upstream.endpoints.borrow_mut();
        if table.generation < current.generation {
            return;
        }
        let former = upstream.former.take();
        let known = former.iter().chain(current.states());
        let known: Known = known.map(|state| (Arc::as_ptr(state.vitals()), Rc::clone(state))).collect();
        let states: Vec<Rc<State>> =
            table.endpoints.iter().map(|endpoint| self.state(endpoint, &known)).collect();
        for (state, endpoint) in states.iter().zip(table.endpoints.iter()) {
            let instance = &upstream.settings.instances[endpoint.instance as usize];
            state.adopt(endpoint.instance, instance.connections_max);
        }
        *current = Table::new(table.generation, &upstream.settings, &states);
        drop(current);
        self.retire_pools();
        // Perhaps it is because a process is ready that there is a new table.
        upstream.held.call_all();
    }

    fn state(&self, endpoint: &Endpoint, known: &Known) -> Rc<State> {
        if let Some(state) = known.get(&Arc::as_ptr(&endpoint.vitals)) {
            return Rc::clone(state);
        }
        let pool = self.pools.of(&endpoint.address);
        Rc::new(State::new(pool, endpoint.instance, Arc::clone(&endpoint.vitals)))
    }

    /// Connections to what is nobody's endpoint any more are not kept.
    fn retire_pools(&self) {
        let mut used = HashSet::new();
        for upstream in self.list.borrow().iter() {
            let former = upstream.former.borrow();
            let table = upstream.endpoints.borrow();
            used.extend(former.iter().chain(table.states()).map(|state| Rc::as_ptr(&state.pool)));
        }
        self.pools.retain(&used);
    }

    /// Gives idle connections back of which there may be only so many, if a request of another
    /// core waits for one.
    pub fn relieve(&self) {
        for upstream in self.list.borrow().iter().filter(|upstream| upstream.is_limited) {
            if upstream.queue.is_empty() {
                let table = upstream.endpoints.borrow();
                table
                    .states()
                    .filter(|state| state.vitals().is_waited_for())
                    .for_each(|state| state.pool.clear());
            }
        }
    }

    /// What this core has to do with each upstream now.
    pub fn loads(&self) -> Vec<Load> {
        let load = |upstream: &Rc<Upstream>| {
            let endpoint = |state: &Rc<State>| EndpointLoad {
                address: state.pool.address().clone(),
                in_flight: state.in_flight(),
                idle: state.pool.idle(),
            };
            Load {
                upstream: upstream.settings.name.clone(),
                queued: upstream.queue.len(),
                held: upstream.held.len(),
                endpoints: upstream.endpoints.borrow().states().map(endpoint).collect(),
            }
        };
        self.list.borrow().iter().map(load).collect()
    }

    pub fn of(&self, id: UpstreamId) -> Rc<Upstream> {
        Rc::clone(&self.list.borrow()[id.0 as usize])
    }
}

impl Table {
    fn new(generation: u64, settings: &Settings, states: &[Rc<State>]) -> Table {
        let slow_start_ms = settings.slow_start.as_millis() as u64;
        let group = |rank: Rank| {
            let instance = |state: &Rc<State>| &settings.instances[state.instance.get() as usize];
            let members = states.iter().filter(|state| instance(state).backup == (rank == Rank::Backup));
            let members = members.map(|state| (Rc::clone(state), instance(state).weight)).collect();
            Group::new(rank, &settings.strategy, members, slow_start_ms)
        };
        Table { generation, primaries: group(Rank::Primary), backups: group(Rank::Backup) }
    }

    fn states(&self) -> impl Iterator<Item = &Rc<State>> {
        self.primaries.states().chain(self.backups.states())
    }
}

impl Upstream {
    /// What to read the head of a response into, and as much of its body as comes with it: by
    /// the last response, so that one of 64 KiB takes one read and one write.
    pub fn response_size(&self) -> Size {
        self.response_size.get()
    }

    /// Learns from a response whose body had so many bytes.
    pub fn learn_response(&self, bytes: u64) {
        let is_small = bytes < Size::Small.bytes() as u64;
        self.response_size.set(if is_small { Size::Small } else { Size::Medium });
    }

    /// The next endpoint by the upstream's strategy, a backup only if no other is available. Those
    /// that are ejected are a last resort, but not for a second try: failures of their own
    /// never leave an upstream without endpoints.
    ///
    /// # Errors
    /// None is available, and why.
    pub fn pick(&self, question: &Question<'_>) -> Result<Pick, Lack> {
        let key = match &self.settings.strategy {
            Strategy::IpHash => HashKey::Client.of(question.request, question.peer),
            Strategy::ConsistentHash(key) => key.of(question.request, question.peer),
            _ => 0,
        };
        let Question { now, now_ms, tried, .. } = *question;
        let mut wish = Wish { key, now_ms, tried, is_last_resort: false };
        let table = self.endpoints.borrow();
        loop {
            let primary = table.primaries.pick(&self.balancer, &wish);
            let Some(state) = primary.or_else(|| table.backups.pick(&self.balancer, &wish)) else {
                if wish.is_last_resort || tried.is_some() {
                    break;
                }
                wish.is_last_resort = true;
                continue;
            };
            // Of those that try an ejected endpoint one is first; the others go elsewhere.
            if wish.is_last_resort || state.vitals().ejection().take_trial(&self.settings.ejection, now_ms) {
                return Ok(Pick::new(Rc::clone(state), Rc::clone(&self.balancer), now, now_ms));
            }
        }
        let mut up = table
            .states()
            .filter(|state| state.vitals().is_up() && !tried.is_some_and(|tried| tried.has(state)));
        Err(if up.next().is_some() { Lack::Full } else { Lack::Down })
    }

    /// Queues for a connection to any of the endpoints; `None` if too many do.
    pub fn wait(&self) -> Option<(queue::Place<'_>, Waiting)> {
        let place = self.queue.enter(self.settings.queue)?;
        let table = self.endpoints.borrow();
        let limited = table.states().filter(|state| state.is_limited());
        Some((place, Waiting::of(limited.map(|state| Arc::clone(state.vitals())))))
    }

    /// Waits with others for a process that starts; `None` if too many do.
    pub fn hold(&self) -> Option<queue::Place<'_>> {
        self.held.enter(self.settings.hold_requests)
    }

    /// One of the processes behind its endpoints will be ready soon.
    pub fn is_starting(&self) -> bool {
        let table = self.endpoints.borrow();
        table.states().any(|state| state.vitals().supervision() == Supervision::Starting)
    }

    /// Another address of the same instance that was not tried yet.
    pub fn sibling(&self, of: &State, tried: &Tried, now_ms: u64) -> Option<Rc<State>> {
        let table = self.endpoints.borrow();
        let mut siblings = table.states().filter(|state| state.instance == of.instance);
        siblings.find(|state| state.is_available(now_ms, false) && !tried.has(state)).map(Rc::clone)
    }
}
