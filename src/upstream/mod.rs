//! The upstream side: what an upstream is, which endpoint is next, and connections to it.
//!
//! Must not know: the plan, the routes, the client.

pub mod balance;
pub mod budget;
pub mod ejection;
pub mod endpoint;
pub mod health;
pub mod pool;
pub mod state;
pub mod upstreams;

pub use balance::{HashKey, PolicyId, Strategy};
pub use endpoint::{Address, Endpoint, Endpoints, Health, Place, Supervision, Vitals};
pub use health::Check;
pub use pool::{Lease, Pools};
pub use upstreams::{EndpointLoad, Load, Upstreams};

use std::fmt;
use std::time::Duration;

/// An upstream's index in the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UpstreamId(pub u32);

/// An upstream, compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub name: String,
    /// At least one.
    pub instances: Box<[Instance]>,
    pub strategy: Strategy,
    /// What chooses endpoints; the strategy does wherever it does not.
    pub policy: Option<PolicyId>,
    pub ejection: ejection::Settings,
    /// How often a request that failed is tried on another endpoint.
    pub retries: u32,
    /// Requests that may wait, on each core, until an endpoint may have another connection.
    pub queue: usize,
    pub queue_timeout: Duration,
    /// How long a request waits while the process behind an endpoint starts.
    pub hold: Duration,
    /// Requests that may, on each core. None does where no process is ours.
    pub hold_requests: usize,
    /// How long an endpoint that has recovered grows to its weight; 0 is not at all.
    pub slow_start: Duration,
    /// Silence while the upstream takes none of what we send.
    pub write_timeout: Duration,
    /// Idle connections kept per core and address.
    pub keepalive: usize,
    pub keepalive_idle: Duration,
    /// What endpoints are asked to find out how they do, if they are.
    pub check: Option<Check>,
}

impl Settings {
    /// An upstream with nothing but these: no time is long enough, and nothing is kept or counted.
    pub fn new(name: &str, instances: Box<[Instance]>, strategy: Strategy) -> Settings {
        Settings {
            name: name.to_owned(),
            instances,
            strategy,
            policy: None,
            ejection: ejection::Settings::NEVER,
            retries: 0,
            queue: 0,
            queue_timeout: Duration::ZERO,
            hold: Duration::ZERO,
            hold_requests: 0,
            slow_start: Duration::ZERO,
            write_timeout: Duration::ZERO,
            keepalive: 0,
            keepalive_idle: Duration::ZERO,
            check: None,
        }
    }
}

/// What is said of one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    pub place: Place,
    /// 1 to 1,000; of each of its addresses, if it has several.
    pub weight: u32,
    /// Used only while no other instance is available.
    pub backup: bool,
    /// Connections of the whole process to each of its addresses; 0 is any number.
    pub connections_max: u32,
}

impl From<Place> for Instance {
    fn from(place: Place) -> Instance {
        Instance { place, weight: 1, backup: false, connections_max: 0 }
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.place.fmt(f)
    }
}
