//! How much memory an instance, and all instances of a core together, may have.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wasmtime::{ResourceLimiter, Result};

use super::engine::TABLE_ELEMENTS_MAX;
use super::settings::Limits;

/// Handles that one instance may have open: fields, bodies, streams, what it waits for.
pub const RESOURCES_MAX: usize = 10_000;

/// Memory of all instances of one core.
pub struct Quota {
    used: AtomicU64,
    most: u64,
    /// Something was refused since this was last asked.
    is_short: std::sync::atomic::AtomicBool,
}

impl Quota {
    pub fn new(most: u64) -> Arc<Quota> {
        Arc::new(Quota { used: AtomicU64::new(0), most, is_short: false.into() })
    }

    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether something was refused; asked once for each time.
    pub fn was_short(&self) -> bool {
        self.is_short.swap(false, Ordering::Relaxed)
    }

    fn take(&self, bytes: u64) -> bool {
        let used = self.used();
        if used + bytes > self.most {
            self.is_short.store(true, Ordering::Relaxed);
            return false;
        }
        // Only the core that it belongs to writes it.
        self.used.store(used + bytes, Ordering::Relaxed);
        true
    }

    fn give_back(&self, bytes: u64) {
        self.used.store(self.used().saturating_sub(bytes), Ordering::Relaxed);
    }
}

/// The memory and the tables of one instance.
pub struct Memory {
    quota: Arc<Quota>,
    /// Bytes, never less than before: WebAssembly gives no memory back.
    used: u64,
    most: u64,
    elements: u64,
    elements_most: u64,
    /// It asked for more than it may have.
    was_refused: bool,
}

impl Memory {
    pub fn new(limits: &Limits, quota: Arc<Quota>) -> Memory {
        Memory::of(limits.memory, limits.table_elements, quota)
    }

    /// So many bytes and elements at most.
    pub fn of(most: u64, elements_most: u64, quota: Arc<Quota>) -> Memory {
        Memory { quota, used: 0, most, elements: 0, elements_most, was_refused: false }
    }

    pub fn used(&self) -> u64 {
        self.used
    }

    pub fn was_refused(&self) -> bool {
        self.was_refused
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> Result<bool> {
        let more = desired.saturating_sub(current) as u64;
        let may = self.used + more <= self.most && self.quota.take(more);
        match may {
            true => self.used += more,
            false => self.was_refused = true,
        }
        Ok(may)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> Result<bool> {
        let more = desired.saturating_sub(current) as u64;
        let may = desired <= TABLE_ELEMENTS_MAX && self.elements + more <= self.elements_most;
        match may {
            true => self.elements += more,
            false => self.was_refused = true,
        }
        Ok(may)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.quota.give_back(self.used);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::settings::Patience;
    use super::*;

    const PAGE: usize = 64 << 10;

    fn memory(pages: usize, quota: &Arc<Quota>) -> Memory {
        let limits = Limits {
            memory: (pages * PAGE) as u64,
            table_elements: 10,
            cpu: Duration::ZERO,
            time: Duration::ZERO,
            request_body: None,
            response_body: None,
            output: 0,
            output_rate: 0,
            outgoing_requests: 0,
            outgoing_body: None,
            reuse: 1,
            instances: 1,
            waiting: 0,
            waiting_timeout: Duration::ZERO,
            idle: Duration::ZERO,
            patience: Patience { failures: 0, pause: Duration::ZERO, pause_max: Duration::ZERO },
        };
        Memory::new(&limits, Arc::clone(quota))
    }

    #[test]
    fn all_memories_of_an_instance_count_together() {
        let mut memory = memory(4, &Quota::new(u64::MAX));
        assert!(memory.memory_growing(0, 3 * PAGE, None).unwrap());
        assert!(!memory.memory_growing(0, 2 * PAGE, None).unwrap(), "another one");
        assert!(memory.was_refused());
        assert!(memory.memory_growing(3 * PAGE, 4 * PAGE, None).unwrap());
        assert!(memory.table_growing(0, 6, None).unwrap() && !memory.table_growing(0, 5, None).unwrap());
    }

    #[test]
    fn all_instances_of_a_core_share_what_it_has() {
        let quota = Quota::new(5 * PAGE as u64);
        let (mut first, mut second) = (memory(4, &quota), memory(4, &quota));
        assert!(first.memory_growing(0, 4 * PAGE, None).unwrap());
        assert!(!quota.was_short());
        assert!(!second.memory_growing(0, 2 * PAGE, None).unwrap());
        assert!(quota.was_short() && !quota.was_short(), "told once");
        drop(first);
        assert!(second.memory_growing(0, 2 * PAGE, None).unwrap());
        assert_eq!(quota.used(), 2 * PAGE as u64);
    }
}
