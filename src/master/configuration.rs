//! The configuration as `master` has it: the one in force, for the next data process, and one that
//! was read again, until the data process has said whether it runs by it.
//!
//! Must not know: what is in it.

use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use super::data_process::{self, DataProcess};
use crate::process::orders::Order;

/// How often it is looked whether files have changed.
const LOOK: Duration = Duration::from_secs(1);

/// Whence a configuration is read.
pub trait Origin {
    /// Encoded.
    ///
    /// # Errors
    /// What is wrong with it, as an operator is to see it.
    fn read(&mut self) -> Result<Vec<u8>, String>;

    /// Another number when another file is there than at the last call, probably.
    fn stamp(&self) -> u64;
}

pub struct Configuration {
    in_force: Vec<u8>,
    origin: Box<dyn Origin>,
    watch: Option<Watch>,
    is_signalled: bool,
    /// How many askers the data process has for whom it is to be read again.
    asked: usize,
    /// What the data process has not said anything of yet.
    offered: Option<Vec<u8>>,
    /// A data process ended while it was to run by it: it may be why.
    is_suspect: bool,
}

/// Files are looked at.
struct Watch {
    /// As they were when they were read.
    read: u64,
    /// As they were at the last look.
    seen: u64,
    next: Instant,
}

impl Configuration {
    pub fn new(in_force: Vec<u8>, origin: Box<dyn Origin>) -> Configuration {
        Configuration {
            in_force,
            origin,
            watch: None,
            is_signalled: false,
            asked: 0,
            offered: None,
            is_suspect: false,
        }
    }

    pub fn in_force(&self) -> &[u8] {
        &self.in_force
    }

    /// Whether a change of its files is a reload, from now on.
    pub fn set_watch(&mut self, is_on: bool) {
        if is_on != self.watch.is_some() {
            let stamp = self.origin.stamp();
            self.watch = is_on.then(|| Watch { read: stamp, seen: stamp, next: Instant::now() + LOOK });
        }
    }

    /// When files are looked at next.
    pub fn deadline(&self) -> Option<Instant> {
        self.watch.as_ref().map(|watch| watch.next)
    }

    /// Looks at files if it is time: what has changed and then stayed so for a while is read. Who
    /// writes several files, or one in parts, is not interrupted.
    pub fn look(&mut self) {
        let Some(watch) = self.watch.as_mut().filter(|watch| watch.next <= Instant::now()) else { return };
        watch.next = Instant::now() + LOOK;
        let stamp = self.origin.stamp();
        let is_settled = std::mem::replace(&mut watch.seen, stamp) == stamp;
        if is_settled && stamp != watch.read {
            watch.read = stamp;
            tracing::info!("files of the configuration have changed");
            self.is_signalled = true;
        }
    }

    /// It is to be read again because of a signal. Several at once are one.
    pub fn signal(&mut self) {
        self.is_signalled = true;
    }

    /// The same for one more asker of the data process.
    pub fn ask(&mut self) {
        self.asked += 1;
    }

    /// Somebody wants it to be read again, and the last time is over.
    pub fn is_due(&self) -> bool {
        self.offered.is_none() && (self.is_signalled || self.asked > 0)
    }

    /// Reads it again, for all who want that, and has the data process run by it if it can.
    pub fn offer(&mut self, process: &DataProcess) {
        self.is_signalled = false;
        let asked = std::mem::take(&mut self.asked);
        let read = self.origin.read();
        if let Some(watch) = &mut self.watch {
            // Perhaps there are others to look at now.
            watch.read = self.origin.stamp();
            watch.seen = watch.read;
        }
        let sent = match read {
            Ok(sources) => {
                let order = data_process::in_memory(&sources).map(|sources| Order::Reload { asked, sources });
                let sent = order.and_then(|order| process.send(&order));
                self.offered = Some(sources);
                sent
            }
            Err(why) => process.send(&Order::<File>::Unreadable { asked, why }),
        };
        match sent {
            Ok(()) => {}
            // It is dead, which is seen next; what was offered goes with it.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.offered.get_or_insert_default();
            }
            Err(error) => {
                tracing::error!("cannot tell the data process to reload: {error}");
                self.offered = None;
            }
        }
    }

    /// The one that was offered is in force.
    pub fn adopt(&mut self) {
        self.is_suspect = false;
        if let Some(sources) = self.offered.take() {
            self.in_force = sources;
        }
    }

    /// The one that was offered cannot be.
    pub fn keep(&mut self) {
        self.is_suspect = false;
        self.offered = None;
    }

    /// The data process is gone, and with it those who had asked it. The next one is told to reload
    /// what this one was about to: once, or there would be no end to it.
    pub fn outlive(&mut self) {
        self.asked = 0;
        if self.offered.take().is_none() {
            return;
        }
        if self.is_suspect {
            tracing::error!("that was while it was to reload, again: the configuration stays as it was");
        }
        self.is_signalled |= !self.is_suspect;
        self.is_suspect = !self.is_suspect;
    }
}
