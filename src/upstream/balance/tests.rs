//! Every strategy as the cores use it, with traffic that is made up, from a seed.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::hash::{Random, within};
use super::{HashKey, Strategy};
use crate::http::forwarding::{self, Peer};
use crate::http::head::RequestHead;
use crate::upstream::state::{Pick, Tried};
use crate::upstream::upstreams::{Question, Upstream, Upstreams};
use crate::upstream::{Address, Endpoint, Endpoints, Health, Instance, Place, Settings, UpstreamId};

const REQUESTS: usize = 100_000;
/// When the tests take place, in milliseconds since 1970.
const NOW: u64 = 1_700_000_000_000;

fn strategies() -> [Strategy; 6] {
    [
        Strategy::RoundRobin,
        Strategy::LeastConn,
        Strategy::Random,
        Strategy::IpHash,
        Strategy::P2c,
        Strategy::ConsistentHash(HashKey::Client),
    ]
}

/// Some cores with one upstream, whose endpoints they share.
struct Cores {
    settings: Settings,
    endpoints: Vec<Endpoint>,
    upstreams: Vec<Upstreams>,
    generation: u64,
    peers: Vec<Peer>,
    request: RequestHead,
    start: Instant,
    now_ms: u64,
}

/// A core and what is in flight on it.
struct Busy {
    upstream: Rc<Upstream>,
    picks: VecDeque<Pick>,
}

fn address(number: u32) -> Address {
    Address::Tcp(SocketAddr::from((Ipv4Addr::from(0x0a00_0000 + number), 80)))
}

fn client(number: u32) -> Peer {
    let address = IpAddr::from(Ipv4Addr::from(0xc612_0000 + number));
    Peer::new(&forwarding::Settings::default(), address)
}

impl Cores {
    fn new(strategy: Strategy, cores: usize, weights: &[u32], backups: usize) -> Cores {
        let instance = |(weight, backup): (&u32, bool)| Instance {
            weight: *weight,
            backup,
            ..Instance::from(Place::Socket("of-no-interest".into()))
        };
        let primaries = weights.iter().zip(std::iter::repeat(false));
        let instances = primaries.chain(std::iter::repeat_n((&1, true), backups)).map(instance);
        let settings = Settings::new("app", instances.collect(), strategy);
        let count = settings.instances.len() as u32;
        let mut cores = Cores {
            settings,
            endpoints: (0..count).map(|number| Endpoint::new(address(number), number)).collect(),
            upstreams: (0..cores).map(|core| Upstreams::new(core, core as u64)).collect(),
            generation: 0,
            peers: (0..2048).map(client).collect(),
            request: RequestHead::default(),
            start: Instant::now(),
            now_ms: NOW,
        };
        cores.adopt();
        cores
    }

    /// A reload.
    fn adopt(&mut self) {
        self.generation += 1;
        let (generation, endpoints) = (self.generation, self.endpoints.as_slice().into());
        let table = Endpoints { upstream: UpstreamId(0), generation, endpoints };
        for core in &self.upstreams {
            core.adopt(std::slice::from_ref(&self.settings), std::slice::from_ref(&table));
        }
    }

    fn upstream(&self, core: usize) -> Rc<Upstream> {
        self.upstreams[core].of(UpstreamId(0))
    }

    fn set(&self, endpoint: usize, health: Health) {
        self.endpoints[endpoint].vitals.set_health(health, self.now_ms);
    }

    fn pick_untried(&self, upstream: &Upstream, client: usize, tried: Option<&Tried>) -> Option<Pick> {
        let now = self.start + Duration::from_millis(self.now_ms - NOW);
        let peer = &self.peers[client % self.peers.len()];
        upstream
            .pick(&Question { request: &self.request, peer, now, now_ms: self.now_ms, tried, chooser: None })
            .ok()
    }

    fn pick(&self, upstream: &Upstream, client: usize) -> Option<Pick> {
        self.pick_untried(upstream, client, None)
    }

