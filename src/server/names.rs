//! The addresses of the upstreams: which names there are, what they stand for now, and what
//! the workers have to be told when an answer changes. Pure.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::resolver::Found;
use crate::plan::UpstreamId;
use crate::process::readiness;
use crate::upstream::{self, Address, Endpoint, Endpoints, Place, Vitals};

/// What the resolver said of one name.
#[derive(Clone, Debug)]
pub struct Answer {
    pub name: String,
    pub found: Found,
}

/// What is known of every name and upstream.
#[derive(Debug)]
pub struct Names {
    names: Vec<Known>,
    upstreams: Vec<Upstream>,
}

#[derive(Clone, Debug)]
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
    places: Vec<Place>,
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
        Names { names: Vec::new(), upstreams: Vec::new() }.succeed(upstreams)
    }

    /// For other upstreams, with what is known of those that both have.
    pub fn succeed(&self, upstreams: &[upstream::Settings]) -> Names {
        let former: HashMap<&str, &Known> =
            self.names.iter().map(|known| (known.host.as_str(), known)).collect();
        let mut names: Vec<Known> = Vec::new();
        let mut by_host: HashMap<String, usize> = HashMap::new();
        let mut source = |place: &Place| match place {
            Place::Socket(path) => Source::Fixed(Address::Unix(path.clone())),
            Place::Host { host, port } => match host.parse() {
                Ok(ip) => Source::Fixed(Address::Tcp(SocketAddr::new(ip, *port))),
                Err(_) => {
                    let name = *by_host.entry(host.clone()).or_insert_with(|| {
                        let known = former.get(host.as_str());
                        names.push(known.map_or_else(|| Known::new(host), |known| (*known).clone()));
                        names.len() - 1
                    });
                    Source::Named { name, port: *port }
                }
            },
        };
        let upstreams = upstreams
            .iter()
            .map(|settings| {
                let places: Vec<Place> = settings.instances.iter().map(|one| one.place.clone()).collect();
                Upstream {
                    elsewhere: vec![None; places.len()],
                    name: settings.name.clone(),
                    instances: places.iter().map(&mut source).collect(),
                    places,
                    generation: 0,
                    endpoints: Arc::new([]),
                }
            })
            .collect();
        let mut next = Names { names, upstreams };
        next.inherit(self);
        next
    }

    /// Takes over the endpoints that the former ones have, too, as they are now.
    pub fn inherit(&mut self, former: &Names) {
        let by_name: HashMap<&str, &Upstream> =
            former.upstreams.iter().map(|upstream| (upstream.name.as_str(), upstream)).collect();
        for index in 0..self.upstreams.len() {
            let upstream = &mut self.upstreams[index];
            let Some(former) = by_name.get(upstream.name.as_str()) else {
                self.locate(index);
                continue;
            };
            upstream.inherit(former);
            self.locate(index);
            let upstream = &mut self.upstreams[index];
            let is_same = |(ours, theirs): (&Endpoint, &Endpoint)| {
                ours.instance == theirs.instance && Arc::ptr_eq(&ours.vitals, &theirs.vitals)
            };
            upstream.generation = former.generation + 1;
            if upstream.endpoints.len() == former.endpoints.len()
                && upstream.endpoints.iter().zip(former.endpoints.iter()).all(is_same)
            {
                upstream.generation = former.generation;
                upstream.endpoints = Arc::clone(&former.endpoints);
            }
        }
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
        // One that was asked for by a former plan may be nobody's any more.
        let Some(name) = self.names.iter().position(|known| known.host == answer.name) else {
            return Vec::new();
        };
        match self.names[name].learn(answer.found) {
            true => self.changed_by(name),
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

    /// Instances are where they are configured, but for those of upstreams and numbers that are
    /// wanted.
    pub fn retain_elsewhere(&mut self, is_wanted: impl Fn(&str, usize) -> bool) {
        for index in 0..self.upstreams.len() {
            let Upstream { name, elsewhere, generation, .. } = &mut self.upstreams[index];
            let all = elsewhere.iter_mut().enumerate();
            let lost = all.filter(|(number, at)| at.is_some() && !is_wanted(name, *number));
            if lost.map(|(_, at)| *at = None).count() > 0 {
                *generation += 1;
                self.locate(index);
            }
        }
    }

    /// Where an instance is, the only one if there is no number, if not where it is configured.
    pub fn elsewhere(&self, upstream: &str, instance: Option<u32>) -> Option<readiness::Address> {
        let upstream = self.upstreams.iter().find(|one| one.name == upstream)?;
        let address = upstream.elsewhere.get(instance.unwrap_or(0) as usize)?.as_ref()?;
        Some(match address {
            Address::Tcp(at) => readiness::Address::Tcp(*at),
            Address::Unix(path) => readiness::Address::Unix(path.clone()),
        })
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
        self.upstreams[index].generation = self.upstreams[index].generation.max(1);
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

impl Upstream {
    /// What is known of instances at the same places, whatever their numbers.
    fn inherit(&mut self, former: &Upstream) {
        let mut known = self.endpoints.to_vec();
        for (instance, place) in self.places.iter().enumerate() {
            let is_there = |at: usize| former.places.get(at) == Some(place);
            let at = if is_there(instance) {
                Some(instance)
            } else {
                (0..former.places.len()).find(|at| is_there(*at))
            };
            let Some(at) = at else { continue };
            self.elsewhere[instance].clone_from(&former.elsewhere[at]);
            let theirs = former.endpoints.iter().filter(|one| one.instance as usize == at);
            let renumbered = theirs
                .map(|one| Endpoint { instance: u32::try_from(instance).unwrap_or(u32::MAX), ..one.clone() });
            // Before what was made for the same address meanwhile.
            known.splice(0..0, renumbered);
        }
        self.endpoints = known.into();
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

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

    fn answer(name: &str, found: Found) -> Answer {
        Answer { name: name.to_owned(), found }
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
        let (a, b) = ("a", "b");
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
            assert_eq!(show(&names.learn(answer(name, found))), expected);
        }
        assert!(names.are_all_asked());
    }

    #[test]
    fn one_name_on_two_ports_is_one_question() {
        let other = Place::Host { host: "a".to_owned(), port: 81 };
        let mut names = Names::new(&[settings(vec![host("a"), other])]);
        assert_eq!(names.all().count(), 1);
        let tables = names.learn(answer("a", found("10.0.0.1", "")));
        assert_eq!(show(&tables), "0#2: 0=10.0.0.1:80 1=10.0.0.1:81");
    }

    #[test]
    fn an_endpoint_that_stays_keeps_its_vitals() {
        let mut names = Names::new(&[settings(vec![host("a"), host("a"), host("10.0.0.9")])]);
        let mut learn = |addresses| {
            let found = found(addresses, "");
            names.learn(answer("a", found))[0].endpoints.to_vec()
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

    #[test]
    fn the_next_plan_knows_what_the_former_one_did() {
        let other =
            |upstream: &str, places: Vec<Place>| Settings { name: upstream.to_owned(), ..settings(places) };
        let mut names =
            Names::new(&[other("app", vec![host("a"), host("10.0.0.9")]), other("left", vec![host("b")])]);
        names.learn(answer("a", found("10.0.0.1", "")));
        let elsewhere = readiness::Address::Tcp("127.0.0.1:7".parse().unwrap());
        names.relocate("app", Some(1), Some(&elsewhere));
        let next = |names: &Names| {
            names.succeed(&[
                other("new", vec![host("c"), host("a")]),
                other("app", vec![host("10.0.0.9"), host("10.0.0.8"), host("a")]),
            ])
        };
        let mut first = next(&names);
        assert_eq!(first.all().collect::<Vec<_>>(), ["c", "a"]);
        assert!(!first.are_all_asked());
        assert_eq!(
            show(&first.endpoints()),
            "0#1: 1=10.0.0.1:80; 1#4: 0=127.0.0.1:7 1=10.0.0.8:80 2=10.0.0.1:80"
        );
        let vitals = |names: &Names, instance| names.vitals("app", Some(instance))[0].clone();
        assert!(Arc::ptr_eq(&vitals(&names, 0), &vitals(&first, 2)));
        assert!(Arc::ptr_eq(&vitals(&names, 1), &vitals(&first, 0)));
        // Both learn until the one takes the other's place.
        for names in [&mut names, &mut first] {
            names.learn(answer("a", found("10.0.0.2", "")));
        }
        let own = vitals(&first, 1);
        first.inherit(&names);
        assert!(Arc::ptr_eq(&vitals(&names, 0), &vitals(&first, 2)));
        assert!(Arc::ptr_eq(&own, &vitals(&first, 1)));
        // What stays as it is has no new table.
        let same = first.succeed(&[other("app", vec![host("10.0.0.9"), host("10.0.0.8"), host("a")])]);
        assert_eq!(same.endpoints()[0].generation, first.endpoints()[1].generation);
    }
}
