//! The requests that guests send while they are called: components while they answer one, middleware
//! while one passes. On the same core, over the same
//! connections to upstreams, with the same retries as those of clients.
//!
//! They are run by who runs the call that sent them, and end with it. An upstream is told by whom
//! the client is, as if the client itself had asked.

use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Context;
use std::time::Duration;

use super::body::guest_source::{self, GuestSource};
use super::body::{GuestSink, Source};
use super::changes::Changes;
use super::core::{Active, Core};
use super::downstream::Downstream;
use super::error::{Broken, Error};
use super::forward::{Answered, Forward};
use super::hold::Waits;
use super::policy::Policy;
use super::trace::Trace;
use super::upload::Upload;
use crate::http::fields::Known;
use crate::http::forwarding::{OPERATORS, Peer, Stamp};
use crate::http::framing::BodyLength;
use crate::http::h1::{Parsed, encode, parse};
use crate::http::head::{RequestHead, ResponseHead};
use crate::net::task::unless;
use crate::plan::{self, FilterId};
use crate::wasm::hooks::filter::Seat;
use crate::wasm::message;
use crate::wasm::outgoing::{Ask, Outbox, Refusal, Reply};
use crate::wasm::pipe::{Receiver, pipe};
use crate::wasm::pool::{ComponentId, Pool};

/// Nobody is as patient as that, whatever a guest says.
const PATIENCE_MAX: Duration = Duration::from_secs(60 * 60);

/// Who asks.
#[derive(Clone, Copy)]
pub enum Asker<'a> {
    Component(ComponentId, &'a Rc<Pool>),
    Filter(FilterId, &'a Seat),
}

/// What a request of a guest, and the answer to it, may have.
#[derive(Clone, Copy)]
struct Bounds {
    /// Without a piece of a body.
    silence: Duration,
    body: Option<u64>,
}

/// For whom a guest asks.
pub struct Errands<'a> {
    pub core: &'a Rc<Core>,
    pub active: &'a Rc<Active>,
    pub asker: Asker<'a>,
    pub peer: &'a Peer,
    pub stamp: Stamp,
    pub running: Running,
}

/// Requests under way. Dropped, they end.
#[derive(Default)]
pub struct Running(Vec<Pin<Box<dyn Future<Output = ()>>>>);

impl Errands<'_> {
    /// Begins what is in the outbox, and goes on with what was begun.
    pub fn poll(&mut self, outbox: &Outbox, cx: &mut Context<'_>) {
        for ask in outbox.take() {
            self.asker.count();
            self.begin(ask);
        }
        self.running.0.retain_mut(|errand| errand.as_mut().poll(cx).is_pending());
    }

    fn begin(&mut self, ask: Ask) {
        let Some(forward) = self.asker.destination(self.active, &ask.authority) else {
            self.asker.complain(format_args!("it may not ask `{}`", ask.authority.escape_debug()));
            return ask.reply.put(Err(Refusal::Denied));
        };
        let errand = Errand {
            core: Rc::clone(self.core),
            active: Rc::clone(self.active),
            bounds: self.asker.bounds(),
            peer: self.peer.clone(),
            stamp: self.stamp,
            forward: forward.clone(),
        };
        self.running.0.push(Box::pin(errand.run(ask)));
    }
}

impl Asker<'_> {
    /// If it may ask there.
    fn destination<'p>(self, active: &'p Active, authority: &str) -> Option<&'p plan::Forward> {
        match self {
            Asker::Component(id, _) => active.plan.outgoing[id.0 as usize].destination(authority),
            Asker::Filter(id, _) => {
                let allowed = active.plan.allowed[id.0 as usize].iter();
                allowed.clone().find(|one| one.name == authority).map(|one| &one.to)
            }
        }
    }

    fn bounds(self) -> Bounds {
        match self {
            Asker::Component(_, pool) => {
                let limits = &pool.guest.settings.limits;
                Bounds { silence: limits.time, body: limits.outgoing_body }
            }
            // It has all of what it sends, and takes only so much.
            Asker::Filter(_, seat) => Bounds { silence: seat.filter.waiting.timeout, body: None },
        }
    }

    fn count(self) {
        match self {
            Asker::Component(_, pool) => pool.counters().outgoing.add(1),
            Asker::Filter(_, seat) => seat.count_request(),
        }
    }

    fn complain(self, what: std::fmt::Arguments<'_>) {
        match self {
            Asker::Component(_, pool) => pool.complain(&pool.guest.settings.name, what),
            Asker::Filter(_, seat) => seat.complain(what),
        }
    }
}

/// One request of a guest.
struct Errand {
    core: Rc<Core>,
    active: Rc<Active>,
    bounds: Bounds,
    peer: Peer,
    stamp: Stamp,
    forward: plan::Forward,
}

