//! Spans of sampled exchanges, as OpenTelemetry has them (`opentelemetry.proto.trace.v1.Span`,
//! with the names of the semantic conventions for HTTP servers), written one after the other into
//! a buffer of the core, each as an element of the field `spans` of `ScopeSpans`. Whoever sends
//! them puts the rest of the message around it.
//!
//! Hot path: no lock, no formatting machinery.

use std::cell::RefCell;
use std::time::Duration;

use crossbeam_channel::Sender;

use super::access_log::{Record, Redaction};
use super::counters::Counters;
use super::outbox::Outbox;
use super::protobuf::{
    push_double, push_fixed32, push_fixed64, push_nested, push_str, push_text, push_utf8, push_varint,
};
use crate::http::trace_context::Span;

/// Handed on when it holds so many bytes: about 100 spans.
const FULL: usize = 64 * 1024;

/// What a request's method is called; others are strangers' words, and are told beside it.
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

const SERVER: u64 = 2;
const ERROR: u64 = 2;

/// Flags of a span: sampled; whether its parent is of another process is known; and it is.
const SAMPLED: u32 = 0x001;
const KNOWS_PARENT: u32 = 0x100;
const REMOTE_PARENT: u32 = 0x200;

/// Fields of `ScopeSpans`, `Span`, `Status`, `KeyValue` and `AnyValue`.
pub const SPANS: u32 = 2;
const TRACE_ID: u32 = 1;
const SPAN_ID: u32 = 2;
const TRACE_STATE: u32 = 3;
const PARENT_SPAN_ID: u32 = 4;
const NAME: u32 = 5;
const KIND: u32 = 6;
const START: u32 = 7;
const END: u32 = 8;
const ATTRIBUTES: u32 = 9;
const STATUS: u32 = 15;
const FLAGS: u32 = 16;
const STATUS_MESSAGE: u32 = 2;
const STATUS_CODE: u32 = 3;
const KEY: u32 = 1;
const VALUE: u32 = 2;
const STRING_VALUE: u32 = 1;
const INT_VALUE: u32 = 3;
const DOUBLE_VALUE: u32 = 4;

/// The spans of one core.
pub struct Spans(RefCell<Outbox>);

impl Spans {
    pub fn new(full: Sender<Vec<u8>>) -> Spans {
        Spans(RefCell::new(Outbox::new(FULL, full)))
    }

    /// `start_ns` is since 1970; `state` are the values of `tracestate`.
    pub fn write<'a>(
        &self,
        span: &Span,
        record: &Record<'_>,
        start_ns: u64,
        state: impl Iterator<Item = &'a [u8]>,
        redaction: &Redaction,
        counters: &Counters,
    ) {
        let lost = self.0.borrow_mut().write(|out| {
            push_nested(out, SPANS, |out| write(out, span, record, start_ns, state, redaction));
        });
        if lost > 0 {
            counters.spans_dropped.add(lost);
        }
    }

    /// Hands on what has been written since the last time.
    pub fn flush(&self, counters: &Counters) {
        let mut outbox = self.0.borrow_mut();
        counters.spans_dropped.add(outbox.flush());
        if let Some(spans_lost) = outbox.complaint() {
            tracing::warn!(spans_lost, "spans are taken too slowly");
        }
    }

    /// Hands on the last spans and lets the exporter go.
    pub fn close(&self, counters: &Counters) {
        self.flush(counters);
        self.0.borrow_mut().close();
    }
}

fn write<'a>(
    out: &mut Vec<u8>,
    span: &Span,
    record: &Record<'_>,
    start_ns: u64,
    state: impl Iterator<Item = &'a [u8]>,
    redaction: &Redaction,
) {
    push_id(out, TRACE_ID, &span.trace_id);
    push_id(out, SPAN_ID, &span.span_id);
    let mut flags = SAMPLED | KNOWS_PARENT;
    if let Some(parent) = &span.parent_id {
        push_id(out, PARENT_SPAN_ID, parent);
        write_state(out, state);
        flags |= REMOTE_PARENT;
    }
    let method = METHODS.into_iter().find(|known| known.as_bytes() == record.method);
    push_str(out, NAME, method.unwrap_or("HTTP"));
    push_varint(out, KIND, SERVER);
    push_fixed64(out, START, start_ns);
    push_fixed64(out, END, start_ns.saturating_add(record.duration.as_nanos() as u64));
    push_fixed32(out, FLAGS, flags);
    if is_error(record) {
        push_nested(out, STATUS, |out| {
            push_str(out, STATUS_MESSAGE, record.reason);
            push_varint(out, STATUS_CODE, ERROR);
        });
    }
    known(out, "http.request.method", method.unwrap_or("_OTHER"));
    if method.is_none() {
        text(out, "http.request.method_original", record.method);
    }
    write_attributes(out, record, redaction);
}

