//! The fields by which an upstream learns of the client: X-Forwarded-*, X-Real-IP,
//! X-Request-Id, X-Request-Start, traceparent, Via. Pure: identifiers and times are arguments.
//!
//! What a client sent in these fields is believed, and extended, only if it is a trusted proxy
//! and the operator said so; from anyone else it is replaced.

use std::io::Write;
use std::net::IpAddr;

use super::fields::{Known, KnownSet, list, push_field};
use super::head::{RequestHead, Version};
use super::push_decimal;
use super::trace_context::Span;

/// Our name in `Via` (RFC 9110 7.6.3).
const NAME: &[u8] = b" warpdrive\r\n";

/// Never passed on as they came. `Forwarded`, our own token and the fields that name files to a
/// server are only removed; the others are written by [`write()`].
pub const OWNED: KnownSet = KnownSet::of(&[
    Known::Forwarded,
    Known::Via,
    Known::XAccel,
    Known::XAdminToken,
    Known::XForwardedFor,
    Known::XForwardedHost,
    Known::XForwardedPort,
    Known::XForwardedProto,
    Known::XLookalike,
    Known::XRealIp,
    Known::XRequestId,
    Known::XRequestStart,
    Known::XSendfile,
]);

/// Whose forwarding fields are believed.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub trusted: Vec<Network>,
    /// Keep and extend what a trusted peer sent, instead of replacing it.
    pub keep_received: bool,
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

fn trusts(networks: &[Network], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(address))
}

/// What stays the same for all requests of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    pub address: IpAddr,
    address_text: Vec<u8>,
    port_text: Vec<u8>,
    /// It is one of the trusted proxies.
    pub is_trusted: bool,
    /// If what it sends in our fields is believed: whose word about clients is, too.
    trusted: Option<Vec<Network>>,
    /// The fields of a peer that is not believed, ready to be copied.
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
    /// `port` is that of our listener.
    pub fn new(settings: &Settings, address: IpAddr, port: u16) -> Peer {
        let address = address.to_canonical();
        let is_trusted = trusts(&settings.trusted, address);
        let text = |value: &dyn std::fmt::Display| value.to_string().into_bytes();
        let mut peer = Peer {
            address,
            address_text: text(&address),
            port_text: text(&port),
            is_trusted,
            trusted: (settings.keep_received && is_trusted).then(|| settings.trusted.clone()),
            ready: Vec::with_capacity(160),
        };
        write!(
            peer.ready,
            "X-Forwarded-For: {address}\r\nX-Real-IP: {address}\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Port: {port}\r\n"
        )
        .expect("writing to a vector cannot fail");
        peer
    }

    pub fn address_text(&self) -> &[u8] {
        &self.address_text
    }

    /// The client's address as a trusted proxy told it, or the peer's own.
    pub fn client<'a>(&'a self, head: &'a RequestHead) -> &'a [u8] {
        let mut client = &self.address_text[..];
        let Some(trusted) = &self.trusted else { return client };
        let received = head.fields.iter().rev().filter(|field| field.known == Known::XForwardedFor);
        // From the right: the first that no trusted proxy of ours has.
        for element in received.flat_map(|field| field.value.rsplit(|&byte| byte == b',')) {
            let element = element.trim_ascii();
            let Some(address) = std::str::from_utf8(element).ok().and_then(|text| text.parse().ok()) else {
                break;
            };
            client = element;
            if !trusts(trusted, address) {
                break;
            }
        }
        client
    }

    /// `http`, or what a trusted proxy says that the client has.
    pub fn scheme(&self, head: &RequestHead) -> &'static [u8] {
        let received = self.trusted.as_ref().and_then(|_| head.fields.value(Known::XForwardedProto));
        match received {
            Some(scheme) if scheme.eq_ignore_ascii_case(b"https") => b"https",
            _ => b"http",
        }
    }

    /// The request's identifier: a trusted proxy's, or the one that we made.
    pub fn request_id<'a>(&self, head: &'a RequestHead, stamp: &'a Stamp) -> &'a [u8] {
        let received = self.trusted.as_ref().and_then(|_| head.fields.value(Known::XRequestId));
        received.filter(|id| !id.is_empty()).unwrap_or(&stamp.request_id)
    }
}

/// Writes our fields into the head of a request that goes to an upstream.
pub fn write(out: &mut Vec<u8>, head: &RequestHead, peer: &Peer, stamp: &Stamp) {
    if peer.trusted.is_some() {
        write_extended(out, head, peer, stamp);
    } else {
        out.extend_from_slice(&peer.ready);
        push_field(out, b"X-Forwarded-Host", head.text(head.target.authority));
        push_field(out, b"X-Request-Id", &stamp.request_id);
        write_start(out, stamp);
    }
    if let Some(span) = &stamp.span {
        span.write(out);
    }
    out.extend_from_slice(b"Via: ");
    write_received(out, head, Known::Via);
    out.extend_from_slice(if head.version == Version::Http10 { b"1.0" } else { b"1.1" });
    out.extend_from_slice(NAME);
}

#[cold]
fn write_extended(out: &mut Vec<u8>, head: &RequestHead, peer: &Peer, stamp: &Stamp) {
    out.extend_from_slice(b"X-Forwarded-For: ");
    write_received(out, head, Known::XForwardedFor);
    out.extend_from_slice(&peer.address_text);
    out.extend_from_slice(b"\r\n");
    let mut keep = |name: &[u8], known: Known, ours: &[u8]| {
        push_field(out, name, head.fields.value(known).filter(|value| !value.is_empty()).unwrap_or(ours));
    };
    keep(b"X-Real-IP", Known::XRealIp, peer.client(head));
    keep(b"X-Forwarded-Proto", Known::XForwardedProto, b"http");
    keep(b"X-Forwarded-Port", Known::XForwardedPort, &peer.port_text);
    keep(b"X-Forwarded-Host", Known::XForwardedHost, head.text(head.target.authority));
    push_field(out, b"X-Request-Id", peer.request_id(head, stamp));
    match head.fields.value(Known::XRequestStart) {
        Some(start) => push_field(out, b"X-Request-Start", start),
        None => write_start(out, stamp),
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
    fn the_client_is_the_rightmost_address_that_is_not_ours() {
        let settings = Settings { trusted: vec![network("10.0.0.0/8")], keep_received: true };
        let table = [
            ("10.0.0.1", "", "10.0.0.1"),
            ("10.0.0.1", "1.1.1.1, 2.2.2.2, 10.0.0.9", "2.2.2.2"),
            ("10.0.0.1", "10.0.0.7, 10.0.0.8", "10.0.0.7"),
            ("10.0.0.1", "1.1.1.1, nonsense, 10.0.0.8", "10.0.0.8"),
            ("9.9.9.9", "1.1.1.1", "9.9.9.9"),
        ];
        for (address, received, expected) in table {
            let peer = Peer::new(&settings, address.parse().unwrap(), 80);
            let mut head = RequestHead::default();
            if !received.is_empty() {
                head.fields.push(b"X-Forwarded-For", received.as_bytes());
            }
            assert_eq!(peer.client(&head), expected.as_bytes(), "{address} {received}");
        }
    }
}
