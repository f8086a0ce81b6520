//! What there is of components in a build without them: nothing, and no way to name any.

use super::{Settings, Tally};

/// There are no workloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WorkloadId {}

impl WorkloadId {
    pub fn index(self) -> usize {
        match self {}
    }
}

#[derive(Clone, Default)]
pub struct Guests {}

impl Guests {
    pub fn tallies(&self) -> Vec<Tally> {
        Vec::new()
    }
}

#[derive(Default)]
pub struct Compiler {}

impl Compiler {
    /// # Errors
    /// Never: there is nothing to compile.
    pub fn compile(&mut self, _: &Settings) -> Result<Guests, String> {
        Ok(Guests {})
    }
}

#[derive(Default)]
pub struct Pools {}

impl Pools {
    pub fn new(_: usize) -> Pools {
        Pools {}
    }

    pub fn adopt(&self, _: &Guests) {}

    pub fn expire(&self) {}
}
