//! The upstreams of one core: endpoints as last told, balancers by name, pools by address.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use super::balance::Balancer;
use super::pool::{Pool, Pools};
use crate::net::buffer::Size;

use super::{Address, Endpoint, Endpoints, Settings, UpstreamId};

/// One upstream on one core.
pub struct Upstream {
    pub settings: Settings,
    balancer: Rc<Balancer>,
    endpoints: RefCell<Table>,
    /// What the last response would have fitted in.
    response_size: Cell<Size>,
}

#[derive(Default)]
struct Table {
    generation: u64,
    endpoints: Vec<Rc<[Rc<Pool>]>>,
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
        current.generation = table.generation;
        current.endpoints = table.endpoints.iter().map(|endpoint| self.pools_of(endpoint)).collect();
    }

    fn pools_of(&self, endpoint: &Endpoint) -> Rc<[Rc<Pool>]> {
        endpoint.addresses.iter().map(|address| self.pools.of(address)).collect()
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

    /// The next endpoint by the upstream's strategy: the pools of its addresses, to be tried in
    /// order. `None` if there is no endpoint.
    pub fn pick(&self) -> Option<Rc<[Rc<Pool>]>> {
        let table = self.endpoints.borrow();
        let picked = self.balancer.pick(table.endpoints.len())?;
        Some(Rc::clone(&table.endpoints[picked]))
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Tcp(address) => write!(f, "{address}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
