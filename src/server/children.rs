//! The children as the data process sees them: which ones there are to be, what `master` says
//! has become of them, and what that means for the endpoints.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::time::sleep;

use crate::plan::{Child, Plan};
use crate::process::orders::{Condition, Order, Report, Socket, State};
use crate::process::readiness::Address;
use crate::process::settings::Name;
use crate::upstream::{Endpoints, Supervision};

/// How often those that are to end are looked at.
const LOOK: Duration = Duration::from_millis(20);

/// What is known of every child.
#[derive(Debug, Default)]
pub struct Children {
    conditions: HashMap<Name, Condition>,
    /// Those that are about to be stopped get no more requests.
    leaving: HashSet<Name>,
    /// Those that run as an earlier plan had it.
    stale: HashSet<Name>,
    /// What the command does that we were started in front of, if there is one. It has every
    /// endpoint without a child of its own.
    wrapped: Option<State>,
}

/// What came instead of the word on all children.
#[derive(Debug, PartialEq, Eq)]
pub enum Interruption {
    /// Nothing is to be started at all.
    Stopped,
    Failed(String),
}

impl Children {
    /// Tells `master` which children there are to be, and waits until it has said of each what
    /// has become of it: they may have been there before us.
    ///
    /// # Errors
    /// `master` is gone, or wants us to end.
    pub fn order(
        wanted: &[Child],
        wrapped: Option<State>,
        master: &Socket,
    ) -> Result<Children, Interruption> {
        let failed = |error| Interruption::Failed(format!("cannot order the children: {error}"));
        for child in wanted {
            master.send(&Report::Child(Box::new(child.settings.clone()))).map_err(failed)?;
        }
        master.send(&Report::Children).map_err(failed)?;
        let mut children = Children { wrapped, ..Children::default() };
        while children.conditions.len() < wanted.len() {
            match master.receive().map_err(failed)? {
                Some(Order::Child(condition)) => children.learn(condition),
                Some(Order::Wrapped(state)) => children.learn_wrapped(state),
                Some(Order::Drain | Order::Stop) | None => return Err(Interruption::Stopped),
                // An answer to one who died, and logs that are not open yet.
                Some(Order::Done { .. } | Order::ReopenLogs) => {}
                Some(
                    Order::Configuration(_)
                    | Order::Listener { .. }
                    | Order::Start
                    | Order::Reload { .. }
                    | Order::Unreadable { .. }
                    | Order::Bound { .. }
                    | Order::Unbound { .. },
                ) => {
                    return Err(Interruption::Failed("instructed twice".to_owned()));
                }
            }
        }
        Ok(children)
    }

    /// Takes in what has become of a child.
    pub fn learn(&mut self, condition: Condition) {
        if condition.state == State::Stopped {
            self.leaving.remove(&condition.name);
        }
        self.conditions.insert(condition.name.clone(), condition);
    }

    /// Takes in what has become of the command that we were started in front of.
    pub fn learn_wrapped(&mut self, state: State) {
        self.wrapped = Some(state);
    }

    /// Of those that are to get requests and are said to accept connections.
    pub fn is_ready(&self, name: &Name) -> bool {
        let is_ready = self.conditions.get(name).is_some_and(|condition| condition.state == State::Ready);
        is_ready && !self.leaving.contains(name)
    }

    /// This one is about to be stopped.
    pub fn leave(&mut self, name: &Name) {
        self.leaving.insert(name.clone());
    }

    /// It was not stopped after all.
    pub fn stay(&mut self, name: &Name) {
        self.leaving.remove(name);
    }

    /// One is about to be started of which `master` has said nothing yet.
    pub fn expect(&mut self, name: &Name) {
        let (state, last_end) = (State::Starting, String::new());
        let condition =
            Condition { name: name.clone(), state, pid: None, elsewhere: None, restarts: 0, last_end };
        self.conditions.insert(name.clone(), condition);
    }

    /// One has another name.
    pub fn rename(&mut self, from: &Name, to: &Name) {
        if let Some(condition) = self.conditions.remove(from) {
            self.learn(Condition { name: to.clone(), ..condition });
        }
        if self.stale.remove(from) {
            self.stale.insert(to.clone());
        }
    }

    /// Forgets all others.
    pub fn retain(&mut self, is_wanted: impl Fn(&Name) -> bool) {
        self.conditions.retain(|name, _| is_wanted(name));
        self.leaving.retain(|name| is_wanted(name));
        self.stale.retain(|name| is_wanted(name));
    }

    /// Whether one runs as an earlier plan had it.
    pub fn set_stale(&mut self, name: &Name, is_stale: bool) {
        match is_stale {
            true => _ = self.stale.insert(name.clone()),
            false => _ = self.stale.remove(name),
        }
    }

    pub fn is_stale(&self, name: &Name) -> bool {
        self.stale.contains(name)
    }

    pub fn condition(&self, name: &Name) -> Option<&Condition> {
        self.conditions.get(name)
    }

    /// Where instances are that listen elsewhere than their upstreams say.
    pub fn moved(&self) -> impl Iterator<Item = (&Name, &Address)> {
        let conditions = self.conditions.values();
        conditions.filter_map(|condition| Some((&condition.name, condition.elsewhere.as_ref()?)))
    }

    /// Notes on the endpoints of a table what their children do.
    pub fn mark(&self, plan: &Plan, table: &Endpoints) {
        let upstream = &plan.upstreams[table.upstream.0 as usize].name;
        for endpoint in table.endpoints.iter() {
            let of = |instance| self.conditions.get(&Name { upstream: upstream.clone(), instance });
            let condition = of(Some(endpoint.instance)).or_else(|| of(None));
            endpoint.vitals.set_supervision(match condition {
                None => match self.wrapped {
                    Some(State::Starting) => Supervision::Starting,
                    Some(State::Stopped) => Supervision::Stopped,
                    // It is not started again: what fails from now on fails at once.
                    Some(State::Ready) | None => Supervision::None,
                },
                Some(condition) => match condition.state {
                    _ if self.leaving.contains(&condition.name) => Supervision::Stopped,
                    State::Starting => Supervision::Starting,
                    State::Ready => Supervision::Ready,
                    State::Stopped => Supervision::Stopped,
                },
            });
        }
    }

    /// Ends what is left of them when there is no `master` any more to do it: SIGTERM, and SIGKILL
    /// after the longest time that one of them has. The kernel has told their first processes
    /// already; those that these have started know nothing.
    pub async fn end(&self, all: &[Child]) {
        let groups: Vec<Pid> =
            self.conditions.values().filter_map(|condition| Pid::from_raw(condition.pid?)).collect();
        let is_there = |group: &Pid| test_kill_process_group(*group).is_ok();
        let signal = |signal| {
            for group in groups.iter().copied().filter(is_there) {
                if let Err(error) = kill_process_group(group, signal) {
                    tracing::error!("cannot end process group {}: {error}", group.as_raw_nonzero());
                }
            }
        };
        signal(Signal::TERM);
        let most = all.iter().map(|child| child.settings.stop_timeout).max().unwrap_or_default();
        let until = Instant::now() + most;
        while groups.iter().any(is_there) {
            if until <= Instant::now() {
                return signal(Signal::KILL);
            }
            sleep(LOOK).await;
        }
    }
}
