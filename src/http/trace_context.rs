//! The place of a request in a trace (W3C Trace Context, level 1): `traceparent` read and written,
//! and which of what was received is believed. Pure: identifiers and chance are arguments.
//!
//! `tracestate` belongs to the trace that it came with: it goes where that goes, unread.

use super::fields::{Known, KnownSet};
use super::head::RequestHead;

/// `00-`, 32 digits, `-`, 16 digits, `-`, 2 digits.
const LEN: usize = 55;

/// Whose traces are continued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Continued {
    /// We have no part in traces: both fields go on as they came.
    Untouched,
    /// Those of trusted proxies. Who else sends one does not choose in which trace he is.
    OfTrusted,
    /// Anyone's.
    OfAnyone,
}

/// What `traceparent` says. Digits are hexadecimal and in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    pub trace_id: [u8; 32],
    pub span_id: [u8; 16],
    pub is_sampled: bool,
}

/// An exchange as a part of its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub trace_id: [u8; 32],
    pub span_id: [u8; 16],
    /// Whose request it is, if the trace did not begin here.
    pub parent_id: Option<[u8; 16]>,
    pub is_sampled: bool,
}

impl Parent {
    /// The one of this request; `None` if there is none, several, or one that is not valid.
    pub fn of(head: &RequestHead) -> Option<Parent> {
        if !head.fields.may_have(Known::Traceparent) {
            return None;
        }
        let mut all = head.fields.iter().filter(|field| field.known == Known::Traceparent);
        let first = all.next()?;
        all.next().is_none().then(|| Parent::parse(first.value))?
    }

    /// A later version may have more after a dash (section 4.3); it is read as this one.
    pub fn parse(text: &[u8]) -> Option<Parent> {
        let (first, rest) = text.split_first_chunk::<LEN>()?;
        let has_dashes = [2, 35, 52].iter().all(|at| first[*at] == b'-');
        let (version, flags) = (&first[..2], &first[53..]);
        let trace_id: [u8; 32] = first[3..35].try_into().ok()?;
        let span_id: [u8; 16] = first[36..52].try_into().ok()?;
        let is_version = match version {
            b"00" => rest.is_empty(),
            b"ff" => false,
            _ => are_digits(version) && (rest.is_empty() || rest[0] == b'-'),
        };
        let is_id = |id: &[u8]| are_digits(id) && id.iter().any(|digit| *digit != b'0');
        let is_valid = has_dashes && is_version && is_id(&trace_id) && is_id(&span_id) && are_digits(flags);
        // The last bit: that of an odd digit.
        let is_sampled = matches!(flags[1], b'1' | b'3' | b'5' | b'7' | b'9' | b'b' | b'd' | b'f');
        is_valid.then_some(Parent { trace_id, span_id, is_sampled })
    }
}

/// The trace that a request says it is of, whoever sent it.
pub fn received_trace_id(head: &RequestHead) -> Option<&[u8]> {
    Parent::of(head)?;
    head.fields.value(Known::Traceparent).map(|value| &value[3..35])
}

impl Span {
    /// That of an exchange: one more of the trace that the request is of, or the first of one of
    /// its own. `ids` are those that are used then; `draw` says whether a trace that nobody has
    /// decided about whom we believe is sampled.
    pub fn begin(
        continued: Continued,
        head: &RequestHead,
        is_trusted: bool,
        (trace_id, span_id): ([u8; 32], [u8; 16]),
        draw: impl FnOnce() -> bool,
    ) -> Option<Span> {
        let parent = match continued {
            Continued::Untouched => return None,
            Continued::OfTrusted if !is_trusted => None,
            Continued::OfTrusted | Continued::OfAnyone => Parent::of(head),
        };
        Some(match parent {
            Some(parent) => Span {
                trace_id: parent.trace_id,
                span_id,
                parent_id: Some(parent.span_id),
                // A stranger does not decide how much is recorded.
                is_sampled: if is_trusted { parent.is_sampled } else { draw() },
            },
            None => Span { trace_id, span_id, parent_id: None, is_sampled: draw() },
        })
    }

    /// The fields that are not passed on as they came: of another trace, or of none.
    pub fn replaces(&self) -> KnownSet {
        const PARENT: KnownSet = KnownSet::of(&[Known::Traceparent]);
        const BOTH: KnownSet = KnownSet::of(&[Known::Traceparent, Known::Tracestate]);
        if self.parent_id.is_some() { PARENT } else { BOTH }
    }

