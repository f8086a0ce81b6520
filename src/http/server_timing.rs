//! `Server-Timing` (W3C Server Timing): where a response came from and how long that took, as
//! browsers' developer tools show it. Hot path where it is on: no allocation, no formatting.

use std::time::Duration;

use super::{push_decimal, push_millis};

/// What there is to tell of one response.
#[derive(Clone, Copy, Debug)]
pub struct Timing<'a> {
    /// The index of the worker that served it.
    pub worker: usize,
    /// `file:line` of the route that took it; empty if none did.
    pub route: &'a str,
    /// The address that it came from; empty if it is our own.
    pub endpoint: &'a str,
    /// From the request's head to the response's.
    pub upstream: Option<Duration>,
}

impl Timing<'_> {
    /// Writes the field.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"Server-Timing: worker;desc=\"");
        push_decimal(out, self.worker as u64);
        out.push(b'"');
        push_described(out, b", route;desc=\"", self.route);
        push_described(out, b", endpoint;desc=\"", self.endpoint);
        if let Some(upstream) = self.upstream {
            out.extend_from_slice(b", upstream;dur=");
            push_millis(out, upstream);
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// A metric with a quoted string (RFC 9110 5.6.4), whose quote `opening` ends with.
fn push_described(out: &mut Vec<u8>, opening: &[u8], text: &str) {
    if text.is_empty() {
        return;
    }
    out.extend_from_slice(opening);
    for &byte in text.as_bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            // A path may have them, a field may not.
            0..0x20 | 0x7f => out.push(b'?'),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_told_and_quoted() {
        let whole = Timing {
            worker: 3,
            route: "a \"b\"\\\n.toml:12",
            endpoint: "unix:/run/é.sock",
            upstream: Some(Duration::from_nanos(12_034_567)),
        };
        let none = Timing { worker: 0, route: "", endpoint: "", upstream: None };
        let short = Timing { upstream: Some(Duration::from_micros(9)), ..none };
        let cases = [
            (
                whole,
                "worker;desc=\"3\", route;desc=\"a \\\"b\\\"\\\\?.toml:12\", \
                 endpoint;desc=\"unix:/run/é.sock\", upstream;dur=12.034",
            ),
            (none, "worker;desc=\"0\""),
            (short, "worker;desc=\"0\", upstream;dur=0.009"),
        ];
        for (timing, expected) in cases {
            let mut out = Vec::new();
            timing.write(&mut out);
            assert_eq!(String::from_utf8(out).unwrap(), format!("Server-Timing: {expected}\r\n"));
        }
    }
}
