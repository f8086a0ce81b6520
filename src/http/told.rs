//! The fields of a request as an upstream will get them, for what decides by fields: conditions, hash
//! keys, middleware. They are written by what writes them for the upstream.

use super::fields::{Fields, Known, KnownSet};
use super::forwarding::{CLAIMS, Peer, REPLACED, Stamp, write_sender};
use super::head::RequestHead;
use super::trace_context::Span;

/// Kinds of names whose fields an upstream may not get as they were received.
const TOLD: KnownSet = REPLACED.and(CLAIMS).and(KnownSet::of(&[Known::Traceparent, Known::Tracestate]));

/// As [`TOLD`], for fields whose name alone does not tell: they were marked.
const TOLD_MARKED: KnownSet = KnownSet::of(&[Known::Claim, Known::HopByHop]);

/// Whether a field with this name may be told otherwise than it was received, in any request.
pub fn is_name_told(name: &[u8]) -> bool {
    TOLD.contains(Known::of(name))
}

/// Whether any field of this request is told otherwise than it was received.
pub fn is_told(fields: &Fields) -> bool {
    fields.may_have_any(TOLD_MARKED)
}

/// Makes `told` the fields of a request as an upstream will be told them. The token, `Via` and what
/// says how the connection is used are as they were received: a route may ask for `Upgrade`. Without
/// a stamp, what only that has is left out.
pub fn tell(told: &mut Fields, head: &RequestHead, peer: &Peer, stamp: Option<&Stamp>) {
    let span = stamp.and_then(|stamp| stamp.span.as_ref());
    let hidden = REPLACED.and(KnownSet::of(&[Known::HopByHop]));
    let hidden = if peer.is_believed() { hidden } else { hidden.and(CLAIMS) };
    let hidden = hidden.and(span.map(Span::replaces).unwrap_or_default());
    told.copy_from(&head.fields);
    told.retain(|known, _| !hidden.contains(known));
    told.push_lines(|out| {
        write_sender(out, head, peer, stamp);
        if let Some(span) = span {
            span.write(out);
        }
    });
}

/// Looks at the fields of a request as [`tell`] has them: at those with one name, if it is given.
pub fn with_told<R>(
    head: &RequestHead,
    peer: &Peer,
    stamp: Option<&Stamp>,
    name: Option<&str>,
    look: impl FnOnce(&Fields) -> R,
) -> R {
    if name.is_some_and(|name| !is_name_told(name.as_bytes())) && !is_told(&head.fields) {
        return look(&head.fields);
    }
    let mut told = Fields::default();
    tell(&mut told, head, peer, stamp);
    look(&told)
}

#[cfg(test)]
mod tests {
    use super::super::forwarding::{NamePattern, Network, Settings};
    use super::*;

    #[test]
    fn what_decides_sees_what_an_upstream_will() {
        let settings = Settings {
            trusted: vec![Network { address: [10, 0, 0, 0].into(), bits: 8 }],
            keep_received: true,
            untrusted: vec![NamePattern::of("X-Auth-*")],
        };
        let mut head = RequestHead::default();
        let received = [
            ("Upgrade", "websocket"),
            ("X-Real-IP", "192.0.2.7"),
            ("X_Real_IP", "192.0.2.8"),
            ("X-Forwarded-For", "192.0.2.9"),
            ("X-Forwarded-Ssl", "on"),
            ("X-Auth-User", "root"),
            ("Proxy", "evil"),
            ("X-Admin-Token", "token"),
        ];
        for (name, value) in received {
            head.fields.push(name.as_bytes(), value.as_bytes());
        }
        // Naming a field in Connection must not hide what it is.
        head.fields.push(b"X-Request-Id", b"forged");
        head.fields.mark_hop_by_hop(b"x-request-id");
        settings.mark(&mut head.fields);
        let stamp = Stamp { request_id: [b'0'; 32], start_ms: 7, span: None };
        let told = |address: &str, name: &str| {
            let peer = Peer::new(&settings, address.parse().unwrap());
            let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
            with_told(&head, &peer, Some(&stamp), Some(name), |fields| fields.named(name).next().map(text))
        };
        let table = [
            ("Upgrade", Some("websocket"), Some("websocket")),
            ("X-Admin-Token", Some("token"), Some("token")),
            ("x-real-ip", Some("9.9.9.9"), Some("192.0.2.9")),
            ("X_Real_IP", None, None),
            ("X-Forwarded-For", Some("9.9.9.9"), Some("192.0.2.9, 10.0.0.1")),
            ("X-Forwarded-Ssl", None, Some("on")),
            ("X-Auth-User", None, Some("root")),
            ("Proxy", None, None),
            ("X-Forwarded-Port", Some("80"), Some("80")),
            ("X-Request-Start", Some("t=7"), Some("t=7")),
            (
                "X-Request-Id",
                Some("00000000000000000000000000000000"),
                Some("00000000000000000000000000000000"),
            ),
            ("Absent", None, None),
        ];
        for (name, stranger, trusted) in table {
            assert_eq!(told("9.9.9.9", name).as_deref(), stranger, "{name} of a stranger");
            assert_eq!(told("10.0.0.1", name).as_deref(), trusted, "{name} of a trusted proxy");
        }
    }
}
