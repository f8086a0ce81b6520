//! The fields by which an upstream learns of the client: X-Forwarded-*, X-Real-IP,
//! X-Request-Id, X-Request-Start, traceparent, Via. Pure: identifiers and times are arguments.
//!
//! What a client sent in these fields is believed, and extended, only if it is a trusted proxy
//! and the operator said so; from anyone else it is replaced. Conditions, hash keys and middleware
//! see these fields as the upstream will: [`super::told`].

use std::io::Write;
use std::net::IpAddr;

use super::fields::{Fields, Known, KnownSet, is_same_name, list, push_field};
use super::head::{RequestHead, Version};
use super::push_decimal;
use super::trace_context::Span;

/// Our name in `Via` (RFC 9110 7.6.3).
const NAME: &[u8] = b" warpdrive\r\n";

/// Written by [`write()`] in place of what was received, or only removed.
pub(super) const REPLACED: KnownSet = KnownSet::of(&[
    Known::Forwarded,
    Known::Lookalike,
    Known::Override,
    Known::XAccel,
    Known::XForwardedFor,
    Known::XForwardedHost,
    Known::XForwardedPort,
    Known::XForwardedProto,
    Known::XRealIp,
    Known::XRequestId,
    Known::XRequestStart,
    Known::XSendfile,
]);

/// Never passed on as they came.
const NEVER: KnownSet = REPLACED.and(KnownSet::of(&[Known::Via, Known::XAdminToken]));

/// Passed on only if the peer is believed.
pub(super) const CLAIMS: KnownSet = KnownSet::of(&[Known::Claim]);

/// Not even middleware may set these.
pub const OWNED: KnownSet = NEVER.without(KnownSet::of(&[Known::Override]));

/// Middleware and components may set these, because they are the operator's; clients may not.
pub const OPERATORS: KnownSet = CLAIMS.and(KnownSet::of(&[Known::Override]));

/// Whose forwarding fields are believed.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub trusted: Vec<Network>,
    /// Keep and extend what a trusted peer sent, instead of replacing it.
    pub keep_received: bool,
    /// Names that count as [`Known::Claim`] as well.
    pub untrusted: Vec<NamePattern>,
}

impl Settings {
    /// Marks the fields that the operator has named in `untrusted`.
    pub fn mark(&self, fields: &mut Fields) {
        if !self.untrusted.is_empty() {
            fields.mark(Known::Claim, |name| self.untrusted.iter().any(|pattern| pattern.matches(name)));
        }
    }
}

/// A field's name, or with `*` at its end the beginning of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamePattern {
    text: String,
    is_prefix: bool,
}

impl NamePattern {
    pub fn of(text: &str) -> NamePattern {
        match text.strip_suffix('*') {
            Some(prefix) => NamePattern { text: prefix.to_owned(), is_prefix: true },
            None => NamePattern { text: text.to_owned(), is_prefix: false },
        }
    }

    pub fn matches(&self, name: &[u8]) -> bool {
        let name = match self.is_prefix {
            true => &name[..name.len().min(self.text.len())],
            false => name,
        };
        is_same_name(name, self.text.as_bytes())
    }
}

/// The scheme of the URI that the client requested.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    #[default]
    Http,
    Https,
}

impl Scheme {
    pub fn text(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    fn port(self) -> &'static [u8] {
        match self {
            Scheme::Http => b"80",
            Scheme::Https => b"443",
        }
    }
}

/// An address prefix, as in `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    pub address: IpAddr,
    pub bits: u8,
}

impl Network {
    /// IPv4 addresses mapped into IPv6 are compared as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let shift = |width: u32| width.saturating_sub(u32::from(self.bits));
        match (self.address.to_canonical(), address.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                (u32::from(a) ^ u32::from(b)).checked_shr(shift(32)).unwrap_or(0) == 0
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                (u128::from(a) ^ u128::from(b)).checked_shr(shift(128)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl Network {
    /// Whether it contains all addresses of the other one.
    pub fn covers(&self, other: &Network) -> bool {
        let is_of_one_kind = self.address.is_ipv4() == other.address.is_ipv4();
        is_of_one_kind && self.bits <= other.bits && self.contains(other.address)
    }
}

fn trusts(networks: &[Network], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(address))
}

/// What stays the same for all requests of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    pub address: IpAddr,
    address_text: Vec<u8>,
    /// It is one of the trusted proxies.
    pub is_trusted: bool,
    /// If what it sends in our fields is believed: whose word about clients is, too.
    trusted: Option<Vec<Network>>,
    /// The fields of a peer that is not believed, ready to be copied, to where a port follows.
    ready: Vec<u8>,
}

/// What is new for each request.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    /// 32 hexadecimal digits.
    pub request_id: [u8; 32],
    /// Milliseconds since 1970.
    pub start_ms: u64,
    /// Its place in a trace, if we have a part in traces.
    pub span: Option<Span>,
}

