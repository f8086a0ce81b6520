//! Names of fields: the ones that a proxy must know, and when two names are one.
//!
//! Servers that turn names into variables (CGI, WSGI, Rack) take `_` for `-`, so names that
//! differ in nothing else are one name. Hot path: the first letters and the length leave at most
//! one candidate, which is compared 8 bytes at a time.

/// The fields that a proxy must know. The order is free; there are fewer than 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Known {
    Other,
    /// Named by `Connection`: goes no further.
    HopByHop,
    /// Applications derive the client's address, scheme or path prefix from it. Passed on from
    /// trusted proxies only.
    Claim,
    Connection,
    ContentLength,
    Date,
    Expect,
    Forwarded,
    Host,
    Http2Settings,
    KeepAlive,
    /// One of the fields here, but with `_` for a `-`.
    Lookalike,
    /// Applications take it for a proxy setting (httpoxy), or for the path instead of the one that
    /// was matched. Never passed on.
    Override,
    ProxyConnection,
    Referer,
    Te,
    Traceparent,
    Tracestate,
    Trailer,
    TransferEncoding,
    Upgrade,
    UserAgent,
    Via,
    XAccel,
    XAdminToken,
    XForwardedFor,
    XForwardedHost,
    XForwardedPort,
    XForwardedProto,
    XRealIp,
    XRequestId,
    XRequestStart,
    XSendfile,
}

/// A set of [`Known`] fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KnownSet(u64);

impl KnownSet {
    pub const fn of(members: &[Known]) -> KnownSet {
        let mut bits = 0;
        let mut i = 0;
        while i < members.len() {
            bits |= 1 << members[i] as u8;
            i += 1;
        }
        KnownSet(bits)
    }

    /// Both together.
    pub const fn and(self, other: KnownSet) -> KnownSet {
        KnownSet(self.0 | other.0)
    }

    /// Without those of the other one.
    pub const fn without(self, other: KnownSet) -> KnownSet {
        KnownSet(self.0 & !other.0)
    }

    pub fn insert(&mut self, known: Known) {
        self.0 |= 1 << known as u8;
    }

    /// They have one in common.
    pub const fn meets(self, other: KnownSet) -> bool {
        self.0 & other.0 != 0
    }

    pub const fn contains(self, known: Known) -> bool {
        self.0 & (1 << known as u8) != 0
    }
}

impl Known {
    /// Field names are case-insensitive (RFC 9110 5.1).
    pub fn of(name: &[u8]) -> Known {
        let Some(first) = name.first() else { return Known::Other };
        let (known, text) = match (first | 0x20, name.len()) {
            (b'c', 9) => (Known::Claim, "client-ip"),
            (b'c', 10) => (Known::Connection, "connection"),
            (b'c', 14) => (Known::ContentLength, "content-length"),
            (b'd', 4) => (Known::Date, "date"),
            (b'e', 6) => (Known::Expect, "expect"),
            (b'f', 9) => (Known::Forwarded, "forwarded"),
            (b'f', 13) => (Known::Claim, "forwarded-for"),
            (b'f', 15) => (Known::Claim, "front-end-https"),
            (b'h', 4) => (Known::Host, "host"),
            (b'h', 14) => (Known::Http2Settings, "http2-settings"),
            (b'k', 10) => (Known::KeepAlive, "keep-alive"),
            (b'p', 5) => (Known::Override, "proxy"),
            (b'p', 9) => (Known::Override, "path-info"),
            (b'p', 16) => (Known::ProxyConnection, "proxy-connection"),
            (b'r', 7) => (Known::Referer, "referer"),
            (b's', 11) => (Known::Override, "script-name"),
            (b't', 2) => (Known::Te, "te"),
            (b't', 7) => (Known::Trailer, "trailer"),
            (b't', 10) => (Known::Tracestate, "tracestate"),
            (b't', 11) => (Known::Traceparent, "traceparent"),
            (b't', 14) => (Known::Claim, "true-client-ip"),
            (b't', 17) => (Known::TransferEncoding, "transfer-encoding"),
            (b'u', 7) => (Known::Upgrade, "upgrade"),
            (b'u', 10) => (Known::UserAgent, "user-agent"),
            (b'v', 3) => (Known::Via, "via"),
            (b'x', 8..) if matches!(name[1], b'-' | b'_') => return Known::of_x(name),
            _ => return Known::Other,
        };
        if is_name(name, text) { known } else { known.unless_other(name, text) }
    }

