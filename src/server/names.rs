//! The addresses of the upstreams: which names there are, what they stand for now, and what
//! the workers have to be told when an answer changes.
//!
//! [`Names`] and [`Schedule`] are pure; [`watch`] asks a [`Resolver`].

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::resolver::{Found, Resolver};
use crate::plan::UpstreamId;
use crate::process::readiness;
use crate::upstream::{self, Address, Endpoint, Endpoints, Place, Vitals};

/// How long after the first failure a name is asked for again; twice as long after each more.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// What the resolver said of one name.
#[derive(Debug)]
pub struct Answer {
    /// Index in [`Names::all`].
    pub name: usize,
    pub found: Found,
}

/// What is known of every name and upstream.
#[derive(Debug)]
pub struct Names {
    names: Vec<Known>,
    upstreams: Vec<Upstream>,
}

#[derive(Debug)]
struct Known {
    host: String,
    /// The last good answers.
    v4: Vec<IpAddr>,
    v6: Vec<IpAddr>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unasked,
    Answered,
    Failed,
}

#[derive(Debug)]
struct Upstream {
    name: String,
    instances: Vec<Source>,
    /// Where an instance is for now, if it is not where it is configured.
    elsewhere: Vec<Option<Address>>,
    generation: u64,
    /// As they were told last: an endpoint that stays keeps its vitals.
    endpoints: Arc<[Endpoint]>,
}

/// Whence the addresses of one instance are.
#[derive(Debug)]
enum Source {
    Fixed(Address),
    Named {
        /// Index of the name.
        name: usize,
        port: u16,
    },
}

impl Names {
    pub fn new(upstreams: &[upstream::Settings]) -> Names {
        let mut names: Vec<Known> = Vec::new();
        let mut source = |place: &Place| match place {
            Place::Socket(path) => Source::Fixed(Address::Unix(path.clone())),
            Place::Host { host, port } => match host.parse() {
                Ok(ip) => Source::Fixed(Address::Tcp(SocketAddr::new(ip, *port))),
                Err(_) => {
                    let known = names.iter().position(|known| known.host == *host);
                    let name = known.unwrap_or_else(|| {
                        names.push(Known::new(host));
                        names.len() - 1
                    });
                    Source::Named { name, port: *port }
                }
            },
        };
        let upstreams = upstreams
            .iter()
            .map(|settings| {
                let sources = settings.instances.iter().map(|instance| source(&instance.place));
                Upstream {
                    elsewhere: vec![None; settings.instances.len()],
                    name: settings.name.clone(),
                    instances: sources.collect(),
                    generation: 1,
                    endpoints: Arc::new([]),
                }
            })
            .collect();
        let mut names = Names { names, upstreams };
        (0..names.upstreams.len()).for_each(|index| names.locate(index));
        names
    }

