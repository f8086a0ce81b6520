//! The stages of a child's life, and the process that it has in some of them.

use std::time::Instant;

use rustix::process::Signal;

use crate::process::child::{Child, StartError};
use crate::process::output::Output;
use crate::process::readiness::Probe;

/// Where a child is in its life.
#[derive(Debug)]
pub enum Stage {
    /// It is started at this time, or as soon as what it depends on is ready.
    Waiting {
        until: Instant,
    },
    /// The job of this number runs.
    Preparing {
        process: Process,
        job: usize,
    },
    Starting {
        process: Process,
        probes: Vec<Vec<Probe>>,
        /// It was ready before, and refuses connections now.
        is_again: bool,
        remind: Option<Instant>,
        until: Option<Instant>,
    },
    Ready {
        process: Process,
    },
    /// What is left of it is killed then.
    Ending {
        process: Process,
        until: Instant,
        then: Then,
    },
    Over,
}

/// What follows the end of all processes of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    StartAt(Instant),
    Rest,
}

/// A process that was started, and not buried with all of its group.
#[derive(Debug)]
pub struct Process {
    pub child: Child,
    pub output: Option<Output>,
    pub since: Instant,
    pub is_stopped: bool,
}

/// Why a child does not run.
#[derive(Debug)]
pub enum Refusal {
    Taken(String),
    Start(StartError),
}

impl Stage {
    pub fn process(&self) -> Option<&Process> {
        match self {
            Stage::Preparing { process, .. }
            | Stage::Starting { process, .. }
            | Stage::Ready { process }
            | Stage::Ending { process, .. } => Some(process),
            Stage::Waiting { .. } | Stage::Over => None,
        }
    }

    pub fn process_mut(&mut self) -> Option<&mut Process> {
        match self {
            Stage::Preparing { process, .. }
            | Stage::Starting { process, .. }
            | Stage::Ready { process }
            | Stage::Ending { process, .. } => Some(process),
            Stage::Waiting { .. } | Stage::Over => None,
        }
    }
}

impl Process {
    /// Lets it go on if it was stopped.
    pub fn resume(&mut self) {
        if std::mem::take(&mut self.is_stopped) {
            self.child.signal(Signal::CONT);
        }
    }
}

/// `; last it wrote: "one" "two"`, or nothing if it wrote nothing.
pub fn last_words(output: &Output) -> String {
    let mut words = String::new();
    for line in output.last() {
        let before = if words.is_empty() { "; last it wrote:" } else { "" };
        words += &format!("{before} \"{line}\"");
    }
    words
}

impl Refusal {
    pub fn code(&self) -> u8 {
        match self {
            Refusal::Taken(_) => 1,
            Refusal::Start(error) => error.code(),
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refusal::Taken(message) => f.write_str(message),
            Refusal::Start(error) => error.fmt(f),
        }
    }
}
