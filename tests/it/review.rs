//! Attacks on the seams: between two exchanges, two phases, two timeouts.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::client::End;
use crate::harness::{Origin, Proxy};

/// Longer than a connection may be silent before it is parked.
const PARKED: Duration = Duration::from_millis(1500);

#[test]
fn a_drain_closes_connections_that_are_parked() {
    for driver in ["io_uring", "epoll"] {
        let origin = Origin::ok("fine");
        let mut proxy = Proxy::with(&origin).server(&format!("io = \"{driver}\"")).start();
        let mut idle = proxy.client();
        assert_eq!(idle.get("/").status, 200);
        assert!(idle.is_quiet_for(PARKED), "{driver}: closed too early");
        let start = Instant::now();
        proxy.signal(Signal::TERM);
        assert_eq!(idle.expect_end(), End::Closed, "{driver}");
        assert_eq!(proxy.wait_end(), 0, "{driver}");
        assert!(start.elapsed() < Duration::from_secs(3), "{driver}: {:?}", start.elapsed());
    }
}
