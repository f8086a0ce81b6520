//! One line per exchange, written into a buffer of the core and handed on when it is full or a
//! second old. Never waits: when the writer is behind, lines are dropped and counted.
//!
//! Hot path: no lock, no formatting machinery. Whatever a client sent is escaped, so that no
//! line can be forged.

use std::cell::RefCell;
use std::path::PathBuf;
use std::time::Duration;

use crossbeam_channel::Sender;

use super::counters::Counters;
use crate::http::date::Civil;
use crate::http::status::Status;
use crate::http::{push_decimal, push_fraction, push_millis};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub enabled: bool,
    pub format: Format,
    pub destination: Destination,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Combined,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    Stdout,
    File(PathBuf),
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
    pub request_id: &'a [u8],
    pub referer: &'a [u8],
    pub user_agent: &'a [u8],
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the response's body.
    pub bytes_out: u64,
    pub duration: Duration,
    /// Until the head of the upstream's response was here.
    pub upstream_duration: Option<Duration>,
}

/// The access log of one core.
pub struct AccessLog {
    format: Format,
    full: RefCell<Option<Sender<Vec<u8>>>>,
    lines: RefCell<Lines>,
}

#[derive(Default)]
struct Lines {
    bytes: Vec<u8>,
    count: u64,
    second: u64,
    /// That second as the format has it; empty before the first line.
    time: Vec<u8>,
}

impl AccessLog {
    pub fn new(format: Format, full: Sender<Vec<u8>>) -> AccessLog {
        AccessLog { format, full: RefCell::new(Some(full)), lines: RefCell::default() }
    }

    pub fn write(&self, record: &Record<'_>, counters: &Counters) {
        let mut lines = self.lines.borrow_mut();
        let lines = &mut *lines;
        let second = record.time_ms / 1000;
        if lines.second != second || lines.time.is_empty() {
            lines.second = second;
            lines.time.clear();
            let moment = Civil::from_unix(second);
            match self.format {
                Format::Json => lines.time.extend_from_slice(&moment.to_iso()),
                Format::Combined => lines.time.extend_from_slice(&moment.to_combined()),
            }
        }
        if lines.bytes.capacity() == 0 {
            lines.bytes.reserve(FULL + 4096);
        }
        match self.format {
            Format::Json => write_json(&mut lines.bytes, record, &lines.time),
            Format::Combined => write_combined(&mut lines.bytes, record, &lines.time),
        }
        lines.count += 1;
        if lines.bytes.len() >= FULL {
            self.hand_on(lines, counters);
        }
    }

    /// Hands on what has been written since the last time.
    pub fn flush(&self, counters: &Counters) {
        let mut lines = self.lines.borrow_mut();
        if !lines.bytes.is_empty() {
            self.hand_on(&mut lines, counters);
        }
    }

    /// Hands on the last lines and lets the writer go: it ends when no core can send any more.
    pub fn close(&self, counters: &Counters) {
        self.flush(counters);
        self.full.take();
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.lines.borrow().bytes.is_empty()
    }

    fn hand_on(&self, lines: &mut Lines, counters: &Counters) {
        let bytes = std::mem::take(&mut lines.bytes);
        let count = std::mem::take(&mut lines.count);
        let unsent = match &*self.full.borrow() {
            Some(full) => full.try_send(bytes).err().map(crossbeam_channel::TrySendError::into_inner),
            None => Some(bytes),
        };
        if let Some(unsent) = unsent {
            counters.log_dropped.add(count);
            lines.bytes = unsent;
            lines.bytes.clear();
        }
    }
}

fn write_json(out: &mut Vec<u8>, record: &Record<'_>, time: &[u8]) {
    out.extend_from_slice(b"{\"time\":\"");
    out.extend_from_slice(time);
    out.push(b'.');
    push_fraction(out, record.time_ms % 1000);
    // Names and quotes stand together: one append for each.
    let mut text = |before: &str, value: &[u8]| {
        out.extend_from_slice(before.as_bytes());
        push_escaped(out, value);
    };
    text("Z\",\"client\":\"", record.client);
    text("\",\"method\":\"", record.method);
    text("\",\"host\":\"", record.host);
    text("\",\"path\":\"", record.path);
    if !record.query.is_empty() {
        text("\",\"query\":\"", &record.query[1..]);
    }
    if !record.route.is_empty() {
        text("\",\"route\":\"", record.route.as_bytes());
    }
    if !record.upstream.is_empty() {
        text("\",\"upstream\":\"", record.upstream.as_bytes());
    }
    if !record.endpoint.is_empty() {
        text("\",\"endpoint\":\"", record.endpoint.as_bytes());
    }
    if !record.user_agent.is_empty() {
        text("\",\"user_agent\":\"", record.user_agent);
    }
    text("\",\"request_id\":\"", record.request_id);
    // What we wrote ourselves needs no escape.
    if !record.reason.is_empty() {
        out.extend_from_slice(b"\",\"reason\":\"");
        out.extend_from_slice(record.reason.as_bytes());
    }
    out.extend_from_slice(b"\",\"protocol\":\"");
    out.extend_from_slice(record.protocol.as_bytes());
    out.extend_from_slice(b"\",\"status\":");
    push_decimal(out, u64::from(record.status.0));
    out.extend_from_slice(b",\"bytes_in\":");
    push_decimal(out, record.bytes_in);
    out.extend_from_slice(b",\"bytes_out\":");
    push_decimal(out, record.bytes_out);
    if let Some(duration) = record.upstream_duration {
        out.extend_from_slice(b",\"upstream_ms\":");
        push_millis(out, duration);
    }
    out.extend_from_slice(b",\"duration_ms\":");
    push_millis(out, record.duration);
    out.extend_from_slice(b"}\n");
}

