//! Which endpoint is next. Per core: nothing is shared, so each core is fair by itself, and the
//! fewest requests in flight are the fewest of this core.
//!
//! What a strategy looks things up in is made when a table of endpoints arrives. Hot path: no
//! allocation, and no look at every endpoint unless most of them are unavailable.

mod alias;
mod chooser;
mod group;
pub mod hash;
mod key;
pub mod latency;
mod ring;
mod schedule;
#[cfg(test)]
mod tests;

use std::cell::Cell;

pub use chooser::{Candidate, Candidates, Chooser, PolicyId};
pub use group::{Group, Wish};
pub use key::HashKey;

use hash::Random;

/// How the endpoint of a request is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Each in turn.
    RoundRobin,
    /// The one with the fewest requests in flight.
    LeastConn,
    Random,
    /// By the client's address.
    IpHash,
    /// The better of two.
    P2c,
    /// By a part of the request, and never much more than its share to one.
    ConsistentHash(HashKey),
}

/// Backups are used only while no primary is available.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rank {
    Primary,
    Backup,
}

/// What one core remembers of the balancing of one upstream, whatever becomes of its endpoints.
#[derive(Debug)]
pub struct Balancer {
    /// Turns that were taken, by rank: one group's must not move the other's.
    turns: [Cell<u64>; 2],
    random: Random,
    /// Requests in flight to all endpoints.
    pub in_flight: Cell<u32>,
}

impl Balancer {
    /// For the core with this number. Different cores begin at different turns, so that they do
    /// not all begin with the first endpoint.
    pub fn new(core: usize, seed: u64) -> Balancer {
        let turns = [Cell::new(core as u64), Cell::new(core as u64)];
        Balancer { turns, random: Random::new(seed), in_flight: Cell::new(0) }
    }
}

/// The weights without their greatest common divisor.
fn reduced(weights: &[u32]) -> Vec<u32> {
    let divisor = weights.iter().copied().reduce(divisor).unwrap_or(1);
    weights.iter().map(|weight| weight / divisor).collect()
}

fn divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { divisor(b, a % b) }
}
