//! Endpoints of one rank, the primaries or the backups of an upstream, and the strategy's way
//! to one of them.

use std::cell::Cell;
use std::rc::Rc;

use super::alias::Alias;
use super::hash::{hash, mix, within};
use super::ring::Ring;
use super::schedule::Schedule;
use super::{Balancer, Rank, Strategy};
use crate::upstream::state::{State, Tried};

/// Tries of a strategy to find an endpoint that is available, before it looks at all of them.
const TRIES_MAX: usize = 32;
/// Tries to draw a second endpoint that is not the first.
const SECOND_TRIES_MAX: usize = 8;
/// Turns among which the endpoint with the fewest requests in flight is looked for. With as many
/// endpoints of the same weight, that is all of them; with more, the best of so many is as good.
const WINDOW: usize = 32;
/// How old the sum of the available weights may be by which loads are bounded.
const SUM_AGE_MS: u64 = 100;
/// An endpoint takes at most 5/4 of its share where loads are bounded (Mirrokni, Thorup and
/// Zadimoghaddam 2018, with ε = 1/4).
const LOAD_MAX: (u64, u64) = (5, 4);
/// All of a weight, for [`Group::grown`].
const WHOLE: u64 = 1 << 16;
/// The part of its weight with which an endpoint starts slowly: a twentieth.
const START: u64 = WHOLE / 20;

struct Member {
    state: Rc<State>,
    /// 1 to 1,000.
    weight: u32,
    /// The same on every core and in every table.
    name: u64,
}

enum Method {
    Turns(Schedule),
    Fewest(Schedule),
    Random(Alias),
    Two(Alias),
    Key(Ring),
    BoundedKey(Ring),
}

pub struct Group {
    rank: Rank,
    members: Box<[Member]>,
    method: Method,
    slow_start_ms: u64,
    /// Of its members, times [`WHOLE`].
    mean_weight: f32,
    /// Weights of the available members, and when that was.
    sum: Cell<(u64, u64)>,
}

/// What one request asks for.
pub struct Wish<'a> {
    /// The hash of what it is sent by; 0 where that does not matter.
    pub key: u64,
    /// Milliseconds since 1970.
    pub now_ms: u64,
    /// Not these again.
    pub tried: Option<&'a Tried>,
    /// Nothing is left but endpoints that are ejected.
    pub is_last_resort: bool,
}

impl Group {
    /// `members` with their weights.
    pub fn new(rank: Rank, strategy: &Strategy, members: Vec<(Rc<State>, u32)>, slow_start_ms: u64) -> Group {
        let weights: Vec<u32> = members.iter().map(|(_, weight)| *weight).collect();
        let names: Vec<&str> = members.iter().map(|(state, _)| state.pool.label()).collect();
        let method = match strategy {
            Strategy::RoundRobin => Method::Turns(Schedule::new(&weights)),
            Strategy::LeastConn => Method::Fewest(Schedule::new(&weights)),
            Strategy::Random => Method::Random(Alias::new(&weights)),
            Strategy::P2c => Method::Two(Alias::new(&weights)),
            Strategy::IpHash => Method::Key(Ring::new(&names, &weights)),
            Strategy::ConsistentHash(_) => Method::BoundedKey(Ring::new(&names, &weights)),
        };
        let sum: u64 = weights.iter().copied().map(u64::from).sum();
        let mean_weight = sum as f32 * WHOLE as f32 / weights.len() as f32;
        let members = members.into_iter().map(|(state, weight)| Member {
            name: hash(state.pool.label().as_bytes()),
            state,
            weight,
        });
        Group {
            rank,
            members: members.collect(),
            method,
            slow_start_ms,
            mean_weight,
            sum: Cell::new((sum, 0)),
        }
    }

    pub fn states(&self) -> impl Iterator<Item = &Rc<State>> {
        self.members.iter().map(|member| &member.state)
    }

    /// Each with its weight.
    pub fn members(&self) -> impl ExactSizeIterator<Item = (&Rc<State>, u32)> {
        self.members.iter().map(|member| (&member.state, member.weight))
    }

