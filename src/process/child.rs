//! A child: a supervised process in a process group of its own, together with whatever it
//! starts in that group.
//!
//! `master` alone reaps. It has made itself the reaper of orphans, so while anything is left of
//! a group, a process in it is a child of ours that was not reaped; its number is nobody else's.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

use super::end::End;
use super::readiness::Address;
use crate::sys;

/// Exit codes of shells: no such command, and one that cannot be run.
const NOT_FOUND: u8 = 127;
const NOT_RUNNABLE: u8 = 126;

/// What to start, and how to see that it has.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What messages call it.
    pub name: String,
    /// Found by `PATH` if it has no slash.
    pub program: OsString,
    pub arguments: Vec<OsString>,
    /// Set beside the variables that we have.
    pub environment: Vec<(OsString, OsString)>,
    /// It is ready when it accepts connections on one of these. Nobody else may.
    pub addresses: Vec<Address>,
}

/// A process that was started, and its group.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    end: Option<End>,
}

/// A command that cannot be started.
#[derive(Debug)]
pub struct StartError {
    program: OsString,
    cause: io::Error,
}

impl Child {
    /// Starts it with our own standard input, output and error, and no other descriptor of
    /// ours. If we end without a word, it is told to stop.
    ///
    /// # Errors
    /// There is no such command, it cannot be run, or the system has no room for it.
    pub fn start(settings: &Settings) -> Result<Child, StartError> {
        let program: &OsStr = &settings.program;
        let mut command = Command::new(program);
        command.args(&settings.arguments).process_group(0);
        command.envs(settings.environment.iter().map(|(name, value)| (name, value)));
        // Not SIGKILL: it may have processes of its own to stop.
        sys::child::die_with_starter(&mut command, Signal::TERM);
        let failed = |cause| StartError { program: program.to_owned(), cause };
        let child = command.spawn().map_err(failed)?;
        let pid = Pid::from_raw(child.id().cast_signed())
            .ok_or_else(|| failed(io::Error::other("a child without a pid")))?;
        Ok(Child { pid, end: None })
    }

    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// `None` while it runs.
    pub fn end(&self) -> Option<End> {
        self.end
    }

    /// It was reaped; its group may have others.
    pub fn bury(&mut self, end: End) {
        self.end = Some(end);
    }

    /// Whether nothing is left of its group.
    pub fn is_gone(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        self.end.is_some() && rustix::process::waitid(WaitId::Pgid(Some(self.pid)), options).is_err()
    }

    /// Signals every process of its group.
    pub fn signal(&self, signal: Signal) {
        if self.is_gone() {
            return;
        }
        match rustix::process::kill_process_group(self.pid, signal) {
            // Dead, and not reaped yet.
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => {
                let group = self.pid.as_raw_nonzero();
                tracing::error!("cannot send {signal:?} to process group {group}: {error}");
            }
        }
    }
}

impl StartError {
    /// The exit code with which a shell says the same.
    pub fn code(&self) -> u8 {
        if self.cause.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_RUNNABLE }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let program = self.program.display();
        match self.cause.kind() {
            io::ErrorKind::NotFound => {
                write!(f, "cannot start `{program}`: no such command, or its interpreter is missing")
            }
            _ => write!(f, "cannot start `{program}`: {}", self.cause),
        }
    }
}
