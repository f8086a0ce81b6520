//! One endpoint on one core: its connections, what is in flight to it, how long it takes.
//!
//! Must not know: how an endpoint is chosen.

use std::cell::Cell;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::balance::Balancer;
use super::balance::latency::Latency;
use super::ejection::{self, Change};
use super::endpoint::{Slot, Vitals};
use super::pool::Pool;

/// As many endpoints are tried for one exchange.
const TRIED_MAX: usize = 8;

/// Kept over a new table and a new plan for as long as the endpoint is the same.
pub struct State {
    pub pool: Rc<Pool>,
    /// Index of its instance in the settings in force.
    pub instance: Cell<u32>,
    /// Connections that it may have in the whole process; 0 is any number.
    connections_max: Cell<u32>,
    vitals: Arc<Vitals>,
    in_flight: Cell<u32>,
    pub latency: Latency,
}

impl State {
    pub fn new(pool: Rc<Pool>, vitals: Arc<Vitals>, instance: u32, connections_max: u32) -> State {
        State {
            pool,
            instance: Cell::new(instance),
            connections_max: Cell::new(connections_max),
            vitals,
            in_flight: Cell::new(0),
            latency: Latency::default(),
        }
    }

    pub fn vitals(&self) -> &Arc<Vitals> {
        &self.vitals
    }

    /// Takes over what other settings say.
    pub fn adopt(&self, instance: u32, connections_max: u32) {
        self.instance.set(instance);
        self.connections_max.set(connections_max);
    }

    pub fn is_limited(&self) -> bool {
        self.connections_max.get() > 0
    }

    /// A request may be sent to it at `now_ms`; to one that is ejected only if `is_last_resort`.
    pub fn is_available(&self, now_ms: u64, is_last_resort: bool) -> bool {
        self.vitals.is_up()
            && (is_last_resort || self.vitals.ejection().admits(now_ms))
            && (self.vitals.has_slot(self.connections_max.get()) || self.pool.has_idle())
    }

    /// Room for one more connection, if there may be one.
    pub fn take_slot(&self) -> Option<Slot> {
        self.vitals.take_slot(self.connections_max.get())
    }

    /// Exchanges of this core that are with it now.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.get()
    }
}

/// An endpoint that was picked for an exchange, which counts as in flight to it for as long as
/// this lives, however it ends.
pub struct Pick {
    state: Rc<State>,
    balancer: Rc<Balancer>,
    since: Instant,
    since_ms: u64,
    /// By whom the upstream leaves the choice to, not by its strategy.
    pub is_chosen: bool,
}

impl Pick {
    /// At `since`, which is `since_ms` after 1970.
    pub fn new(state: Rc<State>, balancer: Rc<Balancer>, since: Instant, since_ms: u64) -> Pick {
        state.in_flight.set(state.in_flight.get() + 1);
        balancer.in_flight.set(balancer.in_flight.get() + 1);
        Pick { state, balancer, since, since_ms, is_chosen: false }
    }

    /// Another endpoint instead of this one, from now on.
    pub fn replace(&mut self, state: Rc<State>) {
        let now = Instant::now();
        *self = Pick::new(state, Rc::clone(&self.balancer), now, self.ms_at(now));
    }

    pub fn state(&self) -> &Rc<State> {
        &self.state
    }

    /// The head of its response is here.
    pub fn has_answered(&self, settings: &ejection::Settings, now: Instant) -> Change {
        let change = self.state.vitals.note_success(settings, self.since_ms, self.ms_at(now));
        if change == Change::Returned {
            self.state.latency.forget();
        }
        change
    }

    /// And how long that took says something of the endpoint.
    pub fn observe(&self, now: Instant) {
        let taken = now.saturating_duration_since(self.since);
        self.state.latency.observe(taken, self.ms_at(now));
    }

    /// It gave no proper answer.
    pub fn has_failed(&self, settings: &ejection::Settings, now: Instant) -> Change {
        let now_ms = self.ms_at(now);
        self.state.latency.fail(now_ms);
        self.state.vitals.note_failure(settings, now_ms)
    }

    /// `now` in milliseconds since 1970.
    pub fn ms_at(&self, now: Instant) -> u64 {
        self.since_ms + now.saturating_duration_since(self.since).as_millis() as u64
    }
}

impl Deref for Pick {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl Drop for Pick {
    fn drop(&mut self) {
        self.state.in_flight.set(self.state.in_flight.get() - 1);
        self.balancer.in_flight.set(self.balancer.in_flight.get() - 1);
    }
}

/// The endpoints that an exchange has tried. Bounded: no exchange tries more.
#[derive(Default)]
pub struct Tried {
    states: [Option<Rc<State>>; TRIED_MAX],
    len: usize,
}

impl Tried {
    /// Notes one more; `false` if no more may be tried.
    pub fn add(&mut self, state: Rc<State>) -> bool {
        let Some(free) = self.states.get_mut(self.len) else { return false };
        *free = Some(state);
        self.len += 1;
        self.len < TRIED_MAX
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn has(&self, state: &Rc<State>) -> bool {
        self.states[..self.len].iter().flatten().any(|tried| Rc::ptr_eq(tried, state))
    }
}
