//! What one core owns. It survives a reload; no other thread ever touches it, so nothing in it
//! is locked.

use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::connection::Work;
use super::policy;
use crate::http::date::Civil;
use crate::http::fields::Fields;
use crate::http::h1;
use crate::net::admission::{self, Admission};
#[cfg(feature = "wasm")]
use crate::net::total::Limit;
use crate::net::{Buffers, Wheel};
use crate::plan::{Plan, RouteId};
use crate::route::{Captures, Scratch, Tree};
use crate::telemetry::{AccessLog, Counters, Ledger, Spans};
use crate::upstream::upstreams::List;
use crate::upstream::{self, Endpoints, Upstreams};
use crate::wasm;

/// How much working memory of closed connections is kept for the next ones.
const WORK_KEPT_MAX: usize = 256;

/// Connections that wait for a request with their buffer in hand. Beyond that many, they are
/// parked at once: it costs each request a little, and spares the memory of thousands.
const WAITING_MAX: usize = 512;

/// Connections that are refused and still read, so that their clients see the answer. They are
/// not among those that the limits count.
const LINGERING_MAX: usize = 512;

/// A plan as one core runs by it, with its own copy of the tree. Whatever an exchange needs of the
/// plan it began with is here: another one may be in force when it ends.
pub struct Active {
    pub plan: Arc<Plan>,
    /// Which plan of this process it is: the first one is 1.
    pub generation: u64,
    /// By id.
    pub upstreams: List,
    pub tree: Tree<RouteId>,
    pub scratch: RefCell<Scratch>,
    pub captures: RefCell<Captures>,
    /// The fields of a request as an upstream will be told them, while its route is chosen.
    pub told: RefCell<Fields>,
    /// What is counted by route and upstream; it outlives the plan where the names do.
    pub ledger: Arc<Ledger>,
    /// By id.
    pub policies: wasm::hooks::Seats,
    /// By id.
    pub filters: wasm::hooks::FilterSeats,
}

/// What one core has to do at one moment.
#[derive(Debug)]
pub struct Load {
    /// Downstream connections.
    pub open: usize,
    /// Those of them that are read only until their client has seen the answer.
    pub lingering: usize,
    pub upstreams: Vec<upstream::Load>,
    /// What policies say of themselves.
    pub policies: Vec<wasm::hooks::Said>,
}

/// What one core has of a plan for itself. With many routes it takes a while to make: not for a
/// core that serves.
pub struct Own {
    tree: Tree<RouteId>,
    scratch: Scratch,
    ledger: Arc<Ledger>,
}

impl Own {
    /// Counted on from the plan before it.
    pub fn of(plan: &Plan, counters: &Counters) -> Own {
        let tree = plan.tree.clone();
        let scratch = tree.scratch();
        let routes = plan.routes.iter().map(|route| route.label.as_str());
        let upstreams = plan.upstreams.iter().map(|upstream| upstream.name.as_str());
        Own { tree, scratch, ledger: counters.adopt(routes, upstreams) }
    }
}

pub struct Core {
    pub index: usize,
    pub wheel: Rc<Wheel>,
    pub buffers: Buffers,
    pub upstreams: Upstreams,
    /// Instances of components.
    pub guests: wasm::Pools,
    /// Guests that are asked for endpoints.
    pub policies: wasm::hooks::Policies,
    /// Middleware.
    pub filters: wasm::hooks::Filters,
    pub counters: Arc<Counters>,
    pub admission: Arc<Admission>,
    pub log: Option<AccessLog>,
    pub spans: Option<Spans>,
    active: RefCell<Rc<Active>>,
    /// Earlier ones by which exchanges still run, the oldest first.
    former: RefCell<Vec<Rc<Active>>>,
    is_draining: Cell<bool>,
    is_cut: Cell<bool>,
    open: Cell<usize>,
    most_open: Cell<usize>,
    waiting: Cell<usize>,
    lingering: Cell<usize>,
    /// What the wall clock said, as the time since 1970, and when.
    wall: Cell<(Instant, Duration)>,
    date: Cell<(u64, [u8; 29])>,
    random: Cell<u64>,
    #[expect(clippy::vec_box, reason = "moved between connections, and large")]
    spare_work: RefCell<Vec<Box<Work>>>,
}

