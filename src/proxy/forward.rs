//! The way of a request to an upstream and of its response back. Retry is decided here and
//! nowhere else.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::body::h1_source::{Bounds, Left};
use super::body::{Delimiter, H1Sink, H1Source, RelayFault, Sink, SinkFault, Source, SourceFault, relay};
use super::changes::Changes;
use super::connection::Work;
use super::core::{Active, Core};
use super::downstream::{Downstream, FieldLines};
use super::error::{Broken, Error, Fault};
use super::event_stream::{self, EventStream};
use super::exchange::{Next, Served};
use super::filters::Filtered;
use super::flight::Flight;
use super::hold::{Held, Waits};
use super::policy::Policy;
use super::trace::Trace;
use super::tunnel::Tunnel;
use super::upload::{Upload, gone};
use crate::http::fields::list;
use crate::http::forwarding::{Peer, Stamp};
use crate::http::framing::BodyLength;
use crate::http::h1::{self, FIELDS_MAX, Parsed, parse};
use crate::http::head::{RequestHead, ResponseHead};
use crate::http::status::Status;
use crate::http::trailers::Excluded;
use crate::net::deadline::Expired;
use crate::net::{Buffer, Reader, Writer};
use crate::plan::{self, Limits, Route};
use crate::upstream::pool::Lease;
use crate::upstream::state::{Pick, Tried};
use crate::upstream::upstreams::Upstream;

/// What an upstream's response head may be at most.
const RESPONSE_BOUNDS: h1::Bounds = h1::Bounds { head: 64 * 1024, fields: FIELDS_MAX, uri: 0 };
/// Informational responses to one request.
const INFORMATIONAL_MAX: usize = 32;
/// One exchange's share of what forwarding needs.
pub(super) struct Forward<'a> {
    pub(super) core: &'a Core,
    pub(super) active: &'a Active,
    pub(super) limits: &'a Limits,
    pub(super) upstream: &'a Upstream,
    pub(super) route: &'a plan::Forward,
    pub(super) request: &'a RequestHead,
    pub(super) peer: &'a Peer,
    /// When the client's request came, and by which ids the upstream knows it.
    pub(super) stamp: Stamp,
    /// How long the upstream may be silent within a response.
    pub(super) silence: Duration,
    /// What is asked for an endpoint before the upstream's strategy.
    pub(super) policy: Option<Policy<'a>>,
    /// Middleware that sees the response.
    pub(super) filtered: Option<Filtered<'a>>,
    pub(super) date: [u8; 29],
    pub(super) waits: Waits,
}

/// How an attempt ended well.
pub(super) enum Answered {
    /// The response is through; whether its connection can be used again.
    Whole { is_reusable: bool },
    /// 101: what the upstream sent after it.
    Switched(Option<Buffer>),
    /// The head of an event stream is with the client.
    Events(Box<Left>),
}

/// How an attempt failed.
pub(super) struct Failed {
    pub(super) error: Error,
    /// Not a byte of a response was here.
    is_before_response: bool,
    /// Not a byte of the request was written.
    is_unsent: bool,
    /// On a connection that had been idle, and was closed.
    is_stale: bool,
}

