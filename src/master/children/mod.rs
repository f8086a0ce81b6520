//! The children of `master`: started when those they depend on are ready, kept running, stopped
//! in the reverse order. The one that we were started in front of is one of them.

use std::os::fd::BorrowedFd;
use std::time::Instant;

use rustix::event::PollFlags;
use rustix::process::{Pid, Signal};

use self::member::{Member, Role};
use self::stage::Refusal;
use super::terminal;
use crate::process::end::End;
use crate::process::orders::{Condition, State};
use crate::process::settings::{Name, Settings};

mod member;
mod stage;

/// All of them. A child stands after those that it depends on.
#[derive(Default)]
pub struct Children {
    list: Vec<Member>,
    /// What the data process was told last.
    told: Vec<Condition>,
    /// The same of the wrapped ones, together.
    told_wrapped: Option<State>,
    outcomes: Vec<(Name, Result<(), String>)>,
    /// The signal that all are stopped by, once they are.
    stopping: Option<Signal>,
    /// The code of the first wrapped one that ended with other than 0.
    code: u8,
}

/// What a process was that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Buried {
    Wrapped,
    Supervised,
    Stranger,
}

impl Children {
    /// Starts those in front of which we were started. Those that run when one does not are there
    /// to be stopped.
    ///
    /// # Errors
    /// Somebody else listens where one of them is to listen, or one cannot be started.
    pub fn wrap(&mut self, all: Vec<Settings>) -> Result<(), Refusal> {
        if !all.is_empty() {
            become_reaper();
        }
        let begun = self.list.len();
        self.list.extend(all.into_iter().map(|settings| Member::new(settings, Role::Wrapped)));
        self.list[begun..].iter_mut().try_for_each(Member::start)
    }

    /// Has exactly these, and the wrapped ones: those that run as they are to run stay, those that
    /// are to run otherwise are started anew, and all others are stopped.
    pub fn keep(&mut self, wanted: Vec<Settings>) {
        if !wanted.is_empty() {
            become_reaper();
        }
        let mut former: Vec<Member> = std::mem::take(&mut self.list);
        for settings in wanted {
            let is_it = |one: &Member| {
                one.role == Role::Supervised && !one.is_successor && one.settings.name == settings.name
            };
            let member = match former.iter().position(is_it).map(|at| former.remove(at)) {
                Some(member) if member.is_wanted && member.ordered == settings && !member.is_stale => member,
                Some(mut member) => {
                    tracing::info!("`{}` is to run otherwise: starting it anew", settings.name);
                    member.ordered = settings.clone();
                    member.replace(settings);
                    member
                }
                None => Member::new(settings, Role::Supervised),
            };
            self.list.push(member);
        }
        for mut member in former.into_iter().filter(|member| !member.is_over()) {
            if member.role == Role::Supervised && member.is_wanted {
                tracing::info!("`{}` is not to run any more: stopping it", member.settings.name);
                member.is_wanted = false;
                member.stop(Signal::TERM);
            }
            self.list.push(member);
        }
        // Who asks for them has been told of none.
        self.told.clear();
        self.outcomes.clear();
    }

    /// There is to be one more.
    pub fn add(&mut self, settings: Settings) {
        become_reaper();
        self.list.push(Member::new(settings, Role::Supervised));
    }

    /// One is to run like this from its next start on, and to be left so long as it is.
    pub fn reorder(&mut self, settings: Settings) {
        if let Some(at) = self.find(&settings.name) {
            self.list[at].order(settings);
        }
    }

    /// One has another name from now on.
    pub fn rename(&mut self, from: &Name, to: &Name) {
        if let Some(at) = self.find(from) {
            self.list[at].rename(to);
        }
    }

    /// One is to run like this now.
    pub fn replace(&mut self, settings: Settings) {
        match self.find(&settings.name) {
            Some(at) => {
                self.list[at].ordered = settings.clone();
                self.list[at].replace(settings);
            }
            None => self.add(settings),
        }
    }

    /// One is not to run any more.
    pub fn remove(&mut self, name: &Name) {
        if let Some(at) = self.find(name) {
            self.list[at].is_wanted = false;
            self.list[at].stop(Signal::TERM);
        }
    }

    /// Does what its time has come for.
    pub fn advance(&mut self) {
        let now = Instant::now();
        self.list.iter_mut().for_each(|member| member.advance(now));
        self.collect_outcomes();
        match self.stopping {
            Some(signal) => self.stop_free(signal),
            None => self.start_due(now),
        }
    }