fn write_attributes(out: &mut Vec<u8>, record: &Record<'_>, redaction: &Redaction) {
    known(out, "url.scheme", "http");
    text(out, "url.path", record.path);
    if let Some(query) = record.query.strip_prefix(b"?") {
        attribute(out, "url.query", |out| {
            push_nested(out, STRING_VALUE, |out| redaction.write(out, query, push_utf8));
        });
    }
    text(out, "server.address", record.host);
    text(out, "client.address", record.client);
    text(out, "user_agent.original", record.user_agent);
    known(out, "network.protocol.version", record.protocol.strip_prefix("HTTP/").unwrap_or_default());
    integer(out, "http.response.status_code", u64::from(record.status.0));
    if is_error(record) {
        match record.reason {
            "" => text(out, "error.type", &record.status.digits()),
            reason => known(out, "error.type", reason),
        }
    }
    integer(out, "http.request.body.size", record.bytes_in);
    integer(out, "http.response.body.size", record.bytes_out);
    known(out, "warpdrive.route", record.route);
    known(out, "warpdrive.upstream", record.upstream);
    known(out, "warpdrive.endpoint", record.endpoint);
    text(out, "warpdrive.request_id", record.request_id);
    if record.attempts > 0 {
        integer(out, "warpdrive.attempts", u64::from(record.attempts));
    }
    seconds(out, "warpdrive.connect.duration", record.connect);
    seconds(out, "warpdrive.upstream.duration", record.upstream_duration);
}

/// Of the server, not of its client; or a response that was cut.
fn is_error(record: &Record<'_>) -> bool {
    let is_clients = (400..500).contains(&record.status.0);
    record.status.0 >= 500 || !record.reason.is_empty() && !is_clients
}

/// Several fields are one list.
fn write_state<'a>(out: &mut Vec<u8>, state: impl Iterator<Item = &'a [u8]>) {
    push_nested(out, TRACE_STATE, |out| {
        for (index, value) in state.enumerate() {
            if index > 0 {
                out.push(b',');
            }
            push_utf8(out, value);
        }
    });
}

/// An identifier, which is bytes here.
fn push_id(out: &mut Vec<u8>, field: u32, digits: &[u8]) {
    let value = |digit: u8| if digit.is_ascii_digit() { digit - b'0' } else { digit - b'a' + 10 };
    push_nested(out, field, |out| {
        out.extend(digits.as_chunks::<2>().0.iter().map(|[high, low]| value(*high) << 4 | value(*low)));
    });
}

fn attribute(out: &mut Vec<u8>, key: &str, value: impl FnOnce(&mut Vec<u8>)) {
    push_nested(out, ATTRIBUTES, |out| {
        push_str(out, KEY, key);
        push_nested(out, VALUE, value);
    });
}

/// What we wrote ourselves.
fn known(out: &mut Vec<u8>, key: &str, value: &str) {
    if !value.is_empty() {
        attribute(out, key, |out| push_str(out, STRING_VALUE, value));
    }
}

/// What is not known is left out.
fn text(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    if !value.is_empty() {
        attribute(out, key, |out| push_text(out, STRING_VALUE, value));
    }
}

fn integer(out: &mut Vec<u8>, key: &str, value: u64) {
    attribute(out, key, |out| push_varint(out, INT_VALUE, value));
}

fn seconds(out: &mut Vec<u8>, key: &str, value: Option<Duration>) {
    if let Some(value) = value {
        attribute(out, key, |out| push_double(out, DOUBLE_VALUE, value.as_secs_f64()));
    }
}
