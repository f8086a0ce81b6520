//! One address of an upstream, and what is known of how it does.
//!
//! Must not know: who finds that out, and who picks by it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

use super::UpstreamId;

/// Where an instance is, as configured: a host name may stand for several addresses.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    Host { host: String, port: u16 },
    Socket(PathBuf),
}

/// One address that can be connected to without asking anyone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// One address of an instance as it is now.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub address: Address,
    /// Index in [`super::Settings::instances`].
    pub instance: u32,
    /// The same for as long as upstream, place and address are: by it, a core knows an endpoint
    /// again in a new table.
    pub vitals: Arc<Vitals>,
}

/// What the instances of one upstream have become; sent to every worker on its own.
#[derive(Clone, Debug)]
pub struct Endpoints {
    pub upstream: UpstreamId,
    /// Grows with each table of an upstream; an older one is ignored.
    pub generation: u64,
    pub endpoints: Arc<[Endpoint]>,
}

/// How an endpoint does, for the whole process. Written seldom, read by every core for each
/// request: on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Vitals {
    health: AtomicU8,
    recovered_at_ms: AtomicU64,
}

/// What active checks have found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Nothing yet, or nobody checks: it is used.
    Unknown,
    Up,
    Down,
}

impl Vitals {
    pub fn health(&self) -> Health {
        match self.health.load(Relaxed) {
            0 => Health::Unknown,
            1 => Health::Up,
            _ => Health::Down,
        }
    }

    /// Notes what was found, at `now_ms` since 1970: only what was down can recover.
    pub fn set_health(&self, health: Health, now_ms: u64) {
        let code = match health {
            Health::Unknown => 0,
            Health::Up => 1,
            Health::Down => 2,
        };
        if self.health() == Health::Down && health != Health::Down {
            self.recovered_at_ms.store(now_ms, Relaxed);
        }
        self.health.store(code, Relaxed);
    }

    /// When it was last down no longer, in milliseconds since 1970; 0 if it never was down.
    pub fn recovered_at_ms(&self) -> u64 {
        self.recovered_at_ms.load(Relaxed)
    }

    /// Requests may be sent to it.
    pub fn is_available(&self) -> bool {
        self.health() != Health::Down
    }
}

impl Endpoint {
    /// An endpoint of which nothing is known.
    pub fn new(address: Address, instance: u32) -> Endpoint {
        Endpoint { address, instance, vitals: Arc::default() }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Host { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Place::Host { host, port } => write!(f, "{host}:{port}"),
            Place::Socket(path) => write!(f, "unix:{}", path.display()),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_down_recovers() {
        let vitals = Vitals::default();
        let table = [
            (Health::Unknown, 1, true, 0),
            (Health::Up, 2, true, 0),
            (Health::Down, 3, false, 0),
            (Health::Down, 4, false, 0),
            (Health::Up, 5, true, 5),
            (Health::Up, 6, true, 5),
            (Health::Down, 7, false, 5),
            (Health::Unknown, 8, true, 8),
        ];
        for (health, now, is_available, recovered) in table {
            vitals.set_health(health, now);
            assert_eq!(vitals.health(), health);
            assert_eq!((vitals.is_available(), vitals.recovered_at_ms()), (is_available, recovered), "{now}");
        }
    }

    #[test]
    fn no_two_endpoints_share_a_cache_line() {
        assert_eq!(std::mem::size_of::<Vitals>(), 64);
    }
}