impl Peer {
    pub fn new(settings: &Settings, address: IpAddr) -> Peer {
        let address = address.to_canonical();
        let is_trusted = trusts(&settings.trusted, address);
        let mut peer = Peer {
            address,
            address_text: address.to_string().into_bytes(),
            is_trusted,
            trusted: (settings.keep_received && is_trusted).then(|| settings.trusted.clone()),
            ready: Vec::with_capacity(160),
        };
        write!(
            peer.ready,
            "X-Forwarded-For: {address}\r\nX-Real-IP: {address}\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Port: "
        )
        .expect("writing to a vector cannot fail");
        peer
    }

    pub fn address_text(&self) -> &[u8] {
        &self.address_text
    }

    /// Its forwarding fields are kept and extended.
    pub fn is_believed(&self) -> bool {
        self.trusted.is_some()
    }

    /// The client's address as a trusted proxy told it in `X-Forwarded-For`, or the peer's own.
    pub fn client<'a>(&'a self, head: &'a RequestHead) -> &'a [u8] {
        self.told_client(head).0
    }

    /// As [`Self::client`].
    pub fn client_address(&self, head: &RequestHead) -> IpAddr {
        self.told_client(head).1
    }

    fn told_client<'a>(&'a self, head: &'a RequestHead) -> (&'a [u8], IpAddr) {
        let mut client = (&self.address_text[..], self.address);
        let Some(trusted) = &self.trusted else { return client };
        let received = head.fields.iter().rev().filter(|field| field.known == Known::XForwardedFor);
        let elements = received.flat_map(|field| field.value.rsplit(|&byte| byte == b','));
        // From the right: the first that no trusted proxy of ours has.
        for element in elements.map(<[u8]>::trim_ascii).filter(|element| !element.is_empty()) {
            let Some(told) = address_in(element) else { break };
            client = told;
            if !trusts(trusted, told.1) {
                break;
            }
        }
        client
    }

    /// `http`, or what a trusted proxy says that the client has. A WebSocket has those of HTTP.
    pub fn scheme(&self, head: &RequestHead) -> Scheme {
        let received = self.trusted.as_ref().and_then(|_| head.fields.value(Known::XForwardedProto));
        let first = received.and_then(|received| list(received).next());
        let is_secure =
            |scheme: &[u8]| scheme.eq_ignore_ascii_case(b"https") || scheme.eq_ignore_ascii_case(b"wss");
        if first.is_some_and(is_secure) { Scheme::Https } else { Scheme::Http }
    }

    /// The request's identifier: a trusted proxy's, or the one that we made.
    pub fn request_id<'a>(&self, head: &'a RequestHead, stamp: &'a Stamp) -> &'a [u8] {
        self.believed(head, Known::XRequestId).unwrap_or(&stamp.request_id)
    }

    /// The value of a field, if the peer is believed and the value is not empty.
    fn believed<'a>(&self, head: &'a RequestHead, known: Known) -> Option<&'a [u8]> {
        let received = self.trusted.as_ref().and_then(|_| head.fields.value(known));
        received.filter(|value| !value.is_empty())
    }

    /// The received fields that are not passed on.
    pub fn withheld(&self) -> KnownSet {
        if self.is_believed() { NEVER } else { NEVER.and(CLAIMS) }
    }
}

/// The address in an element of X-Forwarded-For: some proxies add a port, and then brackets for
/// IPv6, or quote it as `Forwarded` wants it.
fn address_in(element: &[u8]) -> Option<(&[u8], IpAddr)> {
    let quoted = element.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    let element = quoted.unwrap_or(element);
    let parse = |bare: &[u8]| std::str::from_utf8(bare).ok()?.parse::<IpAddr>().ok();
    if let Some(rest) = element.strip_prefix(b"[") {
        let end = rest.iter().position(|&byte| byte == b']')?;
        let (bare, port) = (&rest[..end], &rest[end + 1..]);
        let is_whole = port.is_empty() || port_of(port).is_some_and(|digits| digits.len() + 1 == port.len());
        return parse(bare).filter(|address| address.is_ipv6() && is_whole).map(|address| (bare, address));
    }
    if let Some(address) = parse(element) {
        return Some((element, address));
    }
    let bare = &element[..element.len() - port_of(element)?.len() - 1];
    parse(bare).filter(IpAddr::is_ipv4).map(|address| (bare, address))
}