    /// Requests of many clients, on cores by chance. On each core some are in flight, and end in
    /// an order of chance, each after a time of chance. How many each endpoint got.
    fn serve(&mut self, requests: usize, in_flight: usize) -> Vec<f64> {
        let random = Random::new(5);
        let mut busy: Vec<Busy> = (0..self.upstreams.len())
            .map(|core| Busy { upstream: self.upstream(core), picks: VecDeque::new() })
            .collect();
        let mut counts = vec![0.0; self.endpoints.len()];
        for number in 0..requests {
            let core = &mut busy[within(random.next(), self.upstreams.len())];
            if core.picks.len() >= in_flight {
                let ended = within(random.next(), core.picks.len());
                let pick = core.picks.remove(ended).unwrap();
                let now = self.start + Duration::from_millis(self.now_ms - NOW);
                pick.observe(now + Duration::from_micros(500 + random.next() % 1000));
            }
            let pick = self.pick(&core.upstream, within(random.next(), self.peers.len())).unwrap();
            counts[pick.instance.get() as usize] += 1.0;
            core.picks.push_back(pick);
            if number % 100 == 0 {
                self.now_ms += 1;
            }
        }
        counts
    }
}

/// By how much the share of any endpoint is off, in relation to what it should be.
fn worst(counts: &[f64], weights: &[u32]) -> f64 {
    let (all, sum): (f64, u32) = (counts.iter().sum(), weights.iter().sum());
    let off =
        |(count, weight): (&f64, &u32)| (count * f64::from(sum) / (all * f64::from(*weight)) - 1.0).abs();
    counts.iter().zip(weights).map(off).fold(0.0, f64::max)
}

#[test]
fn every_strategy_keeps_to_the_weights_on_any_number_of_cores() {
    let weights: [&[u32]; 3] = [&[1; 8], &[4, 3, 2, 1], &[100, 50, 50, 25, 25]];
    for strategy in strategies() {
        let most = match strategy {
            Strategy::RoundRobin => 0.002,
            Strategy::LeastConn => 0.05,
            Strategy::Random => 0.04,
            // It prefers what was quick of late, and these latencies have a long tail.
            Strategy::P2c => 0.30,
            // As even as the clients, of which there are 2,048.
            Strategy::IpHash | Strategy::ConsistentHash(_) => 0.20,
        };
        for weights in weights {
            for cores in [1, 2, 64] {
                let counts = Cores::new(strategy.clone(), cores, weights, 0).serve(REQUESTS, 100);
                let worst = worst(&counts, weights);
                assert!(worst < most, "{strategy:?} on {cores} cores: {worst} off {weights:?}: {counts:?}");
            }
        }
    }
}

#[test]
fn a_slow_endpoint_gets_less_where_requests_in_flight_or_latency_matter() {
    for (strategy, most) in [(Strategy::LeastConn, 0.12), (Strategy::P2c, 0.12), (Strategy::RoundRobin, 0.26)]
    {
        let cores = Cores::new(strategy.clone(), 1, &[1; 4], 0);
        let upstream = cores.upstream(0);
        let mut in_flight: Vec<(usize, Pick)> = Vec::new();
        let mut slow = 0;
        const STEPS: usize = 20_000;
        for step in 0..STEPS {
            let pick = cores.pick(&upstream, step).unwrap();
            // The first takes ten times as long as the others.
            let is_slow = pick.instance.get() == 0;
            slow += usize::from(is_slow);
            in_flight.push((step + if is_slow { 80 } else { 8 }, pick));
            let is_over = |(until, pick): &mut (usize, Pick)| {
                let is_over = *until <= step;
                if is_over {
                    let ms = if pick.instance.get() == 0 { 80 } else { 8 };
                    pick.observe(cores.start + Duration::from_millis(ms));
                }
                is_over
            };
            drop(in_flight.extract_if(.., is_over).collect::<Vec<_>>());
        }
        let share = slow as f64 / STEPS as f64;
        assert!(share < most, "{strategy:?}: {share}");
        assert!(share > 0.0, "{strategy:?}: {share}");
    }
}

#[test]
fn an_endpoint_that_only_fails_is_not_taken_for_a_quick_one() {
    let cores = Cores::new(Strategy::P2c, 1, &[1; 4], 0);
    let upstream = cores.upstream(0);
    let mut failed = 0;
    for step in 0..1000 {
        let pick = cores.pick(&upstream, step).unwrap();
        match pick.instance.get() {
            0 => {
                failed += 1;
                pick.has_failed(&crate::upstream::ejection::Settings::NEVER, cores.start);
            }
            _ => pick.observe(cores.start + Duration::from_millis(5)),
        }
    }
    assert!(failed <= 3, "{failed}");
}

