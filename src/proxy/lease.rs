//! A connection for an exchange: which endpoint, and an idle connection to it or a new one; and
//! the wait for one where there may be only so many.

use std::io;
use std::rc::Rc;
use std::time::Instant;

use super::error::Error;
use super::forward::{Failed, Forward};
use super::trace::Trace;
use super::upload::is_gone;
use crate::net::Reader;
use crate::net::deadline::TICK;
use crate::telemetry::counters::UpstreamCounters;
use crate::upstream::balance::Chooser;
use crate::upstream::ejection::Change;
use crate::upstream::pool::{Freshness, Lease};
use crate::upstream::state::{Pick, Tried};
use crate::upstream::upstreams::{Lack, Question};

impl Forward<'_> {
    /// The endpoint for the first try at `now`, which is `now_ms` after 1970.
    ///
    /// # Errors
    /// None is available, or too many requests wait for one.
    pub(super) async fn pick(
        &self,
        client: Option<&Reader<'_>>,
        now: Instant,
        now_ms: u64,
    ) -> Result<Pick, Error> {
        let picked = match self.upstream.queue.is_empty() {
            true => self.upstream.pick(&self.question(now, now_ms, None)),
            // Others were first.
            false => Err(Lack::Full),
        };
        match picked {
            Ok(pick) => Ok(pick),
            Err(lack) => Box::pin(self.find(client, lack)).await,
        }
    }

    /// An endpoint for an attempt at `now`, but none of those that were tried.
    pub(super) fn pick_but(&self, now: Instant, tried: Option<&Tried>) -> Result<Pick, Lack> {
        self.upstream.pick(&self.question(now, self.core.unix_ms(now), tried))
    }

    /// Another endpoint than those that were tried, if the budget has a retry left.
    pub(super) fn another(&self, failed: &Pick, tried: &mut Tried) -> Option<Pick> {
        if tried.len() >= self.upstream.settings.retries as usize {
            return None;
        }
        tried.add(Rc::clone(failed.state()));
        let now = Instant::now();
        let now_ms = failed.ms_at(now);
        let another = self.upstream.pick(&self.question(now, now_ms, Some(tried))).ok()?;
        self.upstream.budget.take_retry(now_ms).then(|| {
            if let Some(counters) = self.counters() {
                counters.retries.add(1);
            }
            another
        })
    }

    pub(super) fn question<'a>(
        &'a self,
        now: Instant,
        now_ms: u64,
        tried: Option<&'a Tried>,
    ) -> Question<'a> {
        let chooser = self.policy.as_ref().map(|policy| policy as &dyn Chooser);
        Question { request: self.request, peer: self.peer, now, now_ms, tried, chooser }
    }

    /// In a queue, until an endpoint may have another connection, or all are down.
    pub(super) async fn wait(&self, client: Option<&Reader<'_>>) -> Result<Result<Pick, Lack>, Error> {
        let mut now = Instant::now();
        let until = self.waits.queue.begin(now, self.upstream.settings.queue_timeout);
        let (place, _waiting) = self.upstream.wait().ok_or(Error::QueueFull)?;
        loop {
            // Before the look for a connection: of those that are seen, others may get each first.
            self.may_go_on(client, now, until, Error::QueueTimeout)?;
            if place.is_first() {
                match self.pick_but(now, None) {
                    Err(Lack::Full) => {}
                    found => return Ok(found),
                }
            }
            place.wait(&self.core.wheel, TICK).await;
            now = Instant::now();
        }
    }

    /// Of a request that waits: `late` once its time is over, or its client is gone.
    pub(super) fn may_go_on(
        &self,
        client: Option<&Reader<'_>>,
        now: Instant,
        until: Instant,
        late: Error,
    ) -> Result<(), Error> {
        if until < now {
            return Err(late);
        }
        self.must_be_there(client)
    }

    /// Fails if the client is gone.
    pub(super) fn must_be_there(&self, client: Option<&Reader<'_>>) -> Result<(), Error> {
        match client {
            Some(client) if is_gone(client, self.limits.abort_on_close) => Err(Error::ClientGone),
            _ => Ok(()),
        }
    }

    fn counters(&self) -> Option<&UpstreamCounters> {
        self.active.ledger.upstream(self.route.upstream.0)
    }

    /// A connection to the endpoint: an idle one, or a new one, if need be to another address of
    /// the same instance.
    pub(super) async fn lease(
        &self,
        pick: &mut Pick,
        client: Option<&Reader<'_>>,
        mut may_reuse: bool,
        is_repeatable: bool,
        trace: &mut Trace,
    ) -> Result<Lease, Failed> {
        let mut tried = Tried::default();
        loop {
            if may_reuse && let Some(lease) = self.idle(pick, is_repeatable) {
                return Ok(lease);
            }
            let Some(slot) = pick.take_slot() else {
                *pick = Box::pin(self.find(client, Lack::Full)).await?;
                // Those that are idle now are not the ones that were found dead; and without them,
                // an endpoint that has only idle ones would be found again and again.
                may_reuse = true;
                continue;
            };
            let settings = &self.upstream.settings;
            let connecting = pick.pool.connect(settings, slot, self.route.connect_timeout, &self.core.wheel);
            let begun = Instant::now();
            // Boxed, because most exchanges use a connection that is there.
            let connected = Box::pin(connecting).await;
            let now = Instant::now();
            *trace.connect.get_or_insert_default() += now.duration_since(begun);
            let error = match connected {
                Ok(mut lease) => {
                    if let Some(counters) = self.counters() {
                        counters.connect.observe(now.duration_since(begun));
                    }
                    self.enqueue_at_end(&mut lease);
                    return Ok(lease);
                }
                Err(failed) if failed.kind() == io::ErrorKind::TimedOut => Error::ConnectTimeout,
                Err(_) => Error::ConnectFailed,
            };
            let sibling = match tried.add(Rc::clone(pick.state())) {
                true => self.upstream.sibling(pick, &tried, pick.ms_at(now)),
                false => None,
            };
            let sibling = sibling.ok_or_else(|| Failed::unsent(error))?;
            self.note_failure(pick, error, now);
            self.must_be_there(client)?;
            pick.replace(sibling);
        }
    }

    fn idle(&self, pick: &Pick, is_repeatable: bool) -> Option<Lease> {
        let freshness = if is_repeatable { Freshness::Recent } else { Freshness::Now };
        let mut lease = pick.pool.take_idle(&self.upstream.settings, freshness)?;
        self.enqueue_at_end(&mut lease);
        Some(lease)
    }

    fn enqueue_at_end(&self, lease: &mut Lease) {
        if self.upstream.is_limited {
            lease.set_queue(&self.upstream.queue);
        }
    }

    pub(super) fn note_failure(&self, pick: &Pick, error: Error, now: Instant) {
        let settings = &self.upstream.settings;
        if error == Error::ConnectFailed {
            pick.vitals().note_refusal();
        }
        let is_ejected = pick.has_failed(&settings.ejection, now) == Change::Ejected;
        if let Some(counters) = self.counters() {
            error.failure().into_iter().for_each(|failure| counters.failures(failure).add(1));
            counters.ejections.add(u64::from(is_ejected));
        }
        if is_ejected {
            tracing::warn!(
                "upstream `{}`: {} gets no requests for {:?}: {}",
                settings.name,
                pick.pool.label(),
                settings.ejection.fail_timeout,
                error.reason()
            );
        }
    }

    pub(super) fn note_answer(&self, pick: &Pick, now: Instant) {
        let settings = &self.upstream.settings;
        if pick.has_answered(&settings.ejection, now) == Change::Returned {
            tracing::info!("upstream `{}`: {} gets requests again", settings.name, pick.pool.label());
        }
    }
}