/// The form of Apache's and nginx's `combined`.
fn write_combined(out: &mut Vec<u8>, record: &Record<'_>, time: &[u8]) {
    push_escaped(out, record.client);
    out.extend_from_slice(b" - - [");
    out.extend_from_slice(time);
    out.extend_from_slice(b"] \"");
    push_escaped(out, record.method);
    out.push(b' ');
    push_escaped(out, record.path);
    push_escaped(out, record.query);
    out.push(b' ');
    out.extend_from_slice(record.protocol.as_bytes());
    out.extend_from_slice(b"\" ");
    push_decimal(out, u64::from(record.status.0));
    out.push(b' ');
    push_decimal(out, record.bytes_out);
    out.extend_from_slice(b" \"");
    push_or_dash(out, record.referer);
    out.extend_from_slice(b"\" \"");
    push_or_dash(out, record.user_agent);
    out.extend_from_slice(b"\"\n");
}

fn push_or_dash(out: &mut Vec<u8>, value: &[u8]) {
    push_escaped(out, if value.is_empty() { b"-" } else { value });
}

/// JSON's escapes; bytes beyond ASCII stand for the code points of Latin-1.
fn push_escaped(out: &mut Vec<u8>, value: &[u8]) {
    if is_plain(value) {
        out.extend_from_slice(value);
    } else {
        push_with_escapes(out, value);
    }
}

#[cold]
fn push_with_escapes(out: &mut Vec<u8>, value: &[u8]) {
    for &byte in value {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', byte]),
            b' '..=b'~' => out.push(byte),
            _ => {
                let digit = |n: u8| b"0123456789abcdef"[usize::from(n)];
                out.extend_from_slice(b"\\u00");
                out.extend([digit(byte >> 4), digit(byte & 15)]);
            }
        }
    }
}

/// Whether nothing in it needs an escape: 16 bytes at a time, or 8, of which the last may have
/// been looked at before.
fn is_plain(value: &[u8]) -> bool {
    if let Some(last) = value.last_chunk::<16>() {
        let (chunks, _) = value.as_chunks::<16>();
        return chunks.iter().fold(are_plain(last), |plain, chunk| plain & are_plain(chunk));
    }
    match (value.first_chunk::<8>(), value.last_chunk::<8>()) {
        (Some(first), Some(last)) => are_plain(first) & are_plain(last),
        _ => value.iter().all(|&byte| are_plain(&[byte])),
    }
}

/// Without a branch in it, the loop is one vector operation for each test.
fn are_plain<const N: usize>(bytes: &[u8; N]) -> bool {
    let mut needs_escape = false;
    for &byte in bytes {
        needs_escape |= !(b' '..=b'~').contains(&byte) | (byte == b'"') | (byte == b'\\');
    }
    !needs_escape
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record<'static> {
        Record {
            time_ms: 784_111_777_042,
            client: b"127.0.0.1",
            method: b"GET",
            host: b"a",
            path: b"/x",
            query: b"?y",
            protocol: "HTTP/1.1",
            status: Status(200),
            reason: "",
            route: "w.toml:3",
            upstream: "app",
            endpoint: "127.0.0.1:3000",
            request_id: b"00",
            referer: b"",
            user_agent: b"curl \"x\"\n\xff",
            bytes_in: 0,
            bytes_out: 12,
            duration: Duration::from_micros(1_234),
            upstream_duration: Some(Duration::from_micros(50)),
        }
    }

    #[test]
    fn a_line_says_everything_and_cannot_be_forged() {
        let mut out = Vec::new();
        let moment = Civil::from_unix(784_111_777);
        write_json(&mut out, &record(), &moment.to_iso());
        let expected = concat!(
            r#"{"time":"1994-11-06T08:49:37.042Z","client":"127.0.0.1","method":"GET","host":"a","path":"/x","#,
            r#""query":"y","route":"w.toml:3","upstream":"app","endpoint":"127.0.0.1:3000","#,
            r#""user_agent":"curl \"x\"\u000a\u00ff","request_id":"00","protocol":"HTTP/1.1","status":200,"bytes_in":0,"bytes_out":12,"#,
            r#""upstream_ms":0.050,"duration_ms":1.234}"#,
            "\n"
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        let mut out = Vec::new();
        write_combined(&mut out, &record(), &moment.to_combined());
        let expected = concat!(
            r#"127.0.0.1 - - [06/Nov/1994:08:49:37 +0000] "GET /x?y HTTP/1.1" 200 12 "-" "curl \"x\"\u000a\u00ff""#,
            "\n"
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn an_escape_is_found_wherever_it_is_needed() {
        for len in 0..40 {
            let plain = vec![b'~'; len];
            assert!(is_plain(&plain), "{len}");
            for (at, byte) in
                (0..len).flat_map(|at| [0, 0x1f, b'"', b'\\', 0x7f, 0xff].map(|byte| (at, byte)))
            {
                let mut odd = plain.clone();
                odd[at] = byte;
                assert!(!is_plain(&odd), "{byte:#x} at {at} of {len}");
            }
        }
    }

    #[test]
    fn lines_are_dropped_and_counted_when_the_writer_is_behind() {
        let (full, lines) = crossbeam_channel::bounded(1);
        let log = AccessLog::new(Format::Json, full);
        let counters = Counters::default();
        for _ in 0..3 {
            log.write(&record(), &counters);
            log.flush(&counters);
        }
        assert_eq!(counters.log_dropped.value(), 2);
        assert_eq!(lines.try_iter().count(), 1);
        assert!(log.is_empty());
    }
}