#[test]
fn what_is_down_is_not_picked_and_the_others_share_its_requests() {
    for strategy in strategies() {
        let most = match strategy {
            Strategy::IpHash | Strategy::ConsistentHash(_) => 0.25,
            Strategy::P2c => 0.12,
            _ => 0.06,
        };
        let mut cores = Cores::new(strategy.clone(), 2, &[1; 6], 0);
        (0..3).for_each(|endpoint| cores.set(endpoint, Health::Down));
        cores.set(3, Health::Up);
        let counts = cores.serve(30_000, 8);
        assert_eq!(counts[..3], [0.0; 3], "{strategy:?}");
        let worst = worst(&counts[3..], &[1; 3]);
        assert!(worst < most, "{strategy:?}: {counts:?}");
    }
}

#[test]
fn one_of_a_thousand_is_found_if_it_is_the_only_one() {
    for strategy in strategies() {
        let mut cores = Cores::new(strategy.clone(), 1, &[1; 1000], 0);
        (0..1000).filter(|endpoint| *endpoint != 700).for_each(|endpoint| cores.set(endpoint, Health::Down));
        assert_eq!(cores.serve(200, 4)[700], 200.0, "{strategy:?}");
        cores.set(700, Health::Down);
        assert!(cores.pick(&cores.upstream(0), 1).is_none(), "{strategy:?}");
    }
}

#[test]
fn a_backup_is_used_only_while_no_other_is_available() {
    for strategy in strategies() {
        let mut cores = Cores::new(strategy.clone(), 2, &[1; 3], 2);
        cores.set(0, Health::Down);
        cores.set(1, Health::Down);
        assert_eq!(cores.serve(1000, 8), [0.0, 0.0, 1000.0, 0.0, 0.0], "{strategy:?}");
        cores.set(2, Health::Down);
        let counts = cores.serve(10_000, 8);
        assert_eq!(counts[..3], [0.0; 3], "{strategy:?}");
        assert!(worst(&counts[3..], &[1; 2]) < 0.25, "{strategy:?}: {counts:?}");
        cores.set(1, Health::Up);
        assert_eq!(cores.serve(1000, 8)[1], 1000.0, "{strategy:?}");
    }
}

#[test]
fn an_endpoint_that_was_tried_is_not_tried_again() {
    for strategy in strategies() {
        let cores = Cores::new(strategy.clone(), 1, &[1, 2, 3], 1);
        let upstream = cores.upstream(0);
        for client in 0..100 {
            let mut tried = Tried::default();
            let mut order = Vec::new();
            while let Some(pick) = cores.pick_untried(&upstream, client, Some(&tried)) {
                order.push(pick.instance.get());
                tried.add(Rc::clone(pick.state()));
            }
            assert_eq!(order[3..], [3], "{strategy:?}: the backup is last");
            order.sort_unstable();
            assert_eq!(order, [0, 1, 2, 3], "{strategy:?}");
        }
    }
}

/// Which endpoint each client gets.
fn placed(cores: &Cores, core: usize) -> Vec<u32> {
    let upstream = cores.upstream(core);
    let placed = |client| {
        let pick = cores.pick(&upstream, client).unwrap();
        pick.pool.label().trim_start_matches("10.0.0.").trim_end_matches(":80").parse().unwrap()
    };
    (0..cores.peers.len()).map(placed).collect()
}

#[test]
fn a_client_stays_with_its_endpoint_on_every_core_and_after_a_reload() {
    for strategy in [Strategy::IpHash, Strategy::ConsistentHash(HashKey::Client)] {
        let mut cores = Cores::new(strategy, 3, &[2, 1, 1, 3, 1], 0);
        let before = placed(&cores, 0);
        assert_eq!(before, placed(&cores, 2));
        cores.endpoints.reverse();
        cores.adopt();
        assert_eq!(before, placed(&cores, 1), "whatever the order of the table");
        // Another process: everything anew.
        let anew = Cores::new(cores.settings.strategy.clone(), 1, &[2, 1, 1, 3, 1], 0);
        assert_eq!(before, placed(&anew, 0));

        // One is down: only its clients move. Gone for good: the same.
        cores.endpoints.reverse();
        cores.set(3, Health::Down);
        let down = placed(&cores, 0);
        let moved = before.iter().zip(&down).filter(|(before, now)| before != now);
        assert!(moved.clone().count() > 0 && moved.clone().all(|(before, _)| *before == 3));
        cores.endpoints.remove(3);
        cores.adopt();
        assert_eq!(down, placed(&cores, 0));
    }
}

