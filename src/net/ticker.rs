//! What makes the wheel turn: a kernel timer that the event loop polls like a socket.
//!
//! monoio's own timers would put a timeout into every wait of the ring; this costs nothing
//! between two ticks.

use std::io;
use std::os::fd::OwnedFd;

use monoio::net::UnixStream;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

use super::deadline::TICK;

/// Ticks every [`TICK`].
pub struct Ticker {
    /// Only polled: a timer descriptor knows neither send nor receive.
    poll: UnixStream,
    timer: OwnedFd,
}

impl Ticker {
    pub fn start() -> io::Result<Ticker> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let tick = Timespec { tv_sec: 0, tv_nsec: i64::from(TICK.subsec_nanos()) };
        let spec = Itimerspec { it_interval: tick, it_value: tick };
        rustix::time::timerfd_settime(&timer, TimerfdTimerFlags::empty(), &spec)?;
        let poll = UnixStream::from_std(timer.try_clone()?.into())?;
        Ok(Ticker { poll, timer })
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
