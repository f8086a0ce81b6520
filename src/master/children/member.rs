//! One child of `master` through its lives: waiting, starting, ready, ending, waiting again.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::process::{Pid, Signal};

use super::stage::{Process, Refusal, Stage, Then, last_words};
use crate::process::child::Child;
use crate::process::end::End;
use crate::process::listening;
use crate::process::orders;
use crate::process::output::Output;
use crate::process::readiness::{self, Address, Probe};
use crate::process::restart::Backoff;
use crate::process::settings::{Name, Restart, Settings};

/// What an address that answers neither yes nor no is given before a child is started for it.
pub const ANSWER_TIMEOUT: Duration = Duration::from_millis(250);

/// After this long without a connection, it is said that one is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// So many places are named where a command listens instead.
const ELSEWHERE_MAX: usize = 4;

/// What those may take to end whom a child that has ended by itself left behind.
const LEFT_BEHIND_TIMEOUT: Duration = Duration::from_secs(1);

/// No end is waited for longer; a bound for the clock.
const STOP_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Whose child it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The command that we were started in front of: its end is ours, its output is ours, and it
    /// is told to stop as we were.
    Wrapped,
    /// Kept running.
    Supervised,
}

/// A child, running or not.
#[derive(Debug)]
pub struct Member {
    pub settings: Settings,
    /// As the data process orders it; since it was started anew, it may run elsewhere.
    pub ordered: Settings,
    /// It runs by what was ordered before.
    pub is_stale: bool,
    pub role: Role,
    /// It is to be ready beside another one before that one goes; it has one try.
    pub is_successor: bool,
    /// Somebody wants to know how its start or its stop ends.
    pub is_awaited: bool,
    outcome: Option<Result<(), String>>,
    restarts: u32,
    last_end: String,
    /// The data process wants it to run.
    pub is_wanted: bool,
    stage: Stage,
    /// How many of the jobs before it are done.
    jobs_done: usize,
    backoff: Backoff,
    /// A process of it had to be killed because it did not end in time.
    pub was_killed: bool,
}

impl Member {
    pub fn new(settings: Settings, role: Role) -> Member {
        let stage = Stage::Waiting { until: Instant::now() };
        Member {
            ordered: settings.clone(),
            settings,
            is_stale: false,
            is_successor: false,
            is_awaited: false,
            outcome: None,
            restarts: 0,
            last_end: String::new(),
            role,
            is_wanted: true,
            stage,
            jobs_done: 0,
            backoff: Backoff::default(),
            was_killed: false,
        }
    }

    /// Starts it now.
    ///
    /// # Errors
    /// Somebody else listens where it is to listen, or it cannot be started.
    pub fn start(&mut self) -> Result<(), Refusal> {
        let settings = &self.settings;
        let addresses = || settings.addresses.iter().flatten();
        if let Some(address) = addresses().find(|one| readiness::is_taken(one, ANSWER_TIMEOUT)) {
            return Err(Refusal::Taken(format!(
                "another process listens on {address}, where `{}` is to listen \
                 (stop it, or choose another port)",
                settings.name
            )));
        }
        addresses().for_each(readiness::clear);
        let started = match self.role {
            Role::Wrapped => Child::start(&settings.program, settings).map(|child| (child, None)),
            Role::Supervised => {
                Child::start_quietly(&settings.program, settings).map(|(child, output)| (child, Some(output)))
            }
        };
        let (child, output) = started.map_err(Refusal::Start)?;
        let (name, pid) = (&settings.name, child.pid().as_raw_nonzero());
        match addresses().next() {
            Some(at) => tracing::info!("started `{name}` as process {pid}; it is to listen on {at}"),
            None => tracing::info!("started `{name}` as process {pid}"),
        }
        let process = Process { child, output, since: Instant::now(), is_stopped: false };
        self.stage = self.starting(process, false);
        Ok(())
    }

    /// From now on it is asked whether it accepts connections.
    fn starting(&self, process: Process, is_again: bool) -> Stage {
        let now = Instant::now();
        let probes = |alternatives: &Vec<_>| alternatives.iter().cloned().map(Probe::new).collect();
        Stage::Starting {
            process,
            probes: self.settings.addresses.iter().map(probes).collect(),
            is_again,
            remind: Some(now + PATIENCE),
            until: self.settings.start_timeout.map(|most| now + most),
        }
    }

