//! How a process ended.

use std::fmt;

use rustix::process::WaitStatus;

/// The status of a process that is dead and reaped.
#[derive(Clone, Copy, Debug)]
pub struct End(pub WaitStatus);

impl End {
    pub fn is_success(self) -> bool {
        self.0.exit_status() == Some(0)
    }

    /// As a shell tells it: the exit code, or 128 and the number of the signal.
    pub fn code(self) -> u8 {
        let signal = self.0.terminating_signal().map(|number| 128 + number);
        let code = self.0.exit_status().or(signal);
        code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.exit_status(), self.0.terminating_signal()) {
            (Some(code), _) => write!(f, "exit code {code}"),
            (None, Some(number)) => match signal_hook::low_level::signal_name(number) {
                Some(name) => write!(f, "killed by {name}"),
                None => write!(f, "killed by signal {number}"),
            },
            (None, None) => write!(f, "status {}", self.0.as_raw()),
        }
    }
}
