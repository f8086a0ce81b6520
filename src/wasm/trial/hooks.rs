//! Policies and middleware, as a core calls them.

use std::cell::{OnceCell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::timing::{Row, measure as time};
use super::{Measured, Trial, loaded, only, refuse, turning};
use crate::http::forwarding::{self, Peer, Stamp};
use crate::http::h1::{FIELDS_MAX, parse};
use crate::http::head::{RequestHead, ResponseHead};
use crate::http::status::Status;
use crate::http::target::EncodedSlash;
use crate::http::{framing, h1};
use crate::net::{Buffer, Wheel};
use crate::wasm::Guests;
use crate::wasm::hooks::asked::{Asked, Candidates, NoEndpoints, Request};
use crate::wasm::hooks::filter::passing::{Body, Bounds, Passing, Seen, Undo};
use crate::wasm::hooks::filter::stream::BodyStream;
use crate::wasm::hooks::filter::tally::{Hook, Outcome};
use crate::wasm::hooks::filter::{
    self, Access, Call, Filters, Instance, Notes, RequestAction, ResponseAction, Summary,
};
use crate::wasm::hooks::{Endpoint, Policies, Seat};

/// Of which a policy picks.
pub const ENDPOINTS: u32 = 8;

/// What streams get at once.
const CHUNK_BYTES: usize = 16 << 10;

const BOUNDS: Bounds = Bounds {
    head_bytes: 64 << 10,
    fields: FIELDS_MAX,
    uri_bytes: 8 << 10,
    encoded_slash: EncodedSlash::Keep,
};

/// An exchange that nobody has.
pub struct Exchange {
    request: RequestHead,
    response: ResponseHead,
    /// The body of either.
    body: Option<Buffer>,
    peer: Peer,
    stamp: Stamp,
    notes: Notes,
}

impl Exchange {
    /// With a request from this client, and a response of 200 without fields.
    ///
    /// # Errors
    /// It is none.
    pub fn of(head: &[u8], body: &[u8]) -> Result<Exchange, String> {
        let mut request = RequestHead::default();
        let bounds = h1::Bounds { head: 64 << 10, fields: FIELDS_MAX, uri: 8 << 10 };
        match parse::request(head, bounds, &mut request) {
            Ok(h1::Parsed::Head(_)) => {}
            Ok(h1::Parsed::Incomplete) => return Err("the request is not complete".to_owned()),
            Err(refusal) => return Err(refusal.reason().to_owned()),
        }
        let response =
            ResponseHead { status: Status(200), body: framing::BodyLength::Chunked, ..Default::default() };
        Ok(Exchange {
            request,
            response,
            body: (!body.is_empty()).then(|| Buffer::of(body)),
            peer: Peer::new(&forwarding::Settings::default(), [192, 0, 2, 1].into()),
            stamp: Stamp { request_id: [b'0'; 32], start_ms: 0, span: None },
            notes: Notes::default(),
        })
    }

    /// Has a policy pick one of [`ENDPOINTS`].
    ///
    /// # Errors
    /// It has picked none.
    pub fn pick(&self, seat: &Seat) -> Result<u32, String> {
        let policy = &seat.policy.guest;
        let text = self.body.as_ref().map(|body| {
            let data = body.data();
            &data[..data.len().min(policy.subscription.text_max)]
        });
        let request = Request {
            head: policy.subscription.head.then_some((&self.request, &self.peer)),
            upstream: "app",
            attempt: 0,
            text: text.filter(|text| !text.is_empty()),
            candidates: &Urls,
            model: OnceCell::new(),
        };
        let asked = Asked { request: Some(&request), endpoints: &NoEndpoints };
        let endpoint =
            |id: u32| Endpoint { id, active: id * 7 % 5, ewma_us: 1000 + id * 31, weight: 1, healthy: true };
        seat.select(asked, (0..ENDPOINTS).map(endpoint)).ok_or_else(|| "it picks no endpoint".to_owned())
    }

    /// Has a middleware see the request, which is as it was afterwards.
    ///
    /// # Errors
    /// It fails.
    pub fn on_request(&mut self, seat: &filter::Seat) -> Result<RequestAction, Outcome> {
        let undo = &mut *seat.undo.borrow_mut();
        undo.begin();
        let action = seat.on_request(&RefCell::new(self.at_request(seat, undo)), &NoEndpoints);
        self.restore(undo);
        action
    }

    /// The same of the response.
    ///
    /// # Errors
    /// It fails.
    pub fn on_response(&mut self, seat: &filter::Seat) -> Result<ResponseAction, Outcome> {
        let undo = &mut *seat.undo.borrow_mut();
        undo.begin();
        let action = seat.on_response(&RefCell::new(self.at_response(seat, undo)), &NoEndpoints);
        self.restore(undo);
        action
    }

    /// As [`Self::on_request`], also of one that waits.
    async fn request(&mut self, seat: &filter::Seat, wheel: &Rc<Wheel>) -> Result<RequestAction, Outcome> {
        if !seat.waits() {
            return self.on_request(seat);
        }
        let mut undo = Undo::default();
        let passing = RefCell::new(self.at_request(seat, &mut undo));
        let action = wait(seat, Hook::Request, wheel, &passing, Instance::begin_request).await;
        self.restore(&mut undo);
        action
    }

    /// As [`Self::on_response`], also of one that waits.
    async fn response(&mut self, seat: &filter::Seat, wheel: &Rc<Wheel>) -> Result<ResponseAction, Outcome> {
        if !seat.waits() {
            return self.on_response(seat);
        }
        let mut undo = Undo::default();
        let passing = RefCell::new(self.at_response(seat, &mut undo));
        let action = wait(seat, Hook::Response, wheel, &passing, Instance::begin_response).await;
        self.restore(&mut undo);
        action
    }

    fn at_request<'a>(&'a mut self, seat: &filter::Seat, undo: &'a mut Undo) -> Passing<'a> {
        let Exchange { request, body, peer, stamp, notes, .. } = self;
        let body = shown(body, seat.filter.hooks.request_body);
        passing(Seen::Open(request), None, body, peer, stamp, notes, undo)
    }

    fn at_response<'a>(&'a mut self, seat: &filter::Seat, undo: &'a mut Undo) -> Passing<'a> {
        let Exchange { request, response, body, peer, stamp, notes } = self;
        let body = shown(body, seat.filter.hooks.response_body);
        let response = Some(Seen::Open(response));
        passing(Seen::Closed(&*request), response, body, peer, stamp, notes, undo)
    }

    /// All is as it was before a call.
    fn restore(&mut self, undo: &mut Undo) {
        let Exchange { request, response, body, notes, .. } = self;
        undo.undo(Some(request), Some(response), Some(body), notes);
    }

    fn on_log(&mut self, seat: &filter::Seat) -> Result<(), Outcome> {
        let Exchange { request, peer, stamp, notes, .. } = self;
        let summary = Summary {
            status: 200,
            duration_ms: 1.0,
            request_body_bytes: 0.0,
            response_body_bytes: 0.0,
            upstream: Some("app".to_owned()),
            endpoint: Some("http://10.0.0.1:3000".to_owned()),
            error: None,
        };
        let mut undo = seat.undo.borrow_mut();
        undo.begin();
        let request = Seen::Closed(&*request);
        let passing = RefCell::new(passing(request, None, Body::Unseen, peer, stamp, notes, &mut undo));
        seat.on_log(&passing, &NoEndpoints, &summary)
    }

    /// Has the body of the request, or of the response, pass a middleware.
    ///
    /// # Errors
    /// It fails.
    pub fn begin_body(&mut self, seat: &Rc<filter::Seat>, hook: Hook) -> Result<BodyStream, Outcome> {
        let Exchange { request, response, peer, stamp, notes, .. } = self;
        let mut undo = seat.undo.borrow_mut();
        undo.begin();
        let response = (hook == Hook::ResponseBody).then_some(Seen::Closed(&*response));
        let request = Seen::Closed(&*request);
        let passing = RefCell::new(passing(request, response, Body::Unseen, peer, stamp, notes, &mut undo));
        seat.begin_body(hook, &passing, &NoEndpoints)
    }
}

/// A call of one that waits.
async fn wait<'p, R>(
    seat: &filter::Seat,
    hook: Hook,
    wheel: &Rc<Wheel>,
    passing: &'p RefCell<Passing<'p>>,
    begin: impl FnOnce(Instance) -> Call<R>,
) -> Result<R, Outcome> {
    let until = Instant::now() + seat.filter.waiting.timeout;
    let mut call = seat.enter(hook, wheel, until).await?.begin(begin);
    poll_fn(|cx| {
        let polled = call.poll(passing, &NoEndpoints, cx);
        refuse(call.outbox());
        polled
    })
    .await
}