impl Failed {
    /// Before there was a connection.
    pub(super) fn unsent(error: Error) -> Failed {
        Failed { is_before_response: true, is_unsent: true, ..error.into() }
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Failed {
        Failed { error, is_before_response: false, is_unsent: false, is_stale: false }
    }
}

/// Forwards the request in `work` to an endpoint of the upstream that `forward` names.
pub async fn run(
    core: &Rc<Core>,
    active: &Rc<Active>,
    route: &Route,
    forward: &plan::Forward,
    stream: &mut crate::net::Stream,
    work: &mut Work,
    trace: &mut Trace,
) -> Result<Served, Error> {
    let limits = &active.plan.limits;
    let upstream = &active.upstreams[forward.upstream.0 as usize];
    let Work { input, request, response, out, peer, changes, passage, .. } = work;
    let peer = peer.as_ref().expect("a connection makes its peer before its first exchange");
    let date = core.date(trace.stamp.start_ms);
    let (reader, writer) = stream.split();
    let bounds = Bounds::of_requests(limits);
    let mut source = passage.source(core, reader, input, request.body, bounds);
    let filtered = Filtered::of(core, active, route, peer, passage);
    let silence = forward.read_timeout;
    let policy = Policy::of(core, active, &upstream.settings);
    let mut forward = Forward {
        core,
        active,
        limits,
        upstream,
        route: forward,
        request,
        peer,
        stamp: trace.stamp,
        silence,
        policy,
        filtered,
        date,
        waits: Waits::default(),
    };

    let lines = FieldLines { removed: &route.response.removed, set: &changes.response };
    let mut downstream = Downstream::h1(writer, &core.buffers, out, request, lines, limits.write_timeout);
    let upload = Upload::default();
    let outcome = forward.exchange(changes, &mut source, &mut downstream, response, trace, &upload).await;
    let is_sent = upload.is_sent.get();

    let (persists, delimiter) = (downstream.persists(), downstream.delimiter());
    trace.settle(source, &downstream, response.status);
    let (pick, lease, answered) = outcome?;
    trace.status = response.status;
    match answered {
        Answered::Switched(by_upstream) => {
            let (timeout, linger) = (limits.tunnel_timeout, limits.tunnel_linger);
            let tunnel = Tunnel { _pick: pick, lease, by_upstream, timeout, linger };
            Ok(Served::Tunnel(Box::new(tunnel)))
        }
        Answered::Events(body) => Ok(Served::EventStream(Box::new(EventStream {
            _pick: pick,
            lease,
            body: *body,
            delimiter,
            persists,
            silence,
            write_timeout: limits.write_timeout,
            abort_on_close: limits.abort_on_close,
            removed: route.response.removed.clone(),
        }))),
        Answered::Whole { is_reusable } => {
            if is_reusable && is_sent {
                lease.mark_clean(trace.end());
            }
            Ok(Served::Whole(Next::after(is_sent, persists, input.as_ref(), stream)))
        }
    }
}

impl Forward<'_> {
    /// What the upstream does not get as a trailer of the request.
    pub(super) fn excluded(&self) -> Excluded<'_> {
        Excluded {
            route: &self.route.fields.removed,
            head: &self.request.fields,
            untrusted: &self.active.plan.forwarding.untrusted,
        }
    }

    /// Sends the request and passes the answer on. However it ends, `source` and `downstream` tell how
    /// far both sides have come.
    pub(super) async fn exchange(
        &mut self,
        changes: &Changes,
        source: &mut Source<'_>,
        downstream: &mut Downstream<'_>,
        response: &mut ResponseHead,
        trace: &mut Trace,
        upload: &Upload,
    ) -> Result<(Pick, Lease, Answered), Error> {
        let (mut flight, text) = self.load(changes, source)?;
        if let Some(text) = text {
            // Boxed, because most exchanges do not wait for it.
            Box::pin(self.read_text(text, &mut flight, source, downstream)).await?;
        }
        upload.is_sent.set(flight.is_whole);
        let outcome = self.attempts(&mut flight, source, downstream, response, trace, upload).await;
        flight.land(&self.core.buffers);
        outcome
    }

    /// Tries until an answer is through. What failed is tried again only before a byte of a
    /// response: on the same endpoint if a reused connection turns out dead, which says nothing of
    /// it; otherwise on another one, as often as the upstream's settings and its budget allow.
    async fn attempts(
        &self,
        flight: &mut Flight,
        source: &mut Source<'_>,
        downstream: &mut Downstream<'_>,
        response: &mut ResponseHead,
        trace: &mut Trace,
        upload: &Upload,
    ) -> Result<(Pick, Lease, Answered), Error> {
        let now_ms = trace.stamp.start_ms;
        self.upstream.budget.note_request(now_ms);
        let mut pick = self.pick(source.client(), trace.start, now_ms).await?;
        let mut tried = Tried::default();
        // Boxed, because few exchanges lose anything.
        let mut held: Option<Box<Held>> = None;
        let mut may_reuse = true;
        loop {
            let is_repeatable = flight.is_whole && self.request.method.is_idempotent();
            let attempt = self.attempt(
                &mut pick,
                is_repeatable,
                may_reuse,
                flight,
                source,
                downstream,
                response,
                trace,
                upload,
            );
            let failed = match attempt.await {
                Ok((lease, answered)) => {
                    self.report(&pick, response, None);
                    return Ok((pick, lease, answered));
                }
                Err(failed) => failed,
            };
            self.report(&pick, response, Some(failed.error));
            if failed.error.fault() == Fault::Upstream && !failed.is_stale {
                self.note_failure(&pick, failed.error, Instant::now());
            }
            let may_repeat = failed.is_before_response && (failed.is_unsent || is_repeatable);
            may_reuse = !failed.is_stale;
            if failed.is_stale && may_repeat {
                // Its neighbours in the pool are as old as it was.
                pick.pool.clear();
            } else {
                // What it waits for from here on is another connection.
                self.waits.queue.clear();
                let client = source.client();
                let next = match may_repeat {
                    true => {
                        let held = held.get_or_insert_default();
                        self.outlive(&pick, client, failed.error, failed.is_unsent, held).await
                    }
                    false => None,
                };
                pick = match next {
                    Some(next) => next?,
                    None if may_repeat => self.another(&pick, &mut tried).ok_or(failed.error)?,
                    None => return Err(failed.error),
                };
            }
            self.must_be_there(source.client())?;
            flight.rewind();
        }
    }

    #[expect(clippy::too_many_arguments, reason = "each is a different part of one exchange, borrowed apart")]
    async fn attempt(
        &self,
        pick: &mut Pick,
        is_repeatable: bool,
        may_reuse: bool,
        flight: &mut Flight,
        source: &mut Source<'_>,
        downstream: &mut Downstream<'_>,
        response: &mut ResponseHead,
        trace: &mut Trace,
        upload: &Upload,
    ) -> Result<(Lease, Answered), Failed> {
        trace.attempts += 1;
        let mut lease = self.lease(pick, source.client(), may_reuse, is_repeatable, trace).await?;
        trace.endpoint = Some(Rc::clone(lease.pool()));
        // How long a client takes to send a body says nothing of the endpoint.
        let is_timed = flight.is_whole;
        let (reader, mut writer) = lease.stream().split();
        if let Some(policy) = &self.policy {
            policy.sends();
        }
        let unsent = flight.send(&mut writer, self.upstream.settings.write_timeout).await.err();
        let outcome = match unsent {
            // It may still have said why it takes nothing.
            Some(_) => self.answer(reader, downstream, response, pick, is_timed, trace, upload).await,
            None => {
                let client = pin!(self.client_side(source, writer, upload));
                let answer = pin!(self.answer(reader, downstream, response, pick, is_timed, trace, upload));
                first(answer, client, upload).await
            }
        };
        match outcome {
            Ok(Answered::Whole { is_reusable }) => {
                Ok((lease, Answered::Whole { is_reusable: is_reusable && unsent.is_none() }))
            }
            Ok(goes_on) => Ok((lease, goes_on)),
            Err(failed) => {
                let is_closed = failed.error == Error::UpstreamBroken(Broken::BeforeResponse);
                Err(Failed {
                    is_unsent: unsent == Some(0),
                    is_stale: lease.is_reused && is_closed && failed.is_before_response,
                    ..failed
                })
            }
        }
    }

    /// Sends the rest of the body, or as much of it as is taken, then watches the client. Resolves
    /// only if the client, or a stalled upstream, ends the exchange.
    async fn client_side(&self, source: &mut Source<'_>, writer: Writer<'_>, upload: &Upload) -> Error {
        if !upload.is_sent.get() {
            // Boxed, so that a request whose body is here already does not carry its room.
            if let Err(error) = Box::pin(self.send_rest(source, writer, upload)).await {
                return error;
            }
        }
        gone(source.client(), || self.limits.abort_on_close && !upload.has_answer.get()).await;
        Error::ClientGone
    }

    async fn send_rest(
        &self,
        source: &mut Source<'_>,
        writer: Writer<'_>,
        upload: &Upload,
    ) -> Result<(), Error> {
        if self.request.expects_continue {
            upload.may_begin(source).await;
        }
        let mut head = Vec::new();
        let settings = &self.upstream.settings;
        let upstream = writer.timer();
        upload.begin(upstream);
        let mut sink = H1Sink::new(writer, &self.core.buffers, &mut head, settings.write_timeout);
        if self.request.body == BodyLength::Chunked {
            sink.delimiter = Delimiter::Chunks;
        }
        let relayed = relay(source, Sink::H1(&mut sink), self.excluded()).await;
        upload.end(upstream, self.route.read_timeout);
        match relayed {
            Ok(()) => {
                upload.is_sent.set(true);
                Ok(())
            }
            Err(RelayFault::Source(fault)) => Err(client_error(fault)),
            Err(RelayFault::Sink(SinkFault::Stalled)) => Err(Error::UpstreamTimeout),
            // What it answers, if it does, says more than that it takes nothing.
            Err(RelayFault::Sink(SinkFault::Gone)) => Ok(()),
        }
    }

    /// Receives the response and passes it on.
    #[expect(clippy::too_many_arguments, reason = "each is a different part of one exchange, borrowed apart")]
    async fn answer(
        &self,
        mut reader: Reader<'_>,
        downstream: &mut Downstream<'_>,
        response: &mut ResponseHead,
        pick: &Pick,
        is_timed: bool,
        trace: &mut Trace,
        upload: &Upload,
    ) -> Result<Answered, Failed> {
        let room = self.core.buffers.room(self.upstream.response_size());
        let mut input = self.core.buffers.take(room.size());
        for informational in 0.. {
            input = self.read_head(&mut reader, input, response, informational > 0, upload).await?;
            if !response.status.is_informational() {
                break;
            }
            if response.status == Status::SWITCHING_PROTOCOLS {
                self.note_answer(pick, trace.response_head_is_here());
                return self.switch(input, downstream, response).await;
            }
            if informational == INFORMATIONAL_MAX {
                return Err(Error::UpstreamProtocol("too many informational responses").into());
            }
            downstream.inform(response, &self.date).await.map_err(downstream_error)?;
            upload.has_leave.set(true);
        }
        let now = trace.response_head_is_here();
        self.note_answer(pick, now);
        if let Some(policy) = &self.policy {
            policy.head_is_here(now);
        }
        if is_timed {
            pick.observe(now);
        }
        let bounds = Bounds { timeout: self.silence, bytes: None, min_rate: None };
        let mut input = Some(input);
        let source = H1Source::new(reader, &self.core.buffers, &mut input, response.body, bounds);
        let mut source = Source::H1(source.with_room(room));
        if let Some(filtered) = &self.filtered {
            filtered.response(self.request, response, &mut source, &trace.stamp, upstream_error).await?;
        }
        // An answer that comes before the body was sent is the last on its connection.
        let may_persist = self.request.keep_alive && !self.core.is_draining() && upload.is_sent.get();
        downstream.respond(response, may_persist, &self.date, trace.timing(self.core, &self.active.plan));
        let is_event_stream = event_stream::begins(response);
        // An event stream may be silent for long: its client is watched as if it were still waiting.
        upload.has_answer.set(!is_event_stream);
        let may_leave = upload.is_sent.get() && downstream.is_client() && is_event_stream;
        let mut source = match source {
            Source::H1(source) if may_leave => {
                downstream.sink().flush().await.map_err(downstream_error)?;
                return Ok(Answered::Events(Box::new(source.leave())));
            }
            source => source,
        };
        let excluded = downstream.excluded(response);
        relay(&mut source, downstream.sink(), excluded).await.map_err(relay_error)?;
        // Not so if a middleware has answered: what is left of the response is on its connection.
        let is_drained = source.is_drained();
        if is_drained {
            self.upstream.learn_response(source.received());
        }
        source.finish();
        Ok(Answered::Whole { is_reusable: response.keep_alive && is_drained && input.is_none() })
    }

    async fn read_head(
        &self,
        reader: &mut Reader<'_>,
        mut input: Buffer,
        response: &mut ResponseHead,
        has_answered: bool,
        upload: &Upload,
    ) -> Result<Buffer, Failed> {
        loop {
            if !input.is_empty() {
                match parse::response(input.data(), RESPONSE_BOUNDS, self.request.method, response) {
                    Ok(Parsed::Head(len)) => {
                        input.consume(len);
                        return Ok(input);
                    }
                    Ok(Parsed::Incomplete) => {}
                    Err(refusal) => return Err(Error::UpstreamProtocol(refusal.reason()).into()),
                }
            }
            input.make_room(RESPONSE_BOUNDS.head + 1);
            let (read, buffer) = upload.read(reader, input, self.route.read_timeout).await;
            input = buffer;
            if matches!(read, Ok(count) if count > 0) {
                continue;
            }
            let is_before_response = input.is_empty() && !has_answered;
            let error = match reader.timer().expired() {
                Some(Expired::Timeout(_)) => Error::UpstreamTimeout,
                _ if is_before_response => Error::UpstreamBroken(Broken::BeforeResponse),
                _ => Error::UpstreamBroken(Broken::InHead),
            };
            self.core.buffers.put(input);
            return Err(Failed { is_before_response, ..error.into() });
        }
    }

    /// The upstream left HTTP: only if the client asked for that, and for this protocol.
    async fn switch(
        &self,
        input: Buffer,
        downstream: &mut Downstream<'_>,
        response: &ResponseHead,
    ) -> Result<Answered, Failed> {
        let (Some(asked), Some(given)) = (self.request.upgrade, response.upgrade) else {
            return Err(Error::UpstreamProtocol("101 without a request to upgrade").into());
        };
        let given = response.fields.bytes(given);
        if !list(self.request.text(asked)).any(|asked| asked.eq_ignore_ascii_case(given)) {
            return Err(Error::UpstreamProtocol("101 to a protocol that was not asked for").into());
        }
        downstream.switch(response, &self.date).await.map_err(downstream_error)?;
        if input.is_empty() {
            self.core.buffers.put(input);
            return Ok(Answered::Switched(None));
        }
        Ok(Answered::Switched(Some(input)))
    }
}

