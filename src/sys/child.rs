//! What a command's process does between its fork and its exec.

#![allow(unsafe_code)]

use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::io::Errno;
use rustix::process::Signal;

/// Has the kernel signal the process of `command` when the thread that starts it ends, however
/// it ends. A program that changes its user at exec loses this.
pub fn die_with_starter(command: &mut Command, signal: Signal) {
    let starter = rustix::process::getpid();
    let before_exec = move || {
        rustix::process::set_parent_process_death_signal(Some(signal))?;
        // The starter may have ended before the kernel was told.
        match rustix::process::getppid() {
            Some(parent) if parent == starter => Ok(()),
            _ => Err(Errno::SRCH.into()),
        }
    };
    // SAFETY: the closure only makes system calls, by rustix directly: it takes no lock and no
    // memory, which another thread could hold at the moment of the fork.
    unsafe { command.pre_exec(before_exec) };
}
