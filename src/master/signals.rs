//! The signals that `master` lives by, as words, readable through a descriptor.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use rustix::process;
use signal_hook::consts::{SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;

/// What a signal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM, SIGINT or SIGQUIT: which one.
    Stop(process::Signal),
    /// SIGCHLD.
    ChildEnded,
    /// SIGHUP.
    Reload,
    /// SIGUSR1.
    ReopenLogs,
    /// SIGUSR2.
    ReplaceBinary,
    /// SIGCONT: we were stopped, perhaps, and are in the foreground, perhaps.
    Continue,
}

/// The signals that came and were not taken yet.
pub struct Signals {
    delivery: SignalDelivery<UnixStream, SignalOnly>,
}

impl Signals {
    /// Catches them from now on.
    ///
    /// # Errors
    /// Too many open files.
    pub fn catch() -> io::Result<Signals> {
        let (read, write) = UnixStream::pair()?;
        let numbers = [SIGTERM, SIGINT, SIGQUIT, SIGCHLD, SIGCONT, SIGHUP, SIGUSR1, SIGUSR2];
        let delivery = SignalDelivery::with_pipe(read, write, SignalOnly, numbers)?;
        Ok(Signals { delivery })
    }

    /// Takes what came; each signal at most once, however often it came.
    pub fn take(&mut self) -> Vec<Signal> {
        self.delivery.pending().filter_map(meaning).collect()
    }
}

impl AsFd for Signals {
    /// Readable when there is something to take.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.delivery.get_read().as_fd()
    }
}

fn meaning(number: i32) -> Option<Signal> {
    match number {
        SIGTERM => Some(Signal::Stop(process::Signal::TERM)),
        SIGINT => Some(Signal::Stop(process::Signal::INT)),
        SIGQUIT => Some(Signal::Stop(process::Signal::QUIT)),
        SIGCHLD => Some(Signal::ChildEnded),
        SIGHUP => Some(Signal::Reload),
        SIGUSR1 => Some(Signal::ReopenLogs),
        SIGUSR2 => Some(Signal::ReplaceBinary),
        SIGCONT => Some(Signal::Continue),
        _ => None,
    }
}