fn passing<'a>(
    request: Seen<'a, RequestHead>,
    response: Option<Seen<'a, ResponseHead>>,
    body: Body<'a>,
    peer: &'a Peer,
    stamp: &'a Stamp,
    notes: &'a mut Notes,
    undo: &'a mut Undo,
) -> Passing<'a> {
    Passing { request, response, body, peer, stamp, notes, place: 0, bounds: BOUNDS, undo }
}

fn shown(held: &mut Option<Buffer>, access: Access) -> Body<'_> {
    match access {
        Access::Whole(most) if held.as_ref().is_some_and(|held| held.len() > most) => Body::TooLarge,
        Access::Whole(most) => Body::Whole { held, most },
        Access::None | Access::Stream => Body::Unseen,
    }
}

struct Urls;

impl Candidates for Urls {
    fn url(&self, index: usize) -> Option<String> {
        Some(format!("http://10.0.0.{index}:3000"))
    }
}

pub async fn measure_policy(trial: &Trial<'_>, guests: &Guests) -> Measured {
    let policies = Policies::new(0);
    policies.adopt(guests);
    let seats = policies.list();
    let seat = only(&seats);
    loaded(seat.policy.guest.failure())?;
    let exchange = Exchange::of(trial.head, trial.body)?;
    let picked = exchange.pick(seat)?;
    let row = time("a choice of 8 endpoints", trial.time, async || exchange.pick(seat).map(drop)).await?;
    let memory = seat.policy.guest.component.account.cores[0].memory.load(Ordering::Relaxed);
    let new = time("a new instance", trial.time, async || seat.policy.guest.make_here(0).map(drop)).await?;
    Ok((format!("endpoint {picked} of {ENDPOINTS}"), vec![row, new], Some(memory)))
}

