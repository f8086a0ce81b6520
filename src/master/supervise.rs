//! What `master` does all its life: waits for signals, for reports and for deaths, and keeps a
//! data process running until it is told to stop, or a child has ended. One thread, which never
//! waits elsewhere.
//!
//! Starting → Serving → Draining → Stopping (the children). Without children, the last takes no
//! time. The wrapped ones are started first and not waited for: until they are ready, the data
//! process holds requests for them.

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::WaitOptions;

use super::binding::Sockets;
use super::children::{Buried, Children};
use super::configuration::Configuration;
use super::data_process::DataProcess;
use super::signals::{Signal, Signals};
use super::terminal;
use crate::process::end::End;
use crate::process::orders::{Order, Report};
use crate::process::restart::Backoff;
use crate::process::settings;

/// What the data process may take for its end beyond the time that its connections have.
const DRAIN_EXTRA: Duration = Duration::from_secs(5);

/// No drain is waited for longer; a bound for the clock.
const DRAIN_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Exit code when the first data process could not be started.
const FAILED: u8 = 1;

/// Exit code when connections were cut, or children were killed.
const FORCED: u8 = 2;

/// Everything `master` knows.
pub struct Supervisor {
    signals: Signals,
    configuration: Configuration,
    sockets: Sockets,
    shutdown_timeout: Duration,
    /// Called once, with the first address, when it serves.
    announce: Option<fn(SocketAddr)>,
    backoff: Backoff,
    children: Children,
    /// What the data process has said of the children that there are to be.
    wanted: Vec<settings::Settings>,
    state: State,
    phase: Phase,
    /// The signal to stop, once it came: the children are told to stop in the same way.
    told: Option<rustix::process::Signal>,
}

enum State {
    Running(DataProcess),
    /// There is none; the next one is started then.
    Absent {
        until: Instant,
    },
}

enum Phase {
    /// No data process was ever ready. If the first one ends, so do we; with its own words.
    Starting {
        failure: Option<String>,
    },
    Serving,
    Draining {
        until: Instant,
    },
    /// No data process serves any more, and the children were told to stop. The code is that of
    /// the children if nothing else is to be said.
    Stopping {
        code: Option<u8>,
    },
    Over {
        code: u8,
    },
}

impl Supervisor {
    pub fn new(
        signals: Signals,
        configuration: Configuration,
        sockets: Sockets,
        shutdown_timeout: Duration,
        announce: Option<fn(SocketAddr)>,
    ) -> Supervisor {
        Supervisor {
            signals,
            configuration,
            sockets,
            shutdown_timeout,
            announce,
            backoff: Backoff::default(),
            children: Children::default(),
            wanted: Vec::new(),
            state: State::Absent { until: Instant::now() },
            phase: Phase::Starting { failure: None },
            told: None,
        }
    }

    /// Until there is an exit code; in front of these children, if there are any.
    pub fn run(mut self, wrapped: Vec<settings::Settings>) -> ExitCode {
        if let Err(refusal) = self.children.wrap(wrapped) {
            tracing::error!("{refusal}");
            self.stop_children(Some(refusal.code()));
        }
        loop {
            self.advance();
            self.tell_news();
            if let Some(code) = self.code() {
                return ExitCode::from(code);
            }
            if let Err(error) = self.wait() {
                tracing::error!("cannot wait for events: {error}");
                self.force();
            }
            for signal in self.signals.take() {
                self.obey(signal);
            }
            self.read_reports();
            self.reap();
            self.children.read_output();
        }
    }

    /// The exit code, if everything is over.
    fn code(&self) -> Option<u8> {
        match self.phase {
            Phase::Over { code } => Some(code),
            Phase::Stopping { .. } if self.children.are_gone() && self.children.were_killed() => Some(FORCED),
            Phase::Stopping { code } if self.children.are_gone() => {
                Some(code.unwrap_or_else(|| self.children.code()))
            }
            _ => None,
        }
    }

    /// Until a signal, a report, a word of a child, an answer to its probe or the next deadline.
    fn wait(&self) -> io::Result<()> {
        let mut sources = vec![PollFd::new(&self.signals, PollFlags::IN)];
        if let State::Running(process) = &self.state
            && let Some(orders) = process.orders()
        {
            sources.push(PollFd::new(orders, PollFlags::IN));
        }
        let children = self.children.sources();
        sources.extend(children.map(|(source, flags)| PollFd::from_borrowed_fd(source, flags)));
        let others = self.children.deadline().into_iter().chain(self.configuration.deadline());
        let deadline = self.deadline().into_iter().chain(others).min();
        let timeout = deadline.map(|deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            // A deadline that poll cannot express is one that never comes.
            Timespec::try_from(left).unwrap_or(Timespec { tv_sec: i64::from(i32::MAX), tv_nsec: 0 })
        });
        match rustix::event::poll(&mut sources, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match (&self.phase, &self.state) {
            (Phase::Draining { until }, _) => Some(*until),
            (Phase::Starting { .. } | Phase::Serving, State::Absent { until }) => Some(*until),
            (Phase::Starting { .. } | Phase::Serving, State::Running(_)) => None,
            (Phase::Stopping { .. } | Phase::Over { .. }, _) => None,
        }
    }