    pub fn member(&self, index: usize) -> Option<&Rc<State>> {
        self.members.get(index).map(|member| &member.state)
    }

    /// Whether a request may go to any of them.
    pub fn is_available(&self, wish: &Wish<'_>) -> bool {
        self.members.iter().any(|member| wish.allows(&member.state))
    }

    /// The endpoint for a request; `None` if none is available.
    pub fn pick(&self, balancer: &Balancer, wish: &Wish<'_>) -> Option<&Rc<State>> {
        if self.members.is_empty() {
            return None;
        }
        let luck = || balancer.random.next();
        let fits = |index: usize| self.fits(index, wish, luck);
        let fits_key = |index: usize| self.fits(index, wish, || mix(wish.key, self.members[index].name));
        let picked = match &self.method {
            Method::Turns(schedule) => {
                let mut tries = 0..TRIES_MAX.min(schedule.len());
                tries.find_map(|_| Some(schedule.at(self.next_turn(balancer))).filter(|index| fits(*index)))
            }
            Method::Fewest(schedule) => self.fewest(balancer, wish, schedule, fits),
            Method::Random(alias) => draw(alias, balancer, TRIES_MAX, fits),
            Method::Two(alias) => self.better_of_two(balancer, wish, alias, fits),
            Method::Key(ring) => ring.pick(wish.key, fits_key),
            Method::BoundedKey(ring) => {
                let sum = self.available_weight(wish.now_ms);
                ring.pick(wish.key, |index| self.has_room(index, balancer, sum) && fits_key(index))
            }
        };
        picked.or_else(|| self.any(balancer, wish)).map(|index| &self.members[index].state)
    }