    /// Looks at one that counts as ready and is said to refuse connections. If it does, it is
    /// starting again, and has as long for that as at its start.
    pub fn doubt(&mut self) {
        if !self.is_ready() {
            return;
        }
        let accepts = |one: &Address| readiness::is_taken(one, ANSWER_TIMEOUT);
        let mut all = self.settings.addresses.iter();
        let Some(refusing) = all.find(|alternatives| !alternatives.iter().any(accepts)) else { return };
        if let Some(address) = refusing.first() {
            let name = &self.settings.name;
            tracing::error!("`{name}` runs and refuses connections on {address}; requests wait");
        }
        if let Stage::Ready { process } = std::mem::replace(&mut self.stage, Stage::Over) {
            self.stage = self.starting(process, true);
        }
    }

    /// Starts it, or first the jobs before it; if that fails, later again, as its settings say.
    pub fn try_start(&mut self) {
        let started = match self.settings.before.get(self.jobs_done) {
            Some(_) => self.start_job(),
            None => self.start(),
        };
        if let Err(refusal) = started {
            self.fail(&refusal.to_string());
        }
    }

    fn start_job(&mut self) -> Result<(), Refusal> {
        let (job, settings) = (self.jobs_done, &self.settings);
        let program = &settings.before[job];
        let (child, output) = Child::start_quietly(program, settings).map_err(Refusal::Start)?;
        tracing::info!("`{}`: running `{program}` before it", settings.name);
        let output = Some(output);
        let process = Process { child, output, since: Instant::now(), is_stopped: false };
        self.stage = Stage::Preparing { process, job };
        Ok(())
    }

    /// It could not be started.
    fn fail(&mut self, why: &str) {
        tracing::error!("`{}`: {why}", self.settings.name);
        self.conclude(Err(why.to_owned()));
        self.stage = match self.settings.restart {
            Restart::Always | Restart::OnFailure if !self.is_successor => self.wait_after(Duration::ZERO),
            _ => Stage::Over,
        };
    }

    /// Tells the one who waits for it, if there is one, how it ended.
    fn conclude(&mut self, outcome: Result<(), String>) {
        if std::mem::take(&mut self.is_awaited) {
            self.outcome = Some(outcome);
        }
    }

    /// How what somebody waits for has ended, once.
    pub fn take_outcome(&mut self) -> Option<Result<(), String>> {
        // Whoever hears of a failure may try again at once: nothing of it is to be in the way then.
        let is_in_the_way = self.is_successor && !self.is_over();
        if is_in_the_way && matches!(self.outcome, Some(Err(_))) {
            return None;
        }
        self.outcome.take()
    }

    /// Starts it if it does not run and will not by itself; what comes of it is awaited.
    pub fn order_start(&mut self) {
        self.is_awaited = true;
        match self.stage {
            Stage::Ready { .. } => self.conclude(Ok(())),
            Stage::Over => {
                self.jobs_done = 0;
                self.backoff = Backoff::default();
                self.stage = Stage::Waiting { until: Instant::now() };
            }
            Stage::Ending { .. } => self.end(Signal::TERM, Then::StartAt(Instant::now())),
            _ => {}
        }
    }

    /// Stops it for good; that it has is awaited.
    pub fn order_stop(&mut self) {
        self.conclude(Err("it was told to stop".to_owned()));
        self.is_awaited = true;
        self.stop(Signal::TERM);
        if self.is_over() {
            self.conclude(Ok(()));
        }
    }

    /// It is to run like this from now on. What a process cannot take over while it runs waits until
    /// it is started anew.
    pub fn order(&mut self, settings: Settings) {
        let is_same = !self.is_stale && settings.runs_as(&self.ordered);
        if is_same {
            let running = self.settings.clone();
            let at_once = settings.clone();
            self.settings = Settings {
                program: running.program,
                environment: running.environment,
                addresses: running.addresses,
                ..at_once
            };
        } else if self.is_over() {
            self.settings = settings.clone();
        }
        self.is_stale = !is_same && !self.is_over();
        self.ordered = settings;
    }

