//! The children of `master`: started together, ready together, told to stop together.

use std::fmt;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::terminal;
use crate::process::child::{Child, Settings, StartError};
use crate::process::end::End;
use crate::process::readiness::{self, Probe};

/// What an address that answers neither yes nor no is given before a child is started for it.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(250);

/// After this long without a connection, it is said that one is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// All of them, in the order in which they were started.
#[derive(Default)]
pub struct Children {
    list: Vec<Member>,
    /// The code of the first one that ended with other than 0.
    code: u8,
}

struct Member {
    name: String,
    child: Child,
    /// Empty once one of its addresses accepts.
    probes: Vec<Probe>,
    /// When to say that it does not listen yet.
    remind: Option<Instant>,
    is_stopped: bool,
}

impl Member {
    fn resume(&mut self) {
        self.is_stopped = false;
        self.child.signal(Signal::CONT);
    }
}

/// Why not all of them run.
#[derive(Debug)]
pub enum Refusal {
    Taken(String),
    Start(StartError),
}

impl Refusal {
    pub fn code(&self) -> u8 {
        match self {
            Refusal::Taken(_) => 1,
            Refusal::Start(error) => error.code(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Taken(message) => f.write_str(message),
            Refusal::Start(error) => error.fmt(f),
        }
    }
}

impl Children {
    /// Starts all of them. Those that run when one does not are there to be stopped.
    ///
    /// # Errors
    /// Somebody else listens where one of them is to listen, or one cannot be started.
    pub fn start(&mut self, all: &[Settings]) -> Result<(), Refusal> {
        if all.is_empty() {
            return Ok(());
        }
        for settings in all {
            let taken = settings.addresses.iter().find(|one| readiness::is_taken(one, ANSWER_TIMEOUT));
            if let Some(address) = taken {
                return Err(Refusal::Taken(format!(
                    "another process listens on {address}, where `{}` is to listen \
                     (stop it, or choose another port)",
                    settings.name
                )));
            }
        }
        // Or their orphans would be reaped elsewhere, and nobody would know when they are gone.
        let us = rustix::process::getpid();
        if let Err(error) = rustix::process::set_child_subreaper(Some(us)) {
            tracing::error!("cannot become the reaper of orphans: {error}");
        }
        for settings in all {
            let child = Child::start(settings).map_err(Refusal::Start)?;
            let name = settings.name.clone();
            let pid = child.pid().as_raw_nonzero();
            let probes: Vec<Probe> = settings.addresses.iter().cloned().map(Probe::new).collect();
            match settings.addresses.first() {
                Some(at) => tracing::info!("started `{name}` as process {pid}; it is to listen on {at}"),
                None => tracing::info!("started `{name}` as process {pid}"),
            }
            let remind = Some(Instant::now() + PATIENCE);
            self.list.push(Member { name, child, probes, remind, is_stopped: false });
        }
        Ok(())
    }

    /// Looks whether those that did not accept connections do so now; says of whom it takes long.
    pub fn ask(&mut self) {
        for member in &mut self.list {
            if member.probes.iter_mut().any(Probe::ask) {
                member.probes.clear();
            }
            let Some(probe) = member.probes.first() else {
                continue;
            };
            if member.remind.is_some_and(|at| at <= Instant::now()) {
                member.remind = None;
                let (name, address) = (&member.name, probe.address());
                tracing::warn!("`{name}` does not listen on {address} yet; requests wait");
            }
        }
    }

    /// Each of them has accepted a connection.
    pub fn are_ready(&self) -> bool {
        self.list.iter().all(|member| member.probes.is_empty())
    }

    /// What becomes writable when there is an answer to [`Children::ask`].
    pub fn sources(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.probes().filter_map(Probe::source)
    }

    /// When to ask again.
    pub fn deadline(&self) -> Option<Instant> {
        self.probes().filter_map(Probe::deadline).min()
    }

    fn probes(&self) -> impl Iterator<Item = &Probe> {
        self.list.iter().flat_map(|member| &member.probes)
    }

    /// Takes note of a process that was reaped; whether it was one of these.
    pub fn bury(&mut self, pid: Pid, end: End, was_told: bool) -> bool {
        let Some(member) = self.running(pid) else {
            return false;
        };
        member.child.bury(end);
        terminal::take_back(pid);
        let name = &member.name;
        match was_told {
            true => tracing::info!("`{name}` ended ({end})"),
            false => tracing::warn!("`{name}` ended ({end}); stopping"),
        }
        if self.code == 0 {
            self.code = end.code();
        }
        true
    }

    /// A process was stopped by this signal: what is to be done if it is one of these.
    pub fn mind_stopped(&mut self, pid: Pid, signal: i32) {
        let Some(member) = self.running(pid) else {
            return;
        };
        member.is_stopped = true;
        let signal = Signal::from_named_raw(signal);
        if signal == Some(Signal::TTIN) || signal == Some(Signal::TTOU) {
            match terminal::lend(pid) {
                true => member.resume(),
                false => {
                    let name = &member.name;
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
        self.list.iter_mut().find(|one| one.child.end().is_none() && one.child.pid() == pid)
    }

    /// Lets those that are stopped go on.
    pub fn resume(&mut self) {
        self.list.iter_mut().filter(|member| member.is_stopped).for_each(Member::resume);
    }

    /// Signals every process of every group.
    pub fn signal(&self, signal: Signal) {
        for member in &self.list {
            member.child.signal(signal);
        }
    }

    /// Nothing is left of them.
    pub fn are_gone(&self) -> bool {
        self.list.iter().all(|member| member.child.is_gone())
    }

    /// What they ended with, as an exit code; 0 if all of them did.
    pub fn code(&self) -> u8 {
        self.code
    }
}