    /// The names to ask for.
    pub fn all(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|known| known.host.as_str())
    }

    /// Every question has had an answer, good or bad.
    pub fn are_all_asked(&self) -> bool {
        self.names.iter().all(|known| known.state != State::Unasked)
    }

    /// The tables of all upstreams as they are now.
    pub fn endpoints(&self) -> Vec<Endpoints> {
        (0..self.upstreams.len()).map(|upstream| self.table(upstream)).collect()
    }

    /// Takes an answer in; the tables that it changes. What could not be found out, or is there
    /// no more, changes nothing: the last good answer stays in force.
    pub fn learn(&mut self, answer: Answer) -> Vec<Endpoints> {
        match self.names[answer.name].learn(answer.found) {
            true => self.changed_by(answer.name),
            false => Vec::new(),
        }
    }

    /// What is shared of the endpoints of an instance, or of all instances.
    pub fn vitals(&self, upstream: &str, instance: Option<u32>) -> Vec<Arc<Vitals>> {
        let upstream = self.upstreams.iter().filter(|one| one.name == upstream);
        let endpoints = upstream.flat_map(|one| one.endpoints.iter());
        let of_it = endpoints.filter(|one| instance.is_none_or(|instance| one.instance == instance));
        of_it.map(|one| Arc::clone(&one.vitals)).collect()
    }

    /// An instance, the only one if there is no number, is at this address for now, or where it is
    /// configured again; the table with that, if it is new.
    pub fn relocate(
        &mut self,
        upstream: &str,
        instance: Option<u32>,
        address: Option<&readiness::Address>,
    ) -> Option<Endpoints> {
        let address = address.map(|address| match address {
            readiness::Address::Tcp(at) => Address::Tcp(*at),
            readiness::Address::Unix(path) => Address::Unix(path.clone()),
        });
        let index = self.upstreams.iter().position(|one| one.name == upstream)?;
        let elsewhere = self.upstreams[index].elsewhere.get_mut(instance.unwrap_or(0) as usize)?;
        if *elsewhere == address {
            return None;
        }
        *elsewhere = address;
        self.upstreams[index].generation += 1;
        self.locate(index);
        Some(self.table(index))
    }

    /// Endpoints of an instance, the only one if there is no number, that nothing is in flight to:
    /// who holds one of those that were there is not done with it.
    pub fn renew(&mut self, upstream: &str, instance: Option<u32>) -> Option<Endpoints> {
        let index = self.upstreams.iter().position(|one| one.name == upstream)?;
        let upstream = &mut self.upstreams[index];
        let anew = |one: &Endpoint| match instance.is_none_or(|instance| one.instance == instance) {
            true => Endpoint::new(one.address.clone(), one.instance),
            false => one.clone(),
        };
        upstream.endpoints = upstream.endpoints.iter().map(anew).collect();
        upstream.generation += 1;
        Some(self.table(index))
    }

    fn changed_by(&mut self, name: usize) -> Vec<Endpoints> {
        let mut changed = Vec::new();
        for index in 0..self.upstreams.len() {
            let upstream = &mut self.upstreams[index];
            let is_named =
                |source: &Source| matches!(source, Source::Named { name: other, .. } if *other == name);
            if upstream.instances.iter().any(is_named) {
                upstream.generation += 1;
                tracing::debug!(upstream = upstream.name, "new addresses");
                self.locate(index);
                changed.push(self.table(index));
            }
        }
        changed
    }

    /// Makes the endpoints of an upstream of the addresses that are known now. An instance of
    /// which none is known has none.
    fn locate(&mut self, index: usize) {
        let upstream = &self.upstreams[index];
        let mut endpoints = Vec::new();
        for ((instance, source), elsewhere) in (0..).zip(&upstream.instances).zip(&upstream.elsewhere) {
            let addresses: Vec<Address> = match source {
                _ if elsewhere.is_some() => elsewhere.iter().cloned().collect(),
                Source::Fixed(address) => vec![address.clone()],
                Source::Named { name, port } => {
                    let addresses = self.names[*name].addresses();
                    addresses.map(|address| Address::Tcp(SocketAddr::new(address, *port))).collect()
                }
            };
            for address in addresses {
                let mut known = upstream.endpoints.iter();
                let known = known.find(|one| one.instance == instance && one.address == address);
                endpoints.push(known.cloned().unwrap_or_else(|| Endpoint::new(address, instance)));
            }
        }
        self.upstreams[index].endpoints = endpoints.into();
    }

    fn table(&self, index: usize) -> Endpoints {
        let upstream = &self.upstreams[index];
        Endpoints {
            upstream: UpstreamId(u32::try_from(index).expect("the plan has fewer upstreams")),
            generation: upstream.generation,
            endpoints: Arc::clone(&upstream.endpoints),
        }
    }
}

impl Known {
    fn new(host: &str) -> Known {
        Known { host: host.to_owned(), v4: Vec::new(), v6: Vec::new(), state: State::Unasked }
    }

    fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.v4.iter().chain(&self.v6).copied()
    }

    /// Takes an answer in; whether the addresses are others now. One line of the log tells of
    /// each change between good and bad.
    fn learn(&mut self, found: Found) -> bool {
        let host = &self.host;
        let failure = found.failure();
        match (&failure, self.state) {
            (Some(cause), State::Unasked | State::Answered) => {
                tracing::warn!("cannot resolve {host}: {cause}");
            }
            (None, State::Failed) => tracing::info!("{host} is resolved again"),
            _ => {}
        }
        self.state = if failure.is_some() { State::Failed } else { State::Answered };
        if found.has_none() {
            return false;
        }
        let v4 = found.v4.is_ok_and(|addresses| replace(&mut self.v4, addresses));
        let v6 = found.v6.is_ok_and(|addresses| replace(&mut self.v6, addresses));
        v4 || v6
    }
}

/// Takes over another set of addresses; whether it is another one. Servers rotate the addresses
/// of a name: another order is none.
fn replace(current: &mut Vec<IpAddr>, mut addresses: Vec<IpAddr>) -> bool {
    addresses.sort_unstable();
    addresses.dedup();
    let is_new = *current != addresses;
    *current = addresses;
    is_new
}

/// When a name is asked for again.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    ttl_min: Duration,
    ttl_max: Duration,
    failures: u32,
}

impl Schedule {
    /// `ttl_min` is at most `ttl_max`.
    pub fn new(ttl_min: Duration, ttl_max: Duration) -> Schedule {
        Schedule { ttl_min, ttl_max, failures: 0 }
    }

    /// How long after an answer; `ttl` is how long it may be used, `None` for a failure.
    pub fn pause(&mut self, ttl: Option<Duration>) -> Duration {
        match ttl {
            Some(ttl) => {
                self.failures = 0;
                ttl.clamp(self.ttl_min, self.ttl_max)
            }
            None => {
                let pause = RETRY_FIRST.saturating_mul(2_u32.saturating_pow(self.failures));
                self.failures = self.failures.saturating_add(1);
                pause.min(RETRY_MAX)
            }
        }
    }
}

