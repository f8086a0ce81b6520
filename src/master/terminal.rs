//! The terminal that we were started from, if there is one, and the process group that has it:
//! that one may read from it and gets what Ctrl-C and Ctrl-Z send.
//!
//! A child begins without it, so that Ctrl-C is ours and it is told to stop after the last
//! response. One that reads from the terminal, as a debugger does, is stopped by the kernel, is
//! lent the terminal and goes on; from then on both keys are the child's.

use std::fs::{File, OpenOptions};

use rustix::io::Errno;
use rustix::process::{Pid, Signal};

use crate::sys;

/// Lets `group` have the terminal if it is ours; whether it was.
pub fn lend(group: Pid) -> bool {
    sys::process::group().is_some_and(|own| give(own, group))
}

/// Takes it back if `group` has it; whether it had.
pub fn take_back(group: Pid) -> bool {
    sys::process::group().is_some_and(|own| give(group, own))
}

/// Whether our standard input was a terminal that is gone: its window was closed.
pub fn is_gone() -> bool {
    rustix::termios::tcgetattr(rustix::stdio::stdin()).err() == Some(Errno::IO)
}

/// Stops us as Ctrl-Z would have, so that the shell that waits for us goes on.
pub fn stop_ourselves() {
    if let Err(error) = rustix::process::kill_current_process_group(Signal::TSTP) {
        tracing::error!("cannot stop: {error}");
    }
}

fn give(from: Pid, to: Pid) -> bool {
    // Without a controlling terminal this cannot be opened.
    let Ok(terminal) = terminal() else {
        return false;
    };
    if rustix::termios::tcgetpgrp(&terminal) != Ok(from) {
        return false;
    }
    // Who does this from the background is stopped, unless it does not hear of it.
    match sys::process::blocking(Signal::TTOU, || rustix::termios::tcsetpgrp(&terminal, to)) {
        Ok(()) => true,
        Err(error) => {
            tracing::error!("cannot hand the terminal on: {error}");
            false
        }
    }
}

fn terminal() -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).open("/dev/tty")
}
