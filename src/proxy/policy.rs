//! A Wasm policy as it is asked for the endpoint of one request: what the guest sees of the request
//! and of the endpoints, and what becomes of its answer. Whatever goes wrong, the upstream's
//! strategy decides.
//!
//! Hot path: no allocation, no lock, no formatting, as long as the guest does well.

use std::cell::{Cell, OnceCell};
use std::rc::Rc;
use std::time::Instant;

use super::core::{Active, Core};
use crate::upstream::balance::{Candidate, Candidates, Chooser};
use crate::upstream::state::{Pick, State};
use crate::upstream::upstreams::Question;
use crate::upstream::{self};
use crate::wasm::hooks::account::Verdict;
use crate::wasm::hooks::asked::{self, Asked, Endpoints, Request};
use crate::wasm::hooks::{Endpoint, Outcome, Said, Seat};

/// A policy and one exchange.
pub struct Policy<'a> {
    core: &'a Core,
    seat: &'a Seat,
    /// The beginning of the request's body, if that was waited for.
    text: Option<Vec<u8>>,
    /// When the attempt at hand began to send, and the head of its response was here.
    sent: Cell<Option<Instant>>,
    answered: Cell<Option<Instant>>,
}

impl<'a> Policy<'a> {
    /// The policy of an upstream, if it has one.
    pub fn of(core: &'a Core, active: &'a Active, upstream: &upstream::Settings) -> Option<Policy<'a>> {
        let id = upstream.policy?;
        Some(Policy {
            core,
            seat: &active.policies[id.0 as usize],
            text: None,
            sent: Cell::new(None),
            answered: Cell::new(None),
        })
    }

    /// Bytes of the body that it wants to see before it picks. None while there is nobody to ask.
    pub fn text_max(&self) -> usize {
        match self.seat.policy.guest.subscription.text_max {
            most if most > 0 && self.seat.is_there() => most,
            _ => 0,
        }
    }

    pub fn set_text(&mut self, text: Vec<u8>) {
        self.text = Some(text);
    }

    /// An attempt begins to send.
    pub fn sends(&self) {
        if self.seat.policy.has_feedback() {
            self.sent.set(Some(Instant::now()));
            self.answered.set(None);
        }
    }

    pub fn head_is_here(&self, now: Instant) {
        self.answered.set(Some(now));
    }

    /// Tells how the attempt went, if the guest has picked its endpoint.
    pub fn report(&self, pick: &Pick, status: u16, failed: bool) {
        if !pick.is_chosen || !self.seat.policy.has_feedback() {
            return;
        }
        let head_us = self.sent.take().map_or(0, |sent| {
            let until = self.answered.get().unwrap_or_else(Instant::now);
            u32::try_from(until.saturating_duration_since(sent).as_micros()).unwrap_or(u32::MAX)
        });
        let status = if self.answered.take().is_some() { status } else { 0 };
        let outcome = Outcome { status, head_us, failed };
        self.seat.report(&Neighbours(self.core), pick.vitals().id(), outcome);
    }
}

impl Chooser for Policy<'_> {
    fn choose(&self, candidates: &Candidates<'_>, question: &Question<'_>) -> Option<usize> {
        let request = Request {
            head: self.seat.policy.guest.subscription.head.then_some((question.request, question.peer)),
            upstream: candidates.upstream,
            attempt: question.tried.map_or(0, |tried| tried.len() as u32),
            text: self.text.as_deref(),
            candidates: &Urls(candidates),
            model: OnceCell::new(),
        };
        let asked = Asked { request: Some(&request), endpoints: &Neighbours(self.core) };
        let index = self.seat.select(asked, candidates.iter().map(standing))?;
        match candidates.get(index as usize) {
            Some(state) if candidates.take(state) => {
                self.seat.note(Verdict::Picked);
                Some(index as usize)
            }
            Some(state) => {
                self.seat.note(Verdict::Unhealthy);
                self.seat.complain(format_args!(
                    "it picked {}, which is not healthy: the fallback decides",
                    state.pool.label()
                ));
                None
            }
            None => {
                self.seat.note(Verdict::OutOfRange);
                let count = candidates.iter().len();
                self.seat
                    .complain(format_args!("it picked endpoint {index} of {count}: the fallback decides"));
                None
            }
        }
    }
}

/// What the policies of a core say of themselves.
pub fn said(core: &Core) -> Vec<Said> {
    core.policies.said(&Neighbours(core))
}

/// An endpoint as the guest sees it.
fn standing(candidate: Candidate<'_>) -> Endpoint {
    let state = candidate.state;
    Endpoint {
        id: state.vitals().id(),
        active: state.in_flight(),
        ewma_us: state.latency.mean_us(),
        weight: candidate.weight,
        healthy: candidate.is_available,
    }
}

fn url(state: &Rc<State>) -> String {
    url_of(state.pool.label())
}

/// Of an endpoint, by what it is called in logs.
pub fn url_of(label: &str) -> String {
    match label {
        socket if socket.starts_with("unix:") => socket.to_owned(),
        address => format!("http://{address}"),
    }
}

struct Urls<'a>(&'a Candidates<'a>);

impl asked::Candidates for Urls<'_> {
    fn url(&self, index: usize) -> Option<String> {
        self.0.get(index).map(url)
    }
}

/// All upstreams of a core, for a guest that asks about others than its own.
pub struct Neighbours<'a>(pub &'a Core);

impl Endpoints for Neighbours<'_> {
    fn count(&self, upstream: &str) -> usize {
        self.0.upstreams.named(upstream).map_or(0, |upstream| upstream.len())
    }

    fn endpoint(&self, upstream: &str, index: usize) -> Option<asked::Endpoint> {
        let state = self.0.upstreams.named(upstream)?.endpoint(index)?;
        let now_ms = self.0.unix_ms(Instant::now());
        Some(asked::Endpoint {
            url: url(&state),
            load: state.in_flight(),
            is_healthy: state.is_available(now_ms, false),
        })
    }
}