    /// Does what its time has come for.
    fn advance(&mut self) {
        let is_due = self.deadline().is_some_and(|until| until <= Instant::now());
        self.children.advance();
        match self.phase {
            Phase::Starting { .. } | Phase::Serving if is_due => self.start(),
            Phase::Draining { .. } if is_due => {
                tracing::error!("the data process did not end in time");
                self.kill_data_process();
                self.stop_children(Some(FORCED));
            }
            _ => {}
        }
        self.configuration.look();
        // One that is not ready yet is told when it is.
        if let (Phase::Serving, State::Running(process)) = (&self.phase, &self.state)
            && process.is_ready
            && self.configuration.is_due()
        {
            self.configuration.offer(process);
        }
    }

    fn start(&mut self) {
        let wrapped = self.children.tell_wrapped();
        match DataProcess::start(self.configuration.in_force(), &self.sockets.listeners, wrapped) {
            Ok(process) => self.state = State::Running(process),
            Err(error) => {
                tracing::error!("cannot start the data process: {error}");
                match self.phase {
                    Phase::Starting { .. } => self.stop_children(Some(FAILED)),
                    _ => self.start_later(Duration::ZERO),
                }
            }
        }
    }

    fn start_later(&mut self, lived: Duration) {
        let delay = self.backoff.delay(lived);
        if !delay.is_zero() {
            tracing::warn!("the next data process starts in {delay:?}");
        }
        self.state = State::Absent { until: Instant::now() + delay };
    }

    fn obey(&mut self, signal: Signal) {
        match signal {
            Signal::Stop(_) if self.told.is_some() => {
                tracing::warn!("told to stop again: cutting what still runs");
                self.force();
            }
            Signal::Stop(signal) => {
                self.told = Some(signal);
                self.drain();
            }
            // Not a wish to reload: there is nobody left.
            Signal::Reload if terminal::is_gone() => self.obey(Signal::Stop(rustix::process::Signal::TERM)),
            Signal::Reload => self.configuration.signal(),
            Signal::ReopenLogs => self.reopen_logs(),
            Signal::ReplaceBinary => {
                tracing::warn!("SIGUSR2 does nothing yet: this binary runs on");
            }
            Signal::Continue => self.children.resume(),
            // The dead are looked for on every turn.
            Signal::ChildEnded => {}
        }
    }

    /// A data process that is not there yet opens them at its start.
    fn reopen_logs(&self) {
        if let State::Running(process) = &self.state
            && let Err(error) = process.send(&Order::<io::Stdin>::ReopenLogs)
        {
            tracing::error!("cannot tell the data process to open its logs anew: {error}");
        }
    }

    /// Begins to stop, unless that has begun: first the data process, so that the children can
    /// answer what still runs.
    fn drain(&mut self) {
        if let Phase::Draining { .. } | Phase::Stopping { .. } | Phase::Over { .. } = self.phase {
            return;
        }
        tracing::info!("stopping: nothing new is accepted, what runs may finish");
        // A socket is closed when its last copy is: ours must not outlive the worker's.
        self.sockets.close();
        let State::Running(process) = &self.state else {
            return self.stop_children(None);
        };
        if let Err(error) = process.send(&Order::<io::Stdin>::Drain) {
            tracing::error!("cannot tell the data process to stop: {error}");
            process.kill();
        }
        let until = Instant::now() + self.shutdown_timeout.min(DRAIN_MAX) + DRAIN_EXTRA;
        self.phase = Phase::Draining { until };
    }

    /// The last thing: `code` is what we end with when the children have ended.
    fn stop_children(&mut self, code: Option<u8>) {
        self.sockets.close();
        self.children.stop(self.told.unwrap_or(rustix::process::Signal::TERM));
        self.phase = Phase::Stopping { code };
    }

    fn force(&mut self) {
        self.kill_data_process();
        self.children.kill();
        self.phase = Phase::Over { code: FORCED };
    }

    fn kill_data_process(&self) {
        if let State::Running(process) = &self.state {
            process.kill();
        }
    }

