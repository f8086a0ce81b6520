//! The addresses of the upstreams: which names there are, what they stand for now, and what
//! the workers have to be told when an answer changes.
//!
//! [`Names`] is pure; [`watch`] asks the system's resolver, on its own threads.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::time::{sleep, timeout};

use crate::plan::UpstreamId;
use crate::upstream::{self, Address, Endpoint, Endpoints, Place};

/// How long an answer is used before it is asked for again.
const REFRESH: Duration = Duration::from_secs(30);
/// How long after a failure the question is asked again.
const RETRY: Duration = Duration::from_secs(5);
/// What a resolver may take for one question.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

/// One question to the resolver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    pub host: String,
    pub port: u16,
}

/// What the resolver said to one question.
#[derive(Debug)]
pub struct Answer {
    /// Index in [`Names::all`].
    pub name: usize,
    pub result: io::Result<Vec<SocketAddr>>,
}

/// What is known of every name and upstream.
#[derive(Debug)]
pub struct Names {
    names: Vec<Known>,
    upstreams: Vec<Upstream>,
}

#[derive(Debug)]
struct Known {
    name: Name,
    /// The last good answer.
    addresses: Vec<SocketAddr>,
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
    generation: u64,
    /// As they were told last: an endpoint that stays keeps its vitals.
    endpoints: Arc<[Endpoint]>,
}

/// Whence the addresses of one instance are.
#[derive(Debug)]
enum Source {
    Fixed(Address),
    /// Index of the name.
    Named(usize),
}

impl Names {
    pub fn new(upstreams: &[upstream::Settings]) -> Names {
        let mut names: Vec<Known> = Vec::new();
        let mut source = |place: &Place| match place {
            Place::Socket(path) => Source::Fixed(Address::Unix(path.clone())),
            Place::Host { host, port } => match host.parse() {
                Ok(ip) => Source::Fixed(Address::Tcp(SocketAddr::new(ip, *port))),
                Err(_) => {
                    let name = Name { host: host.clone(), port: *port };
                    let known = names.iter().position(|known| known.name == name);
                    Source::Named(known.unwrap_or_else(|| {
                        names.push(Known { name, addresses: Vec::new(), state: State::Unasked });
                        names.len() - 1
                    }))
                }
            },
        };
        let upstreams = upstreams
            .iter()
            .map(|settings| {
                let sources = settings.instances.iter().map(|instance| source(&instance.place));
                Upstream {
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

    /// The questions to ask.
    pub fn all(&self) -> impl Iterator<Item = &Name> {
        self.names.iter().map(|known| &known.name)
    }

    /// Every question has had an answer, good or bad.
    pub fn are_all_asked(&self) -> bool {
        self.names.iter().all(|known| known.state != State::Unasked)
    }

    /// The tables of all upstreams as they are now.
    pub fn endpoints(&self) -> Vec<Endpoints> {
        (0..self.upstreams.len()).map(|upstream| self.table(upstream)).collect()
    }

    /// Takes an answer in; the tables that it changes. A failure changes nothing: the last good
    /// answer stays in force.
    pub fn learn(&mut self, answer: Answer) -> Vec<Endpoints> {
        let known = &mut self.names[answer.name];
        let host = &known.name.host;
        let addresses = match answer.result {
            Ok(addresses) if !addresses.is_empty() => addresses,
            result => {
                if known.state != State::Failed {
                    let cause = match result {
                        Ok(_) => "it has no address".to_owned(),
                        Err(error) => error.to_string(),
                    };
                    tracing::warn!("cannot resolve {host}: {cause}");
                }
                known.state = State::Failed;
                return Vec::new();
            }
        };
        if known.state == State::Failed {
            tracing::info!("{host} is resolved again");
        }
        known.state = State::Answered;
        // Resolvers rotate the addresses of a name: only another set is another answer.
        if sorted(&known.addresses) == sorted(&addresses) {
            return Vec::new();
        }
        known.addresses.clear();
        for address in addresses {
            if !known.addresses.contains(&address) {
                known.addresses.push(address);
            }
        }
        self.changed_by(answer.name)
    }

    fn changed_by(&mut self, name: usize) -> Vec<Endpoints> {
        let mut changed = Vec::new();
        for index in 0..self.upstreams.len() {
            let upstream = &mut self.upstreams[index];
            let is_named = |source: &Source| matches!(source, Source::Named(other) if *other == name);
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
        for (instance, source) in (0..).zip(&upstream.instances) {
            let addresses: Vec<Address> = match source {
                Source::Fixed(address) => vec![address.clone()],
                Source::Named(name) => {
                    self.names[*name].addresses.iter().copied().map(Address::Tcp).collect()
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

fn sorted(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut addresses = addresses.to_vec();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// Asks for one name again and again, until nobody wants the answers.
pub async fn watch(index: usize, name: Name, tell: impl AsyncFn(Answer) -> bool) {
    loop {
        let result = look_up(&name).await;
        let pause = if result.is_ok() { REFRESH } else { RETRY };
        let is_wanted = tell(Answer { name: index, result }).await;
        if !is_wanted {
            return;
        }
        sleep(pause).await;
    }
}

async fn look_up(name: &Name) -> io::Result<Vec<SocketAddr>> {
    let question = lookup_host((name.host.as_str(), name.port));
    match timeout(LOOKUP_TIMEOUT, question).await {
        Ok(answer) => Ok(answer?.collect()),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the resolver does not answer")),
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
        let questions: Vec<&str> = names.all().map(|name| name.host.as_str()).collect();
        assert_eq!(questions, ["a", "b"]);
        assert_eq!(show(&names.endpoints()), "0#1: 1=10.0.0.9:80; 1#1:; 2#1:");
        let (a, b) = (0, 1);
        let cases: [(usize, &[&str], &str); 7] = [
            (
                a,
                &["10.0.0.2:80", "10.0.0.1:80"],
                "0#2: 0=10.0.0.2:80 0=10.0.0.1:80 1=10.0.0.9:80; 2#2: 0=10.0.0.2:80 0=10.0.0.1:80",
            ),
            (b, &[], ""),
            (a, &["10.0.0.1:80", "10.0.0.2:80"], ""),
            (a, &[], ""),
            (b, &["10.0.0.3:80"], "1#2: 0=10.0.0.3:80"),
            (a, &["10.0.0.2:80"], "0#3: 0=10.0.0.2:80 1=10.0.0.9:80; 2#3: 0=10.0.0.2:80"),
            (a, &["10.0.0.2:80"], ""),
        ];
        for (name, addresses, expected) in cases {
            let result = match addresses {
                [] => Err(io::Error::other("no such name")),
                addresses => Ok(addresses.iter().map(|one| one.parse().unwrap()).collect()),
            };
            assert_eq!(show(&names.learn(Answer { name, result })), expected);
        }
        assert!(names.are_all_asked());
    }

    #[test]
    fn an_endpoint_that_stays_keeps_its_vitals() {
        let mut names = Names::new(&[settings(vec![host("a"), host("a"), host("10.0.0.9")])]);
        let mut learn = |addresses: &[&str]| {
            let result = Ok(addresses.iter().map(|one| one.parse().unwrap()).collect());
            names.learn(Answer { name: 0, result })[0].endpoints.to_vec()
        };
        let before = learn(&["10.0.0.1:80", "10.0.0.2:80"]);
        let after = learn(&["10.0.0.2:80", "10.0.0.3:80"]);
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
