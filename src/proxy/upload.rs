//! The body of a request on its way, as far as it decides whose silence counts: while an
//! upstream waits for a slow client, neither is the upstream slow, nor is a client that waits
//! for the upstream's leave. And a client that goes away meanwhile ends the exchange.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::task::Poll;
use std::time::Duration;

use super::body::Source;
use crate::net::deadline::{Side, Timer};
use crate::net::stream::Peeked;
use crate::net::{Buffer, Reader};

/// An answer that takes longer than this is watched for a client that goes away.
const WATCH_AFTER: Duration = Duration::from_millis(100);
/// How often a client that has nothing more to say is looked at.
const WATCH_AGAIN: Duration = Duration::from_secs(1);

/// What the two sides of an exchange know of each other while the request's body is under way.
#[derive(Default)]
pub struct Upload {
    /// The whole request is with the upstream.
    pub is_sent: Cell<bool>,
    /// The upstream has said something that lets a waiting client begin.
    pub has_leave: Cell<bool>,
    /// The final response is on its way to the client.
    pub has_answer: Cell<bool>,
    /// The body is being relayed: the upstream waits for it and may be silent.
    is_running: Cell<bool>,
    /// A read of the response's head is pending.
    is_reading: Cell<bool>,
}

impl Upload {
    /// Waits until the client begins, or may. A client that expects a word of the upstream
    /// first is not too slow before it.
    pub async fn may_begin(&self, source: &Source<'_>) {
        let Some(client) = source.client().filter(|_| source.received() == 0) else { return };
        let mut readable = std::pin::pin!(client.readable());
        poll_fn(|cx| match self.has_leave.get() || readable.as_mut().poll(cx).is_ready() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
    }

    pub fn begin(&self, upstream: &Timer) {
        self.is_running.set(true);
        // The silence of a response that has begun goes on counting.
        if self.is_reading.get() {
            upstream.disarm(Side::Read);
        }
    }

    /// From now on the silence of the upstream counts.
    pub fn end(&self, upstream: &Timer, timeout: Duration) {
        self.is_running.set(false);
        if self.is_reading.get() {
            upstream.arm(Side::Read, timeout);
        }
    }

    /// Reads a part of the response's head.
    pub async fn read(
        &self,
        reader: &mut Reader<'_>,
        buffer: Buffer,
        timeout: Duration,
    ) -> (io::Result<usize>, Buffer) {
        if !self.is_running.get() {
            reader.timer().arm(Side::Read, timeout);
        }
        self.is_reading.set(true);
        let read = reader.read(buffer).await;
        self.is_reading.set(false);
        reader.timer().disarm(Side::Read);
        read
    }
}

/// Resolves when the client is gone: at once if it has said nothing more, within a second if there
/// are unread bytes. A reset counts in any case. An orderly end of its stream does as long as
/// `ends_at_fin` says so: that is what every `close()` looks like from here, and also that of a
/// client that only sends no more.
pub async fn gone(client: Option<&Reader<'_>>, ends_at_fin: impl Fn() -> bool) {
    let Some(client) = client else { return std::future::pending().await };
    client.timer().pause(WATCH_AFTER).await;
    loop {
        if client.readable().await.is_err() {
            return;
        }
        match client.peek() {
            Peeked::Error => return,
            Peeked::End if ends_at_fin() => return,
            Peeked::Nothing => continue,
            Peeked::Data | Peeked::End => {}
        }
        // It stays readable, so only a look now and then can tell more.
        while !is_gone(client, ends_at_fin()) {
            client.timer().pause(WATCH_AGAIN).await;
        }
        return;
    }
}

/// The same for those who look now and then.
pub fn is_gone(client: &Reader<'_>, ends_at_fin: bool) -> bool {
    client.has_error() || ends_at_fin && client.has_ended()
}