    /// It is called so from now on, and so is what it writes.
    pub fn rename(&mut self, name: &Name) {
        self.settings.name = name.clone();
        self.ordered.name = name.clone();
        if let Some(output) = self.stage.process_mut().and_then(|process| process.output.as_mut()) {
            output.rename(name.to_string());
        }
    }

    /// The jobs of the next one are done: stops this one and starts it anew like that.
    pub fn renew(&mut self, settings: Settings) {
        self.replace(settings);
        self.jobs_done = self.settings.before.len();
        self.is_awaited = true;
    }

    /// Some of the jobs before it are not done.
    pub fn has_jobs_left(&self) -> bool {
        self.jobs_done < self.settings.before.len() && !self.is_over()
    }

    /// A job has ended; nobody waits for what it left behind.
    fn bury_job(&mut self, job: usize, end: End) {
        let stage = std::mem::replace(&mut self.stage, Stage::Over);
        let Stage::Preparing { mut process, .. } = stage else { return };
        process.child.bury(end);
        process.child.signal(Signal::KILL);
        if let Some(output) = &mut process.output {
            output.read();
        }
        if end.is_success() {
            self.jobs_done = job + 1;
            self.stage = Stage::Waiting { until: Instant::now() };
            return;
        }
        let last = process.output.as_ref().map(last_words).unwrap_or_default();
        let program = &self.settings.before[job];
        self.fail(&format!("`{program}` before it failed ({end}){last}"));
    }

    /// Does what its time has come for.
    pub fn advance(&mut self, now: Instant) {
        let is_ready = self.is_answering();
        match &mut self.stage {
            Stage::Starting { .. } if is_ready => {
                let stage = std::mem::replace(&mut self.stage, Stage::Over);
                if let Stage::Starting { process, is_again, remind, .. } = stage {
                    let (name, taken) = (&self.settings.name, process.since.elapsed());
                    if is_again {
                        tracing::info!("`{name}` accepts connections again");
                    } else if self.role == Role::Supervised || remind.is_none() {
                        tracing::info!("`{name}` is ready after {taken:.1?}");
                    }
                    self.stage = Stage::Ready { process };
                }
                self.conclude(Ok(()));
            }
            Stage::Starting { until: Some(until), .. } if *until <= now => {
                let most = self.settings.start_timeout.unwrap_or_default();
                let why = format!("it was not ready within {most:?}");
                tracing::error!("`{}`: {why}; stopping it", self.settings.name);
                self.conclude(Err(why));
                let delay = self.backoff.delay(Duration::ZERO);
                let then = if self.is_successor { Then::Rest } else { Then::StartAt(now + delay) };
                self.end(Signal::TERM, then);
            }
            Stage::Starting { process, probes, remind, .. } if remind.is_some_and(|at| at <= now) => {
                *remind = None;
                if let Some(probe) = probes.iter().flatten().next() {
                    let (name, address) = (&self.settings.name, probe.address());
                    let instead = instead(process, &address.to_string());
                    tracing::warn!("`{name}` does not listen on {address} yet; requests wait{instead}");
                }
            }
            Stage::Ending { process, until, .. } if !process.child.is_gone() && *until <= now => {
                let name = &self.settings.name;
                tracing::error!("`{name}` did not end in time: killing what is left of it");
                process.child.signal(Signal::KILL);
                *until = now + STOP_MAX;
                self.was_killed = true;
            }
            Stage::Ending { process, then, .. } if process.child.is_gone() => {
                self.stage = match *then {
                    Then::StartAt(until) => Stage::Waiting { until },
                    Then::Rest => Stage::Over,
                };
                if self.is_over() {
                    self.conclude(Ok(()));
                }
            }
            _ => {}
        }
    }

    /// Looks whether all of its addresses accept connections, if it is starting.
    fn is_answering(&mut self) -> bool {
        let Stage::Starting { probes, .. } = &mut self.stage else {
            return false;
        };
        for alternatives in probes.iter_mut() {
            if alternatives.iter_mut().any(Probe::ask) {
                alternatives.clear();
            }
        }
        probes.retain(|alternatives| !alternatives.is_empty());
        probes.is_empty()
    }

