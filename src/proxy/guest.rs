//! The way of a request to a component and of its answer back.
//!
//! All of it is one task: the client's body, the instance and its answer take turns. An instance that
//! goes on after its answer does so in a task of its own; one whose client has gone away ends.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use http_body::Body;

use super::body::guest_source::{self, GuestSource};
use super::body::h1_source::Bounds;
use super::body::{GuestSink, RelayFault, Sink, Source, SourceFault, relay};
use super::connection::Work;
use super::core::{Active, Core};
use super::downstream::{Downstream, FieldLines};
use super::error::Error;
use super::event_stream;
use super::exchange::Next;
use super::filters::Filtered;
use super::flight::write_head;
use super::forward::{client_error, downstream_error};
use super::outgoing::{Asker, Errands, Running};
use super::trace::Trace;
use super::upload::{Upload, gone};
use crate::http::fields::push_field;
use crate::http::framing::BodyLength;
use crate::http::h1::changes::change;
use crate::http::h1::{self, FIELDS_MAX, Parsed, parse};
use crate::http::head::{RequestHead, ResponseHead};
use crate::http::status::Status;
use crate::http::trailers::Excluded;
use crate::net::{Stream, task};
use crate::plan::{Route, ToWorkload};
use crate::wasm;
use crate::wasm::call::Call;
use crate::wasm::message::{self, Response};
use crate::wasm::pipe::{Sender, pipe};
use crate::wasm::pool::{ComponentId, Pool};
use crate::wasm::settings::Limits;
use crate::wasm::workload::Unrouted;

/// What a component learns of its path's pattern; from nobody else.
const PARAMETERS: &str = "X-Path-Parameters";

/// What an answer's head may be at most.
const RESPONSE_BOUNDS: h1::Bounds = h1::Bounds { head: 256 * 1024, fields: FIELDS_MAX, uri: 0 };

/// One exchange's share of what a component needs.
struct Guest<'a> {
    core: &'a Core,
    active: &'a Active,
    limits: &'a Limits,
    request: &'a RequestHead,
    /// What it does not get as a trailer of the request.
    excluded: Excluded<'a>,
    /// Middleware that sees the answer.
    filtered: Option<Filtered<'a>>,
    date: [u8; 29],
}

/// Has a component of the workload answer the request in `work`.
pub async fn run(
    core: &Rc<Core>,
    active: &Rc<Active>,
    route: &Route,
    to: &ToWorkload,
    stream: &mut Stream,
    work: &mut Work,
    trace: &mut Trace,
) -> Result<Next, Error> {
    let plan = &active.plan;
    work.request.fields.exclude(PARAMETERS.as_bytes());
    let (component, pool, head) = choose(core, active, to, work, trace)?;
    let limits = &pool.guest.settings.limits;
    let request_body = [limits.request_body, plan.limits.request_body].into_iter().flatten().min();
    let (length, is_too_large) = match work.request.body {
        BodyLength::Known(length) => (Some(length), request_body.is_some_and(|most| length > most)),
        _ => (None, false),
    };
    if is_too_large {
        return Err(Error::BodyTooLarge);
    }
    let permit = {
        let client = stream.reader();
        let gone = pin!(gone(Some(&client), || plan.limits.abort_on_close));
        let entered = task::unless(pin!(pool.enter(&core.wheel)), gone).await;
        entered.ok_or(Error::ClientGone)?.map_err(Error::Guest)?
    };
    let (pipe, body) = match work.request.body {
        BodyLength::Empty => (None, None),
        _ => Some(pipe(length)).unzip(),
    };
    let call = Call::new(permit, message::request(head, body).map_err(Error::Body)?);

    let Work { input, request, response, out, peer, changes, passage, .. } = work;
    let peer = peer.as_ref().expect("a connection makes its peer before its first exchange");
    let (reader, writer) = stream.split();
    let bounds = Bounds { bytes: request_body, ..Bounds::of_requests(&plan.limits) };
    let mut source = passage.source(core, reader, input, request.body, bounds);
    let filtered = Filtered::of(core, active, route, peer, passage);
    let lines = FieldLines { removed: &route.response.removed, set: &changes.response };
    let timeout = plan.limits.write_timeout;
    let mut downstream = Downstream::h1(writer, &core.buffers, out, request, lines, timeout);
    let upload = Upload::default();
    upload.is_sent.set(pipe.is_none());
    let date = core.date(trace.stamp.start_ms);
    let excluded =
        Excluded { route: &to.fields.removed, head: &request.fields, untrusted: &plan.forwarding.untrusted };
    let guest = Guest { core, active, limits, request, excluded, filtered, date };
    let call = RefCell::new(call);
    let (stamp, running) = (trace.stamp, Running::default());
    let mut errands =
        Errands { core, active, asker: Asker::Component(component, &pool), peer, stamp, running };

    let outcome = guest
        .exchange(&call, &mut errands, pipe, &mut source, &mut downstream, response, trace, &upload)
        .await;
    let is_sent = upload.is_sent.get();

    let persists = downstream.persists();
    trace.settle(source, &downstream, response.status);
    if outcome == Err(Error::Guest(wasm::Fault::Time)) {
        pool.has_failed();
    }
    outcome?;
    trace.status = response.status;
    finish(errands, call.into_inner());
    Ok(Next::after(is_sent, persists, input.as_ref(), stream))
}