    fn turn<'a>(&self, balancer: &'a Balancer) -> &'a Cell<u64> {
        &balancer.turns[self.rank as usize]
    }

    fn next_turn(&self, balancer: &Balancer) -> u64 {
        let turn = self.turn(balancer);
        turn.replace(turn.get() + 1)
    }

    /// Whether a request may go to the endpoint. One that starts slowly takes only those that
    /// `luck` leaves it.
    fn fits(&self, index: usize, wish: &Wish<'_>, luck: impl Fn() -> u64) -> bool {
        let state = &self.members[index].state;
        if !wish.allows(state) {
            return false;
        }
        let grown = self.grown(state, wish.now_ms);
        grown == WHOLE || luck() % WHOLE < grown
    }

    /// How much of its weight an endpoint has, of [`WHOLE`]: it grows after a recovery.
    fn grown(&self, state: &State, now_ms: u64) -> u64 {
        if self.slow_start_ms == 0 {
            return WHOLE;
        }
        match state.vitals().recovered_at_ms() {
            0 => WHOLE,
            at => match now_ms.saturating_sub(at) {
                since if since >= self.slow_start_ms => WHOLE,
                since => (WHOLE * since / self.slow_start_ms).max(START),
            },
        }
    }

    /// The weight of an endpoint as it is now, times [`WHOLE`].
    fn weight(&self, index: usize, now_ms: u64) -> u64 {
        let member = &self.members[index];
        u64::from(member.weight) * self.grown(&member.state, now_ms)
    }

    /// Of the next turns, that of the endpoint with the fewest requests in flight for its
    /// weight; of several the first. Those passed over lose their turns, so that the others share
    /// them evenly.
    fn fewest(
        &self,
        balancer: &Balancer,
        wish: &Wish<'_>,
        schedule: &Schedule,
        fits: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let next = self.turn(balancer);
        let mut best: Option<Contender> = None;
        for turn in (next.get()..).take(WINDOW.min(schedule.len())) {
            let index = schedule.at(turn);
            let load = u64::from(self.members[index].state.in_flight());
            let one = Contender { turn, index, load, weight: self.weight(index, wish.now_ms) };
            if best.as_ref().is_none_or(|best| one.is_better_than(best)) && fits(index) {
                best = Some(one);
                if load == 0 {
                    break;
                }
            }
        }
        let best = best?;
        next.set(best.turn + 1);
        Some(best.index)
    }

    /// Two are drawn; the one where the request will probably be over first takes it.
    fn better_of_two(
        &self,
        balancer: &Balancer,
        wish: &Wish<'_>,
        alias: &Alias,
        fits: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let first = draw(alias, balancer, TRIES_MAX, &fits)?;
        if self.members.len() == 1 {
            return Some(first);
        }
        let is_other = |index| index != first && fits(index);
        let second = draw(alias, balancer, SECOND_TRIES_MAX, is_other).unwrap_or(first);
        let cost = |index: usize| {
            let state = &self.members[index].state;
            let share = self.weight(index, wish.now_ms) as f32 / self.mean_weight;
            state.latency.cost(state.in_flight(), share, wish.now_ms)
        };
        Some(if cost(second) < cost(first) { second } else { first })
    }

    /// Whether one more request leaves the endpoint within its bound.
    fn has_room(&self, index: usize, balancer: &Balancer, sum: u64) -> bool {
        let member = &self.members[index];
        let all = u64::from(balancer.in_flight.get()) + 1;
        let (most, per) = LOAD_MAX;
        u64::from(member.state.in_flight()) * sum * per < all * u64::from(member.weight) * most
    }

    fn available_weight(&self, now_ms: u64) -> u64 {
        let (sum, at) = self.sum.get();
        if now_ms.wrapping_sub(at) < SUM_AGE_MS {
            return sum;
        }
        let available = self.members.iter().filter(|member| member.state.is_available(now_ms, false));
        let sum = available.map(|member| u64::from(member.weight)).sum();
        self.sum.set((sum, now_ms));
        sum
    }

    /// One of all that are available, by their weights and, where a key matters, by the key:
    /// weighted rendezvous hashing (Schindelhauer and Schomaker 2005). The way that takes long,
    /// for when so many are unavailable that a strategy finds none.
    #[cold]
    fn any(&self, balancer: &Balancer, wish: &Wish<'_>) -> Option<usize> {
        let (key, is_bounded) = match &self.method {
            Method::Key(_) => (wish.key, false),
            Method::BoundedKey(_) => (wish.key, true),
            _ => (balancer.random.next(), false),
        };
        if is_bounded {
            // What has gone down just now leaves the others more room.
            self.sum.set((0, wish.now_ms.wrapping_sub(SUM_AGE_MS)));
        }
        let sum = if is_bounded { self.available_weight(wish.now_ms) } else { 0 };
        let members = self.members.iter().enumerate();
        let candidates = members.filter(|(_, member)| wish.allows(&member.state));
        let ranked = candidates.map(|(index, member)| {
            let weight = self.weight(index, wish.now_ms);
            let chance = (within(mix(key, member.name), 1 << 52) as f64 + 0.5) / 2_f64.powi(52);
            let is_full = is_bounded && !self.has_room(index, balancer, sum);
            (is_full, -chance.ln() / weight as f64, index)
        });
        let best = ranked.min_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        best.map(|(_, _, index)| index)
    }
}

impl Wish<'_> {
    pub fn allows(&self, state: &Rc<State>) -> bool {
        state.is_available(self.now_ms, self.is_last_resort)
            && !self.tried.is_some_and(|tried| tried.has(state))
    }
}

/// One of those among which the fewest requests in flight are looked for.
struct Contender {
    turn: u64,
    index: usize,
    load: u64,
    weight: u64,
}

impl Contender {
    /// With half a request more, as seats are dealt out by Sainte-Laguë: without it the light
    /// ones would get too many, and with a whole one too few.
    fn is_better_than(&self, other: &Contender) -> bool {
        (2 * self.load + 1) * other.weight < (2 * other.load + 1) * self.weight
    }
}

/// The first that fits of some draws.
fn draw(alias: &Alias, balancer: &Balancer, tries: usize, fits: impl Fn(usize) -> bool) -> Option<usize> {
    let mut draws = (0..tries).map(|_| alias.draw(&balancer.random));
    draws.find(|index| fits(*index))
}
