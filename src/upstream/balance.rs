//! Which endpoint is next. Per core: no counter is shared. Hot path: no allocation.

use std::cell::Cell;

use super::Strategy;

/// The state of one upstream's strategy on one core.
pub struct Balancer {
    strategy: Strategy,
    next: Cell<usize>,
}

impl Balancer {
    /// `offset` differs from core to core, so that they do not all begin with the first.
    pub fn new(strategy: Strategy, offset: usize) -> Balancer {
        Balancer { strategy, next: Cell::new(offset) }
    }

    /// The index of the endpoint for the next request, of `count`; `None` if there is none.
    pub fn pick(&self, count: usize) -> Option<usize> {
        match self.strategy {
            Strategy::RoundRobin => {
                let picked = self.next.get().checked_rem(count)?;
                self.next.set(picked + 1);
                Some(picked)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_robin_takes_each_in_turn_and_survives_a_change_of_their_number() {
        let balancer = Balancer::new(Strategy::RoundRobin, 1);
        let picks: Vec<_> = (0..4).map(|_| balancer.pick(3)).collect();
        assert_eq!(picks, [Some(1), Some(2), Some(0), Some(1)]);
        assert_eq!(balancer.pick(1), Some(0));
        assert_eq!(balancer.pick(0), None);
        assert_eq!(balancer.pick(2), Some(1));
    }
}