    /// Of at least 8 bytes.
    fn of_x(name: &[u8]) -> Known {
        let (known, text) = match (name[2] | 0x20, name.len()) {
            (b'a', 13) if name[3] | 0x20 == b'd' => (Known::XAdminToken, "x-admin-token"),
            (b'a', 9..) => return Known::of_prefix(name, "x-accel-"),
            (b'c', 11) => (Known::Claim, "x-client-ip"),
            (b'c', 19) => (Known::Claim, "x-cluster-client-ip"),
            (b'f', 11) => (Known::Claim, "x-forwarded"),
            (b'f', 13..) => return Known::of_prefix(name, "x-forwarded-"),
            (b'o', 14) => (Known::Override, "x-original-url"),
            (b'r', 9) => (Known::XRealIp, "x-real-ip"),
            (b'r', 12) => (Known::XRequestId, "x-request-id"),
            (b'r', 13) => (Known::Override, "x-rewrite-url"),
            (b'r', 15) => (Known::XRequestStart, "x-request-start"),
            (b's', 8) => (Known::Claim, "x-scheme"),
            (b's', 10) => (Known::XSendfile, "x-sendfile"),
            (b's', 13) => (Known::Claim, "x-script-name"),
            (b's', 15) => (Known::XSendfile, "x-sendfile-type"),
            (b'u', 12) => (Known::Claim, "x-url-scheme"),
            _ => return Known::Other,
        };
        if is_name(name, text) { known } else { known.unless_other(name, text) }
    }

    /// Of a name that is longer than the prefix.
    fn of_prefix(name: &[u8], prefix: &str) -> Known {
        let (start, rest) = name.split_at(prefix.len());
        if !is_name(start, prefix) {
            return Known::Lookalike.unless_other(start, prefix);
        }
        if rest.contains(&b'_') {
            return Known::Lookalike;
        }
        match rest.len() {
            _ if prefix == "x-accel-" => Known::XAccel,
            3 if is_name(rest, "for") => Known::XForwardedFor,
            4 if is_name(rest, "host") => Known::XForwardedHost,
            4 if is_name(rest, "port") => Known::XForwardedPort,
            5 if is_name(rest, "proto") => Known::XForwardedProto,
            _ => Known::Claim,
        }
    }

    /// A name that is not `text`, but may look like it. `User_Agent` is harmless.
    #[cold]
    fn unless_other(self, name: &[u8], text: &str) -> Known {
        match self {
            Known::UserAgent => Known::Other,
            _ if is_same_name(name, text.as_bytes()) => Known::Lookalike,
            _ => Known::Other,
        }
    }

    /// As [`Known::of`], with `_` taken for `-`.
    pub fn of_any_spelling(name: &[u8]) -> Known {
        match Known::of(name) {
            Known::Lookalike => {
                let dashed: Vec<u8> = name.iter().map(|&b| if b == b'_' { b'-' } else { b }).collect();
                Known::of(&dashed)
            }
            known => known,
        }
    }
}

/// Compares a field name with one in lower case of the same length, 8 bytes at a time. Setting
/// bit 5 makes letters lower-case and leaves digits and `-` alone; what else it makes equal to
/// those, no field name has.
fn is_name(name: &[u8], lower: &str) -> bool {
    const CASE: u64 = u64::from_ne_bytes([0x20; 8]);
    let lower = lower.as_bytes();
    debug_assert_eq!(name.len(), lower.len());
    let (names, name_rest) = name.as_chunks::<8>();
    let (lowers, lower_rest) = lower.as_chunks::<8>();
    let mut differs = 0;
    for (a, b) in names.iter().zip(lowers) {
        differs |= (u64::from_ne_bytes(*a) | CASE) ^ u64::from_ne_bytes(*b);
    }
    for (a, b) in name_rest.iter().zip(lower_rest) {
        differs |= u64::from((a | 0x20) ^ b);
    }
    differs == 0
}