/// The instances of the component that takes the request, and the request's head as it gets it.
fn choose(
    core: &Core,
    active: &Active,
    to: &ToWorkload,
    work: &Work,
    trace: &Trace,
) -> Result<(ComponentId, Rc<Pool>, Vec<u8>), Error> {
    let Work { request, changes, .. } = work;
    let path = match changes.path.as_slice() {
        [] => request.text(request.target.path),
        path => path,
    };
    let mut captured = Vec::new();
    let chosen = active.plan.guests.router(to.workload).choose(path, &mut captured);
    let component = chosen.map_err(|unrouted| match unrouted {
        Unrouted::NoComponents => Error::NoComponents,
        Unrouted::NoMatch => Error::NoComponent,
    })?;
    let peer = work.peer.as_ref().expect("a connection makes its peer before its first exchange");
    let mut head = Vec::with_capacity(1024);
    write_head(&mut head, request, changes, &to.fields.removed, peer, &trace.stamp);
    let mut line = Vec::new();
    if !captured.is_empty() {
        push_field(&mut line, PARAMETERS.as_bytes(), &captured);
    }
    change(&mut head, 0, &[PARAMETERS], &line);
    Ok((component, core.guests.of(component), head))
}

/// Lets an instance run, and what it has asked others. What it asked ends with its call.
fn work(call: &mut Call, errands: &mut Errands<'_>, cx: &mut Context<'_>) {
    call.poll(cx);
    if call.is_done() {
        errands.running = Running::default();
    } else {
        errands.poll(call.outbox(), cx);
    }
}

/// Lets an instance do what it has left to do, for as long as a request may take.
fn finish(errands: Errands<'_>, mut call: Call) {
    if call.is_done() {
        return;
    }
    let Errands { core, active, asker, peer, stamp, mut running } = errands;
    let Asker::Component(component, pool) = asker else { return };
    let (core, active, pool, peer) = (Rc::clone(core), Rc::clone(active), Rc::clone(pool), peer.clone());
    let counters = core.counters.clone();
    let rest = async move {
        let finished = poll_fn(|cx| {
            let (core, active, pool, peer) = (&core, &active, &pool, &peer);
            let under_way = std::mem::take(&mut running);
            let asker = Asker::Component(component, pool);
            let mut errands = Errands { core, active, asker, peer, stamp, running: under_way };
            work(&mut call, &mut errands, cx);
            running = errands.running;
            if call.is_done() { Poll::Ready(()) } else { Poll::Pending }
        });
        // One that takes longer has told nobody so far, and ends.
        let _ended = core.wheel.timeout(pool.guest.settings.limits.time, finished).await;
    };
    task::spawn(rest, move || counters.panics.add(1));
}

