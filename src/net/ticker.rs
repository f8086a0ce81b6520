//! What makes the wheel turn: a kernel timer that the event loop polls like a socket.
//!
//! monoio's own timers would put a timeout into every wait of the ring; this costs nothing
//! between two ticks, and nothing at all while it is stopped.

use std::io;
use std::os::fd::OwnedFd;

use monoio::net::UnixStream;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

use super::deadline::TICK;

/// Ticks every [`TICK`] while it runs.
pub struct Ticker {
    /// Only polled: a timer descriptor knows neither send nor receive.
    poll: UnixStream,
    timer: OwnedFd,
    is_running: std::cell::Cell<bool>,
}

impl Ticker {
    pub fn new() -> io::Result<Ticker> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let poll = UnixStream::from_std(timer.try_clone()?.into())?;
        Ok(Ticker { poll, timer, is_running: std::cell::Cell::new(false) })
    }

    /// Starts to tick if it does not yet.
    pub fn start(&self) -> io::Result<()> {
        if !self.is_running.replace(true) {
            let tick = Timespec { tv_sec: 0, tv_nsec: i64::from(TICK.subsec_nanos()) };
            self.set(Itimerspec { it_interval: tick, it_value: tick })?;
        }
        Ok(())
    }

    pub fn stop(&self) -> io::Result<()> {
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        self.is_running.set(false);
        self.set(Itimerspec { it_interval: never, it_value: never })
    }

    fn set(&self, spec: Itimerspec) -> io::Result<()> {
        rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &spec)?;
        Ok(())
    }

    /// Resolves at the next tick.
    pub async fn tick(&self) -> io::Result<()> {
        self.poll.readable(false).await?;
        let mut count = [0u8; 8];
        match rustix::io::read(&self.timer, &mut count) {
            Ok(_) | Err(rustix::io::Errno::AGAIN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