/// The answer, unless the client's side ends the exchange before it. Both are pinned where they
/// were made: they are large, and moved twice otherwise.
async fn first(
    mut answer: Pin<&mut impl Future<Output = Result<Answered, Failed>>>,
    mut client: Pin<&mut impl Future<Output = Error>>,
    upload: &Upload,
) -> Result<Answered, Failed> {
    poll_fn(|cx| {
        let mut ended = Poll::Pending;
        if !upload.is_sent.get() {
            // Before the answer, so that that sees whether the body was sent.
            ended = client.as_mut().poll(cx);
        }
        if let Poll::Ready(answered) = answer.as_mut().poll(cx) {
            return Poll::Ready(answered);
        }
        if ended.is_pending() {
            // The answer may just have let the body begin.
            ended = client.as_mut().poll(cx);
        }
        ended.map(|error| Err(error.into()))
    })
    .await
}

pub(super) fn client_error(fault: SourceFault) -> Error {
    match fault {
        SourceFault::Cut | SourceFault::Reset => Error::ClientGone,
        SourceFault::Timeout => Error::BodyTimeout,
        SourceFault::TooSlow => Error::BodyTooSlow,
        SourceFault::TooLarge => Error::BodyTooLarge,
        SourceFault::Malformed(reason) => Error::Body(reason),
        SourceFault::Stopped(status, reason) => Error::Middleware(status, reason),
    }
}

/// Of the body of a response on its way from the upstream to the client.
pub(super) fn relay_error(fault: RelayFault) -> Error {
    match fault {
        RelayFault::Source(fault) => upstream_error(fault),
        RelayFault::Sink(fault) => downstream_error(fault),
    }
}

fn upstream_error(fault: SourceFault) -> Error {
    match fault {
        SourceFault::Cut => Error::UpstreamBroken(Broken::InBody),
        SourceFault::Reset => Error::UpstreamBroken(Broken::ResetInBody),
        SourceFault::Timeout => Error::UpstreamTimeout,
        SourceFault::Malformed(reason) => Error::UpstreamProtocol(reason),
        SourceFault::Stopped(status, reason) => Error::Middleware(status, reason),
        SourceFault::TooSlow | SourceFault::TooLarge => {
            Error::UpstreamProtocol("response body out of bounds")
        }
    }
}

pub(super) fn downstream_error(fault: SinkFault) -> Error {
    match fault {
        SinkFault::Gone => Error::ClientGone,
        SinkFault::Stalled => Error::ClientStalled,
    }
}