impl Guest<'_> {
    #[expect(clippy::too_many_arguments, reason = "each is a different part of one exchange, borrowed apart")]
    async fn exchange(
        &self,
        call: &RefCell<Call>,
        errands: &mut Errands<'_>,
        pipe: Option<Sender>,
        source: &mut Source<'_>,
        downstream: &mut Downstream<'_>,
        response: &mut ResponseHead,
        trace: &mut Trace,
        upload: &Upload,
    ) -> Result<(), Error> {
        if self.request.expects_continue && source.received() == 0 {
            let head = ResponseHead { status: Status(100), ..ResponseHead::default() };
            downstream.inform(&head, &self.date).await.map_err(downstream_error)?;
        }
        let client = pin!(self.client_side(source, pipe, upload));
        let answer = pin!(self.answer(call, downstream, response, trace, upload));
        take_turns(call, errands, client, answer, upload).await
    }

    /// Passes the body on, then watches the client. Resolves only if the client ends the exchange.
    async fn client_side(&self, source: &mut Source<'_>, pipe: Option<Sender>, upload: &Upload) -> Error {
        if let Some(pipe) = pipe {
            match relay(source, Sink::Guest(&mut GuestSink::new(pipe)), self.excluded).await {
                Ok(()) => upload.is_sent.set(true),
                Err(RelayFault::Source(fault)) => return client_error(fault),
                // A component need not read what it is sent.
                Err(RelayFault::Sink(_)) => {}
            }
        }
        let aborts = self.active.plan.limits.abort_on_close;
        gone(source.client(), || aborts && !upload.has_answer.get()).await;
        Error::ClientGone
    }

    /// Waits for the answer and passes it on.
    async fn answer(
        &self,
        call: &RefCell<Call>,
        downstream: &mut Downstream<'_>,
        response: &mut ResponseHead,
        trace: &mut Trace,
        upload: &Upload,
    ) -> Result<(), Error> {
        let answer = self.core.wheel.timeout(self.limits.time, poll_fn(|_| begun(call))).await;
        let answer = answer.ok_or(Error::Guest(wasm::Fault::Time))?.map_err(Error::Guest)?;
        self.read_head(&answer, response)?;
        trace.response_head_is_here();
        let Guest { core, limits, .. } = *self;
        let bounds = guest_source::Bounds { timeout: limits.time, bytes: limits.response_body };
        let source = GuestSource::new(
            answer.into_body(),
            Some(call),
            response.body,
            bounds,
            &core.buffers,
            &core.wheel,
        );
        let mut source = Source::Guest(source);
        let answer_error = |fault| answer_error(fault, call.borrow().fault());
        if let Some(filtered) = &self.filtered {
            filtered.response(self.request, response, &mut source, &trace.stamp, answer_error).await?;
        }
        upload.has_answer.set(!event_stream::begins(response));
        let may_persist = self.request.keep_alive && !core.is_draining() && upload.is_sent.get();
        downstream.respond(response, may_persist, &self.date, trace.timing(core, &self.active.plan));
        let excluded = downstream.excluded(response);
        match relay(&mut source, downstream.sink(), excluded).await {
            Ok(()) => Ok(()),
            Err(RelayFault::Sink(fault)) => Err(downstream_error(fault)),
            Err(RelayFault::Source(fault)) => Err(answer_error(fault)),
        }
    }

    /// Reads the head of an answer as strictly as that of any other response.
    fn read_head(&self, answer: &Response, response: &mut ResponseHead) -> Result<(), Error> {
        let length = answer.body().size_hint().exact();
        let mut head = Vec::with_capacity(512);
        message::write_head(&mut head, answer, length);
        match parse::response(&head, RESPONSE_BOUNDS, self.request.method, response) {
            Ok(Parsed::Head(_)) if response.status.is_informational() => {
                Err(Error::GuestProtocol("a final answer with an informational status"))
            }
            Ok(Parsed::Head(_)) => match (response.body, self.limits.response_body) {
                (BodyLength::Known(length), Some(most)) if length > most => {
                    Err(Error::Guest(wasm::Fault::TooLong))
                }
                _ => Ok(()),
            },
            Ok(Parsed::Incomplete) => Err(Error::GuestProtocol("incomplete head")),
            Err(refusal) => Err(Error::GuestProtocol(refusal.reason())),
        }
    }
}

fn begun(call: &RefCell<Call>) -> Poll<Result<Response, wasm::Fault>> {
    call.borrow_mut().answer().map_or(Poll::Pending, Poll::Ready)
}

/// Runs the instance, and with it what waits for it on both sides, until the answer is through or
/// the client ends the exchange. The futures are pinned where they were made: they are large.
async fn take_turns(
    call: &RefCell<Call>,
    errands: &mut Errands<'_>,
    mut client: Pin<&mut impl Future<Output = Error>>,
    mut answer: Pin<&mut impl Future<Output = Result<(), Error>>>,
    upload: &Upload,
) -> Result<(), Error> {
    poll_fn(|cx| {
        // Before the instance, so that it finds what is here already; and a request that is wrong is
        // not answered as if it were not.
        if !upload.is_sent.get()
            && let Poll::Ready(error) = client.as_mut().poll(cx)
        {
            return Poll::Ready(Err(error));
        }
        work(&mut call.borrow_mut(), errands, cx);
        if let Poll::Ready(answered) = answer.as_mut().poll(cx) {
            return Poll::Ready(answered);
        }
        client.as_mut().poll(cx).map(Err)
    })
    .await
}

/// `fault`: that of the call, if it has failed.
fn answer_error(source: SourceFault, fault: Option<wasm::Fault>) -> Error {
    Error::Guest(match source {
        SourceFault::Stopped(status, reason) => return Error::Middleware(status, reason),
        SourceFault::Timeout => wasm::Fault::Time,
        SourceFault::TooLarge => wasm::Fault::TooLong,
        SourceFault::Cut | SourceFault::Reset | SourceFault::TooSlow | SourceFault::Malformed(_) => {
            fault.unwrap_or(wasm::Fault::Cut)
        }
    })
}