#[test]
fn no_endpoint_gets_much_more_than_its_share_whatever_the_keys() {
    let random = Random::new(17);
    let weights = [1, 1, 2, 4, 8];
    let sum: u32 = weights.iter().sum();
    let cores = Cores::new(Strategy::ConsistentHash(HashKey::Client), 1, &weights, 0);
    let upstream = cores.upstream(0);
    let mut picks: Vec<Pick> = Vec::new();
    let mut most_of_hot = 0;
    for step in 0..50_000 {
        // Two of three requests have one key.
        let client = if step % 3 == 0 { within(random.next(), 2048) } else { 7 };
        let pick = cores.pick(&upstream, client).unwrap();
        picks.push(pick);
        let pick = &picks[picks.len() - 1];
        let share = picks.len() as f64 * f64::from(weights[pick.instance.get() as usize]) / f64::from(sum);
        let bound = (share * 1.25).ceil() as u32;
        assert!(pick.in_flight() <= bound, "{} of {} in flight", pick.in_flight(), picks.len());
        most_of_hot = most_of_hot.max(pick.in_flight());
        let wanted = if step / 500 % 2 == 0 { 400 } else { 30 };
        while picks.len() > wanted {
            picks.swap_remove(within(random.next(), picks.len()));
        }
    }
    assert!(most_of_hot > 100, "there was much to bear");
    // Without load, a key has one place.
    drop(picks);
    let first = placed(&cores, 0);
    assert_eq!(first, placed(&cores, 0));
}

#[test]
fn what_has_recovered_grows_to_its_weight() {
    for strategy in strategies() {
        let is_keyed = matches!(strategy, Strategy::IpHash | Strategy::ConsistentHash(_));
        let mut shares = Vec::new();
        for (passed_secs, expected) in [(0, 0.05), (25, 0.25), (50, 0.5), (100, 1.0), (1000, 1.0)] {
            let mut cores = Cores::new(strategy.clone(), 2, &[1; 4], 0);
            cores.settings.slow_start = Duration::from_secs(100);
            cores.adopt();
            cores.set(2, Health::Down);
            cores.set(2, Health::Up);
            cores.now_ms += passed_secs * 1000;
            let counts = cores.serve(20_000, 100);
            let share = counts[2] / (counts.iter().sum::<f64>() - counts[2]) * 3.0;
            shares.push((share, expected));
        }
        let most = if is_keyed { 0.25 } else { 0.12 };
        let is_near = |(share, expected): &(f64, f64)| (share - expected).abs() < most;
        assert!(shares.iter().all(is_near), "{strategy:?}: {shares:?}");
    }
}

#[test]
fn alone_and_in_slow_start_an_endpoint_takes_everything() {
    for strategy in strategies() {
        let mut cores = Cores::new(strategy.clone(), 1, &[1], 1);
        cores.settings.slow_start = Duration::from_secs(100);
        cores.adopt();
        cores.set(0, Health::Down);
        cores.set(0, Health::Up);
        assert_eq!(cores.serve(1000, 4), [1000.0, 0.0], "{strategy:?}");
    }
}

#[test]
fn what_is_in_flight_is_known_over_new_tables_and_new_plans() {
    let mut cores = Cores::new(Strategy::LeastConn, 1, &[1; 2], 0);
    let before = cores.upstream(0);
    let held: Vec<Pick> = (0..5).map(|client| cores.pick(&before, client).unwrap()).collect();
    let of = |endpoint: u32| held.iter().filter(|pick| pick.instance.get() == endpoint).count();
    assert_eq!((of(0), of(1)), (3, 2));
    cores.settings.keepalive = 7;
    cores.adopt();
    let after = cores.upstream(0);
    assert!(!Rc::ptr_eq(&before, &after));
    let sixth = cores.pick(&after, 1).unwrap();
    assert_eq!((sixth.instance.get(), sixth.in_flight()), (1, 3));
    let seventh = cores.pick(&after, 1).unwrap();
    drop(held);
    assert_eq!((sixth.in_flight(), seventh.in_flight()), (1, 1));
    drop(sixth);
    let vitals = Arc::clone(seventh.vitals());
    assert!(cores.endpoints.iter().any(|endpoint| Arc::ptr_eq(&endpoint.vitals, &vitals)));
    assert_eq!(cores.pick(&after, 1).unwrap().in_flight(), 1, "on the other one");
}
