//! The upstream side: what an upstream is, which endpoint is next, and connections to it.
//!
//! Must not know: the plan, the routes, the client.

pub mod balance;
pub mod pool;
pub mod upstreams;

pub use pool::{Lease, Pools};
pub use upstreams::Upstreams;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    RoundRobin,
}

/// Where an instance is, as configured: a host name may stand for several addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instance {
    Host { host: String, port: u16 },
    Socket(PathBuf),
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Instance::Host { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Instance::Host { host, port } => write!(f, "{host}:{port}"),
            Instance::Socket(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// One address that can be connected to without asking anyone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// An instance as it is now: the addresses are tried in order until one accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub addresses: Box<[Address]>,
}

/// What the instances of one upstream have become; sent to every worker on its own.
#[derive(Clone, Debug)]
pub struct Endpoints {
    pub upstream: UpstreamId,
    /// Grows with each table of an upstream; an older one is ignored.
    pub generation: u64,
    pub endpoints: Arc<[Endpoint]>,
}
