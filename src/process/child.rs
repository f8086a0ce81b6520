//! A child: a supervised process in a process group of its own, together with whatever it
//! starts in that group.
//!
//! `master` alone reaps. It has made itself the reaper of orphans, so while anything is left of
//! a group, a process in it is a child of ours that was not reaped; its number is nobody else's.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

use super::end::End;
use super::output::Output;
use super::settings::{Program, Settings};
use crate::sys;

/// Exit codes of shells: no such command, and one that cannot be run.
const NOT_FOUND: u8 = 127;
const NOT_RUNNABLE: u8 = 126;

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
    /// Starts `program` with the rest of `settings`, our own standard input, output and error,
    /// and no other descriptor of ours. If we end without a word, it is told to stop.
    ///
    /// # Errors
    /// There is no such command, it cannot be run, or the system has no room for it.
    pub fn start(program: &Program, settings: &Settings) -> Result<Child, StartError> {
        Child::spawn(program, settings, &mut Command::new(&program.path))
    }

    /// The same without an input; what it writes is for us to read.
    ///
    /// # Errors
    /// As above.
    pub fn start_quietly(program: &Program, settings: &Settings) -> Result<(Child, Output), StartError> {
        let failed = |cause| StartError { program: program.path.clone(), cause };
        let mut command = Command::new(&program.path);
        let (output, [stdout, stderr]) = Output::pipes(settings.name.to_string()).map_err(failed)?;
        command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        Ok((Child::spawn(program, settings, &mut command)?, output))
    }

    fn spawn(program: &Program, settings: &Settings, command: &mut Command) -> Result<Child, StartError> {
        command.args(&program.arguments).process_group(0);
        if let Some(user) = &settings.user {
            command.env("USER", &user.name).env("LOGNAME", &user.name).env("HOME", &user.home);
        }
        command.envs(settings.environment.iter().map(|(name, value)| (name, value)));
        if let Some(directory) = &settings.directory {
            command.current_dir(directory);
        }
        // Not SIGKILL: it may have processes of its own to stop.
        sys::child::prepare(command, settings.user.as_ref(), Signal::TERM);
        let failed = |cause| StartError { program: program.path.clone(), cause };
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
