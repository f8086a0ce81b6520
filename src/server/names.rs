//! The addresses of the upstreams: which names there are, what they stand for now, and what
//! the workers have to be told when an answer changes.
//!
//! [`Names`] is pure; [`watch`] asks the system's resolver, on its own threads.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::time::{sleep, timeout};

use crate::plan::UpstreamId;
use crate::upstream::{self, Address, Endpoint, Endpoints, Instance};

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
    instances: Vec<Place>,
    generation: u64,
}

/// Where one instance is.
#[derive(Debug)]
enum Place {
    Fixed(Address),
    /// Index of the name.
    Named(usize),
}

impl Names {
    pub fn new(upstreams: &[upstream::Settings]) -> Names {
        let mut names: Vec<Known> = Vec::new();
        let mut place = |instance: &Instance| match instance {
            Instance::Socket(path) => Place::Fixed(Address::Unix(path.clone())),
            Instance::Host { host, port } => match host.parse() {
                Ok(ip) => Place::Fixed(Address::Tcp(SocketAddr::new(ip, *port))),
                Err(_) => {
                    let name = Name { host: host.clone(), port: *port };
                    let known = names.iter().position(|known| known.name == name);
                    Place::Named(known.unwrap_or_else(|| {
                        names.push(Known { name, addresses: Vec::new(), state: State::Unasked });
                        names.len() - 1
                    }))
                }
            },
        };
        let upstreams = upstreams
            .iter()
            .map(|settings| Upstream {
                name: settings.name.clone(),
                instances: settings.instances.iter().map(&mut place).collect(),
                generation: 1,
            })
            .collect();
        Names { names, upstreams }
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
        known.addresses = addresses;
        self.changed_by(answer.name)
    }

    fn changed_by(&mut self, name: usize) -> Vec<Endpoints> {
        let mut changed = Vec::new();
        for index in 0..self.upstreams.len() {
            let upstream = &mut self.upstreams[index];
            let is_named = |place: &Place| matches!(place, Place::Named(other) if *other == name);
            if upstream.instances.iter().any(is_named) {
                upstream.generation += 1;
                tracing::debug!(upstream = upstream.name, "new addresses");
                changed.push(self.table(index));
            }
        }
        changed
    }

    fn table(&self, index: usize) -> Endpoints {
        let upstream = &self.upstreams[index];
        let addresses = |place: &Place| -> Box<[Address]> {
            match place {
                Place::Fixed(address) => Box::new([address.clone()]),
                Place::Named(name) => {
                    let addresses = self.names[*name].addresses.iter();
                    addresses.copied().map(Address::Tcp).collect()
                }
            }
        };
        let endpoints = upstream
            .instances
            .iter()
            .map(|place| Endpoint { addresses: addresses(place) })
            // An instance of which no address is known is none that could be picked.
            .filter(|endpoint| !endpoint.addresses.is_empty())
            .collect();
        Endpoints {
            upstream: UpstreamId(u32::try_from(index).expect("the plan has fewer upstreams")),
            generation: upstream.generation,
            endpoints,
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
    use crate::upstream::{Settings, Strategy};

    fn host(host: &str) -> Instance {
        Instance::Host { host: host.to_owned(), port: 80 }
    }

    fn settings(instances: Vec<Instance>) -> Settings {
        Settings {
            name: "app".to_owned(),
            instances: instances.into(),
            strategy: Strategy::RoundRobin,
            write_timeout: Duration::ZERO,
            keepalive: 0,
            keepalive_idle: Duration::ZERO,
        }
    }

    /// `upstream#generation: address,address endpoint …`
    fn show(tables: &[Endpoints]) -> String {
        let show = |table: &Endpoints| {
            let mut text = format!("{}#{}:", table.upstream.0, table.generation);
            for endpoint in table.endpoints.iter() {
                let addresses = endpoint.addresses.iter().map(|address| match address {
                    Address::Tcp(address) => address.to_string(),
                    Address::Unix(path) => path.display().to_string(),
                });
                text.push(' ');
                text.push_str(&addresses.collect::<Vec<_>>().join(","));
            }
            text
        };
        tables.iter().map(show).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn addresses_need_no_resolver() {
        let socket = Instance::Socket("/run/app.sock".into());
        let names = Names::new(&[settings(vec![host("10.0.0.1"), host("::1"), socket])]);
        assert!(names.are_all_asked());
        assert_eq!(names.all().count(), 0);
        let expected = "0#1: 10.0.0.1:80 [::1]:80 /run/app.sock";
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
        assert_eq!(show(&names.endpoints()), "0#1: 10.0.0.9:80; 1#1:; 2#1:");
        let (a, b) = (0, 1);
        let cases: [(usize, &[&str], &str); 7] = [
            (
                a,
                &["10.0.0.2:80", "10.0.0.1:80"],
                "0#2: 10.0.0.2:80,10.0.0.1:80 10.0.0.9:80; 2#2: 10.0.0.2:80,10.0.0.1:80",
            ),
            (b, &[], ""),
            (a, &["10.0.0.1:80", "10.0.0.2:80"], ""),
            (a, &[], ""),
            (b, &["10.0.0.3:80"], "1#2: 10.0.0.3:80"),
            (a, &["10.0.0.2:80"], "0#3: 10.0.0.2:80 10.0.0.9:80; 2#3: 10.0.0.2:80"),
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
}
