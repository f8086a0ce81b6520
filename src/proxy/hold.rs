//! The wait for the process behind an upstream that we keep running: while it starts, requests
//! wait instead of failing, and what was lost with it is sent again. That costs no retries: there
//! is nothing wrong that sending less would heal.
//!
//! Every attempt of a held request comes after a look at its deadline and at its client, and a
//! tick after the one before: a process that counts as ready and refuses connections costs no more
//! than one that is starting.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::error::{Broken, Error};
use super::forward::Forward;
use crate::net::Reader;
use crate::net::deadline::TICK;
use crate::upstream::Supervision;
use crate::upstream::state::{Pick, Tried};
use crate::upstream::upstreams::Lack;

/// How often one request may be lost with a process that it was sent to: it may be what ends it.
const LOSSES_MAX: u32 = 2;

/// When the waits of one exchange end, from the first time that it waits for the same thing.
#[derive(Default)]
pub(super) struct Waits {
    /// For a process.
    hold: Deadline,
    /// For a connection.
    pub(super) queue: Deadline,
}

/// A deadline that is set once, however often the wait is taken up again.
#[derive(Default)]
pub(super) struct Deadline(Cell<Option<Instant>>);

impl Deadline {
    pub(super) fn begin(&self, now: Instant, most: Duration) -> Instant {
        let until = self.0.get().unwrap_or(now + most);
        self.0.set(Some(until));
        until
    }

    /// The next wait is another one.
    pub(super) fn clear(&self) {
        self.0.set(None);
    }
}

/// What one exchange has lost with processes.
#[derive(Default)]
pub(super) struct Held {
    losses: u32,
    /// Endpoints that failed since each of them had its turn.
    tried: Tried,
    /// The first failure has been answered by another endpoint, or there was none.
    has_moved: bool,
}

impl Forward<'_> {
    /// Another endpoint for a request that may be sent again, if it failed because the process
    /// behind this one is gone; `None` if that is not why, or it was lost too often.
    pub(super) async fn outlive(
        &self,
        lost: &Pick,
        client: Option<&Reader<'_>>,
        error: Error,
        is_unsent: bool,
        held: &mut Held,
    ) -> Option<Result<Pick, Error>> {
        let is_loss = matches!(error, Error::ConnectFailed | Error::UpstreamBroken(Broken::BeforeResponse));
        let is_ours = lost.vitals().supervision() != Supervision::None;
        held.losses += u32::from(!is_unsent);
        if !is_loss || !is_ours || self.upstream.settings.hold_requests == 0 || held.losses > LOSSES_MAX {
            return None;
        }
        if !held.tried.add(Rc::clone(lost.state())) {
            held.tried = Tried::default();
        }
        Some(Box::pin(self.replace(client, held)).await)
    }

    /// The endpoint for the next attempt of a request that was lost: at once the first time, if
    /// there is another one; else a tick later, and those that have not failed yet come first.
    async fn replace(&self, client: Option<&Reader<'_>>, held: &mut Held) -> Result<Pick, Error> {
        let now = Instant::now();
        let until = self.waits.hold.begin(now, self.upstream.settings.hold);
        self.may_go_on(client, now, until, Error::HoldTimeout)?;
        let is_first = !std::mem::replace(&mut held.has_moved, true);
        if is_first && let Ok(another) = self.pick_but(now, Some(&held.tried)) {
            return Ok(another);
        }
        {
            // Not `Place::wait`: the calls of others that give up their places would come early.
            let _place = self.upstream.hold().ok_or(Error::HoldFull)?;
            self.core.wheel.sleep(TICK).await;
        }
        let now = Instant::now();
        self.may_go_on(client, now, until, Error::HoldTimeout)?;
        if let Ok(another) = self.pick_but(now, Some(&held.tried)) {
            return Ok(another);
        }
        held.tried = Tried::default();
        match self.pick_but(now, None) {
            Ok(pick) => Ok(pick),
            Err(lack) => self.find(client, lack).await,
        }
    }

    /// Waits for whatever it is that an endpoint lacks.
    pub(super) async fn find(&self, client: Option<&Reader<'_>>, mut lack: Lack) -> Result<Pick, Error> {
        loop {
            let waited = match lack {
                Lack::Down => self.hold(client).await?,
                Lack::Full => self.wait(client).await?,
            };
            match waited {
                Ok(pick) => return Ok(pick),
                Err(other) => lack = other,
            }
        }
    }

    /// An endpoint as soon as there is one, if one of them will be there soon; or that there is
    /// one that lacks something else.
    async fn hold(&self, client: Option<&Reader<'_>>) -> Result<Result<Pick, Lack>, Error> {
        if !self.upstream.is_starting() {
            return Err(Error::NoEndpoint);
        }
        let mut now = Instant::now();
        let until = self.waits.hold.begin(now, self.upstream.settings.hold);
        let place = self.upstream.hold().ok_or(Error::HoldFull)?;
        loop {
            self.may_go_on(client, now, until, Error::HoldTimeout)?;
            match self.pick_but(now, None) {
                Err(Lack::Down) if !self.upstream.is_starting() => return Err(Error::NoEndpoint),
                Err(Lack::Down) => {}
                found => return Ok(found),
            }
            place.wait(&self.core.wheel, TICK).await;
            now = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_that_is_taken_up_again_ends_when_the_first_would() {
        let (start, most) = (Instant::now(), Duration::from_secs(5));
        let deadline = Deadline::default();
        for after in [0, 4, 6] {
            let now = start + Duration::from_secs(after);
            assert_eq!(deadline.begin(now, most), start + most, "{after}");
        }
        deadline.clear();
        let later = start + Duration::from_secs(60);
        assert_eq!(deadline.begin(later, most), later + most);
    }
}