    /// Takes note of its end: of what is left behind, and of its next life. `is_last`: there is
    /// to be none.
    pub fn bury(&mut self, end: End, is_last: bool) {
        if let Stage::Preparing { job, .. } = self.stage {
            return self.bury_job(job, end);
        }
        let was_told = matches!(self.stage, Stage::Ending { .. });
        let Some(process) = self.stage.process_mut() else { return };
        process.child.bury(end);
        if let Some(output) = &mut process.output {
            output.read();
        }
        if was_told {
            tracing::info!("`{}` ended ({end})", self.settings.name);
            return;
        }
        let lived = process.since.elapsed();
        let last = process.output.as_ref().map(last_words).unwrap_or_default();
        self.last_end = format!("{end}{last}");
        if !self.is_ready() {
            self.conclude(Err(format!("it ended before it was ready ({end}){last}")));
        }
        let name = &self.settings.name;
        let is_over = match self.settings.restart {
            _ if self.is_successor && !self.is_ready() => true,
            Restart::Always => is_last,
            Restart::OnFailure => is_last || end.is_success(),
            Restart::Never => true,
        };
        let then = if is_over {
            tracing::warn!("`{name}` ended ({end}){last}");
            Then::Rest
        } else {
            let delay = self.backoff.delay(lived);
            let when = if delay.is_zero() { "at once".to_owned() } else { format!("in {delay:?}") };
            tracing::error!("`{name}` ended ({end}) after {lived:.1?}; starting it again {when}{last}");
            self.restarts = self.restarts.saturating_add(1);
            Then::StartAt(Instant::now() + delay)
        };
        let most = self.settings.stop_timeout.min(LEFT_BEHIND_TIMEOUT);
        self.end_within(Signal::TERM, then, most);
    }

    /// Tells it to stop, for good.
    pub fn stop(&mut self, signal: Signal) {
        self.end(signal, Then::Rest);
    }

    /// Tells it to stop, and starts it then with other settings.
    pub fn replace(&mut self, settings: Settings) {
        self.end(Signal::TERM, Then::StartAt(Instant::now()));
        self.settings = settings;
        self.is_stale = false;
        self.is_wanted = true;
        self.jobs_done = 0;
        self.backoff = Backoff::default();
        if let Stage::Over = self.stage {
            self.stage = Stage::Waiting { until: Instant::now() };
        }
    }

    fn end(&mut self, signal: Signal, then: Then) {
        self.end_within(signal, then, self.settings.stop_timeout);
    }

    fn end_within(&mut self, signal: Signal, then: Then, most: Duration) {
        let stage = std::mem::replace(&mut self.stage, Stage::Over);
        self.stage = match stage {
            Stage::Preparing { mut process, .. }
            | Stage::Starting { mut process, .. }
            | Stage::Ready { mut process } => {
                process.child.signal(signal);
                // Who is stopped would not hear of it.
                process.resume();
                Stage::Ending { process, until: Instant::now() + most.min(STOP_MAX), then }
            }
            Stage::Ending { process, until, .. } => {
                Stage::Ending { process, until: until.min(Instant::now() + most.min(STOP_MAX)), then }
            }
            Stage::Waiting { .. } | Stage::Over => match then {
                Then::StartAt(until) => Stage::Waiting { until },
                Then::Rest => Stage::Over,
            },
        };
    }

    fn wait_after(&mut self, lived: Duration) -> Stage {
        let delay = self.backoff.delay(lived);
        if !delay.is_zero() {
            tracing::warn!("`{}` is started again in {delay:?}", self.settings.name);
        }
        Stage::Waiting { until: Instant::now() + delay }
    }

    /// Both listen at one address, or would.
    pub fn shares_address(&self, other: &Settings) -> bool {
        let mut ours = self.settings.addresses.iter().flatten();
        ours.any(|one| other.addresses.iter().flatten().any(|other| other == one))
    }

    /// It is to be started as soon as what it depends on is ready.
    pub fn is_due(&self, now: Instant) -> bool {
        matches!(self.stage, Stage::Waiting { until } if until <= now)
    }

