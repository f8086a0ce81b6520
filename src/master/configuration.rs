//! The configuration as `master` has it: the one in force, for the next data process, and one that
//! was read again, until the data process has said whether it runs by it.
//!
//! Must not know: what is in it.

use std::fs::File;
use std::io;

use super::data_process::{self, DataProcess};
use crate::process::orders::Order;

/// Reads a configuration, encoded; or says what is wrong with it, as an operator is to see it.
pub type Read = Box<dyn Fn() -> Result<Vec<u8>, String>>;

pub struct Configuration {
    in_force: Vec<u8>,
    read: Read,
    is_signalled: bool,
    /// How many askers the data process has for whom it is to be read again.
    asked: usize,
    /// What the data process has not said anything of yet.
    offered: Option<Vec<u8>>,
    /// A data process ended while it was to run by it: it may be why.
    is_suspect: bool,
}

impl Configuration {
    pub fn new(in_force: Vec<u8>, read: Read) -> Configuration {
        Configuration { in_force, read, is_signalled: false, asked: 0, offered: None, is_suspect: false }
    }

    pub fn in_force(&self) -> &[u8] {
        &self.in_force
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
        let sent = match (self.read)() {
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
