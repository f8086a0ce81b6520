//! Panics are told like everything else: one line that names the thread and the place.

use std::panic::{PanicHookInfo, set_hook};

/// From now on, every panic of the process is one line of its log instead of several of Rust's.
pub fn log_panics() {
    set_hook(Box::new(log));
}

fn log(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    // A panic with a value instead of a message comes from no code of ours.
    let message = panic.payload_as_str().unwrap_or("no message");
    match panic.location() {
        Some(place) => {
            tracing::error!("{thread} panicked at {}:{}: {message:?}", place.file(), place.line());
        }
        None => tracing::error!("{thread} panicked: {message:?}"),
    }
}
