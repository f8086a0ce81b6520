//! What `master` does all its life: waits for signals, for reports and for deaths, and keeps a
//! data process running until it is told to stop. One thread, which never waits elsewhere.

use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::WaitOptions;

use super::data_process::{DataProcess, End};
use super::listeners::Listener;
use super::signals::{Signal, Signals};
use crate::process::orders::{Order, Report};
use crate::process::restart::Backoff;

/// What the data process may take for its end beyond the time that its connections have.
const DRAIN_EXTRA: Duration = Duration::from_secs(5);

/// No drain is waited for longer; a bound for the clock.
const DRAIN_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Exit code when connections were cut.
const FORCED: u8 = 2;

/// Everything `master` knows.
pub struct Supervisor {
    signals: Signals,
    /// Encoded, as the data process takes them.
    sources: Vec<u8>,
    listeners: Vec<Listener>,
    shutdown_timeout: Duration,
    backoff: Backoff,
    state: State,
    phase: Phase,
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
}

impl Supervisor {
    pub fn new(
        signals: Signals,
        sources: Vec<u8>,
        listeners: Vec<Listener>,
        shutdown_timeout: Duration,
    ) -> Supervisor {
        Supervisor {
            signals,
            sources,
            listeners,
            shutdown_timeout,
            backoff: Backoff::default(),
            state: State::Absent { until: Instant::now() },
            phase: Phase::Starting { failure: None },
        }
    }

    /// Until there is an exit code.
    pub fn run(mut self) -> ExitCode {
        loop {
            if let Some(code) = self.turn() {
                return code;
            }
        }
    }

    fn turn(&mut self) -> Option<ExitCode> {
        let code = self.meet_deadlines();
        if code.is_some() {
            return code;
        }
        if let Err(error) = self.wait() {
            tracing::error!("cannot wait for events: {error}");
            return Some(self.force());
        }
        for signal in self.signals.take() {
            let code = self.obey(signal);
            if code.is_some() {
                return code;
            }
        }
        self.read_reports();
        self.reap()
    }

    /// Until a signal, a report or the next deadline.
    fn wait(&self) -> io::Result<()> {
        let mut sources = vec![PollFd::new(&self.signals, PollFlags::IN)];
        if let State::Running(process) = &self.state
            && let Some(orders) = process.orders()
        {
            sources.push(PollFd::new(orders, PollFlags::IN));
        }
        let timeout = self.deadline().map(|deadline| {
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
        match (&self.state, &self.phase) {
            (State::Absent { until }, _) => Some(*until),
            (State::Running(_), Phase::Draining { until }) => Some(*until),
            (State::Running(_), _) => None,
        }
    }

    fn meet_deadlines(&mut self) -> Option<ExitCode> {
        if self.deadline().is_none_or(|until| until > Instant::now()) {
            return None;
        }
        match self.state {
            State::Absent { .. } => self.start(),
            State::Running(_) => {
                tracing::error!("the data process did not end in time");
                Some(self.force())
            }
        }
    }

    fn start(&mut self) -> Option<ExitCode> {
        match DataProcess::start(&self.sources, &self.listeners) {
            Ok(process) => {
                self.state = State::Running(process);
                None
            }
            Err(error) => {
                tracing::error!("cannot start the data process: {error}");
                if let Phase::Starting { .. } = self.phase {
                    return Some(ExitCode::FAILURE);
                }
                self.start_later(Duration::ZERO);
                None
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

    fn obey(&mut self, signal: Signal) -> Option<ExitCode> {
        match signal {
            Signal::Stop if matches!(self.phase, Phase::Draining { .. }) => {
                tracing::warn!("told to stop again: cutting what still runs");
                return Some(self.force());
            }
            Signal::Stop => return self.drain(),
            Signal::Reload => {
                tracing::warn!("SIGHUP does nothing yet: the configuration stays as it is");
            }
            Signal::ReopenLogs => {
                tracing::warn!("SIGUSR1 does nothing yet: the log files stay open");
            }
            Signal::ReplaceBinary => {
                tracing::warn!("SIGUSR2 does nothing yet: this binary runs on");
            }
            // The dead are looked for on every turn.
            Signal::ChildEnded => {}
        }
        None
    }

    fn drain(&mut self) -> Option<ExitCode> {
        tracing::info!("stopping: nothing new is accepted, what runs may finish");
        // A socket is closed when its last copy is: ours must not outlive the worker's.
        self.listeners.clear();
        let State::Running(process) = &self.state else {
            return Some(ExitCode::SUCCESS);
        };
        if let Err(error) = process.send(&Order::<io::Stdin>::Drain) {
            tracing::error!("cannot tell the data process to stop: {error}");
            process.kill();
        }
        let until = Instant::now() + self.shutdown_timeout.min(DRAIN_MAX) + DRAIN_EXTRA;
        self.phase = Phase::Draining { until };
        None
    }

    fn force(&self) -> ExitCode {
        if let State::Running(process) = &self.state {
            process.kill();
        }
        ExitCode::from(FORCED)
    }

    fn read_reports(&mut self) {
        let State::Running(process) = &mut self.state else {
            return;
        };
        while let Some(report) = process.report() {
            match (report, &mut self.phase) {
                (Report::Ready { .. }, phase @ Phase::Starting { .. }) => {
                    *phase = Phase::Serving;
                    for listener in &self.listeners {
                        tracing::info!("listening on http://{}", listener.address);
                    }
                }
                (Report::Ready { .. }, _) => tracing::info!("the data process is ready"),
                (Report::Failed { message }, Phase::Starting { failure }) => {
                    *failure = Some(message);
                }
                (Report::Failed { message }, _) => tracing::error!("{message}"),
                (Report::Drained, _) => tracing::debug!("the data process has drained"),
            }
        }
    }

    /// Buries every dead child: as process 1 we inherit those of others, too.
    fn reap(&mut self) -> Option<ExitCode> {
        loop {
            let (pid, status) = match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some(dead)) => dead,
                Err(rustix::io::Errno::INTR) => continue,
                Ok(None) | Err(_) => return None,
            };
            let State::Running(process) = &self.state else {
                continue;
            };
            if process.pid() == pid {
                let lived = process.age();
                // What it said last came before its death.
                self.read_reports();
                let code = self.outlive(End(status), lived);
                if code.is_some() {
                    return code;
                }
            }
        }
    }

    /// The data process is dead and reaped.
    fn outlive(&mut self, end: End, lived: Duration) -> Option<ExitCode> {
        match &mut self.phase {
            Phase::Draining { .. } if end.is_success() => Some(ExitCode::SUCCESS),
            Phase::Draining { .. } => {
                tracing::error!("the data process ended before it had drained ({end})");
                Some(ExitCode::from(FORCED))
            }
            Phase::Starting { failure } => {
                match failure.take() {
                    Some(message) => tracing::error!("{message}"),
                    None => tracing::error!("the data process ended before it was ready ({end})"),
                }
                Some(ExitCode::FAILURE)
            }
            Phase::Serving => {
                tracing::error!("the data process ended ({end}); starting another");
                self.start_later(lived);
                None
            }
        }
    }
}
