//! The wait for the process behind an upstream, which is one that we keep running: while it
//! starts, requests wait instead of failing, and what was lost with it is sent again. That costs
//! no retries: there is nothing wrong that sending less would heal.

use std::rc::Rc;
use std::time::Instant;

use super::error::{Broken, Error};
use super::forward::Forward;
use crate::net::Reader;
use crate::net::deadline::TICK;
use crate::upstream::Supervision;
use crate::upstream::state::{Pick, Tried};
use crate::upstream::upstreams::Lack;

/// How often one request may be lost with a process that it was sent to: it may be what ends it.
const LOSSES_MAX: u32 = 2;

/// What one exchange has waited for, and lost.
#[derive(Default)]
pub(super) struct Held {
    until: Option<Instant>,
    losses: u32,
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
        // From the first loss on: a process that never comes back is not waited for again and again.
        let until = *held.until.get_or_insert_with(|| Instant::now() + self.upstream.settings.hold);
        Some(Box::pin(self.hold(Some(lost), client, until)).await)
    }

    /// An endpoint as soon as there is one, if one of them will be there soon. `lost` is where the
    /// process is gone, perhaps without anyone but us knowing yet.
    pub(super) async fn hold(
        &self,
        lost: Option<&Pick>,
        client: Option<&Reader<'_>>,
        until: Instant,
    ) -> Result<Pick, Error> {
        if lost.is_none() && !self.upstream.is_starting() {
            return Err(Error::NoEndpoint);
        }
        let place = self.upstream.hold().ok_or(Error::HoldFull)?;
        if let Some(lost) = lost {
            let mut tried = Tried::default();
            tried.add(Rc::clone(lost.state()));
            let now = Instant::now();
            if let Ok(another) = self.upstream.pick(&self.question(now, self.core.unix_ms(now), Some(&tried)))
            {
                return Ok(another);
            }
            place.wait(&self.core.wheel, TICK).await;
        }
        loop {
            let now = Instant::now();
            match self.upstream.pick(&self.question(now, self.core.unix_ms(now), None)) {
                Ok(pick) => return Ok(pick),
                Err(Lack::Full) => {
                    drop(place);
                    return Box::pin(self.wait(client)).await;
                }
                Err(Lack::Down) if !self.upstream.is_starting() => return Err(Error::NoEndpoint),
                Err(Lack::Down) => {}
            }
            if until <= now {
                return Err(Error::HoldTimeout);
            }
            self.must_be_there(client)?;
            place.wait(&self.core.wheel, TICK).await;
        }
    }
}
