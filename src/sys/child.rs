//! What a command's process does between its fork and its exec.

#![allow(unsafe_code)]

use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::io::Errno;
use rustix::process::{Gid, Signal, Uid};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};

use super::user::User;

/// Has the process of `command` become this user, and the kernel signal it when the thread that
/// starts it ends, however it ends. A program that changes its user at exec loses the latter.
pub fn prepare(command: &mut Command, user: Option<&User>, signal: Signal) {
    let starter = rustix::process::getpid();
    // What needs memory is made here, not after the fork.
    let identity = user.filter(|user| !is_ours(user)).map(|user| {
        let groups: Vec<Gid> = user.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
        (Uid::from_raw(user.uid), Gid::from_raw(user.gid), groups)
    });
    let before_exec = move || {
        if let Some((uid, gid, groups)) = &identity {
            // Of the thread, which is the whole process here. The user last: it may do all this.
            set_thread_groups(groups)?;
            set_thread_gid(*gid)?;
            set_thread_uid(*uid)?;
        }
        // After the change of user, which would undo it.
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

fn is_ours(user: &User) -> bool {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    !uid.is_root() && (uid.as_raw(), gid.as_raw()) == (user.uid, user.gid)
}
