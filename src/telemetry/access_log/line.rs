//! A record as a line: JSON, the combined format, or the operator's.
//!
//! Hot path: no formatting machinery. What a client sent is escaped, what we wrote ourselves needs
//! none.

use std::time::Duration;

use super::escape::{push_combined, push_json};
use super::redact::Redaction;
use super::template::{Part, Piece, Template};
use super::{Clock, Record};
use crate::http::{push_decimal, push_fraction, push_millis};

pub fn write_json(out: &mut Vec<u8>, record: &Record<'_>, clock: &Clock, redaction: &Redaction) {
    out.extend_from_slice(b"{\"time\":\"");
    push_time(out, record, clock);
    // Names and quotes stand together: one append for each.
    let text = |out: &mut Vec<u8>, before: &str, value: &[u8]| {
        out.extend_from_slice(before.as_bytes());
        push_json(out, value);
    };
    let known = |out: &mut Vec<u8>, before: &str, value: &[u8]| {
        if !value.is_empty() {
            text(out, before, value);
        }
    };
    text(out, "\",\"client\":\"", record.client);
    text(out, "\",\"method\":\"", record.method);
    text(out, "\",\"host\":\"", record.host);
    text(out, "\",\"path\":\"", record.path);
    if let Some(query) = record.query.strip_prefix(b"?") {
        out.extend_from_slice(b"\",\"query\":\"");
        redaction.write(out, query, push_json);
    }
    known(out, "\",\"route\":\"", record.route.as_bytes());
    known(out, "\",\"upstream\":\"", record.upstream.as_bytes());
    known(out, "\",\"endpoint\":\"", record.endpoint.as_bytes());
    known(out, "\",\"user_agent\":\"", record.user_agent);
    text(out, "\",\"request_id\":\"", record.request_id);
    known(out, "\",\"trace_id\":\"", record.trace_id);
    known(out, "\",\"span_id\":\"", record.span_id);
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
    if record.attempts > 0 {
        out.extend_from_slice(b",\"attempts\":");
        push_decimal(out, u64::from(record.attempts));
    }
    let millis = |out: &mut Vec<u8>, before: &str, duration: Option<Duration>| {
        if let Some(duration) = duration {
            out.extend_from_slice(before.as_bytes());
            push_millis(out, duration);
        }
    };
    millis(out, ",\"connect_ms\":", record.connect);
    millis(out, ",\"upstream_ms\":", record.upstream_duration);
    millis(out, ",\"duration_ms\":", Some(record.duration));
    out.extend_from_slice(b"}\n");
}

/// The form of Apache's and nginx's `combined`.
pub fn write_combined(out: &mut Vec<u8>, record: &Record<'_>, clock: &Clock, redaction: &Redaction) {
    push_combined(out, record.client);
    out.extend_from_slice(b" - - [");
    out.extend_from_slice(&clock.combined);
    out.extend_from_slice(b"] \"");
    push_combined(out, record.method);
    out.push(b' ');
    push_combined(out, record.path);
    redaction.write(out, record.query, push_combined);
    out.push(b' ');
    out.extend_from_slice(record.protocol.as_bytes());
    out.extend_from_slice(b"\" ");
    push_decimal(out, u64::from(record.status.0));
    out.push(b' ');
    push_decimal(out, record.bytes_out);
    out.extend_from_slice(b" \"");
    redaction.write_reference(out, or_dash(record.referer), push_combined);
    out.extend_from_slice(b"\" \"");
    push_combined(out, or_dash(record.user_agent));
    out.extend_from_slice(b"\"\n");
}

pub fn write_custom(
    out: &mut Vec<u8>,
    template: &Template,
    record: &Record<'_>,
    clock: &Clock,
    redaction: &Redaction,
) {
    for piece in &template.pieces {
        match piece {
            Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
            Piece::Part(part) => write_part(out, *part, record, clock, redaction),
        }
    }
    out.push(b'\n');
}