/// What follows the colon at the end of `host:port`, if that is a port.
fn port_of(authority: &[u8]) -> Option<&[u8]> {
    let digits = authority.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let (before, port) = authority.split_at(authority.len() - digits);
    (before.ends_with(b":") && (1..=5).contains(&digits)).then_some(port)
}

/// Writes our fields into the head of a request that goes to an upstream.
pub fn write(out: &mut Vec<u8>, head: &RequestHead, peer: &Peer, stamp: &Stamp) {
    write_sender(out, head, peer, Some(stamp));
    if let Some(span) = &stamp.span {
        span.write(out);
    }
    out.extend_from_slice(b"Via: ");
    write_received(out, head, Known::Via);
    out.extend_from_slice(if head.version == Version::Http10 { b"1.0" } else { b"1.1" });
    out.extend_from_slice(NAME);
}

/// Without a stamp, what only that has is left out.
pub(super) fn write_sender(out: &mut Vec<u8>, head: &RequestHead, peer: &Peer, stamp: Option<&Stamp>) {
    if peer.is_believed() {
        return write_extended(out, head, peer, stamp);
    }
    let authority = head.text(head.target.authority);
    out.extend_from_slice(&peer.ready);
    out.extend_from_slice(port_of(authority).unwrap_or(Scheme::Http.port()));
    out.extend_from_slice(b"\r\nX-Forwarded-Host: ");
    out.extend_from_slice(authority);
    out.extend_from_slice(b"\r\n");
    if let Some(stamp) = stamp {
        push_field(out, b"X-Request-Id", &stamp.request_id);
        write_start(out, stamp);
    }
}

#[cold]
fn write_extended(out: &mut Vec<u8>, head: &RequestHead, peer: &Peer, stamp: Option<&Stamp>) {
    out.extend_from_slice(b"X-Forwarded-For: ");
    write_received(out, head, Known::XForwardedFor);
    out.extend_from_slice(&peer.address_text);
    out.extend_from_slice(b"\r\n");
    let believed = |known| peer.believed(head, known);
    let host = believed(Known::XForwardedHost).unwrap_or(head.text(head.target.authority));
    // Not that of `Host`, if the proxy in front has replaced it by a name of ours.
    let port = list(host).next().and_then(port_of).unwrap_or(peer.scheme(head).port());
    // A proxy that only extends X-Forwarded-For passes on what a client wrote here.
    let is_listed = head.fields.may_have(Known::XForwardedFor);
    let real_ip = believed(Known::XRealIp).filter(|_| !is_listed).unwrap_or(peer.client(head));
    push_field(out, b"X-Real-IP", real_ip);
    push_field(out, b"X-Forwarded-Proto", believed(Known::XForwardedProto).unwrap_or(b"http"));
    push_field(out, b"X-Forwarded-Port", believed(Known::XForwardedPort).unwrap_or(port));
    push_field(out, b"X-Forwarded-Host", host);
    match (believed(Known::XRequestId), stamp) {
        (Some(id), _) => push_field(out, b"X-Request-Id", id),
        (None, Some(stamp)) => push_field(out, b"X-Request-Id", &stamp.request_id),
        (None, None) => {}
    }
    match (head.fields.value(Known::XRequestStart), stamp) {
        (Some(start), _) => push_field(out, b"X-Request-Start", start),
        (None, Some(stamp)) => write_start(out, stamp),
        (None, None) => {}
    }
}

/// What was received in fields of this kind, as a list that something is appended to.
fn write_received(out: &mut Vec<u8>, head: &RequestHead, known: Known) {
    if !head.fields.may_have(known) {
        return;
    }
    for field in head.fields.iter().filter(|field| field.known == known) {
        for element in list(field.value) {
            out.extend_from_slice(element);
            out.extend_from_slice(b", ");
        }
    }
}

