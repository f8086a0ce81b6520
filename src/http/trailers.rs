//! Trailers: which fields may come after a body (RFC 9110 6.5.1), and which of those do not go
//! on because a route or a middleware has set or removed the field.

use super::fields::{Fields, Known, is_same_name};
use super::forwarding::NamePattern;

/// Framing and what belongs to one connection are [`Known`]; so are the fields that we answer for.
/// These say how a request is routed, changed or authenticated, how a response is controlled, or
/// what the content is.
const NEVER: [&str; 24] = [
    "accept",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "cookie",
    "cookie2",
    "early-data",
    "expires",
    "location",
    "max-forwards",
    "origin",
    "pragma",
    "range",
    "refresh",
    "retry-after",
    "set-cookie",
    "set-cookie2",
    "status",
    "strict-transport-security",
    "vary",
    "warning",
    "www-authenticate",
    "x-http-method-override",
];

/// Prefixes of such names.
const NEVER_WITH: [&str; 6] = ["accept-", "access-control-", "content-", "if-", "proxy-", "sec-"];

/// Digests of the content, which may be known only at its end (RFC 9530, RFC 1864).
const ALLOWED: [&str; 2] = ["content-digest", "content-md5"];

/// Whether a field with this name may be a trailer.
pub fn may_be(name: &[u8]) -> bool {
    let is = |other: &&str| is_same_name(name, other.as_bytes());
    let begins =
        |start: &&str| name.len() >= start.len() && is_same_name(&name[..start.len()], start.as_bytes());
    Known::of(name) == Known::Other
        && !NEVER.iter().any(is)
        && (ALLOWED.iter().any(is) || !NEVER_WITH.iter().any(begins))
}

/// Names that the trailers of one message may not have.
#[derive(Clone, Copy)]
pub struct Excluded<'a> {
    /// By the route.
    pub route: &'a [String],
    /// By the middleware: the head that it has changed.
    pub head: &'a Fields,
    /// Of requests: names that the operator has listed as untrusted.
    pub untrusted: &'a [NamePattern],
}

impl Excluded<'_> {
    /// Leaves what may go on.
    pub fn apply(&self, trailers: &mut Fields) {
        trailers.retain(|_, name| {
            let is_of_route = self.route.iter().any(|other| is_same_name(name, other.as_bytes()));
            let is_untrusted = self.untrusted.iter().any(|pattern| pattern.matches(name));
            !is_of_route && !is_untrusted && !self.head.excludes(name)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trailer_says_nothing_of_the_message_as_a_whole() {
        for name in ["Server-Timing", "ETag", "Grpc-Status", "X-Sum", "Digest", "Content-Digest", "X_Other"] {
            assert!(may_be(name.as_bytes()), "{name}");
        }
        let never = [
            "Content-Length",
            "Content_Type",
            "content-encoding",
            "Transfer-Encoding",
            "Host",
            "TE",
            "If-None-Match",
            "Proxy-Authorization",
            "Authorization",
            "Set-Cookie",
            "SET_COOKIE",
            "Cache-Control",
            "Trailer",
            "X-Forwarded-For",
            "X-Forwarded-Anything",
            "X_Forwarded_For",
            "Client-IP",
            "X-Admin-Token",
        ];
        for name in never {
            assert!(!may_be(name.as_bytes()), "{name}");
        }
    }
}
