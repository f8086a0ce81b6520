//! What one core has written, on its way to the thread that passes it on: in buffers that are
//! handed over when they are full or a second old. Never waits: when too many wait already, what
//! is in the buffer is dropped and counted.
//!
//! Hot path: no lock; one allocation for each full buffer.

use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, TrySendError};

/// Room for what is written after a buffer was nearly full.
const SPARE: usize = 4096;

/// What goes on being lost is told this often.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);

pub struct Outbox {
    /// Handed on when it holds so many bytes.
    full: usize,
    bytes: Vec<u8>,
    /// How many items are in it.
    count: u64,
    sender: Option<Sender<Vec<u8>>>,
    /// Items lost since that was told last, and when it was.
    lost: u64,
    complained: Option<Instant>,
}

impl Outbox {
    pub fn new(full: usize, sender: Sender<Vec<u8>>) -> Outbox {
        Outbox { full, bytes: Vec::new(), count: 0, sender: Some(sender), lost: 0, complained: None }
    }

    /// Writes one item; returns how many were lost.
    pub fn write(&mut self, item: impl FnOnce(&mut Vec<u8>)) -> u64 {
        if self.bytes.capacity() == 0 {
            self.bytes.reserve(self.full + SPARE);
        }
        item(&mut self.bytes);
        self.count += 1;
        if self.bytes.len() >= self.full { self.hand_on() } else { 0 }
    }

    /// Hands on what there is; returns how many items were lost.
    pub fn flush(&mut self) -> u64 {
        if self.bytes.is_empty() { 0 } else { self.hand_on() }
    }

    /// Lets the other end go: it ends when no core can send any more.
    pub fn close(&mut self) {
        self.sender = None;
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// How many were lost, if it is time to tell that.
    pub fn complaint(&mut self) -> Option<u64> {
        if self.lost == 0 {
            return None;
        }
        let now = Instant::now();
        let is_due = self.complained.is_none_or(|last| now.duration_since(last) >= COMPLAINT_INTERVAL);
        is_due.then(|| {
            self.complained = Some(now);
            std::mem::take(&mut self.lost)
        })
    }

    fn hand_on(&mut self) -> u64 {
        let bytes = std::mem::take(&mut self.bytes);
        let count = std::mem::take(&mut self.count);
        let unsent = match &self.sender {
            Some(sender) => sender.try_send(bytes).err().map(TrySendError::into_inner),
            None => Some(bytes),
        };
        let Some(unsent) = unsent else { return 0 };
        self.lost += count;
        self.bytes = unsent;
        self.bytes.clear();
        count
    }
}