fn write_start(out: &mut Vec<u8>, stamp: &Stamp) {
    out.extend_from_slice(b"X-Request-Start: t=");
    push_decimal(out, stamp.start_ms);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        let (address, bits) = text.split_once('/').unwrap();
        Network { address: address.parse().unwrap(), bits: bits.parse().unwrap() }
    }

    #[test]
    fn networks_contain_their_addresses() {
        let table = [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("192.168.1.1/32", "192.168.1.1", true),
            ("192.168.1.1/32", "192.168.1.0", false),
            ("0.0.0.0/0", "8.8.8.8", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "::1", true),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
        ];
        for (prefix, address, expected) in table {
            assert_eq!(network(prefix).contains(address.parse().unwrap()), expected, "{prefix} {address}");
        }
    }

    #[test]
    fn networks_cover_what_is_in_them() {
        let table = [
            ("10.0.0.0/8", "10.1.0.0/16", true),
            ("10.0.0.0/8", "10.0.0.0/8", true),
            ("10.1.0.0/16", "10.0.0.0/8", false),
            ("10.0.0.0/8", "11.0.0.0/16", false),
            ("0.0.0.0/0", "10.0.0.1/32", true),
            ("0.0.0.0/0", "::ffff:10.0.0.1/128", false),
            ("::/0", "2001:db8::/32", true),
        ];
        for (wide, narrow, expected) in table {
            assert_eq!(network(wide).covers(&network(narrow)), expected, "{wide} {narrow}");
        }
    }

    #[test]
    fn the_client_is_the_rightmost_address_that_is_not_ours() {
        let settings =
            Settings { trusted: vec![network("10.0.0.0/8")], keep_received: true, untrusted: Vec::new() };
        let table = [
            ("10.0.0.1", "", "10.0.0.1"),
            ("10.0.0.1", "1.1.1.1, 2.2.2.2, 10.0.0.9", "2.2.2.2"),
            ("10.0.0.1", "10.0.0.7, 10.0.0.8", "10.0.0.7"),
            ("10.0.0.1", "1.1.1.1, nonsense, 10.0.0.8", "10.0.0.8"),
            ("9.9.9.9", "1.1.1.1", "9.9.9.9"),
        ];
        for (address, received, expected) in table {
            let peer = Peer::new(&settings, address.parse().unwrap());
            let mut head = RequestHead::default();
            if !received.is_empty() {
                head.fields.push(b"X-Forwarded-For", received.as_bytes());
            }
            assert_eq!(peer.client(&head), expected.as_bytes(), "{address} {received}");
        }
    }

    #[test]
    fn an_address_is_found_however_it_is_written() {
        let table = [
            ("203.0.113.9", Some("203.0.113.9")),
            ("203.0.113.9:51034", Some("203.0.113.9")),
            ("[2001:db8::9]:4711", Some("2001:db8::9")),
            ("[2001:db8::9]", Some("2001:db8::9")),
            ("2001:db8::9", Some("2001:db8::9")),
            ("\"[2001:db8::9]:4711\"", Some("2001:db8::9")),
            ("\"203.0.113.9\"", Some("203.0.113.9")),
            ("", None),
            ("\"", None),
            ("unknown", None),
            ("_hidden", None),
            ("203.0.113.9:", None),
            ("203.0.113.9:123456", None),
            ("203.0.113.9:http", None),
            ("[203.0.113.9]:80", None),
            ("[2001:db8::9]80", None),
            ("[2001:db8::9]:", None),
            ("[2001:db8::9", None),
            ("[]", None),
            (":80", None),
        ];
        for (element, expected) in table {
            let found = address_in(element.as_bytes());
            assert_eq!(found.map(|(bare, _)| bare), expected.map(str::as_bytes), "{element}");
            let address = expected.map(|bare| bare.parse().unwrap());
            assert_eq!(found.map(|(_, address)| address), address, "{element}");
        }
    }

    #[test]
    fn a_port_follows_the_last_colon() {
        let table = [
            ("a.example", None),
            ("a.example:8443", Some("8443")),
            ("a.example:", None),
            ("10.0.0.1", None),
            ("10.0.0.1:1", Some("1")),
            ("[::1]", None),
            ("[::1]:81", Some("81")),
            ("80", None),
            ("", None),
            ("a:123456", None),
        ];
        for (authority, expected) in table {
            assert_eq!(port_of(authority.as_bytes()), expected.map(str::as_bytes), "{authority}");
        }
    }

    #[test]
    fn a_pattern_is_a_name_or_the_beginning_of_one() {
        let table = [
            ("CF-Connecting-IP", "cf_connecting-ip", true),
            ("CF-Connecting-IP", "CF-Connecting-IPv6", false),
            ("X-Auth-*", "x_auth_User", true),
            ("X-Auth-*", "X-Auth-", true),
            ("X-Auth-*", "X-Auth", false),
            ("X-Auth-*", "X-Author-X", false),
        ];
        for (pattern, name, expected) in table {
            assert_eq!(NamePattern::of(pattern).matches(name.as_bytes()), expected, "{pattern} {name}");
        }
    }
}