    fn start_due(&mut self, now: Instant) {
        for index in 0..self.list.len() {
            let member = &self.list[index];
            let Settings { name, depends_on, .. } = &member.settings;
            let mut others = self.list.iter().filter(|one| depends_on.contains(&one.settings.name.upstream));
            // The jobs of one instance are for all of them.
            let mut before =
                self.list[..index].iter().filter(|one| one.settings.name.upstream == name.upstream);
            let is_free = member.is_successor || !self.is_occupied(index);
            if member.is_due(now)
                && is_free
                && others.all(Member::is_ready)
                && !before.any(Member::has_jobs_left)
            {
                match self.predecessor_in_the_way(index) {
                    Some(predecessor) => return self.renew(predecessor, index),
                    None => self.list[index].try_start(),
                }
            }
        }
    }

    /// Where it is to listen, another one listens, which is about to go: no two of one configuration
    /// share an address.
    fn is_occupied(&self, index: usize) -> bool {
        let member = &self.list[index];
        let mut others = self.list.iter().enumerate().filter(|(other, _)| *other != index);
        others.any(|(_, other)| other.has_process() && other.shares_address(&member.settings))
    }

    /// The one that a successor is to follow, if it listens where that is to listen, and nothing
    /// else has to be done before.
    fn predecessor_in_the_way(&self, index: usize) -> Option<usize> {
        let member = &self.list[index];
        if !member.is_successor || member.has_jobs_left() {
            return None;
        }
        self.find(&member.settings.name).filter(|other| self.list[*other].shares_address(&member.settings))
    }

    fn renew(&mut self, predecessor: usize, successor: usize) {
        let settings = self.list[successor].settings.clone();
        self.list[predecessor].renew(settings);
        self.list.remove(successor);
    }

    /// Starts a child anew: beside the one that there is if it is to listen elsewhere. That one
    /// goes when [`Children::retire`] says so, or when all else is done that may fail.
    pub fn restart(&mut self, settings: Settings) {
        let name = settings.name.clone();
        let refusal = match self.find(&name) {
            None => Some("there is no such child"),
            Some(at) if !self.list[at].is_ready() => Some("it does not run: start it instead"),
            Some(_) if self.list.iter().any(|one| one.is_successor && one.settings.name == name) => {
                Some("it is being restarted already")
            }
            Some(at) => {
                let mut successor = Member::new(settings, Role::Supervised);
                successor.ordered = self.list[at].ordered.clone();
                (successor.is_successor, successor.is_awaited) = (true, true);
                self.list.insert(at + 1, successor);
                None
            }
        };
        if let Some(refusal) = refusal {
            self.outcomes.push((name, Err(refusal.to_owned())));
        }
    }

    /// Nobody needs the one any more that has a successor.
    pub fn retire(&mut self, name: &Name) {
        let is_successor = |one: &Member| one.is_successor && one.settings.name == *name && one.is_ready();
        let (Some(before), Some(after)) = (self.find(name), self.list.iter().position(is_successor)) else {
            return;
        };
        self.list[after].is_successor = false;
        self.list[before].is_wanted = false;
        self.list[before].stop(Signal::TERM);
        // The one that is found by its name is the one that is wanted.
        let retired = self.list.remove(before);
        self.list.push(retired);
    }

    /// The successor is not to be one; that it is gone is awaited.
    pub fn abandon(&mut self, name: &Name) {
        match self.list.iter_mut().find(|one| one.is_successor && one.settings.name == *name) {
            Some(successor) => successor.order_stop(),
            None => self.outcomes.push((name.clone(), Ok(()))),
        }
    }

    /// Stops a child for good, or starts it again.
    pub fn order(&mut self, name: &Name, order: fn(&mut Member)) {
        match self.find(name) {
            Some(at) => order(&mut self.list[at]),
            None => self.outcomes.push((name.clone(), Err("there is no such child".to_owned()))),
        }
    }

    pub fn order_stop(&mut self, name: &Name) {
        self.order(name, Member::order_stop);
    }

    pub fn order_start(&mut self, name: &Name) {
        self.order(name, Member::order_start);
    }

    fn find(&self, name: &Name) -> Option<usize> {
        self.list.iter().position(|one| {
            one.role == Role::Supervised && one.is_wanted && !one.is_successor && one.settings.name == *name
        })
    }

    /// What was awaited and has ended. A successor that failed is forgotten with it.
    fn collect_outcomes(&mut self) {
        for member in &mut self.list {
            let name = &member.settings.name;
            let name = name.clone();
            self.outcomes.extend(member.take_outcome().map(|outcome| (name, outcome)));
        }
        self.list.retain(|member| !member.is_over() || member.is_wanted && !member.is_successor);
    }

    /// What the data process has asked for and has ended since.
    pub fn take_outcomes(&mut self) -> Vec<(Name, Result<(), String>)> {
        std::mem::take(&mut self.outcomes)
    }

    /// Tells those to stop that nobody depends on any more.
    fn stop_free(&mut self, signal: Signal) {
        for index in (0..self.list.len()).rev() {
            let member = &self.list[index];
            let is_needed = self.list.iter().any(|other| {
                !other.is_over() && other.settings.depends_on.contains(&member.settings.name.upstream)
            });
            if is_needed || member.is_over() || member.is_ending() {
                continue;
            }
            let signal = if member.role == Role::Wrapped { signal } else { Signal::TERM };
            self.list[index].stop(signal);
        }
    }