pub async fn measure_middleware(trial: &Trial<'_>, guests: &Guests) -> Measured {
    let filters = Filters::new(0);
    filters.adopt(guests);
    let seats = filters.list();
    let seat = only(&seats);
    let guest = &seat.filter.guest;
    loaded(guest.failure())?;
    let mut exchange = Exchange::of(trial.head, trial.body)?;
    let wheel = turning()?;
    let hooks = seat.filter.hooks;
    let mut rows = Vec::new();
    let mut said = "it does not look at requests".to_owned();
    if hooks.request {
        said = words(exchange.request(seat, &wheel).await.map_err(failed)?);
        let call = async || exchange.request(seat, &wheel).await.map(drop);
        rows.push(calls("on-request", trial, call).await?);
    }
    if hooks.response {
        let call = async || exchange.response(seat, &wheel).await.map(drop);
        rows.push(calls("on-response", trial, call).await?);
    }
    if hooks.log {
        rows.push(calls("on-log", trial, async || exchange.on_log(seat)).await?);
    }
    for (what, access, hook) in [
        ("16 KiB of a request's body", hooks.request_body, Hook::RequestBody),
        ("16 KiB of a response's body", hooks.response_body, Hook::ResponseBody),
    ] {
        if access == Access::Stream {
            let mut stream = exchange.begin_body(seat, hook).map_err(failed)?;
            let text = if trial.body.is_empty() { TEXT } else { trial.body };
            let bytes: Vec<u8> = text.iter().copied().cycle().take(CHUNK_BYTES).collect();
            let chunk = async || stream.chunk(&bytes, false, &NoEndpoints).map(drop);
            rows.push(calls(what, trial, chunk).await?);
        }
    }
    let memory = guest.component.account.cores[0].memory.load(Ordering::Relaxed);
    rows.push(time("a new instance", trial.time, async || guest.make_here(0).map(drop)).await?);
    Ok((said, rows, Some(memory)))
}

/// What passes a stream if nothing else was given.
const TEXT: &[u8] = b"some words, 12 of them numbers, and no address at all; ";

async fn calls(
    what: &str,
    trial: &Trial<'_>,
    mut call: impl AsyncFnMut() -> Result<(), Outcome>,
) -> Result<Row, String> {
    time(what, trial.time, async || call().await.map_err(failed)).await
}

fn failed(outcome: Outcome) -> String {
    format!("a call has failed: {}", outcome.word())
}

fn words(action: RequestAction) -> String {
    match action {
        RequestAction::Next => "next".to_owned(),
        RequestAction::Respond(answer) => format!("respond with {}", answer.status),
        RequestAction::Upstream(name) => format!("to the upstream `{name}`"),
    }
}
