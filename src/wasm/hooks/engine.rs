//! The engine of guests that are called on a request's way: they hold their core until they return or
//! wait, so a call that computes for too long ends. Without what only concurrent guests need, which
//! saves 250 ns a call.

use std::sync::Arc;

use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::wasm::engine::{Beat, TABLE_ELEMENTS_MAX};

/// Instances that each core can have, of all guests, of this plan and the one before it.
const INSTANCES_EACH: u32 = 64;
const INSTANCES_MIN: u32 = 256;
const INSTANCES_MAX: u32 = 4096;

/// Parts of one component on average.
const CORE_INSTANCES_EACH: u32 = 12;
const MEMORIES_EACH: u32 = 2;
const TABLES_EACH: u32 = 4;

/// Memory that is kept of one that has ended, for the next one.
const KEPT_BYTES: usize = 256 << 10;

#[derive(Clone)]
pub struct Engine {
    pub wasmtime: wasmtime::Engine,
    pub beat: Arc<Beat>,
    cores: usize,
}

impl Engine {
    /// # Errors
    /// This machine has no room for it.
    pub fn new(cores: usize) -> Result<Engine, String> {
        let engine = wasmtime::Engine::new(&config(cores))
            .map_err(|error| format!("cannot make room for instances of guests: {error:#}"))?;
        let beat = Beat::start(&engine, cores + 2)
            .map_err(|error| format!("cannot start the thread that interrupts guests: {error}"))?;
        Ok(Engine { wasmtime: engine, beat, cores })
    }

    /// The number of the thread that makes instances in place of others, for `beat`.
    pub fn maker(&self) -> usize {
        self.cores
    }

    /// That of the thread that loads what was configured.
    pub fn loader(&self) -> usize {
        self.cores + 1
    }
}

fn config(cores: usize) -> Config {
    let instances = (cores as u32).saturating_mul(INSTANCES_EACH).clamp(INSTANCES_MIN, INSTANCES_MAX);
    let mut pool = PoolingAllocationConfig::default();
    pool.total_component_instances(instances)
        .total_core_instances(instances * CORE_INSTANCES_EACH)
        .total_memories(instances * MEMORIES_EACH)
        .total_tables(instances * TABLES_EACH)
        // One for each call that waits.
        .total_stacks(instances)
        .max_memory_size(4 << 30)
        .table_elements(TABLE_ELEMENTS_MAX)
        .linear_memory_keep_resident(KEPT_BYTES)
        .table_keep_resident(KEPT_BYTES / 4)
        .pagemap_scan(Enabled::Auto);
    let mut config = Config::new();
    config.epoch_interruption(true);
    config.concurrency_support(false);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}