    pub fn is_ready(&self) -> bool {
        matches!(self.stage, Stage::Ready { .. })
    }

    /// Nothing is left of it, and nothing will come.
    pub fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    /// There is a process of it, perhaps at its end.
    pub fn has_process(&self) -> bool {
        self.stage.process().is_some()
    }

    /// It was told to stop.
    pub fn is_ending(&self) -> bool {
        matches!(self.stage, Stage::Ending { .. })
    }

    /// What others are told of it.
    pub fn condition(&self) -> orders::Condition {
        let state = match &self.stage {
            Stage::Waiting { .. } | Stage::Preparing { .. } | Stage::Starting { .. } => {
                orders::State::Starting
            }
            Stage::Ready { .. } => orders::State::Ready,
            Stage::Ending { then: Then::StartAt(_), .. } => orders::State::Starting,
            Stage::Ending { then: Then::Rest, .. } | Stage::Over => orders::State::Stopped,
        };
        let running = self.stage.process().filter(|process| process.child.end().is_none());
        let pid = running.map(|process| process.child.pid().as_raw_nonzero().get());
        let first = |settings: &Settings| settings.addresses.iter().flatten().next().cloned();
        orders::Condition {
            name: self.settings.name.clone(),
            state,
            pid,
            elsewhere: first(&self.settings).filter(|at| first(&self.ordered).as_ref() != Some(at)),
            restarts: self.restarts,
            last_end: self.last_end.clone(),
        }
    }

    /// Whether it is this process, and was not reaped yet.
    pub fn is(&self, pid: Pid) -> bool {
        self.stage
            .process()
            .is_some_and(|process| process.child.end().is_none() && process.child.pid() == pid)
    }

    /// Signals every process of its group.
    pub fn signal(&self, signal: Signal) {
        self.stage.process().into_iter().for_each(|process| process.child.signal(signal));
    }

    /// It was stopped by a signal.
    pub fn mark_stopped(&mut self) {
        if let Some(process) = self.stage.process_mut() {
            process.is_stopped = true;
        }
    }

    /// Lets it go on if it was stopped.
    pub fn resume(&mut self) {
        self.stage.process_mut().into_iter().for_each(Process::resume);
    }

    /// Tells what it has written.
    pub fn read_output(&mut self) {
        let output = self.stage.process_mut().and_then(|process| process.output.as_mut());
        output.into_iter().for_each(Output::read);
    }

    /// What becomes ready when there is an answer to a probe, or output.
    pub fn sources(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        let probes = self.probes().filter_map(Probe::source).map(|source| (source, PollFlags::OUT));
        let output = self.stage.process().and_then(|process| process.output.as_ref());
        let output = output.into_iter().flat_map(Output::sources).map(|source| (source, PollFlags::IN));
        probes.chain(output)
    }

    /// When to look again. One that waits for others has none.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let own = match &self.stage {
            Stage::Waiting { until } => (*until > now).then_some(*until),
            Stage::Starting { remind, until, .. } => (*remind).into_iter().chain(*until).min(),
            Stage::Ending { until, .. } => Some(*until),
            Stage::Preparing { .. } | Stage::Ready { .. } | Stage::Over => None,
        };
        self.probes().filter_map(Probe::deadline).chain(own).min()
    }

    fn probes(&self) -> impl Iterator<Item = &Probe> {
        let probes = match &self.stage {
            Stage::Starting { probes, .. } => probes.as_slice(),
            _ => &[],
        };
        probes.iter().flatten()
    }
}

/// `; it listens on 127.0.0.1:5173 instead`, or nothing if it listens nowhere else. A socket whose
/// file was removed still has the address that was waited for.
fn instead(process: &Process, awaited: &str) -> String {
    let found = listening::addresses(process.child.pid());
    let shown = found.iter().map(ToString::to_string).filter(|address| address != awaited);
    let shown: Vec<String> = shown.take(ELSEWHERE_MAX).collect();
    match shown.as_slice() {
        [] => String::new(),
        shown => format!("; it listens on {} instead", shown.join(", ")),
    }
}
