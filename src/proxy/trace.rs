//! What is learned of one exchange while it runs, and the one record made of it at its end.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::body::Source;
use super::connection::Work;
use super::core::{Active, Core};
use super::downstream::Downstream;
use super::error::Error;
use crate::http::fields::Known;
use crate::http::forwarding::{Peer, Stamp};
use crate::http::head::{RequestHead, Version};
use crate::http::server_timing::Timing;
use crate::http::status::Status;
use crate::http::trace_context::{Continued, Span, received_trace_id};
use crate::plan::{Plan, RouteId, Tracing, UpstreamId};
use crate::telemetry::counters::{Ledger, Outcome};
use crate::telemetry::{Record, Share};
use crate::upstream::pool::Pool;

pub struct Trace {
    pub start: Instant,
    end: Option<Instant>,
    pub stamp: Stamp,
    /// The request's head was parsed, so it can be told.
    pub has_head: bool,
    pub status: Status,
    pub reason: &'static str,
    /// Why we answered ourselves, or cut the exchange short.
    pub error: Option<Error>,
    pub route: Option<RouteId>,
    pub upstream: Option<UpstreamId>,
    pub endpoint: Option<Rc<Pool>>,
    /// The request is here to its last byte.
    pub is_request_done: bool,
    /// Bytes of the final response have been sent.
    pub is_response_started: bool,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// How often an endpoint was tried.
    pub attempts: u32,
    /// What making connections to endpoints took.
    pub connect: Option<Duration>,
    pub upstream_duration: Option<Duration>,
    /// What it has to tell instead of its plan, which it has left.
    left: Option<Box<Left>>,
}

/// What an exchange keeps of the plan that it leaves.
struct Left {
    ledger: Ledger,
    /// Of the route.
    place: String,
    is_logged: bool,
}

/// The names of what the plan chose, and where it is counted.
struct Chosen<'a> {
    ledger: &'a Ledger,
    /// Of the route.
    place: &'a str,
    upstream: &'a str,
    is_logged: bool,
}

impl Trace {
    pub fn start(core: &Core, has_head: bool) -> Trace {
        let start = Instant::now();
        Trace {
            start,
            end: None,
            stamp: Stamp { request_id: core.request_id(), start_ms: core.unix_ms(start), span: None },
            has_head,
            status: Status(0),
            reason: "",
            error: None,
            route: None,
            upstream: None,
            endpoint: None,
            is_request_done: false,
            is_response_started: false,
            bytes_in: 0,
            bytes_out: 0,
            attempts: 0,
            connect: None,
            upstream_duration: None,
            left: None,
        }
    }

    /// Takes its place in a trace, if the plan has it so.
    pub fn begin_span(&mut self, core: &Core, tracing: &Tracing, head: &RequestHead, peer: &Peer) {
        if tracing.continued == Continued::Untouched {
            return;
        }
        let ids = (self.stamp.request_id, core.span_id());
        let draw = || tracing.sample.takes(core.draw());
        self.stamp.span = Span::begin(tracing.continued, head, peer.is_trusted, ids, draw);
    }

    /// Now.
    pub fn response_head_is_here(&mut self) -> Instant {
        let now = Instant::now();
        self.upstream_duration = Some(now.saturating_duration_since(self.start));
        now
    }

    /// What of this the client is told, if the plan has it so.
    pub fn timing<'a>(&'a self, core: &Core, plan: &'a Plan) -> Option<Timing<'a>> {
        plan.server_timing.then(|| Timing {
            worker: core.index,
            route: self.route_place(plan),
            endpoint: self.endpoint_label(),
            upstream: self.upstream_duration,
        })
    }

