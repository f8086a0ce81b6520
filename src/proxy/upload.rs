//! The body of a request on its way, as far as it decides whose silence counts: while an
//! upstream waits for a slow client, neither is the upstream slow, nor is a client that waits
//! for the upstream's leave.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::task::Poll;
use std::time::Duration;

use super::body::Source;
use crate::net::deadline::{Side, Timer};
use crate::net::{Buffer, Reader};

/// What the two sides of an exchange know of each other while the request's body is under way.
#[derive(Default)]
pub struct Upload {
    /// The whole request is with the upstream.
    pub is_sent: Cell<bool>,
    /// The upstream has said something that lets a waiting client begin.
    pub has_leave: Cell<bool>,
    /// The body is being relayed: the upstream waits for it and may be silent.
    is_running: Cell<bool>,
    /// A read of the response's head is pending.
    is_reading: Cell<bool>,
}

impl Upload {
    /// Waits until the client begins, or may. A client that expects a word of the upstream
    /// first is not too slow before it.
    pub async fn may_begin(&self, source: &Source<'_>) {
        let Source::H1(source) = source;
        if source.received() > 0 {
            return;
        }
        let mut readable = std::pin::pin!(source.reader().readable());
        poll_fn(|cx| match self.has_leave.get() || readable.as_mut().poll(cx).is_ready() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
    }

    pub fn begin(&self, upstream: &Timer) {
        self.is_running.set(true);
        upstream.disarm(Side::Read);
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
