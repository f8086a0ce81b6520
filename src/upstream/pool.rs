//! Idle connections of one core, by address: last in, first out, bounded, expiring.
//!
//! Whether one that was idle is still good, and what becomes of a request that fails on it, is
//! decided in `proxy`, not here. Hot path: no allocation.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::collections::{HashMap, HashSet};
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::endpoint::Slot;
use super::{Address, Settings};
use crate::net::queue::Queue;
use crate::net::{self, Stream, Wheel};

/// A connection that was idle for less than this is used again without a look: that spares a
/// system call for each request under load.
const REST_UNSEEN: Duration = Duration::from_millis(1);

struct Idle {
    stream: Stream,
    since: Instant,
    until: Instant,
    cleanliness: Cleanliness,
    slot: Slot,
}

/// How sure it is that nothing more comes for the exchange that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cleanliness {
    /// The response said its length and kept to it.
    Certain,
    /// The response has no body by its status or method; an upstream that errs sends one, and
    /// the next exchange would take it for its response.
    Presumed,
}

/// The idle connections to one address.
pub struct Pool {
    address: Address,
    /// The address for the log.
    label: String,
    idle: RefCell<VecDeque<Idle>>,
    /// No endpoint has the address any more: nothing is kept.
    is_retired: Cell<bool>,
}

/// All pools of one core. They survive a reload: an address that is still named keeps its own.
#[derive(Default)]
pub struct Pools {
    by_address: RefCell<HashMap<Address, Rc<Pool>>>,
}

/// The slot of a connection whose end is not waited for, and those who wait for it: they are called
/// on drop.
pub struct Vacancy {
    slot: Option<Slot>,
    queue: Option<Rc<Queue>>,
}

/// A connection in use. It goes back to its pool on drop, but only if it was marked clean: at
/// every other end, however it came about, the connection is closed.
pub struct Lease {
    stream: Option<Stream>,
    /// Given back with the connection.
    slot: Option<Slot>,
    /// Those who wait for one, where there is a limit.
    queue: Option<Rc<Queue>>,
    pool: Rc<Pool>,
    keepalive: usize,
    keepalive_idle: Duration,
    pub is_reused: bool,
    /// Has to be looked at before use: bytes may be waiting that are not ours.
    pub is_doubtful: bool,
    is_clean: Cell<Option<(Cleanliness, Instant)>>,
}

impl Pools {
    pub fn of(&self, address: &Address) -> Rc<Pool> {
        let mut pools = self.by_address.borrow_mut();
        if let Some(pool) = pools.get(address) {
            return Rc::clone(pool);
        }
        let label = address.to_string();
        let pool = Rc::new(Pool {
            address: address.clone(),
            label,
            idle: RefCell::default(),
            is_retired: Cell::new(false),
        });
        pools.insert(address.clone(), Rc::clone(&pool));
        pool
    }

    /// Closes connections that were idle too long, and forgets pools that nothing uses.
    pub fn expire(&self, now: Instant) {
        self.by_address.borrow_mut().retain(|_, pool| {
            let mut idle = pool.idle.borrow_mut();
            while idle.front().is_some_and(|oldest| oldest.until <= now) {
                idle.pop_front();
            }
            Rc::strong_count(pool) > 1 || !idle.is_empty()
        });
    }

    /// Keeps connections to the addresses of these pools only.
    pub fn retain(&self, used: &HashSet<*const Pool>) {
        for pool in self.by_address.borrow().values() {
            let is_used = used.contains(&Rc::as_ptr(pool));
            pool.is_retired.set(!is_used);
            if !is_used {
                pool.clear();
            }
        }
    }

    /// Closes every idle connection.
    pub fn clear(&self) {
        self.by_address.borrow().values().for_each(|pool| pool.clear());
    }

    /// Whether any connection is kept.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.by_address.borrow().values().all(|pool| pool.idle.borrow().is_empty())
    }
}