    /// Begins to stop all of them; the wrapped ones by this signal.
    pub fn stop(&mut self, signal: Signal) {
        self.stopping = Some(signal);
        self.list.iter_mut().for_each(|member| member.was_killed = false);
        self.advance();
    }

    /// What the wrapped ones do together, if there are any, for a data process that knows nothing.
    pub fn tell_wrapped(&mut self) -> Option<State> {
        let wrapped = self.list.iter().filter(|member| member.role == Role::Wrapped);
        self.told_wrapped = wrapped.map(|member| member.condition().state).max_by_key(|state| match state {
            State::Ready => 0,
            State::Starting => 1,
            State::Stopped => 2,
        });
        self.told_wrapped
    }

    /// The same if the data process has not been told yet.
    pub fn wrapped_news(&mut self) -> Option<State> {
        let told = self.told_wrapped;
        self.tell_wrapped().filter(|state| told != Some(*state))
    }

    /// One is said to refuse connections: if it does, it is not ready.
    pub fn doubt(&mut self, name: &Name) {
        if let Some(at) = self.find(name) {
            self.list[at].doubt();
        }
    }

    /// What became ready when there is something to do: an answer to a probe, or output.
    pub fn sources(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        self.list.iter().flat_map(Member::sources)
    }

    /// When there is something to do again.
    pub fn deadline(&self) -> Option<Instant> {
        let now = Instant::now();
        self.list.iter().filter_map(|member| member.deadline(now)).min()
    }

    /// Tells what they have written.
    pub fn read_output(&mut self) {
        self.list.iter_mut().for_each(Member::read_output);
    }

    /// What the data process has not been told yet.
    pub fn news(&mut self) -> Vec<Condition> {
        let is_told =
            |member: &&Member| member.role == Role::Supervised && member.is_wanted && !member.is_successor;
        let conditions: Vec<Condition> = self.list.iter().filter(is_told).map(Member::condition).collect();
        let news = conditions.iter().filter(|condition| !self.told.contains(condition)).cloned().collect();
        self.told = conditions;
        news
    }

    /// Takes note of a process that was reaped; what it was.
    pub fn bury(&mut self, pid: Pid, end: End) -> Buried {
        let is_last = self.stopping.is_some();
        let Some(member) = self.running(pid) else {
            return Buried::Stranger;
        };
        member.bury(end, is_last);
        let role = member.role;
        terminal::take_back(pid);
        match role {
            Role::Supervised => Buried::Supervised,
            Role::Wrapped => {
                if self.code == 0 {
                    self.code = end.code();
                }
                Buried::Wrapped
            }
        }
    }

    /// A process was stopped by this signal: what is to be done if it is one of these.
    pub fn mind_stopped(&mut self, pid: Pid, signal: i32) {
        let Some(member) = self.running(pid) else {
            return;
        };
        member.mark_stopped();
        let signal = Signal::from_named_raw(signal);
        if signal == Some(Signal::TTIN) || signal == Some(Signal::TTOU) {
            match terminal::lend(pid) {
                true => member.resume(),
                false => {
                    let name = &member.settings.name;
                    tracing::warn!("`{name}` waits for the terminal, which we do not have");
                }
            }
        } else if signal == Some(Signal::TSTP) && terminal::take_back(pid) {
            terminal::stop_ourselves();
            // We go on now, or there was no shell to stop for.
            member.resume();
        }
    }

    /// The one with this pid that was not reaped yet.
    fn running(&mut self, pid: Pid) -> Option<&mut Member> {
        self.list.iter_mut().find(|member| member.is(pid))
    }

    /// Lets those that are stopped go on.
    pub fn resume(&mut self) {
        self.list.iter_mut().for_each(Member::resume);
    }

    /// Ends whatever is left of them, at once.
    pub fn kill(&self) {
        self.list.iter().for_each(|member| member.signal(Signal::KILL));
    }

    /// Nothing is left of them.
    pub fn are_gone(&self) -> bool {
        self.list.iter().all(Member::is_over)
    }

    /// One of them did not end in time.
    pub fn were_killed(&self) -> bool {
        self.list.iter().any(|member| member.was_killed)
    }

    /// What the wrapped ones ended with, as an exit code; 0 if all of them did.
    pub fn code(&self) -> u8 {
        self.code
    }
}

/// Or the orphans of children would be reaped elsewhere, and nobody would know when they are gone.
fn become_reaper() {
    let us = rustix::process::getpid();
    if let Err(error) = rustix::process::set_child_subreaper(Some(us)) {
        tracing::error!("cannot become the reaper of orphans: {error}");
    }
}