impl Core {
    pub fn new(
        index: usize,
        plan: Arc<Plan>,
        endpoints: &[Endpoints],
        counters: Arc<Counters>,
        admission: Arc<Admission>,
        log: Option<AccessLog>,
        spans: Option<Spans>,
    ) -> Rc<Core> {
        let seed = RandomState::new().hash_one(index);
        let upstreams = Upstreams::new(index, seed);
        upstreams.adopt(&plan.upstreams, endpoints);
        let guests = wasm::Pools::new(index);
        guests.adopt(&plan.guests);
        let policies = wasm::hooks::Policies::new(index);
        policies.adopt(&plan.guests);
        let own = Own::of(&plan, &counters);
        let filters = wasm::hooks::Filters::new(index);
        filters.adopt(&plan.guests);
        let active = Active::new(plan, 1, upstreams.list(), policies.list(), filters.list(), own);
        Rc::new(Core {
            index,
            wheel: Wheel::new(Instant::now()),
            buffers: Buffers::default(),
            upstreams,
            guests,
            policies,
            filters,
            counters,
            admission,
            log,
            spans,
            active: RefCell::new(Rc::new(active)),
            former: RefCell::default(),
            is_draining: Cell::new(false),
            is_cut: Cell::new(false),
            open: Cell::new(0),
            most_open: Cell::new(0),
            waiting: Cell::new(0),
            lingering: Cell::new(0),
            wall: Cell::new(wall()),
            date: Cell::new((u64::MAX, [0; 29])),
            random: Cell::new(seed),
            spare_work: RefCell::default(),
        })
    }

    /// The plan for the next exchange, which keeps it to its end.
    pub fn active(&self) -> Rc<Active> {
        Rc::clone(&self.active.borrow())
    }

    /// Runs by `plan`, whose instances are now at these endpoints, from the next request on.
    pub fn adopt(&self, plan: Arc<Plan>, generation: u64, own: Own, endpoints: &[Endpoints]) {
        self.upstreams.adopt(&plan.upstreams, endpoints);
        self.guests.adopt(&plan.guests);
        self.policies.adopt(&plan.guests);
        self.filters.adopt(&plan.guests);
        let (policies, filters) = (self.policies.list(), self.filters.list());
        let active = Active::new(plan, generation, self.upstreams.list(), policies, filters, own);
        let before = self.active.replace(Rc::new(active));
        self.former.borrow_mut().push(before);
        self.forget_former();
    }

    /// Lets go of the earlier plans by which nothing runs any more.
    pub fn forget_former(&self) {
        self.former.borrow_mut().retain(|active| Rc::strong_count(active) > 1);
    }

    /// How many exchanges still run by which earlier plan, the oldest first.
    pub fn former(&self) -> Vec<(u64, usize)> {
        let count = |active: &Rc<Active>| (active.generation, Rc::strong_count(active) - 1);
        self.former.borrow().iter().map(count).filter(|(_, count)| *count > 0).collect()
    }

    pub fn is_draining(&self) -> bool {
        self.is_draining.get()
    }

    /// From now on, responses close their connections.
    pub fn drain(&self) {
        self.is_draining.set(true);
        self.upstreams.pools.clear();
    }

    /// Ends every stream: what still runs fails, says so in the log, and is gone.
    pub fn cut(&self) {
        self.is_cut.set(true);
        self.wheel.end_all();
    }

    pub fn is_cut(&self) -> bool {
        self.is_cut.get()
    }

    /// Downstream connections open on this core.
    pub fn open(&self) -> usize {
        self.open.get()
    }

    /// What this core has to do now.
    pub fn load(&self) -> Load {
        Load {
            open: self.open.get(),
            lingering: self.lingering.get(),
            upstreams: self.upstreams.loads(),
            policies: policy::said(self),
        }
    }

    /// The most that were open since this was last asked.
    pub fn most_open(&self) -> usize {
        self.most_open.replace(self.open.get())
    }

    /// Frees what is kept for connections to come: many have gone.
    pub fn shed(&self) {
        self.buffers.clear();
        self.spare_work.take();
    }

    /// Milliseconds since 1970 at `now`: one clock is read for each request, not two.
    pub fn unix_ms(&self, now: Instant) -> u64 {
        self.unix(now).as_millis() as u64
    }

    /// Nanoseconds since 1970 at `then`, which is not long ago.
    pub fn unix_ns(&self, then: Instant) -> u64 {
        let now = Instant::now();
        self.unix(now).saturating_sub(now.saturating_duration_since(then)).as_nanos() as u64
    }

    fn unix(&self, now: Instant) -> Duration {
        let (read_at, unix) = self.wall.get();
        unix + now.saturating_duration_since(read_at)
    }

    /// Reads the wall clock, which may be set while we run.
    pub fn read_wall(&self) {
        self.wall.set(wall());
    }

    /// The `Date` of a moment; formatted once a second.
    pub fn date(&self, now_ms: u64) -> [u8; 29] {
        let second = now_ms / 1000;
        let (last, date) = self.date.get();
        if last == second {
            return date;
        }
        let date = Civil::from_unix(second).to_http();
        self.date.set((second, date));
        date
    }

