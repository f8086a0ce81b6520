//! The data process as `master` holds it: started with its sockets and its configuration,
//! told what to do, ended. A value of this type is a process that was not reaped yet, so its
//! pid is nobody else's.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::MemfdFlags;
use rustix::process::{Pid, Signal};

use super::listeners::Listener;
use crate::process::orders::{Order, Received, Report, Socket};

/// The first argument that makes this binary a data process.
pub const ARGUMENT: &str = "data-process";

/// A data process that runs, or is dead and not reaped.
#[derive(Debug)]
pub struct DataProcess {
    pid: Pid,
    /// `None` once the other end is closed.
    orders: Option<Socket>,
    started: Instant,
}

impl DataProcess {
    /// Starts one and tells it everything it needs. It says later whether it is ready.
    ///
    /// # Errors
    /// No process, memory or descriptor could be had.
    pub fn start(sources: &[u8], listeners: &[Listener]) -> io::Result<DataProcess> {
        let (ours, theirs) = Socket::pair()?;
        let child = Command::new("/proc/self/exe")
            .arg0("warpdrive:")
            .arg(ARGUMENT)
            .stdin(Stdio::from(theirs.into_descriptor()))
            // Ctrl-C in a terminal is for `master` alone.
            .process_group(0)
            .spawn()?;
        let pid = Pid::from_raw(child.id().cast_signed())
            .ok_or_else(|| io::Error::other("a child without a pid"))?;
        let process = DataProcess { pid, orders: Some(ours), started: Instant::now() };
        if let Err(error) = process.instruct(sources, listeners) {
            // Its end will be seen as any other; why it ended is said here.
            tracing::error!("cannot instruct the data process: {error}");
            process.kill();
        }
        Ok(process)
    }

    fn instruct(&self, sources: &[u8], listeners: &[Listener]) -> io::Result<()> {
        let file = rustix::fs::memfd_create("configuration", MemfdFlags::CLOEXEC)?;
        let mut file = File::from(file);
        file.write_all(sources)?;
        file.rewind()?;
        self.send(&Order::Configuration(file.as_fd()))?;
        for listener in listeners {
            for (worker, socket) in listener.sockets.iter().enumerate() {
                self.send(&Order::Listener { address: listener.address, worker, socket: socket.as_fd() })?;
            }
        }
        self.send(&Order::<File>::Start)
    }

    /// # Errors
    /// It is gone, or does not listen to us.
    pub fn send(&self, order: &Order<impl AsFd>) -> io::Result<()> {
        match &self.orders {
            Some(orders) => orders.send(order),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// The next report, if there is one.
    pub fn report(&mut self) -> Option<Report> {
        match self.orders.as_ref()?.try_receive() {
            Ok(Received::Message(report)) => return Some(report),
            Ok(Received::Nothing) => {}
            Ok(Received::End) => self.orders = None,
            Err(error) => {
                tracing::error!("the data process says what nobody understands: {error}");
                self.orders = None;
            }
        }
        None
    }

    /// Readable when there is a report or no more of them.
    pub fn orders(&self) -> Option<&Socket> {
        self.orders.as_ref()
    }

    pub fn pid(&self) -> Pid {
        self.pid
    }

    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    pub fn kill(&self) {
        if let Err(error) = rustix::process::kill_process(self.pid, Signal::KILL) {
            tracing::error!("cannot kill the data process: {error}");
        }
    }
}