impl Errand {
    async fn run(mut self, mut ask: Ask) {
        let mut request = RequestHead::default();
        let parsed = parse::request(&ask.head, self.active.head_bounds(), &mut request);
        if !matches!(parsed, Ok(Parsed::Head(_))) {
            return ask.reply.put(Err(Refusal::Malformed));
        }
        // Components are the operator's: what they set is not a client's claim.
        request.fields.unmark(OPERATORS);
        let patience = |given: Option<Duration>, ours| given.unwrap_or(ours).min(PATIENCE_MAX);
        let silence = patience(ask.timeouts.between_bytes_timeout, self.forward.read_timeout);
        self.forward.connect_timeout = patience(ask.timeouts.connect_timeout, self.forward.connect_timeout);
        self.forward.read_timeout = patience(ask.timeouts.first_byte_timeout, self.forward.read_timeout);
        let bounds = guest_source::Bounds { timeout: self.bounds.silence, bytes: self.bounds.body };
        let body = ask.body.take().unwrap_or_else(message::no_body);
        let (buffers, wheel) = (&self.core.buffers, &self.core.wheel);
        let source = Source::Guest(GuestSource::new(body, None, request.body, bounds, buffers, wheel));
        let exchange = self.exchange(&request, source, silence, &ask.reply);
        let in_time = async {
            match ask.patience {
                Some(most) => wheel.timeout(most, exchange).await.unwrap_or(Err(Error::UpstreamTimeout)),
                None => exchange.await,
            }
        };
        if let Some(Err(error)) = unless(pin!(in_time), pin!(ask.reply.dropped())).await {
            ask.reply.put(Err(refusal(error)));
        }
    }

    async fn exchange(
        &self,
        request: &RequestHead,
        mut source: Source<'_>,
        silence: Duration,
        reply: &Reply,
    ) -> Result<(), Error> {
        let Errand { core, active, peer, forward: route, .. } = self;
        let mut trace = Trace::start(core, false);
        let upstream = &active.upstreams[route.upstream.0 as usize];
        let date = core.date(trace.stamp.start_ms);
        let policy = Policy::of(core, active, &upstream.settings);
        let mut forward = Forward {
            core,
            active,
            limits: &active.plan.limits,
            upstream,
            route,
            request,
            peer,
            stamp: self.stamp,
            silence,
            policy,
            filtered: None,
            date,
            waits: Waits::default(),
        };
        let mut downstream = Downstream::Guest(Waiting::new(reply, self.bounds.body));
        let (upload, changes) = (Upload::default(), Changes::default());
        let mut response = ResponseHead::default();
        let outcome = forward
            .exchange(&changes, &mut source, &mut downstream, &mut response, &mut trace, &upload)
            .await;
        self.count(&trace, outcome.as_ref().err().copied());
        let (_pick, lease, answered) = outcome?;
        if let Answered::Whole { is_reusable: true } = answered
            && upload.is_sent.get()
        {
            lease.mark_clean(trace.end());
        }
        Ok(())
    }

    /// As what clients ask of the upstream is counted.
    fn count(&self, trace: &Trace, error: Option<Error>) {
        let Some(counters) = self.active.ledger.upstream(self.forward.upstream.0) else { return };
        if let Some(taken) = trace.upstream_duration {
            counters.response.observe(taken);
        }
        if let Some(rejection) = error.and_then(Error::rejection) {
            counters.rejections(rejection).add(1);
        }
    }
}

/// A guest's side of an exchange in which it is the client.
pub struct Waiting<'a> {
    reply: &'a Reply,
    sink: GuestSink,
    /// Until the head is here.
    body: Option<Receiver>,
}

impl<'a> Waiting<'a> {
    /// For an answer whose body has at most so many bytes.
    fn new(reply: &'a Reply, most: Option<u64>) -> Waiting<'a> {
        let (sender, receiver) = pipe(None);
        let sink = GuestSink::new(sender).with_bound(most);
        Waiting { reply, sink, body: Some(receiver) }
    }

    /// Gives the guest the final head, and the end of the pipe that the body comes through.
    pub fn respond(&mut self, head: &ResponseHead) {
        let Some(body) = self.body.take() else { return };
        let (body, length) = match head.body {
            BodyLength::Known(length) => (body.with_length(length), Some(length)),
            // What the answer to HEAD, or a 304, says of a body that it does not have.
            _ => (body, head.fields.value(Known::ContentLength).and_then(number)),
        };
        let fields = encode::end_to_end(head).map(|field| (field.name, field.value));
        let answer = message::answer(head.status.0, fields, length, body);
        self.reply.put(answer.ok_or(Refusal::Protocol));
    }

    pub fn sink(&mut self) -> &mut GuestSink {
        &mut self.sink
    }

    /// The guest has the head.
    pub fn has_answer(&self) -> bool {
        self.body.is_none()
    }
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// What a guest is told of an exchange that failed.
fn refusal(error: Error) -> Refusal {
    match error {
        Error::Body(_) => Refusal::Malformed,
        Error::BodyTooLarge => Refusal::BodyTooLarge,
        Error::NoEndpoint | Error::HoldFull | Error::HoldTimeout => Refusal::Unreachable,
        Error::QueueFull | Error::QueueTimeout => Refusal::NoConnection,
        Error::ConnectFailed => Refusal::ConnectFailed,
        Error::ConnectTimeout => Refusal::ConnectTimeout,
        Error::UpstreamTimeout => Refusal::Timeout,
        Error::UpstreamBroken(Broken::BeforeResponse) => Refusal::Closed,
        Error::UpstreamBroken(_) => Refusal::Incomplete,
        Error::UpstreamProtocol(_) => Refusal::Protocol,
        _ => Refusal::Abandoned,
    }
}
