//! Messages from `control` to one worker: a channel, and a socket pair that wakes the ring.
//! A channel alone cannot: the worker may be waiting in the kernel.

use std::io::{self, Write};
use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;

use monoio::io::AsyncReadRent;
use monoio::net::UnixStream;

use super::Message;
use super::runtime::needs_nonblocking;

/// The sending end; any number of threads may hold one.
#[derive(Clone)]
pub struct Sender {
    messages: crossbeam_channel::Sender<Message>,
    wake: Arc<StdStream>,
}

/// The receiving end before it has reached its worker's event loop.
pub struct Receiver {
    messages: crossbeam_channel::Receiver<Message>,
    wake: StdStream,
}

/// The receiving end within the event loop.
pub struct Messages {
    messages: crossbeam_channel::Receiver<Message>,
    wake: UnixStream,
    bytes: Vec<u8>,
}

pub fn pair() -> io::Result<(Sender, Receiver)> {
    let (sender, receiver) = crossbeam_channel::unbounded();
    let (ours, theirs) = StdStream::pair()?;
    ours.set_nonblocking(true)?;
    let sender = Sender { messages: sender, wake: Arc::new(ours) };
    Ok((sender, Receiver { messages: receiver, wake: theirs }))
}

impl Sender {
    pub fn send(&self, message: Message) {
        if self.messages.send(message).is_err() {
            return;
        }
        // A full socket has a wake-up in it already; a closed one has no worker behind it.
        let _full_or_closed = (&*self.wake).write(&[0]);
    }
}

impl Receiver {
    pub fn open(self) -> io::Result<Messages> {
        self.wake.set_nonblocking(needs_nonblocking())?;
        let wake = UnixStream::from_std(self.wake)?;
        Ok(Messages { messages: self.messages, wake, bytes: Vec::with_capacity(64) })
    }
}

impl Messages {
    /// The next message; `None` when `control` is gone.
    pub async fn next(&mut self) -> Option<Message> {
        loop {
            match self.messages.try_recv() {
                Ok(message) => return Some(message),
                Err(crossbeam_channel::TryRecvError::Disconnected) => return None,
                Err(crossbeam_channel::TryRecvError::Empty) => {}
            }
            let mut bytes = std::mem::take(&mut self.bytes);
            bytes.clear();
            let (read, bytes) = self.wake.read(bytes).await;
            self.bytes = bytes;
            if !matches!(read, Ok(count) if count > 0) {
                return self.messages.try_recv().ok();
            }
        }
    }
}
