//! What it costs to pick an endpoint, by strategy and number of endpoints, and how the requests are
//! spread.
//!
//! A pick is all of it: the key of the request, the look at the health of what is picked, and
//! the count of what is in flight, up and down again.

#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use warpdrive::http::forwarding::{self, Peer};
use warpdrive::http::head::RequestHead;
use warpdrive::upstream::state::Pick;
use warpdrive::upstream::upstreams::{Question, Upstream, Upstreams};
use warpdrive::upstream::{
    Address, Endpoint, Endpoints, HashKey, Health, Instance, Place, Settings, Strategy, UpstreamId,
};

mod instruments;

use instruments::Case;

const COUNTS: [usize; 4] = [1, 8, 64, 1_000];
const CORES: [usize; 3] = [1, 2, 64];
const REQUESTS: usize = 100_000;
/// Picks that are in flight at any time, on each core.
const IN_FLIGHT: usize = 32;
/// Clients, one of which each request is from; a power of two.
const CLIENTS: usize = 4096;
const ROUND: u64 = 1024;
/// Milliseconds since 1970.
const NOW: u64 = 1_700_000_000_000;

fn strategies() -> [(&'static str, Strategy); 6] {
    [
        ("round_robin", Strategy::RoundRobin),
        ("least_conn", Strategy::LeastConn),
        ("random", Strategy::Random),
        ("ip_hash", Strategy::IpHash),
        ("p2c", Strategy::P2c),
        ("consistent_hash", Strategy::ConsistentHash(HashKey::Client)),
    ]
}

/// Requests of many clients at one moment.
struct Traffic {
    request: RequestHead,
    peers: Vec<Peer>,
    start: Instant,
    state: u64,
}

impl Traffic {
    fn new() -> Traffic {
        let peer = |number: usize| {
            let address = IpAddr::from(Ipv4Addr::from(0xc612_0000 + number as u32));
            Peer::new(&forwarding::Settings::default(), address)
        };
        let peers = (0..CLIENTS).map(peer).collect();
        Traffic { request: RequestHead::default(), peers, start: Instant::now(), state: 7 }
    }

    fn number(&mut self) -> usize {
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) as usize
    }

    fn pick(&mut self, upstream: &Upstream) -> Pick {
        let peer = self.number() % CLIENTS;
        let question = Question {
            request: black_box(&self.request),
            peer: &self.peers[peer],
            now: self.start,
            now_ms: NOW,
            tried: None,
            chooser: None,
        };
        upstream.pick(&question).expect("one is available")
    }

    fn answer(&mut self, pick: &Pick) {
        let taken = 500 + self.number() as u64 % 1000;
        pick.observe(self.start + Duration::from_micros(taken));
    }
}

/// `cores` with an upstream of instances with these weights, of which the first are down.
fn upstreams(strategy: &Strategy, cores: usize, weights: &[u32], down: usize) -> Vec<Upstreams> {
    let instance =
        |weight: &u32| Instance { weight: *weight, ..Instance::from(Place::Socket("of-no-interest".into())) };
    let settings = Settings::new("app", weights.iter().map(instance).collect(), strategy.clone());
    let endpoint = |number: u32| {
        let address = SocketAddr::from((Ipv4Addr::from(0x0a00_0000 + number), 80));
        Endpoint::new(Address::Tcp(address), number)
    };
    let endpoints: Vec<Endpoint> = (0..weights.len() as u32).map(endpoint).collect();
    endpoints[..down].iter().for_each(|endpoint| endpoint.vitals.set_health(Health::Down, NOW));
    let core = |core: usize| {
        let upstreams = Upstreams::new(core, core as u64);
        let endpoints = endpoints.as_slice().into();
        let table = Endpoints { upstream: UpstreamId(0), generation: 1, endpoints };
        upstreams.adopt(std::slice::from_ref(&settings), &[table]);
        upstreams
    };
    (0..cores).map(core).collect()
}

/// Weights 1, 2, 3 and 4, again and again.
fn mixed(count: usize) -> Vec<u32> {
    (0..count).map(|index| 1 + index as u32 % 4).collect()
}

