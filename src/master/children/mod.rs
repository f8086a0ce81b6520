//! The children of `master`: started when those they depend on are ready, kept running, stopped
//! in the reverse order. The one that we were started in front of is one of them.

use std::os::fd::BorrowedFd;
use std::time::Instant;

use rustix::event::PollFlags;
use rustix::process::{Pid, Signal};

use self::member::{Member, Refusal, Role};
use super::terminal;
use crate::process::end::End;
use crate::process::orders::Condition;
use crate::process::settings::Settings;

mod member;

/// All of them. A child stands after those that it depends on.
#[derive(Default)]
pub struct Children {
    list: Vec<Member>,
    /// What the data process was told last.
    told: Vec<Condition>,
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
            let is_it = |one: &Member| one.role == Role::Supervised && one.settings.name == settings.name;
            let member = match former.iter().position(is_it).map(|at| former.remove(at)) {
                Some(member) if member.is_wanted && member.settings == settings => member,
                Some(mut member) => {
                    tracing::info!("`{}` is to run otherwise: starting it anew", settings.name);
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
    }

    /// Does what its time has come for.
    pub fn advance(&mut self) {
        let now = Instant::now();
        self.list.iter_mut().for_each(|member| member.advance(now));
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
            if member.is_due(now) && others.all(Member::is_ready) && !before.any(Member::has_jobs_left) {
                self.list[index].try_start();
            }
        }
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

    /// Each of the wrapped ones has accepted a connection.
    pub fn are_wrapped_ready(&self) -> bool {
        self.list.iter().filter(|member| member.role == Role::Wrapped).all(Member::is_ready)
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
        let supervised =
            self.list.iter().filter(|member| member.role == Role::Supervised && member.is_wanted);
        let conditions: Vec<Condition> = supervised.map(Member::condition).collect();
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
