//! After an upgrade: bytes both ways until both sides have ended, or neither says anything.
//!
//! The two ends are not alike. A client that has ended its side may wait for what the upstream still
//! says, for as long as a tunnel may be silent (`docker exec` closes its input and streams on). An
//! upstream that has ended its side is done: its place among `max_connections` is free at once, and
//! what the client still says has seconds.
//!
//! A direction takes a buffer only when there is something to read, so an idle tunnel holds none.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use super::connection::Work;
use super::core::Core;
use super::error::{Broken, Error};
use super::trace::Trace;
use crate::net::buffer::Size;
use crate::net::deadline::{Expired, Side};
use crate::net::task::Turn;
use crate::net::{Buffer, Reader, Stream, Timer, Writer};
use crate::telemetry::Counters;
use crate::upstream::pool::{Lease, Vacancy};
use crate::upstream::state::Pick;

/// All that an exchange leaves to the tunnel that it became. No plan: tunnels live for days.
pub struct Tunnel {
    /// Counts for its endpoint as long as it lives.
    pub _pick: Pick,
    pub lease: Lease,
    /// What the upstream had already sent.
    pub by_upstream: Option<Buffer>,
    /// Silence in both directions that ends it.
    pub timeout: Duration,
    /// What the client's direction has after the end of the other one.
    pub linger: Duration,
}

/// Bytes that went through, and why it ended early.
struct Ended {
    up: u64,
    down: u64,
    error: Option<Error>,
}

/// Counts a tunnel as open while it lives, however it ends.
struct Open<'a>(&'a Counters);

impl Open<'_> {
    fn count(counters: &Counters) -> Open<'_> {
        counters.tunnels.add(1);
        Open(counters)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.tunnels_ended.add(1);
    }
}

const UPSTREAM_GONE: Error = Error::UpstreamBroken(Broken::InTunnel);

impl Tunnel {
    /// Runs it to its end, from what the client had already sent.
    pub async fn run(mut self, core: &Core, client: &mut Stream, work: &mut Work, trace: &mut Trace) {
        let begun = (work.input.take(), self.by_upstream.take());
        let times = (self.timeout, self.linger);
        let place = self.lease.vacate();
        let ended = relay(core, client, self.lease.stream(), begun, times, place).await;
        trace.bytes_in += ended.up;
        trace.bytes_out += ended.down;
        let error = if core.is_cut() { Some(Error::Cut) } else { ended.error };
        trace.reason = error.map_or("", Error::reason);
    }
}

async fn relay(
    core: &Core,
    client: &mut Stream,
    upstream: &mut Stream,
    (by_client, by_upstream): (Option<Buffer>, Option<Buffer>),
    (timeout, linger): (Duration, Duration),
    place: Vacancy,
) -> Ended {
    let _open = Open::count(&core.counters);
    let (client_reader, client_writer) = client.split();
    let (upstream_reader, upstream_writer) = upstream.split();
    let mut ended = Ended { up: 0, down: 0, error: None };
    let unsent = Cell::new(None);
    let (from, to) = ((client_reader, Error::ClientGone), (upstream_writer, UPSTREAM_GONE));
    let up = one_way(core, from, to, by_client, timeout, &mut ended.up, &unsent);
    let (from, to) = ((upstream_reader, UPSTREAM_GONE), (client_writer, Error::ClientGone));
    let down = one_way(core, from, to, by_upstream, timeout, &mut ended.down, &unsent);
    let down = async {
        down.await?;
        drop(place);
        Ok(())
    };
    // Its time begins when it is first polled.
    let lingered = core.wheel.sleep(linger);
    let failed = both(pin!(up), pin!(down), pin!(lingered)).await.err();
    ended.error = unsent.get().or(failed);
    ended
}

/// Each end comes with what it means that it is gone. One that takes nothing more ends this
/// direction, which is noted in `unsent`; what it has said before still goes the other way.
async fn one_way(
    core: &Core,
    (mut reader, reader_gone): (Reader<'_>, Error),
    (mut writer, writer_gone): (Writer<'_>, Error),
    begun: Option<Buffer>,
    timeout: Duration,
    count: &mut u64,
    unsent: &Cell<Option<Error>>,
) -> Result<(), Error> {
    let touch = |reader: &Timer, writer: &Timer| {
        reader.arm(Side::Read, timeout);
        writer.arm(Side::Read, timeout);
    };
    let (mut next, mut turn) = (begun, Turn::default());
    let mut room = core.buffers.room(Size::Small);
    loop {
        turn.step().await;
        touch(reader.timer(), writer.timer());
        let buffer = match next.take() {
            Some(buffer) => buffer,
            None => {
                if reader.readable().await.is_err() {
                    return Ok(());
                }
                let (read, buffer) = reader.read(core.buffers.take(room.size())).await;
                if !matches!(read, Ok(count) if count > 0) {
                    core.buffers.put(buffer);
                    if reader.timer().expired() == Some(Expired::Timeout(Side::Read)) {
                        return Err(Error::TunnelTimeout);
                    }
                    if read.is_err() {
                        // A reset has ended both directions, and does not become an orderly end.
                        writer.set_abortive(true);
                        return Err(reader_gone);
                    }
                    // After a FIN only this direction has ended. A socket that is gone has nothing to end.
                    let _gone = writer.shutdown().await;
                    return Ok(());
                }
                buffer
            }
        };
        if buffer.spare() == 0 {
            room.grow();
        }
        *count += buffer.len() as u64;
        let (sent, buffer) = writer.write_all(buffer, timeout).await;
        core.buffers.put(buffer);
        if sent.is_err() {
            unsent.set(unsent.get().or(Some(writer_gone)));
            return Ok(());
        }
    }
}

/// Runs both directions until both are done or one fails. `lingered` begins with the end of `down`,
/// and ends both.
async fn both(
    mut up: Pin<&mut impl Future<Output = Result<(), Error>>>,
    mut down: Pin<&mut impl Future<Output = Result<(), Error>>>,
    mut lingered: Pin<&mut impl Future<Output = ()>>,
) -> Result<(), Error> {
    let (mut is_up_done, mut is_down_done) = (false, false);
    poll_fn(|cx| {
        if !is_up_done && let Poll::Ready(result) = up.as_mut().poll(cx) {
            is_up_done = true;
            if result.is_err() {
                return Poll::Ready(result);
            }
        }
        if !is_down_done && let Poll::Ready(result) = down.as_mut().poll(cx) {
            is_down_done = true;
            if result.is_err() {
                return Poll::Ready(result);
            }
        }
        match (is_up_done, is_down_done) {
            (true, true) => Poll::Ready(Ok(())),
            (false, true) => lingered.as_mut().poll(cx).map(|()| Err(Error::TunnelLinger)),
            (_, false) => Poll::Pending,
        }
    })
    .await
}