/// With the escapes of JSON, so that a template may be JSON, too.
fn write_part(out: &mut Vec<u8>, part: Part, record: &Record<'_>, clock: &Clock, redaction: &Redaction) {
    let text = |out: &mut Vec<u8>, value: &[u8]| push_json(out, or_dash(value));
    let millis = |out: &mut Vec<u8>, duration: Option<Duration>| match duration {
        Some(duration) => push_millis(out, duration),
        None => out.push(b'-'),
    };
    match part {
        Part::Time => push_time(out, record, clock),
        Part::TimeCombined => out.extend_from_slice(&clock.combined),
        Part::Client => text(out, record.client),
        Part::Method => text(out, record.method),
        Part::Host => text(out, record.host),
        Part::Path => text(out, record.path),
        Part::Query => {
            redaction.write(out, or_dash(record.query.strip_prefix(b"?").unwrap_or_default()), push_json);
        }
        Part::Uri => {
            text(out, record.path);
            redaction.write(out, record.query, push_json);
        }
        Part::Protocol => text(out, record.protocol.as_bytes()),
        Part::Status => push_decimal(out, u64::from(record.status.0)),
        Part::Reason => text(out, record.reason.as_bytes()),
        Part::Route => text(out, record.route.as_bytes()),
        Part::Upstream => text(out, record.upstream.as_bytes()),
        Part::Endpoint => text(out, record.endpoint.as_bytes()),
        Part::Attempts => push_decimal(out, u64::from(record.attempts)),
        Part::RequestId => text(out, record.request_id),
        Part::TraceId => text(out, record.trace_id),
        Part::SpanId => text(out, record.span_id),
        Part::Referer => redaction.write_reference(out, or_dash(record.referer), push_json),
        Part::UserAgent => text(out, record.user_agent),
        Part::BytesIn => push_decimal(out, record.bytes_in),
        Part::BytesOut => push_decimal(out, record.bytes_out),
        Part::ConnectMs => millis(out, record.connect),
        Part::UpstreamMs => millis(out, record.upstream_duration),
        Part::DurationMs => push_millis(out, record.duration),
    }
}

fn push_time(out: &mut Vec<u8>, record: &Record<'_>, clock: &Clock) {
    out.extend_from_slice(&clock.iso);
    out.push(b'.');
    push_fraction(out, record.time_ms % 1000);
    out.push(b'Z');
}

fn or_dash(value: &[u8]) -> &[u8] {
    if value.is_empty() { b"-" } else { value }
}

#[cfg(test)]
mod tests {
    use super::super::tests::record;
    use super::*;

    /// The record of the tests as a line.
    fn line(write: impl FnOnce(&mut Vec<u8>, &Record<'_>, &Clock, &Redaction)) -> String {
        let mut out = Vec::new();
        let redaction = Redaction::of(["token"].into_iter());
        write(&mut out, &record(), &Clock::at(784_111_777), &redaction);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_says_everything_and_cannot_be_forged() {
        let expected = concat!(
            r#"{"time":"1994-11-06T08:49:37.042Z","client":"127.0.0.1","method":"GET","host":"a","path":"/x","#,
            r#""query":"y&token=REDACTED","route":"w.toml:3","upstream":"app","endpoint":"127.0.0.1:3000","#,
            r#""user_agent":"curl \"x\"\u000a\ufffd","request_id":"00","trace_id":"11","span_id":"22","protocol":"HTTP/1.1","status":200,"#,
            r#""bytes_in":0,"bytes_out":12,"attempts":2,"connect_ms":0.020,"upstream_ms":0.050,"duration_ms":1.234}"#,
            "\n"
        );
        assert_eq!(line(write_json), expected);
        let expected = concat!(
            r#"127.0.0.1 - - [06/Nov/1994:08:49:37 +0000] "GET /x?y&token=REDACTED HTTP/1.1" 200 12 "-" "curl \"x\"\x0a\xff""#,
            "\n"
        );
        assert_eq!(line(write_combined), expected);
    }

    #[test]
    fn a_template_has_every_part() {
        let parts: Vec<String> = super::super::template::names().map(|name| format!("${{{name}}}")).collect();
        let template = Template::parse(&parts.join(" ")).unwrap();
        let expected = concat!(
            "1994-11-06T08:49:37.042Z 06/Nov/1994:08:49:37 +0000 127.0.0.1 GET a /x y&token=REDACTED ",
            "/x?y&token=REDACTED HTTP/1.1 200 - w.toml:3 app 127.0.0.1:3000 2 00 11 22 - ",
            r#"curl \"x\"\u000a\ufffd 0 12 0.020 0.050 1.234"#,
            "\n"
        );
        let custom =
            line(|out, record, clock, redaction| write_custom(out, &template, record, clock, redaction));
        assert_eq!(custom, expected);
    }
}
