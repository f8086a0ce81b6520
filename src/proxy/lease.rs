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
use crate::net::stream::Peeked;
use crate::telemetry::counters::UpstreamCounters;
use crate::upstream::balance::Chooser;
use crate::upstream::ejection::Change;
use crate::upstream::pool::Lease;
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
        if !self.upstream.queue.is_empty() {
            return Box::pin(self.wait(client)).await;
        }
        match self.upstream.pick(&self.question(now, now_ms, None)) {
            Ok(pick) => Ok(pick),
            Err(Lack::Down) => Box::pin(self.hold(None, client, now + self.upstream.settings.hold)).await,
            Err(Lack::Full) => Box::pin(self.wait(client)).await,
        }
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

    /// In a queue, until an endpoint may have another connection.
    pub(super) async fn wait(&self, client: Option<&Reader<'_>>) -> Result<Pick, Error> {
        let (place, _waiting) = self.upstream.wait().ok_or(Error::QueueFull)?;
        let until = Instant::now() + self.upstream.settings.queue_timeout;
        loop {
            let now = Instant::now();
            if place.is_first() {
                let now_ms = self.core.unix_ms(now);
                match self.upstream.pick(&self.question(now, now_ms, None)) {
                    Ok(pick) => return Ok(pick),
                    Err(Lack::Down) => {
                        drop((place, _waiting));
                        let until = now + self.upstream.settings.hold;
                        return Box::pin(self.hold(None, client, until)).await;
                    }
                    Err(Lack::Full) => {}
                }
            }
            if until <= now {
                return Err(Error::QueueTimeout);
            }
            self.must_be_there(client)?;
            place.wait(&self.core.wheel, TICK).await;
        }
    }

    /// Or nobody waits for the answer any more.
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
    /// the same instance. Bytes that wait on an idle connection were meant for another request:
    /// they would be taken for the response to this one. And a request that cannot be repeated
    /// gets no connection that is known to be dead.
    pub(super) async fn lease(
        &self,
        pick: &mut Pick,
        client: Option<&Reader<'_>>,
        may_reuse: bool,
        is_repeatable: bool,
        trace: &mut Trace,
    ) -> Result<Lease, Failed> {
        let mut tried = Tried::default();
        loop {
            if may_reuse && let Some(lease) = self.idle(pick, is_repeatable, trace.start) {
                return Ok(lease);
            }
            let Some(slot) = pick.take_slot() else {
                *pick = Box::pin(self.wait(client)).await?;
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
            pick.replace(sibling);
        }
    }

    fn idle(&self, pick: &Pick, is_repeatable: bool, now: Instant) -> Option<Lease> {
        while let Some(mut lease) = pick.pool.take_idle(&self.upstream.settings, now) {
            let is_certain = is_repeatable && !lease.is_doubtful;
            if is_certain || lease.stream().peek() == Peeked::Nothing {
                self.enqueue_at_end(&mut lease);
                return Some(lease);
            }
        }
        None
    }

    fn enqueue_at_end(&self, lease: &mut Lease) {
        if self.upstream.is_limited {
            lease.set_queue(&self.upstream.queue);
        }
    }

    pub(super) fn note_failure(&self, pick: &Pick, error: Error, now: Instant) {
        let settings = &self.upstream.settings;
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
