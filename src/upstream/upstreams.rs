//! The upstreams of one core: endpoints as last told, balancers by name, pools by address.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use super::balance::Balancer;
use super::pool::{Pool, Pools};
use crate::net::buffer::Size;

use super::{Endpoint, Endpoints, Settings, UpstreamId, Vitals};

/// As many endpoints are tried for one exchange.
const TRIED_MAX: usize = 8;

/// One upstream on one core.
pub struct Upstream {
    pub settings: Settings,
    balancer: Rc<Balancer>,
    endpoints: RefCell<Table>,
    /// What an earlier plan knew of the endpoints, until the first table is here.
    former: RefCell<Vec<Rc<State>>>,
    /// What the last response would have fitted in.
    response_size: Cell<Size>,
}

#[derive(Default)]
struct Table {
    generation: u64,
    endpoints: Vec<Rc<State>>,
}

/// One endpoint on one core.
pub struct State {
    pub pool: Rc<Pool>,
    instance: Cell<u32>,
    vitals: Arc<Vitals>,
}

/// States by their vitals, which are the same for as long as the endpoint is.
type Known = HashMap<*const Vitals, Rc<State>>;

/// The endpoints that an exchange has tried. Bounded: no exchange tries more.
#[derive(Default)]
pub struct Tried {
    states: [Option<Rc<State>>; TRIED_MAX],
}

/// All upstreams of the plan in force, by id.
#[derive(Default)]
pub struct Upstreams {
    list: RefCell<Rc<[Rc<Upstream>]>>,
    /// Kept across plans, so that a reload does not begin with the first endpoint again.
    balancers: RefCell<HashMap<String, Rc<Balancer>>>,
    pub pools: Pools,
}

impl Upstreams {
    /// Takes over the upstreams of a new plan. `core` tells the cores apart.
    pub fn adopt(&self, settings: &[Settings], core: usize) {
        let mut balancers = self.balancers.borrow_mut();
        let before = self.list.take();
        let former = |settings: &Settings| {
            let before = before.iter().find(|upstream| upstream.settings.name == settings.name);
            before.map_or(Vec::new(), |upstream| upstream.endpoints.borrow().endpoints.clone())
        };
        let list: Rc<[Rc<Upstream>]> = settings
            .iter()
            .map(|settings| {
                let balancer = balancers
                    .entry(settings.name.clone())
                    .or_insert_with(|| Rc::new(Balancer::new(settings.strategy, core)));
                let balancer = Rc::clone(balancer);
                Rc::new(Upstream {
                    settings: settings.clone(),
                    balancer,
                    endpoints: RefCell::default(),
                    former: RefCell::new(former(settings)),
                    response_size: Cell::new(Size::Small),
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
        let known = upstream.former.take().into_iter().chain(current.endpoints.drain(..));
        let known: Known = known.map(|state| (Arc::as_ptr(&state.vitals), state)).collect();
        current.generation = table.generation;
        current.endpoints = table.endpoints.iter().map(|endpoint| self.state(endpoint, &known)).collect();
    }

    fn state(&self, endpoint: &Endpoint, known: &Known) -> Rc<State> {
        if let Some(state) = known.get(&Arc::as_ptr(&endpoint.vitals)) {
            state.instance.set(endpoint.instance);
            return Rc::clone(state);
        }
        Rc::new(State {
            pool: self.pools.of(&endpoint.address),
            instance: Cell::new(endpoint.instance),
            vitals: Arc::clone(&endpoint.vitals),
        })
    }

    pub fn of(&self, id: UpstreamId) -> Rc<Upstream> {
        Rc::clone(&self.list.borrow()[id.0 as usize])
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

    /// The next endpoint by the upstream's strategy. `None` if none is available.
    pub fn pick(&self) -> Option<Rc<State>> {
        let table = self.endpoints.borrow();
        let count = table.endpoints.len();
        let picked = (0..count).map_while(|_| self.balancer.pick(count)).map(|index| &table.endpoints[index]);
        picked.into_iter().find(|state| state.vitals.is_available()).map(Rc::clone)
    }

    /// Another address of the same instance that was not tried yet.
    pub fn sibling(&self, of: &State, tried: &Tried) -> Option<Rc<State>> {
        let table = self.endpoints.borrow();
        let mut siblings = table.endpoints.iter().filter(|state| state.instance == of.instance);
        siblings.find(|state| !tried.has(state)).map(Rc::clone)
    }
}

impl Tried {
    /// Notes one more; `false` if no more may be tried.
    pub fn add(&mut self, state: Rc<State>) -> bool {
        let Some(free) = self.states.iter_mut().find(|state| state.is_none()) else { return false };
        *free = Some(state);
        true
    }

    pub fn has(&self, state: &Rc<State>) -> bool {
        self.states.iter().flatten().any(|tried| Rc::ptr_eq(tried, state))
    }
}