impl Pool {
    /// The connection that was used last, if one is idle.
    pub fn take_idle(self: &Rc<Pool>, settings: &Settings, now: Instant) -> Option<Lease> {
        let idle = self.idle.borrow_mut().pop_back()?;
        let mut lease = self.lease(idle.stream, idle.slot, settings, true);
        lease.is_doubtful = idle.cleanliness != Cleanliness::Certain
            || now.saturating_duration_since(idle.since) > REST_UNSEEN;
        Some(lease)
    }

    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Connections that are idle.
    pub fn idle(&self) -> usize {
        self.idle.borrow().len()
    }

    pub fn has_idle(&self) -> bool {
        !self.idle.borrow().is_empty()
    }

    /// A new connection; an error of the kind `TimedOut` if that takes longer than `timeout`.
    pub async fn connect(
        self: &Rc<Pool>,
        settings: &Settings,
        slot: Slot,
        timeout: Duration,
        wheel: &Rc<Wheel>,
    ) -> io::Result<Lease> {
        let stream = match &self.address {
            Address::Tcp(address) => net::connect::tcp(*address, timeout, wheel).await?,
            Address::Unix(path) => net::connect::unix(path, timeout, wheel).await?,
        };
        Ok(self.lease(stream, slot, settings, false))
    }

    /// The address, written out.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Closes all idle connections: the endpoint has been started anew, or has hung up.
    pub fn clear(&self) {
        self.idle.borrow_mut().clear();
    }

    fn lease(self: &Rc<Pool>, stream: Stream, slot: Slot, settings: &Settings, is_reused: bool) -> Lease {
        Lease {
            stream: Some(stream),
            slot: Some(slot),
            queue: None,
            pool: Rc::clone(self),
            keepalive: settings.keepalive,
            keepalive_idle: settings.keepalive_idle,
            is_reused,
            is_doubtful: false,
            is_clean: Cell::new(None),
        }
    }

    fn put(&self, idle: Idle, most: usize) {
        let mut list = self.idle.borrow_mut();
        if list.len() < most && !self.is_retired.get() {
            list.push_back(idle);
        }
    }
}

impl Lease {
    pub fn stream(&mut self) -> &mut Stream {
        self.stream.as_mut().expect("a lease has its stream until it is dropped")
    }

    pub fn pool(&self) -> &Rc<Pool> {
        &self.pool
    }

    /// At its end the first of this queue has a look.
    pub fn set_queue(&mut self, queue: &Rc<Queue>) {
        self.queue = Some(Rc::clone(queue));
    }

    /// What another connection may be opened for while this one still has something to say to the
    /// endpoint. It does not go back to its pool.
    pub fn vacate(&mut self) -> Vacancy {
        Vacancy { slot: self.slot.take(), queue: self.queue.take() }
    }

    /// The exchange is over on both sides and nothing is left over: others may use it.
    pub fn mark_clean(&self, cleanliness: Cleanliness, now: Instant) {
        self.is_clean.set(Some((cleanliness, now)));
    }
}

impl Lease {
    fn end(&mut self) {
        let (Some(stream), Some(slot)) = (self.stream.take(), self.slot.take()) else { return };
        let Some((cleanliness, since)) = self.is_clean.get() else { return };
        // One that nobody waits for here, but somebody on another core, is closed for him.
        let is_wanted = slot.is_wanted() && self.queue.as_ref().is_none_or(|queue| queue.is_empty());
        if stream.timer().expired().is_none() && !is_wanted {
            let idle = Idle { stream, since, until: since + self.keepalive_idle, cleanliness, slot };
            self.pool.put(idle, self.keepalive);
        }
    }
}

impl Drop for Vacancy {
    fn drop(&mut self) {
        drop(self.slot.take());
        if let Some(queue) = &self.queue {
            queue.call();
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.end();
        if let Some(queue) = &self.queue {
            queue.call();
        }
    }
}
