//! The engine: how components are compiled and where instances live. One for the process.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::Duration;

use wasmtime::{Config, Enabled, EngineWeak, InstanceAllocationStrategy, PoolingAllocationConfig};

/// How often a guest that is running is asked to let others have their turn.
pub const TICK: Duration = Duration::from_millis(1);

/// Ticks without a guest after which there are no more ticks until one runs.
const IDLE_TICKS: u32 = 100;

/// Core instances of one component: itself, its adapters, and what binds them together.
const CORE_INSTANCES_EACH: u32 = 20;
/// Memories and tables that one component has at most on average.
const MEMORIES_EACH: u32 = 2;
const TABLES_EACH: u32 = 4;

/// Elements of one table: more than those of the largest interpreters.
pub const TABLE_ELEMENTS_MAX: usize = 1 << 17;

/// Memory of an instance that is kept when it ends, for the next one. It has to be cleared, which
/// is cheaper than to ask for it again as long as it is little.
const KEPT_BYTES: usize = 256 << 10;
const KEPT_SLOTS: u32 = 100;

/// An engine and what makes its epoch advance.
#[derive(Clone)]
pub struct Engine {
    pub wasmtime: wasmtime::Engine,
    pub beat: Arc<Beat>,
}

impl Engine {
    /// For so many instances, on so many cores.
    ///
    /// # Errors
    /// This machine has no room for them.
    pub fn new(instances: u32, cores: usize) -> Result<Engine, String> {
        let engine = wasmtime::Engine::new(&config(instances)).map_err(|error| {
            format!("cannot make room for {instances} instances of components: {error:#}")
        })?;
        let beat = Beat::start(&engine, cores)
            .map_err(|error| format!("cannot start the thread that interrupts components: {error}"))?;
        Ok(Engine { wasmtime: engine, beat })
    }
}

/// Address space is all that most of this costs until it is used.
fn config(instances: u32) -> Config {
    let mut pool = PoolingAllocationConfig::default();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(CORE_INSTANCES_EACH))
        .total_memories(instances.saturating_mul(MEMORIES_EACH))
        .total_tables(instances.saturating_mul(TABLES_EACH))
        .total_stacks(instances)
        .max_memory_size(4 << 30)
        .table_elements(TABLE_ELEMENTS_MAX)
        .linear_memory_keep_resident(KEPT_BYTES)
        .table_keep_resident(KEPT_BYTES / 4)
        .max_unused_warm_slots(KEPT_SLOTS)
        // The largest single win where the kernel has it.
        .pagemap_scan(Enabled::Auto);
    let mut config = Config::new();
    config.epoch_interruption(true);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}

/// Advances the epoch of an engine, while a guest runs on any core.
pub struct Beat {
    /// One flag a core, each on a cache line of its own.
    busy: Box<[Busy]>,
    is_parked: AtomicBool,
    thread: OnceLock<Thread>,
}

#[derive(Default)]
#[repr(align(128))]
struct Busy(AtomicBool);

impl Beat {
    /// For so many threads that call guests.
    pub fn start(engine: &wasmtime::Engine, cores: usize) -> std::io::Result<Arc<Beat>> {
        let busy = std::iter::repeat_with(Busy::default).take(cores).collect();
        let beat = Arc::new(Beat { busy, is_parked: AtomicBool::new(false), thread: OnceLock::new() });
        let (theirs, engine) = (Arc::downgrade(&beat), engine.weak());
        let thread = thread::Builder::new().name("wasm-beat".to_owned()).spawn(move || {
            let mut idle = 0;
            while let Some(beat) = theirs.upgrade() {
                idle = beat.tick(&engine, idle);
            }
        })?;
        // Nobody else sets it.
        let _unset = beat.thread.set(thread.thread().clone());
        Ok(beat)
    }

    /// A guest begins a turn on this core.
    pub fn begin(&self, core: usize) {
        // In one order with `is_parked`: one of the two threads sees the other's word.
        self.busy[core].0.store(true, Ordering::SeqCst);
        if self.is_parked.load(Ordering::SeqCst)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }

    pub fn end(&self, core: usize) {
        self.busy[core].0.store(false, Ordering::Relaxed);
    }

    /// `idle` ticks have gone by without a guest; how many now.
    fn tick(&self, engine: &EngineWeak, idle: u32) -> u32 {
        thread::sleep(TICK);
        if let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
        }
        let is_busy = || self.busy.iter().any(|busy| busy.0.load(Ordering::SeqCst));
        match idle {
            _ if is_busy() => 0,
            0..IDLE_TICKS => idle + 1,
            _ => {
                self.is_parked.store(true, Ordering::SeqCst);
                if !is_busy() {
                    // Now and then, to see whether the engine is still there.
                    thread::park_timeout(Duration::from_secs(1));
                }
                self.is_parked.store(false, Ordering::SeqCst);
                0
            }
        }
    }
}