/// Whether two names are one: in whatever case, and with `_` for `-`.
pub fn is_same_name(one: &[u8], other: &[u8]) -> bool {
    let plain = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    one.len() == other.len() && one.iter().zip(other).all(|(a, b)| plain(*a) == plain(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_fields_are_found_whatever_their_case() {
        let table = [
            ("Host", Known::Host),
            ("hOST", Known::Host),
            ("hosts", Known::Other),
            ("TE", Known::Te),
            ("Content-Length", Known::ContentLength),
            ("Content-Lengthy", Known::Other),
            ("Content_Length", Known::Lookalike),
            ("Transfer-Encoding", Known::TransferEncoding),
            ("transfer_encoding", Known::Lookalike),
            ("User_Agent", Known::Other),
            ("X-Forwarded-Proto", Known::XForwardedProto),
            ("X-Forwarded-Port", Known::XForwardedPort),
            ("X-Forwarded-Host", Known::XForwardedHost),
            ("X-Forwarded-For", Known::XForwardedFor),
            ("X-Forwarded-Ssl", Known::Claim),
            ("X-Forwarded-Prefix", Known::Claim),
            ("X-Forwarded-A", Known::Claim),
            ("X-Forwarded-", Known::Other),
            ("X-Forwarded", Known::Claim),
            ("X-Forwarder-For", Known::Other),
            ("X_Forwarded_For", Known::Lookalike),
            ("X-Forwarded_For", Known::Lookalike),
            ("X-Forwarded-User_Name", Known::Lookalike),
            ("X-Accel-Redirect", Known::XAccel),
            ("x-accel-buffering", Known::XAccel),
            ("X-Accel-", Known::Other),
            ("X_Accel-Redirect", Known::Lookalike),
            ("X-Accel-Admin", Known::XAccel),
            ("x-real-ip", Known::XRealIp),
            ("x-real_ip", Known::Lookalike),
            ("X-ADMIN-Token", Known::XAdminToken),
            ("X-Admin_Token", Known::Lookalike),
            ("X_Other", Known::Other),
            ("X-Request-Id", Known::XRequestId),
            ("X-Request-Start", Known::XRequestStart),
            ("X-Requested-With", Known::Other),
            ("X-Sendfile", Known::XSendfile),
            ("X-Sendfile-Type", Known::XSendfile),
            ("X-Scheme", Known::Claim),
            ("X-Url-Scheme", Known::Claim),
            ("X-Script-Name", Known::Claim),
            ("X-Client-IP", Known::Claim),
            ("X-Cluster-Client-IP", Known::Claim),
            ("Client-IP", Known::Claim),
            ("Client_Ip", Known::Lookalike),
            ("True-Client-IP", Known::Claim),
            ("Front-End-Https", Known::Claim),
            ("Forwarded", Known::Forwarded),
            ("Forwarded-For", Known::Claim),
            ("Proxy", Known::Override),
            ("X-Original-URL", Known::Override),
            ("X-Rewrite-URL", Known::Override),
            ("Script-Name", Known::Override),
            ("SCRIPT_NAME", Known::Lookalike),
            ("Path_Info", Known::Lookalike),
            ("", Known::Other),
            ("X-", Known::Other),
        ];
        for (name, expected) in table {
            assert_eq!(Known::of(name.as_bytes()), expected, "{name}");
        }
    }

    #[test]
    fn a_name_is_looked_up_in_any_spelling() {
        let table = [
            ("Content_Length", Known::ContentLength),
            ("X_Forwarded-For", Known::XForwardedFor),
            ("X-Forwarded_Prefix", Known::Claim),
            ("X-Tenant", Known::Other),
        ];
        for (name, expected) in table {
            assert_eq!(Known::of_any_spelling(name.as_bytes()), expected, "{name}");
        }
    }

    #[test]
    fn names_are_one_but_for_case_and_underscores() {
        let table = [
            ("X-Tenant", "x_tenant", true),
            ("X_Tenant", "X_tenanT", true),
            ("X-Tenant", "X.Tenant", false),
            ("X-Tenant", "X-Tenants", false),
            ("", "", true),
        ];
        for (one, other, expected) in table {
            assert_eq!(is_same_name(one.as_bytes(), other.as_bytes()), expected, "{one} {other}");
        }
    }
}