    fn read_reports(&mut self) {
        let State::Running(process) = &mut self.state else {
            return;
        };
        while let Some(report) = process.report() {
            process.is_ready |= matches!(report, Report::Ready { .. });
            match (report, &mut self.phase) {
                (Report::Ready { .. }, phase @ Phase::Starting { .. }) => {
                    *phase = Phase::Serving;
                    for listener in &self.sockets.listeners {
                        tracing::info!("listening on http://{}", listener.address);
                    }
                    if let (Some(announce), Some(first)) = (self.announce, self.sockets.listeners.first()) {
                        announce(first.address);
                    }
                }
                (Report::Ready { .. }, _) => tracing::info!("the data process is ready"),
                (Report::Failed { message }, Phase::Starting { failure }) => {
                    *failure = Some(message);
                }
                (Report::Failed { message }, _) => tracing::error!("{message}"),
                (Report::Child(settings), _) => self.wanted.push(*settings),
                (Report::Children, phase) => {
                    let wanted = std::mem::take(&mut self.wanted);
                    // Nothing is started for what ends.
                    if let Phase::Starting { .. } | Phase::Serving = phase {
                        self.children.keep(wanted);
                    }
                }
                (Report::Add(settings), Phase::Serving) => self.children.add(*settings),
                (Report::Replace(settings), Phase::Serving) => self.children.replace(*settings),
                (Report::Add(_) | Report::Replace(_), _) => {}
                (Report::Reorder(settings), _) => self.children.reorder(*settings),
                (Report::Rename { from, to }, _) => self.children.rename(&from, &to),
                (Report::Remove(name), _) => self.children.remove(&name),
                (Report::Restart(settings), _) => self.children.restart(*settings),
                (Report::Moved(name), _) => self.children.retire(&name),
                (Report::Abandon(name), _) => self.children.abandon(&name),
                (Report::StopChild(name), _) => self.children.order_stop(&name),
                (Report::StartChild(name), _) => self.children.order_start(&name),
                (Report::Refuses(name), _) => self.children.doubt(&name),
                (Report::Reread, _) => self.configuration.ask(),
                (Report::Adopted { shutdown_timeout, watch }, _) => {
                    self.configuration.adopt();
                    self.configuration.set_watch(watch);
                    self.sockets.adopt();
                    self.shutdown_timeout = shutdown_timeout;
                }
                (Report::Kept, _) => {
                    self.configuration.keep();
                    self.sockets.keep();
                }
                (Report::Listen(addresses), _) => self.sockets.prepare(addresses, process),
                (Report::Drained, _) => tracing::debug!("the data process has drained"),
            }
        }
    }

    /// Tells the data process what has become of the children.
    fn tell_news(&mut self) {
        let State::Running(process) = &self.state else {
            return;
        };
        let news = self.children.news().into_iter().map(Order::<io::Stdin>::Child);
        let news = self.children.wrapped_news().map(Order::Wrapped).into_iter().chain(news);
        let outcomes = self.children.take_outcomes().into_iter();
        let outcomes = outcomes.map(|(name, outcome)| Order::Done { name, failure: outcome.err() });
        // What has become of a child comes before what somebody waits for.
        for order in news.chain(outcomes) {
            if let Err(error) = process.send(&order) {
                // It will be seen to be dead, and the next one asks for everything.
                tracing::debug!("cannot tell the data process of a child: {error}");
                return;
            }
        }
    }

    /// Buries the dead, ours and the orphans of others that we inherit, and sees to the stopped.
    fn reap(&mut self) {
        loop {
            let (pid, status) = match rustix::process::wait(WaitOptions::NOHANG | WaitOptions::UNTRACED) {
                Ok(Some(dead)) => dead,
                Err(rustix::io::Errno::INTR) => continue,
                Ok(None) | Err(_) => return,
            };
            if let Some(signal) = status.stopping_signal() {
                self.children.mind_stopped(pid, signal);
                continue;
            }
            let end = End(status);
            match self.children.bury(pid, end) {
                Buried::Wrapped => {
                    self.drain();
                    continue;
                }
                Buried::Supervised => continue,
                Buried::Stranger => {}
            }
            if let State::Running(process) = &self.state
                && process.pid() == pid
            {
                let lived = process.age();
                // What it said last came before its death.
                self.read_reports();
                self.wanted.clear();
                self.state = State::Absent { until: Instant::now() };
                self.outlive(end, lived);
                self.configuration.outlive();
                self.sockets.keep();
            }
        }
    }

    /// The data process is dead and reaped.
    fn outlive(&mut self, end: End, lived: Duration) {
        match &mut self.phase {
            Phase::Draining { .. } if end.is_success() => self.stop_children(None),
            Phase::Draining { .. } => {
                tracing::error!("the data process ended before it had drained ({end})");
                self.stop_children(Some(FORCED));
            }
            Phase::Starting { failure } => {
                match failure.take() {
                    Some(message) => tracing::error!("{message}"),
                    None => tracing::error!("the data process ended before it was ready ({end})"),
                }
                self.stop_children(Some(FAILED));
            }
            Phase::Serving => {
                tracing::error!("the data process ended ({end}); starting another");
                self.start_later(lived);
            }
            Phase::Stopping { .. } | Phase::Over { .. } => {}
        }
    }
}
