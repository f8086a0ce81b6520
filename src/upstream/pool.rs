//! Idle connections of one core, by address: last in, first out, bounded, expiring, and none used
//! again on which anything has come meanwhile.
//!
//! What becomes of a request that fails on one is decided in `proxy`, not here. Hot path: no
//! allocation.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::collections::{HashMap, HashSet};
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::endpoint::Slot;
use super::{Address, Settings};
use crate::net::queue::Queue;
use crate::net::stream::{EVENTFUL_MAX, eventful};
use crate::net::{self, Stream, Wheel};

/// How long an idle connection that was looked at may be used without another look. What is written to
/// it leaves no earlier than at the end of the event loop's turn, so this adds little to what a look of
/// its own would leave open.
const LOOK_COUNTS_FOR: Duration = Duration::from_micros(50);

struct Idle {
    stream: Stream,
    until: Instant,
    slot: Slot,
}

/// Idle connections, and which of them are known to be silent.
///
/// Bytes that wait on a connection before a request is written to it were meant for an earlier one, and
/// would be taken for the response to this one; an end, or an error, would fail it. So each connection
/// is looked at after it was put back and before it is taken. Under load that system call is shared by
/// as many connections as are taken within the time for which it counts.
#[derive(Default)]
struct Shelf {
    /// In the order in which they were put back, but for those that a look did not need.
    unseen: VecDeque<Idle>,
    /// The last look found nothing on them. The next to be taken is the last.
    silent: Vec<Idle>,
    looked: Option<Instant>,
    taken: usize,
}

/// How fresh the look at a connection has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// A request that cannot be repeated goes to no connection that is known to have ended.
    Now,
    Recent,
}

/// The idle connections to one address.
pub struct Pool {
    address: Address,
    /// The address for the log.
    label: String,
    idle: RefCell<Shelf>,
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
    /// Since when it may be used again.
    clean_since: Cell<Option<Instant>>,
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
            idle.expire(now);
            Rc::strong_count(pool) > 1 || idle.len() > 0
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
        self.by_address.borrow().values().all(|pool| !pool.has_idle())
    }
}

impl Shelf {
    fn len(&self) -> usize {
        self.unseen.len() + self.silent.len()
    }

    fn expire(&mut self, now: Instant) {
        self.unseen.retain(|idle| idle.until > now);
        self.silent.retain(|idle| idle.until > now);
    }

    /// One on which nothing has come, if there is any.
    fn take(&mut self, freshness: Freshness) -> Option<Idle> {
        if self.len() == 0 {
            return None;
        }
        let now = Instant::now();
        let is_recent = self.looked.is_some_and(|looked| now < looked + LOOK_COUNTS_FOR);
        if freshness == Freshness::Now || !is_recent {
            self.unseen.extend(self.silent.drain(..));
        }
        if self.silent.is_empty() {
            let most = if is_recent { 2 * self.taken } else { self.taken };
            self.look(now, most.clamp(1, EVENTFUL_MAX));
        }
        self.taken += 1;
        self.silent.pop()
    }

    /// Looks at those that were put back last, and closes those that are not silent.
    fn look(&mut self, now: Instant, most: usize) {
        while self.silent.is_empty() && !self.unseen.is_empty() {
            let first = self.unseen.len().saturating_sub(most);
            let eventful = eventful(self.unseen.range(first..).map(|idle| &idle.stream));
            let seen = self.unseen.drain(first..).enumerate();
            let silent = seen.filter(|(place, _)| eventful & 1 << place == 0);
            self.silent.extend(silent.map(|(_, idle)| idle));
        }
        (self.looked, self.taken) = (Some(now), 0);
    }
}

impl Pool {
    /// An idle connection, if there is one that can be used.
    pub fn take_idle(self: &Rc<Pool>, settings: &Settings, freshness: Freshness) -> Option<Lease> {
        let idle = self.idle.borrow_mut().take(freshness)?;
        Some(self.lease(idle.stream, idle.slot, settings, true))
    }

    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Connections that are idle.
    pub fn idle(&self) -> usize {
        self.idle.borrow().len()
    }

    pub fn has_idle(&self) -> bool {
        self.idle() > 0
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
        self.idle.take();
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
            clean_since: Cell::new(None),
        }
    }

    fn put(&self, idle: Idle, most: usize) {
        let mut list = self.idle.borrow_mut();
        if list.len() < most && !self.is_retired.get() {
            list.unseen.push_back(idle);
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
    pub fn mark_clean(&self, now: Instant) {
        self.clean_since.set(Some(now));
    }
}

impl Lease {
    fn end(&mut self) {
        let (Some(stream), Some(slot)) = (self.stream.take(), self.slot.take()) else { return };
        let Some(since) = self.clean_since.get() else { return };
        // One that nobody waits for here, but somebody on another core, is closed for him.
        let is_wanted = slot.is_wanted() && self.queue.as_ref().is_none_or(|queue| queue.is_empty());
        if stream.timer().expired().is_none() && !is_wanted {
            let idle = Idle { stream, until: since + self.keepalive_idle, slot };
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