    fn route_place<'a>(&self, plan: &'a Plan) -> &'a str {
        self.route.map_or("", |id| &plan.routes[id.0 as usize].place)
    }

    /// Goes on without its plan: the names in it are kept, and the rest is told by the plan that is
    /// then in force.
    pub fn leave(&mut self, active: &Active) {
        let Chosen { place, is_logged, .. } = self.chosen(active);
        let (place, route, upstream) = (place.to_owned(), self.route, self.upstream);
        let ledger = active.ledger.only(route.map(|id| id.0), upstream.map(|id| id.0));
        self.left = Some(Box::new(Left { ledger, place, is_logged }));
        self.route = route.map(|_| RouteId(0));
        self.upstream = upstream.map(|_| UpstreamId(0));
    }

    fn chosen<'a>(&'a self, active: &'a Active) -> Chosen<'a> {
        if let Some(left) = &self.left {
            let upstream = left.ledger.upstreams.first().map_or("", |(name, _)| name);
            return Chosen { ledger: &left.ledger, place: &left.place, upstream, is_logged: left.is_logged };
        }
        let plan = &active.plan;
        let route = self.route.map(|id| &plan.routes[id.0 as usize]);
        Chosen {
            ledger: &active.ledger,
            place: self.route_place(plan),
            upstream: self.upstream.map_or("", |id| &plan.upstreams[id.0 as usize].name),
            is_logged: route.is_none_or(|route| route.is_logged),
        }
    }

    /// Empty without one.
    pub fn upstream_name<'a>(&'a self, active: &'a Active) -> &'a str {
        self.chosen(active).upstream
    }

    fn endpoint_label(&self) -> &str {
        self.endpoint.as_ref().map_or("", |pool| pool.label())
    }

    /// The response is through.
    pub fn end(&mut self) -> Instant {
        *self.end.get_or_insert_with(Instant::now)
    }

    /// Notes how far both sides have come.
    pub fn settle(&mut self, source: Source<'_>, downstream: &Downstream<'_>, status: Status) {
        self.is_response_started = downstream.is_started();
        self.is_request_done = source.is_drained();
        self.bytes_out = downstream.sent();
        if self.is_response_started {
            self.status = status;
        }
        self.bytes_in = source.received();
        source.finish();
    }

    /// When the response was through, if it was.
    pub fn ended(&self) -> Option<Instant> {
        self.end
    }

    /// It ends here and now, whatever the client has got of it.
    pub fn break_off(&mut self, error: Error) {
        self.reason = error.reason();
        self.error = Some(error);
        if !self.is_response_started {
            self.status = error.status();
        }
    }

    /// The one record of an exchange: counters and the access-log line.
    pub fn tell(&self, core: &Core, active: &Active, work: &Work) {
        let duration = self.end.unwrap_or_else(Instant::now).duration_since(self.start);
        core.counters.exchanges.add(1);
        let chosen = self.chosen(active);
        chosen.ledger.note(&self.outcome(duration));
        let settings = &active.plan.log;
        let log = core.log.as_ref().filter(|_| settings.enabled && chosen.is_logged);
        let is_exported = active.plan.tracing.export.is_some();
        let spans = core.spans.as_ref().zip(self.stamp.span.as_ref());
        let spans = spans.filter(|(_, span)| is_exported && span.is_sampled);
        if log.is_none() && spans.is_none() {
            return;
        }
        let record = self.record(&chosen, work, duration);
        if let Some(log) = log
            && (settings.sample == Share::ALL || record.is_failure() || settings.sample.takes(core.draw()))
        {
            log.write(settings, &record, &core.counters);
        }
        if let Some((spans, span)) = spans {
            let state = work.request.fields.iter().filter(|field| field.known == Known::Tracestate);
            let state = state.map(|field| field.value);
            let start_ns = core.unix_ns(self.start);
            spans.write(span, &record, start_ns, state, &settings.redaction, &core.counters);
        }
    }

    fn outcome(&self, duration: Duration) -> Outcome {
        Outcome {
            route: self.route.map(|id| id.0),
            upstream: self.upstream.map(|id| id.0),
            status: self.status,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            duration,
            upstream_duration: self.upstream_duration,
            rejection: self.error.and_then(Error::rejection),
        }
    }

    fn record<'a>(&'a self, chosen: &Chosen<'a>, work: &'a Work, duration: Duration) -> Record<'a> {
        let mut record = Record {
            time_ms: self.stamp.start_ms,
            client: b"",
            method: b"",
            host: b"",
            path: b"",
            query: b"",
            protocol: "",
            status: self.status,
            reason: self.reason,
            route: chosen.place,
            upstream: chosen.upstream,
            endpoint: self.endpoint_label(),
            attempts: self.attempts,
            request_id: &self.stamp.request_id,
            trace_id: b"",
            span_id: b"",
            referer: b"",
            user_agent: b"",
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            connect: self.connect,
            upstream_duration: self.upstream_duration,
            duration,
        };
        let head = &work.request;
        if let Some(peer) = &work.peer {
            record.client = match self.has_head {
                true => peer.client(head),
                false => peer.address_text(),
            };
            if self.has_head {
                record.request_id = peer.request_id(head, &self.stamp);
            }
        }
        if self.has_head {
            record.method = head.text(head.method_text);
            record.host = head.text(head.target.host);
            let target = work.passage.target(head);
            record.path = head.text(target.path);
            record.query = head.text(target.query);
            record.protocol = if head.version == Version::Http11 { "HTTP/1.1" } else { "HTTP/1.0" };
            record.referer = head.fields.value(Known::Referer).unwrap_or_default();
            record.user_agent = head.fields.value(Known::UserAgent).unwrap_or_default();
        }
        match &self.stamp.span {
            Some(span) => (record.trace_id, record.span_id) = (&span.trace_id, &span.span_id),
            None if self.has_head => record.trace_id = received_trace_id(head).unwrap_or_default(),
            None => {}
        }
        record
    }
}
