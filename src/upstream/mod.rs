//! The upstream side: what an upstream is, which endpoint is next, and connections to it.
//!
//! Must not know: the plan, the routes, the client.

pub mod balance;
pub mod endpoint;
pub mod pool;
pub mod upstreams;

pub use endpoint::{Address, Endpoint, Endpoints, Health, Place, Vitals};
pub use pool::{Lease, Pools};
pub use upstreams::Upstreams;

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
    /// Silence while the upstream takes none of what we send.
    pub write_timeout: Duration,
    /// Idle connections kept per core and address.
    pub keepalive: usize,
    pub keepalive_idle: Duration,
}

/// What is said of one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    pub place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    RoundRobin,
}

impl From<Place> for Instance {
    fn from(place: Place) -> Instance {
        Instance { place }
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.place.fmt(f)
    }
}
