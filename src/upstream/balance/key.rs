//! What of a request decides where it goes.

use super::hash::hash;
use crate::http::forwarding::Peer;
use crate::http::head::RequestHead;
use crate::http::query::{decoded, parameters};
use crate::http::told::with_told;

/// A part of a request. One that has it not, or has it empty, goes by its client's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    /// The client's address, as a trusted proxy told it or as we see it.
    Client,
    /// The path in normal form, without the query, as it is forwarded unless a route changes it.
    Path,
    /// The host that was asked for, without its port.
    Host,
    /// The first field with this name, in lower case.
    Field(String),
    /// The first cookie with this name.
    Cookie(String),
    /// The first parameter of the query with this name; its value as it is written.
    Parameter(String),
}

impl HashKey {
    /// The hash by which the request is sent.
    pub fn of(&self, request: &RequestHead, peer: &Peer) -> u64 {
        let part = match self {
            HashKey::Client => None,
            // Without a stamp: a request id of ours would spread requests at random.
            HashKey::Field(name) => {
                return with_told(request, peer, None, Some(name), |fields| {
                    let value = fields.named(name).next().filter(|value| !value.is_empty());
                    hash(value.unwrap_or_else(|| peer.client(request)))
                });
            }
            HashKey::Path => Some(request.text(request.target.path)),
            HashKey::Host => Some(request.text(request.target.host)),
            HashKey::Cookie(name) => request.cookie(name),
            HashKey::Parameter(name) => parameter(request, name),
        };
        hash(part.filter(|part| !part.is_empty()).unwrap_or_else(|| peer.client(request)))
    }
}

fn parameter<'a>(request: &'a RequestHead, name: &str) -> Option<&'a [u8]> {
    let mut parameters = parameters(request.text(request.target.query));
    let is_named = |(found, _): &(&[u8], &[u8])| decoded(found).eq(name.bytes());
    parameters.find(is_named).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::http::forwarding::{Network, Settings};
    use crate::http::h1::{Bounds, Parsed, parse};

    fn request(text: &str) -> RequestHead {
        let mut head = RequestHead::default();
        let bounds = Bounds { head: 4096, fields: 64, uri: 1024 };
        let parsed = parse::request(text.as_bytes(), bounds, &mut head);
        assert!(matches!(parsed, Ok(Parsed::Head(_))));
        head
    }

    #[test]
    fn the_key_is_the_part_or_the_client() {
        let address: IpAddr = "192.0.2.7".parse().unwrap();
        let peer = Peer::new(&Settings::default(), address);
        let head = request(
            "GET /a/b?id=%41x&i%64=2&e= HTTP/1.1\r\nHost: Shop.example:8080\r\nX-Tenant: t1\r\nx-tenant: t2\r\n\
             X-Real-IP: 6.6.6.6\r\nX-Request-Id: 7\r\nClient-IP: 6.6.6.6\r\nCookie: xsid=0; sid=s1; sid=s2\r\nX-Empty: \r\n\r\n",
        );
        let field = |name: &str| HashKey::Field(name.to_owned());
        let cookie = |name: &str| HashKey::Cookie(name.to_owned());
        let parameter = |name: &str| HashKey::Parameter(name.to_owned());
        let table = [
            (HashKey::Client, "192.0.2.7"),
            (HashKey::Path, "/a/b"),
            (HashKey::Host, "shop.example"),
            (field("x-tenant"), "t1"),
            (field("x-empty"), "192.0.2.7"),
            (field("x-real-ip"), "192.0.2.7"),
            (field("x-forwarded-proto"), "http"),
            (field("x-request-id"), "192.0.2.7"),
            (field("client-ip"), "192.0.2.7"),
            (field("x-absent"), "192.0.2.7"),
            (cookie("sid"), "s1"),
            (cookie("id"), "192.0.2.7"),
            (parameter("id"), "%41x"),
            (parameter("e"), "192.0.2.7"),
            (parameter("d"), "192.0.2.7"),
        ];
        for (key, expected) in table {
            assert_eq!(key.of(&head, &peer), hash(expected.as_bytes()), "{key:?}");
        }
    }

    #[test]
    fn a_trusted_proxy_tells_the_client() {
        let address: IpAddr = "10.0.0.1".parse().unwrap();
        let trusted = vec![Network { address, bits: 32 }];
        let head = request("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 198.51.100.1, 203.0.113.9\r\n\r\n");
        for (keep_received, expected) in [(true, "203.0.113.9"), (false, "10.0.0.1")] {
            let peer = Peer::new(
                &Settings { trusted: trusted.clone(), keep_received, ..Settings::default() },
                address,
            );
            assert_eq!(HashKey::Client.of(&head, &peer), hash(expected.as_bytes()));
        }
    }
}
