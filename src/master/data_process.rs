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
use crate::process::orders::{Order, Received, Report, Socket, State};

/// The first argument that makes this binary a data process.
pub const ARGUMENT: &str = "data-process";

/// A data process that runs, or is dead and not reaped.
#[derive(Debug)]
pub struct DataProcess {
    pid: Pid,
    /// `None` once the other end is closed.
    orders: Option<Socket>,
    started: Instant,
    /// Its workers run.
    pub is_ready: bool,
}

impl DataProcess {
    /// Starts one and tells it everything it needs. It says later whether it is ready.
    ///
    /// # Errors
    /// No process, memory or descriptor could be had.
    pub fn start(sources: &[u8], listeners: &[Listener], wrapped: Option<State>) -> io::Result<DataProcess> {
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
        let process = DataProcess { pid, orders: Some(ours), started: Instant::now(), is_ready: false };
        if let Err(error) = process.instruct(sources, listeners, wrapped) {
            // Its end will be seen as any other; why it ended is said here.
            tracing::error!("cannot instruct the data process: {error}");
            process.kill();
        }
        Ok(process)
    }

    fn instruct(&self, sources: &[u8], listeners: &[Listener], wrapped: Option<State>) -> io::Result<()> {
        self.send(&Order::Configuration(in_memory(sources)?))?;
        wrapped.into_iter().try_for_each(|state| self.send(&Order::<File>::Wrapped(state)))?;
        listeners.iter().try_for_each(|listener| self.hand_over(listener))?;
        self.send(&Order::<File>::Start)
    }

    /// Gives it the sockets of an address.
    ///
    /// # Errors
    /// As [`DataProcess::send`].
    pub fn hand_over(&self, listener: &Listener) -> io::Result<()> {
        let mut sockets = listener.sockets.iter().enumerate();
        sockets.try_for_each(|(worker, socket)| {
            self.send(&Order::Listener { address: listener.address, worker, socket: socket.as_fd() })
        })
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

/// A file that is nowhere, with this content.
pub fn in_memory(content: &[u8]) -> io::Result<File> {
    let mut file = File::from(rustix::fs::memfd_create("configuration", MemfdFlags::CLOEXEC)?);
    file.write_all(content)?;
    file.rewind()?;
    Ok(file)
}
