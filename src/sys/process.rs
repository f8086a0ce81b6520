//! Calls about this process and this thread that rustix has not, or not so.

#![allow(unsafe_code)]

use std::mem::MaybeUninit;

use rustix::process::{Pid, Signal};

/// The process group that we are in. `None` if it is none that we could name: that of a parent in
/// another PID namespace, where rustix panics.
pub fn group() -> Option<Pid> {
    // SAFETY: it takes nothing and cannot fail.
    Pid::from_raw(unsafe { libc::getpgrp() })
}

/// Does something while `signal` is blocked on this thread.
pub fn blocking<T>(signal: Signal, action: impl FnOnce() -> T) -> T {
    let mut set = MaybeUninit::uninit();
    let mut before = MaybeUninit::uninit();
    // SAFETY: `sigemptyset` makes a whole set of what it is given.
    let mut set = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        set.assume_init()
    };
    // SAFETY: `set` is a set, and the number is that of a signal.
    unsafe { libc::sigaddset(&mut set, signal.as_raw()) };
    // SAFETY: both pointers are to sets; the second is written.
    let failed = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, before.as_mut_ptr()) };
    assert_eq!(failed, 0, "SIG_BLOCK is a way to change a mask");
    let done = action();
    // SAFETY: the call above has written `before`.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut()) };
    done
}