    /// 32 hexadecimal digits: unique, but no secret.
    pub fn request_id(&self) -> [u8; 32] {
        let mut id = [0; 32];
        let (eights, _) = id.as_chunks_mut::<8>();
        for [first, second] in eights.as_chunks_mut::<2>().0 {
            let bits = self.next_random();
            *first = hex_digits(bits as u32);
            *second = hex_digits((bits >> 32) as u32);
        }
        id
    }

    /// 16 hexadecimal digits, not all of them 0.
    pub fn span_id(&self) -> [u8; 16] {
        let bits = self.next_random().max(1);
        let mut id = [0; 16];
        id[..8].copy_from_slice(&hex_digits(bits as u32));
        id[8..].copy_from_slice(&hex_digits((bits >> 32) as u32));
        id
    }

    /// Random bits, to draw a sample by.
    pub fn draw(&self) -> u64 {
        self.next_random()
    }

    /// SplitMix64 (Steele, Lea, Flood 2014), seeded by the standard library's random state.
    fn next_random(&self) -> u64 {
        let state = self.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random.set(state);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn take_work(&self) -> Box<Work> {
        self.spare_work.borrow_mut().pop().unwrap_or_default()
    }

    pub(super) fn put_work(&self, mut work: Box<Work>) {
        if let Some(input) = work.input.take() {
            self.buffers.put(input);
        }
        work.peer = None;
        let mut spare = self.spare_work.borrow_mut();
        if spare.len() < WORK_KEPT_MAX {
            spare.push(work);
        }
    }

    /// A place among those that wait with their buffer, if there is one.
    pub(super) fn wait(&self) -> Option<Place<'_>> {
        Place::of(&self.waiting, WAITING_MAX)
    }

    /// A place among those that are read only until their client has seen the answer.
    pub(super) fn linger(&self) -> Option<Place<'_>> {
        Place::of(&self.lingering, LINGERING_MAX)
    }

    pub(super) fn count_open(self: &Rc<Core>) -> Open {
        let open = self.open.get() + 1;
        self.open.set(open);
        self.most_open.set(self.most_open.get().max(open));
        Open(Rc::clone(self))
    }
}

/// 4 bits to a digit, all 8 at once; the lowest come first.
fn hex_digits(bits: u32) -> [u8; 8] {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let mut nibbles = u64::from(bits);
    nibbles = (nibbles | nibbles << 16) & 0x0000_ffff_0000_ffff;
    nibbles = (nibbles | nibbles << 8) & 0x00ff_00ff_00ff_00ff;
    nibbles = (nibbles | nibbles << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    // Adding 6 carries only from 10 on.
    let letters = (nibbles + 6 * ONES) >> 4 & ONES;
    (nibbles + u64::from(b'0') * ONES + letters * u64::from(b'a' - b'0' - 10)).to_le_bytes()
}

fn wall() -> (Instant, Duration) {
    // A clock before 1970 is a clock that was not set.
    (Instant::now(), SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

impl Active {
    pub fn new(
        plan: Arc<Plan>,
        generation: u64,
        upstreams: List,
        policies: wasm::hooks::Seats,
        filters: wasm::hooks::FilterSeats,
        own: Own,
    ) -> Active {
        let Own { tree, scratch, ledger } = own;
        let scratch = RefCell::new(scratch);
        Active {
            plan,
            generation,
            upstreams,
            policies,
            filters,
            tree,
            scratch,
            captures: RefCell::default(),
            told: RefCell::default(),
            ledger,
        }
    }

    pub fn head_bounds(&self) -> h1::Bounds {
        let limits = &self.plan.limits;
        h1::Bounds { head: limits.head_bytes, fields: limits.fields, uri: limits.uri_bytes }
    }

    /// Of the bodies that middleware is to see whole.
    #[cfg(feature = "wasm")]
    pub fn bodies_limit(&self) -> Limit<'_> {
        let most = usize::try_from(self.plan.wasm.bodies_total).unwrap_or(usize::MAX);
        Limit { total: &self.plan.guests.bodies, most }
    }

    pub fn admission_bounds(&self) -> admission::Bounds {
        let limits = &self.plan.limits;
        admission::Bounds { connections: limits.connections, per_address: limits.connections_per_ip }
    }
}

/// Counts one downstream connection of a core while it lives.
pub struct Open(Rc<Core>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
    }
}

/// One of a bounded number of places, counted while it lives.
pub struct Place<'a>(&'a Cell<usize>);

impl<'a> Place<'a> {
    fn of(taken: &'a Cell<usize>, most: usize) -> Option<Place<'a>> {
        let before = taken.get();
        (before < most).then(|| {
            taken.set(before + 1);
            Place(taken)
        })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_of_the_standard_library() {
        for bits in [0, 1, 0x9abc_def0, 0x1234_5678, u32::MAX] {
            let reversed: Vec<u8> = format!("{bits:08x}").bytes().rev().collect();
            assert_eq!(hex_digits(bits), *reversed);
        }
    }
}
