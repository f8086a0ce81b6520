//! A guest that waits for others: while it does, the core serves other requests, and what the guest
//! asks goes the way of what components ask.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::time::Instant;

use crate::http::forwarding::{Peer, Stamp};
use crate::plan::FilterId;
use crate::proxy::core::{Active, Core};
use crate::proxy::outgoing::{Asker, Errands, Running};
use crate::proxy::policy::Neighbours;
use crate::wasm::hooks::filter::passing::Passing;
use crate::wasm::hooks::filter::tally::{Hook, Outcome};
use crate::wasm::hooks::filter::{Call, Instance};

/// For whom a guest is called.
pub struct Occasion<'a> {
    pub core: &'a Rc<Core>,
    pub active: &'a Rc<Active>,
    pub id: FilterId,
    pub hook: Hook,
    pub peer: &'a Peer,
    pub stamp: Stamp,
}

impl Occasion<'_> {
    /// One call, until its deadline. What the guest has asked and not heard of ends with it.
    ///
    /// # Errors
    /// It has failed, or there is nobody to ask; that is counted.
    pub async fn call<'p, R>(
        &self,
        passing: &'p RefCell<Passing<'p>>,
        begin: impl FnOnce(Instance) -> Call<R>,
    ) -> Result<R, Outcome> {
        let Occasion { core, active, id, hook, peer, stamp } = *self;
        let seat = &active.filters[id.0 as usize];
        let until = Instant::now() + seat.filter.waiting.timeout;
        let mut call = seat.enter(hook, &core.wheel, until).await?.begin(begin);
        let asker = Asker::Filter(id, seat);
        let mut errands = Errands { core, active, asker, peer, stamp, running: Running::default() };
        let neighbours = Neighbours(core);
        let run = poll_fn(|cx| {
            let polled = call.poll(passing, &neighbours, cx);
            if polled.is_pending() {
                errands.poll(call.outbox(), cx);
            }
            polled
        });
        let left = until.saturating_duration_since(Instant::now());
        let called = core.wheel.timeout(left, run).await;
        called.unwrap_or_else(|| Err(seat.time_out(hook)))
    }
}
