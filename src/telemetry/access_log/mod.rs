//! One line per exchange, written into a buffer of the core and handed on when it is full or a
//! second old. Never waits: when the writer is behind, lines are dropped and counted.
//!
//! Hot path: no lock, no formatting machinery. Whatever a client sent is escaped, so that no
//! line can be forged.

mod escape;
mod line;
mod redact;
mod template;

use std::cell::RefCell;
use std::path::PathBuf;
use std::time::Duration;

use crossbeam_channel::Sender;

pub use redact::{NAME_MAX, Redaction};
pub use template::{Fault, Template, names};

use super::counters::Counters;
use super::outbox::Outbox;
use super::share::Share;
use crate::http::date::Civil;
use crate::http::status::Status;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub enabled: bool,
    pub format: Format,
    pub destination: Destination,
    /// How much of what went well has a line.
    pub sample: Share,
    pub redaction: Redaction,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Combined,
    Custom(Template),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    Stdout,
    Stderr,
    File(PathBuf),
    /// The socket of journald's native protocol.
    Journald(PathBuf),
}

/// Handed on when it holds so many bytes: some 300 lines. To wake the writer takes several system
/// calls and as many switches between threads, which at a quarter of this are 0.4 µs for each line.
const FULL: usize = 128 * 1024;

/// What is to be said of one exchange. Byte strings are as received; an empty one is unknown.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// When the request's head was complete, in milliseconds since 1970.
    pub time_ms: u64,
    pub client: &'a [u8],
    pub method: &'a [u8],
    pub host: &'a [u8],
    pub path: &'a [u8],
    /// With its `?`.
    pub query: &'a [u8],
    pub protocol: &'a str,
    pub status: Status,
    /// Why we answered ourselves, or cut the exchange short.
    pub reason: &'a str,
    /// `file:line` of the route.
    pub route: &'a str,
    pub upstream: &'a str,
    /// The address of the endpoint.
    pub endpoint: &'a str,
    /// How often an endpoint was tried.
    pub attempts: u32,
    pub request_id: &'a [u8],
    /// That of the trace, if it is known; the span's only if it is ours.
    pub trace_id: &'a [u8],
    pub span_id: &'a [u8],
    pub referer: &'a [u8],
    pub user_agent: &'a [u8],
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the response's body.
    pub bytes_out: u64,
    /// What making connections to endpoints took; `None` if there was one already.
    pub connect: Option<Duration>,
    /// Until the head of the upstream's response was here.
    pub upstream_duration: Option<Duration>,
    pub duration: Duration,
}

impl Record<'_> {
    /// What a sample always has: failures, whosever they are, and all that we answered ourselves
    /// because something was wrong.
    pub fn is_failure(&self) -> bool {
        self.status.0 >= 500 || !self.reason.is_empty()
    }
}

/// The access log of one core.
pub struct AccessLog {
    lines: RefCell<Lines>,
}

struct Lines {
    outbox: Outbox,
    clock: Option<Clock>,
}

/// A second, as the formats have it.
#[derive(Clone, Copy)]
struct Clock {
    second: u64,
    iso: [u8; 19],
    combined: [u8; 26],
}

impl Clock {
    fn at(second: u64) -> Clock {
        let moment = Civil::from_unix(second);
        Clock { second, iso: moment.to_iso(), combined: moment.to_combined() }
    }
}

impl AccessLog {
    pub fn new(full: Sender<Vec<u8>>) -> AccessLog {
        AccessLog { lines: RefCell::new(Lines { outbox: Outbox::new(FULL, full), clock: None }) }
    }

    pub fn write(&self, settings: &Settings, record: &Record<'_>, counters: &Counters) {
        let lines = &mut *self.lines.borrow_mut();
        let second = record.time_ms / 1000;
        let clock = match &mut lines.clock {
            Some(clock) if clock.second == second => clock,
            stale => stale.insert(Clock::at(second)),
        };
        let redaction = &settings.redaction;
        let lost = lines.outbox.write(|out| match &settings.format {
            Format::Json => line::write_json(out, record, clock, redaction),
            Format::Combined => line::write_combined(out, record, clock, redaction),
            Format::Custom(template) => line::write_custom(out, template, record, clock, redaction),
        });
        if lost > 0 {
            counters.log_dropped.add(lost);
        }
    }

    /// Hands on what has been written since the last time.
    pub fn flush(&self, counters: &Counters) {
        let outbox = &mut self.lines.borrow_mut().outbox;
        counters.log_dropped.add(outbox.flush());
        if let Some(lines_lost) = outbox.complaint() {
            tracing::warn!(lines_lost, "the access log is taken too slowly");
        }
    }

    /// Hands on the last lines and lets the writer go.
    pub fn close(&self, counters: &Counters) {
        self.flush(counters);
        self.lines.borrow_mut().outbox.close();
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.lines.borrow().outbox.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn record() -> Record<'static> {
        Record {
            time_ms: 784_111_777_042,
            client: b"127.0.0.1",
            method: b"GET",
            host: b"a",
            path: b"/x",
            query: b"?y&token=secret",
            protocol: "HTTP/1.1",
            status: Status(200),
            reason: "",
            route: "w.toml:3",
            upstream: "app",
            endpoint: "127.0.0.1:3000",
            attempts: 2,
            request_id: b"00",
            trace_id: b"11",
            span_id: b"22",
            referer: b"",
            user_agent: b"curl \"x\"\n\xff",
            bytes_in: 0,
            bytes_out: 12,
            connect: Some(Duration::from_micros(20)),
            upstream_duration: Some(Duration::from_micros(50)),
            duration: Duration::from_micros(1_234),
        }
    }

    fn settings() -> Settings {
        Settings {
            enabled: true,
            format: Format::Json,
            destination: Destination::Stdout,
            sample: Share::ALL,
            redaction: Redaction::default(),
        }
    }

    #[test]
    fn lines_are_dropped_and_counted_when_the_writer_is_behind() {
        let (full, lines) = crossbeam_channel::bounded(1);
        let log = AccessLog::new(full);
        let counters = Counters::default();
        for _ in 0..3 {
            log.write(&settings(), &record(), &counters);
            log.flush(&counters);
        }
        assert_eq!(counters.log_dropped.value(), 2);
        assert_eq!(lines.try_iter().count(), 1);
        assert!(log.is_empty());
    }

    #[test]
    fn a_failure_is_what_went_wrong_on_either_side() {
        let cases = [
            (200, "", false),
            (404, "", false),
            (500, "", true),
            (404, "no route matches", true),
            (200, "client closed the connection", true),
        ];
        for (status, reason, expected) in cases {
            let record = Record { status: Status(status), reason, ..record() };
            assert_eq!(record.is_failure(), expected, "{status} {reason}");
        }
    }
}
