//! The upstreams of one core: endpoints as last told, balancers by name, pools by address.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::balance::hash::hash;
use super::balance::{Balancer, Candidates, Chooser, Group, HashKey, Rank, Strategy, Wish};
use super::budget::Budget;
use super::endpoint::{Endpoint, Endpoints, Supervision, Vitals, Waiting};
use super::pool::Pools;
use super::state::{Pick, State, Tried};
use super::{Address, Settings, UpstreamId};
use crate::http::forwarding::Peer;
use crate::http::head::RequestHead;
use crate::net::buffer::Size;
use crate::net::queue::{self, Queue};

/// One upstream on one core.
pub struct Upstream {
    pub settings: Settings,
    balancer: Rc<Balancer>,
    endpoints: RefCell<Table>,
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
    /// In the order of the configuration.
    all: Box<[Rc<State>]>,
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
    /// Is asked first.
    pub chooser: Option<&'a dyn Chooser>,
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
/// The upstreams of one plan, by id.
pub type List = Rc<[Rc<Upstream>]>;

/// All upstreams of the plan in force, by id.
pub struct Upstreams {
    core: usize,
    seed: u64,
    list: RefCell<List>,
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

    /// Takes over the upstreams of a new plan, with what their instances are now: there is no
    /// moment at which one has no endpoints. One that both plans describe alike stays itself, so
    /// that exchanges of the former plan see its new tables, too.
    pub fn adopt(&self, settings: &[Settings], tables: &[Endpoints]) {
        let before = self.list();
        let before: HashMap<&str, &Rc<Upstream>> =
            before.iter().map(|one| (one.settings.name.as_str(), one)).collect();
        let list: List = settings
            .iter()
            .map(|settings| match before.get(settings.name.as_str()) {
                Some(kept) if kept.settings == *settings => Rc::clone(kept),
                former => Rc::new(self.succeed(settings, former.map(|former| &***former))),
            })
            .collect();
        for table in tables {
            let upstream = &list[table.upstream.0 as usize];
            // One that has it already has nothing to do: its table is not built again.
            if upstream.endpoints.borrow().generation != table.generation {
                let former = before.get(upstream.settings.name.as_str());
                self.set(upstream, table, former.map(|former| &***former));
            }
        }
        let names: HashSet<&str> = list.iter().map(|one| one.settings.name.as_str()).collect();
        self.balancers.borrow_mut().retain(|name, _| names.contains(name.as_str()));
        *self.list.borrow_mut() = list;
        self.retire_pools();
    }

    /// An upstream without endpoints, which goes on with what it has in common with the former one.
    fn succeed(&self, settings: &Settings, former: Option<&Upstream>) -> Upstream {
        let mut balancers = self.balancers.borrow_mut();
        let balancer = balancers
            .entry(settings.name.clone())
            .or_insert_with(|| Rc::new(Balancer::new(self.core, self.seed ^ hash(settings.name.as_bytes()))));
        Upstream {
            balancer: Rc::clone(balancer),
            endpoints: RefCell::new(Table::new(0, settings, &[])),
            budget: former.map_or_else(Rc::default, |former| Rc::clone(&former.budget)),
            queue: former.map_or_else(Rc::default, |former| Rc::clone(&former.queue)),
            held: former.map_or_else(Rc::default, |former| Rc::clone(&former.held)),
            is_limited: settings.instances.iter().any(|instance| instance.connections_max > 0),
            response_size: Cell::new(former.map_or(Size::Small, |former| former.response_size.get())),
            settings: settings.clone(),
        }
    }

    /// Takes a table of endpoints, unless a later one is in force.
    pub fn set_endpoints(&self, table: &Endpoints) {
        self.set(&self.of(table.upstream), table, None);
        self.retire_pools();
    }

    /// Endpoints that the former upstream knew, too, keep their connections and their balance.
    fn set(&self, upstream: &Upstream, table: &Endpoints, former: Option<&Upstream>) {
        if table.generation < upstream.endpoints.borrow().generation {
            return;
        }
        let of = |one: &Upstream| one.endpoints.borrow().states().cloned().collect::<Vec<_>>();
        let known = former.map(of).unwrap_or_default().into_iter().chain(of(upstream));
        let known: Known = known.map(|state| (Arc::as_ptr(state.vitals()), state)).collect();
        let states: Vec<Rc<State>> =
            table.endpoints.iter().map(|endpoint| self.state(endpoint, &upstream.settings, &known)).collect();
        *upstream.endpoints.borrow_mut() = Table::new(table.generation, &upstream.settings, &states);
        // Perhaps it is because a process is ready that there is a new table.
        upstream.held.call_all();
    }

    fn state(&self, endpoint: &Endpoint, settings: &Settings, known: &Known) -> Rc<State> {
        let most = settings.instances[endpoint.instance as usize].connections_max;
        match known.get(&Arc::as_ptr(&endpoint.vitals)) {
            Some(state) => {
                state.adopt(endpoint.instance, most);
                Rc::clone(state)
            }
            None => {
                let pool = self.pools.of(&endpoint.address);
                Rc::new(State::new(pool, Arc::clone(&endpoint.vitals), endpoint.instance, most))
            }
        }
    }

    /// Connections to what is nobody's endpoint any more are not kept.
    fn retire_pools(&self) {
        let mut used = HashSet::new();
        for upstream in self.list.borrow().iter() {
            used.extend(upstream.endpoints.borrow().states().map(|state| Rc::as_ptr(&state.pool)));
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

    /// Those of the plan in force.
    pub fn list(&self) -> List {
        Rc::clone(&self.list.borrow())
    }

    /// One of those of the plan in force by its name. Looks at all of them.
    pub fn named(&self, name: &str) -> Option<Rc<Upstream>> {
        self.list.borrow().iter().find(|upstream| upstream.settings.name == name).map(Rc::clone)
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
        Table {
            generation,
            all: states.into(),
            primaries: group(Rank::Primary),
            backups: group(Rank::Backup),
        }
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
        if let Some(state) = question.chooser.and_then(|chooser| self.chosen(chooser, question, &table)) {
            let mut pick = Pick::new(Rc::clone(state), Rc::clone(&self.balancer), now, now_ms);
            pick.is_chosen = true;
            return Ok(pick);
        }
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

    /// What is chosen of the rank that is in use. With nothing but ejected endpoints, nobody is asked.
    fn chosen<'a>(
        &self,
        chooser: &dyn Chooser,
        question: &Question<'_>,
        table: &'a Table,
    ) -> Option<&'a Rc<State>> {
        let wish = Wish { key: 0, now_ms: question.now_ms, tried: question.tried, is_last_resort: false };
        let group = [&table.primaries, &table.backups].into_iter().find(|group| group.is_available(&wish))?;
        let candidates = Candidates::new(group, &wish, &self.settings);
        group.member(chooser.choose(&candidates, question)?)
    }

    /// How many endpoints there are, whatever their rank.
    pub fn len(&self) -> usize {
        self.endpoints.borrow().all.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One of the endpoints, in the order of the configuration.
    pub fn endpoint(&self, index: usize) -> Option<Rc<State>> {
        self.endpoints.borrow().all.get(index).map(Rc::clone)
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