    /// Appends `traceparent`, with us as the parent.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"traceparent: 00-");
        out.extend_from_slice(&self.trace_id);
        out.push(b'-');
        out.extend_from_slice(&self.span_id);
        out.extend_from_slice(if self.is_sampled { b"-01\r\n" } else { b"-00\r\n" });
    }
}

fn are_digits(text: &[u8]) -> bool {
    text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_parent_is_read_as_the_standard_says() {
        let later = format!("cc{}-what-the-future-will-be-like", &VALID[2..]);
        let cases = [
            (VALID, Some(true)),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", Some(false)),
            // Flags that mean nothing yet.
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-fe", Some(false)),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-09", Some(true)),
            ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Some(true)),
            (&later, Some(true)),
            ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.", None),
            ("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None),
            ("0x-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-", None),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0", None),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0g", None),
            ("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", None),
            ("00-0af7651916cd43dd8448eb211c80319c-B7AD6B7169203331-01", None),
            ("00-00000000000000000000000000000000-b7ad6b7169203331-01", None),
            ("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", None),
            ("00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None),
            ("00-0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331-01", None),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331_01", None),
            ("", None),
        ];
        for (text, expected) in cases {
            let parent = Parent::parse(text.as_bytes());
            assert_eq!(parent.map(|parent| parent.is_sampled), expected, "{text}");
            if let Some(parent) = parent {
                assert_eq!(&parent.trace_id, b"0af7651916cd43dd8448eb211c80319c");
                assert_eq!(&parent.span_id, b"b7ad6b7169203331");
            }
        }
    }

    #[test]
    fn a_trace_is_continued_for_whom_it_may_be() {
        let (trusted, stranger) = (true, false);
        let cases = [
            (Continued::Untouched, trusted, VALID, None),
            (Continued::OfTrusted, trusted, VALID, Some((true, true))),
            // Their own decision stands, ours is not asked for.
            (Continued::OfTrusted, trusted, &VALID.replace("-01", "-00"), Some((true, false))),
            (Continued::OfTrusted, trusted, "nonsense", Some((false, false))),
            (Continued::OfTrusted, trusted, "", Some((false, false))),
            (Continued::OfTrusted, stranger, VALID, Some((false, false))),
            (Continued::OfAnyone, stranger, VALID, Some((true, false))),
            (Continued::OfAnyone, trusted, VALID, Some((true, true))),
        ];
        for (continued, is_trusted, received, expected) in cases {
            let mut head = RequestHead::default();
            if !received.is_empty() {
                head.fields.push(b"Traceparent", received.as_bytes());
            }
            let ids = ([b'a'; 32], [b'b'; 16]);
            let span = Span::begin(continued, &head, is_trusted, ids, || false);
            let seen = span.map(|span| (span.parent_id.is_some(), span.is_sampled));
            assert_eq!(seen, expected, "{continued:?} {is_trusted} {received}");
            let Some(span) = span else { continue };
            assert_eq!(span.span_id, [b'b'; 16]);
            assert_eq!(span.trace_id == [b'a'; 32], span.parent_id.is_none());
            assert!(span.replaces().contains(Known::Traceparent));
            assert_eq!(span.replaces().contains(Known::Tracestate), span.parent_id.is_none());
        }
    }

    #[test]
    fn two_parents_are_none() {
        let mut head = RequestHead::default();
        head.fields.push(b"traceparent", VALID.as_bytes());
        assert!(Parent::of(&head).is_some());
        head.fields.push(b"traceparent", VALID.as_bytes());
        assert_eq!(Parent::of(&head), None);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let parent = Parent::parse(VALID.as_bytes()).unwrap();
        for is_sampled in [true, false] {
            let parent = Parent { is_sampled, ..parent };
            let Parent { trace_id, span_id, .. } = parent;
            let mut out = Vec::new();
            Span { trace_id, span_id, parent_id: None, is_sampled }.write(&mut out);
            let value = out.strip_prefix(b"traceparent: ").unwrap().strip_suffix(b"\r\n").unwrap();
            assert_eq!(Parent::parse(value), Some(parent));
        }
    }
}
