//! How an exchange ended, for the middleware that has seen its request.

use std::cell::{LazyCell, RefCell};
use std::time::Instant;

use super::RESPONSE_BOUNDS;
use crate::proxy::connection::Work;
use crate::proxy::core::{Active, Core};
use crate::proxy::error::Error;
use crate::proxy::policy::{Neighbours, url_of};
use crate::proxy::trace::Trace;
use crate::wasm::hooks::filter::Summary;
use crate::wasm::hooks::filter::passing::{Body, Passing, Seen};
use crate::wasm::hooks::filter::seat::Seat;
use crate::wasm::hooks::filter::tally::{Hook, Outcome};

/// Tells those that have seen the request how the exchange ended.
pub fn log(core: &Core, active: &Active, trace: &Trace, work: &Work) {
    let passage = &work.passage;
    // For all of them, once somebody wants it.
    let summary = LazyCell::new(|| summarise(active, trace));
    for (place, name) in &passage.left {
        if let Some(seat) = active.filters.iter().find(|seat| seat.filter.guest.settings.name == *name) {
            tell(core, seat, *place, trace, work, &summary);
        }
    }
    let (true, Some(id)) = (passage.asked != 0, trace.route) else { return };
    for (place, id) in active.plan.routes[id.0 as usize].filters.iter().enumerate() {
        if passage.asked & 1 << place != 0 {
            tell(core, &active.filters[id.0 as usize], place, trace, work, &summary);
        }
    }
}

fn tell(
    core: &Core,
    seat: &Seat,
    place: usize,
    trace: &Trace,
    work: &Work,
    summary: &LazyCell<Summary, impl FnOnce() -> Summary>,
) {
    let Work { request, peer, passage, .. } = work;
    let (true, Some(peer)) = (seat.filter.hooks.log, peer.as_ref()) else { return };
    let (mut undo, mut notes) = (seat.undo.borrow_mut(), passage.notes.borrow_mut());
    undo.begin();
    let passing = RefCell::new(Passing {
        request: Seen::Closed(request),
        response: None,
        body: Body::Unseen,
        peer,
        stamp: &trace.stamp,
        notes: &mut notes,
        place,
        bounds: RESPONSE_BOUNDS,
        undo: &mut undo,
    });
    match seat.on_log(&passing, &Neighbours(core), summary) {
        Ok(()) => seat.note(Hook::Log, Outcome::Next),
        // Nothing that anybody sees depends on it.
        Err(_counted) => {}
    }
}

fn summarise(active: &Active, trace: &Trace) -> Summary {
    let has_nothing = !trace.is_response_started
        && matches!(trace.error, Some(Error::ClientGone | Error::ClientStalled | Error::Cut));
    let duration = trace.ended().unwrap_or_else(Instant::now).duration_since(trace.start);
    let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    Summary {
        status: if has_nothing { 0 } else { trace.status.0 },
        duration_ms: duration.as_secs_f64() * 1e3,
        request_body_bytes: trace.bytes_in as f64,
        response_body_bytes: trace.bytes_out as f64,
        upstream: text(trace.upstream_name(active)),
        endpoint: trace.endpoint.as_ref().map(|pool| url_of(pool.label())),
        error: text(trace.reason),
    }
}