/// One pick, and the end of an earlier one.
fn pick(strategy: &Strategy, count: usize, down: usize) -> Case {
    let upstreams = upstreams(strategy, 1, &mixed(count), down);
    let upstream = upstreams[0].of(UpstreamId(0));
    let mut traffic = Traffic::new();
    let mut in_flight: VecDeque<Pick> = VecDeque::with_capacity(IN_FLIGHT + 1);
    while in_flight.len() < IN_FLIGHT {
        let pick = traffic.pick(&upstream);
        traffic.answer(&pick);
        in_flight.push_back(pick);
    }
    Box::new(move || {
        in_flight.push_back(traffic.pick(&upstream));
        drop(in_flight.pop_front());
    })
}

/// The largest difference of a share from its ideal, in relation to that.
fn spread(strategy: &Strategy, cores: usize, weights: &[u32]) -> f64 {
    let upstreams = upstreams(strategy, cores, weights, 0);
    let mut traffic = Traffic::new();
    let mut busy: Vec<(Rc<Upstream>, Vec<Pick>)> =
        upstreams.iter().map(|core| (core.of(UpstreamId(0)), Vec::new())).collect();
    let mut counts = vec![0_f64; weights.len()];
    for _ in 0..REQUESTS {
        let core = traffic.number() % cores;
        let (upstream, picks) = &mut busy[core];
        if picks.len() == IN_FLIGHT {
            let ended = picks.swap_remove(traffic.number() % IN_FLIGHT);
            traffic.answer(&ended);
        }
        let pick = traffic.pick(upstream);
        counts[pick.instance.get() as usize] += 1.0;
        picks.push(pick);
    }
    let sum: u32 = weights.iter().sum();
    let off = |(count, weight): (&f64, &u32)| {
        (count * f64::from(sum) / (REQUESTS as f64 * f64::from(*weight)) - 1.0).abs()
    };
    counts.iter().zip(weights).map(off).fold(0.0, f64::max)
}

/// `p2c 64` and so on, or `p2c 64 32` with so many down.
fn case_of(name: &str) -> Option<Case> {
    let mut words = name.split(' ');
    let wanted = words.next()?;
    let (_, strategy) = strategies().into_iter().find(|(known, _)| *known == wanted)?;
    let count = words.next()?.parse().ok()?;
    let down = words.next().map_or(Some(0), |down| down.parse().ok())?;
    Some(pick(&strategy, count, down))
}

fn show_costs() {
    println!("{:<24}{:>8}{:>14}{:>8}{:>12}", "pick of", "ns", "instructions", "allocs", "table ms");
    for (name, strategy) in strategies() {
        for (count, down) in COUNTS.into_iter().map(|count| (count, 0)).chain([(64, 32)]) {
            let title = if down == 0 { format!("{name} {count}") } else { format!("{name} {count} {down}") };
            let started = Instant::now();
            upstreams(&strategy, 1, &mixed(count), down);
            let table = started.elapsed().as_secs_f64() * 1e3;
            let mut case = pick(&strategy, count, down);
            let allocated = instruments::allocations(&mut case);
            let ns = instruments::nanoseconds(&mut case);
            let counted = instruments::instructions(&title, ROUND);
            let counted = counted.map_or("no valgrind".to_owned(), |counted| counted.to_string());
            let title = if down == 0 { title } else { format!("{name} {count}, {down} down") };
            println!("{title:<24}{ns:>8.0}{counted:>14}{allocated:>8.2}{table:>12.2}");
        }
    }
}

fn show_spread() {
    println!(
        "\nlargest difference of a share from its ideal, {REQUESTS} requests, {IN_FLIGHT} in flight on each core"
    );
    println!("{:<18}{:>22}{:>22}", "", "8 of one weight", "4 of weights 1 to 4");
    let cores = CORES.map(|cores| format!("{cores:>6}"));
    println!("{:<18}{:>22}{:>22}", "cores", cores.concat(), cores.concat());
    for (name, strategy) in strategies() {
        let row = |weights: &[u32]| {
            CORES.map(|cores| format!("{:>5.1}%", 100.0 * spread(&strategy, cores, weights))).concat()
        };
        println!("{name:<18}{:>22}{:>22}", row(&[1; 8]), row(&mixed(4)));
    }
}

fn main() {
    if let Some((name, rounds)) = instruments::asked_to_repeat() {
        let mut case = case_of(&name).expect("a case of that name");
        (0..rounds).for_each(|_| case());
        return;
    }
    if !instruments::is_bench() {
        for (_, strategy) in strategies() {
            (0..10).for_each(|_| pick(&strategy, 8, 2)());
        }
        return println!("every strategy works; `cargo bench` measures them");
    }
    show_costs();
    show_spread();
}