/// Asks for one name again and again, until nobody wants the answers.
pub async fn watch(
    name: usize,
    host: String,
    resolver: Arc<Resolver>,
    mut schedule: Schedule,
    tell: impl AsyncFn(Answer) -> bool,
) {
    loop {
        let found = resolver.look_up(&host).await;
        let ttl = found.failure().is_none().then_some(found.ttl);
        if !tell(Answer { name, found }).await {
            return;
        }
        sleep(schedule.pause(ttl)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::{Instance, Settings, Strategy};

    fn host(host: &str) -> Place {
        Place::Host { host: host.to_owned(), port: 80 }
    }

    fn settings(places: Vec<Place>) -> Settings {
        Settings::new("app", places.into_iter().map(Instance::from).collect(), Strategy::RoundRobin)
    }

    /// `upstream#generation: instance=address …`
    fn show(tables: &[Endpoints]) -> String {
        let show = |table: &Endpoints| {
            let mut text = format!("{}#{}:", table.upstream.0, table.generation);
            for endpoint in table.endpoints.iter() {
                text.push_str(&format!(" {}={}", endpoint.instance, endpoint.address));
            }
            text
        };
        tables.iter().map(show).collect::<Vec<_>>().join("; ")
    }

    /// `-` is a family that could not be found out, nothing one without addresses.
    fn found(v4: &str, v6: &str) -> Found {
        let family = |text: &str| match text {
            "-" => Err("no server".to_owned()),
            text => Ok(text.split_whitespace().map(|one| one.parse().unwrap()).collect()),
        };
        Found { v4: family(v4), v6: family(v6), ttl: Duration::ZERO }
    }

    #[test]
    fn addresses_need_no_resolver() {
        let socket = Place::Socket("/run/app.sock".into());
        let names = Names::new(&[settings(vec![host("10.0.0.1"), host("::1"), socket])]);
        assert!(names.are_all_asked());
        assert_eq!(names.all().count(), 0);
        let expected = "0#1: 0=10.0.0.1:80 1=[::1]:80 2=unix:/run/app.sock";
        assert_eq!(show(&names.endpoints()), expected);
    }

    #[test]
    fn workers_are_told_of_another_answer_only() {
        let mut names = Names::new(&[
            settings(vec![host("a"), host("10.0.0.9")]),
            settings(vec![host("b")]),
            settings(vec![host("a")]),
        ]);
        assert_eq!(names.all().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(show(&names.endpoints()), "0#1: 1=10.0.0.9:80; 1#1:; 2#1:");
        let (a, b) = (0, 1);
        let cases = [
            (
                a,
                found("10.0.0.2 10.0.0.1", ""),
                "0#2: 0=10.0.0.1:80 0=10.0.0.2:80 1=10.0.0.9:80; 2#2: 0=10.0.0.1:80 0=10.0.0.2:80",
            ),
            (b, found("-", "-"), ""),
            (a, found("10.0.0.1 10.0.0.2 10.0.0.1", ""), ""),
            // It is there no more, or nobody knows.
            (a, found("", ""), ""),
            (a, found("-", "-"), ""),
            (a, found("-", ""), ""),
            (b, found("10.0.0.3", ""), "1#2: 0=10.0.0.3:80"),
            (b, found("10.0.0.3", "::3"), "1#3: 0=10.0.0.3:80 0=[::3]:80"),
            // One family is known, the other keeps what it had.
            (b, found("10.0.0.4", "-"), "1#4: 0=10.0.0.4:80 0=[::3]:80"),
            (b, found("-", "::5"), "1#5: 0=10.0.0.4:80 0=[::5]:80"),
            (b, found("10.0.0.4", ""), "1#6: 0=10.0.0.4:80"),
            (a, found("10.0.0.2", ""), "0#3: 0=10.0.0.2:80 1=10.0.0.9:80; 2#3: 0=10.0.0.2:80"),
            (a, found("10.0.0.2", ""), ""),
        ];
        for (name, found, expected) in cases {
            assert_eq!(show(&names.learn(Answer { name, found })), expected);
        }
        assert!(names.are_all_asked());
    }

    #[test]
    fn one_name_on_two_ports_is_one_question() {
        let other = Place::Host { host: "a".to_owned(), port: 81 };
        let mut names = Names::new(&[settings(vec![host("a"), other])]);
        assert_eq!(names.all().count(), 1);
        let tables = names.learn(Answer { name: 0, found: found("10.0.0.1", "") });
        assert_eq!(show(&tables), "0#2: 0=10.0.0.1:80 1=10.0.0.1:81");
    }

    #[test]
    fn an_answer_is_used_as_long_as_it_says_and_a_failure_is_tried_again_later_and_later() {
        let mut schedule = Schedule::new(Duration::from_secs(2), Duration::from_secs(60));
        let cases = [
            (Some(20), 20),
            (Some(0), 2),
            (Some(86_400), 60),
            (None, 1),
            (None, 2),
            (None, 4),
            (None, 8),
            (None, 16),
            (None, 30),
            (None, 30),
            (Some(5), 5),
            (None, 1),
        ];
        for (ttl, expected) in cases {
            let pause = schedule.pause(ttl.map(Duration::from_secs));
            assert_eq!(pause, Duration::from_secs(expected), "{ttl:?}");
        }
        (0..100).for_each(|_| assert!(schedule.pause(None) <= RETRY_MAX));
    }

    #[test]
    fn an_endpoint_that_stays_keeps_its_vitals() {
        let mut names = Names::new(&[settings(vec![host("a"), host("a"), host("10.0.0.9")])]);
        let mut learn = |addresses| {
            let found = found(addresses, "");
            names.learn(Answer { name: 0, found })[0].endpoints.to_vec()
        };
        let before = learn("10.0.0.1 10.0.0.2");
        let after = learn("10.0.0.2 10.0.0.3");
        assert_eq!((before.len(), after.len()), (5, 5));
        for (index, one) in before.iter().enumerate() {
            for (other_index, other) in before.iter().enumerate() {
                assert_eq!(Arc::ptr_eq(&one.vitals, &other.vitals), index == other_index);
            }
            for other in &after {
                let is_same = one.instance == other.instance && one.address == other.address;
                assert_eq!(Arc::ptr_eq(&one.vitals, &other.vitals), is_same, "{one:?} {other:?}");
            }
        }
    }
}
