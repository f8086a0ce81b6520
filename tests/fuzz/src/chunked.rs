//! The chunked coding: decoded in pieces as the reference reads it whole, and encoded again.

use warpdrive::http::fields::Fields;
use warpdrive::http::h1::chunked::{Decoder, LAST, SizeLine};
use warpdrive::http::h1::{encode, parse};

use crate::reference::chunked::{self, Chunked};
use crate::reference::{Reading, fields};
use crate::request_head::listed;
use crate::{shown, split};

/// What might follow an incomplete body and make it whole.
const ENDS: [&[u8]; 6] =
    [b"0\r\n\r\n", b"\r\n\r\n", b"\n\r\n", b"\r\n0\r\n\r\n", b"\n0\r\n\r\n", b": a\r\n\r\n"];

pub fn check(input: &[u8]) {
    let whole = decoded(input, &[input.len()]);
    let pieces = decoded(input, &split::prefixes(input));
    assert_eq!(pieces, whole, "{}", shown(input));
    let reference =
        chunked::body(input).map(|body| Chunked { trailers: fields::trailers(&body.trailers), ..body });
    match (&whole, &reference) {
        (Reading::Refused(_), Reading::Refused(_)) => {}
        (Reading::Refused(reason), Reading::Incomplete) => {
            for end in ENDS {
                let ended = [input, end].concat();
                let is_body = matches!(chunked::body(&ended), Reading::Whole(_));
                assert!(!is_body, "{} was refused before its end: {reason}", shown(&ended));
            }
        }
        (Reading::Incomplete, Reading::Refused(_)) => {
            let ended = decoded(&[input, b"\r\n\r\n"].concat(), &[input.len() + 4]);
            assert!(ended.is_refused(), "{}: {ended:?}", shown(input));
        }
        _ => assert_eq!(whole, reference, "{}", shown(input)),
    }
    if let Reading::Whole(body) = whole {
        check_encoded(&body);
    }
}

/// The body at the start of the input, which comes in pieces that end there.
fn decoded(input: &[u8], ends: &[usize]) -> Reading<Chunked> {
    let mut decoder = Decoder::default();
    let (mut data, mut len, mut start) = (Vec::new(), 0, 0);
    for end in ends {
        let mut piece = input[start..*end].to_vec();
        let decoded = match decoder.decode(&mut piece) {
            Ok(decoded) => decoded,
            Err(fault) => return Reading::Refused(fault.reason()),
        };
        assert!(decoded.data <= decoded.consumed && decoded.consumed <= piece.len());
        assert!(decoder.is_done() || decoded.consumed == piece.len(), "what is not the body's stays");
        data.extend_from_slice(&piece[..decoded.data]);
        len += decoded.consumed;
        start = *end;
        if decoder.is_done() {
            break;
        }
    }
    if !decoder.is_done() {
        return Reading::Incomplete;
    }
    let mut trailers = Fields::default();
    if !decoder.trailers().is_empty()
        && let Err(refusal) = parse::trailers(decoder.trailers(), &mut trailers)
    {
        return Reading::Refused(refusal.reason());
    }
    Reading::Whole(Chunked { data, trailers: listed(&trailers), len })
}

/// Written as one chunk, and as chunks of other sizes, it is the same body.
fn check_encoded(body: &Chunked) {
    let mut choice = split::Choice::of(&body.data);
    for most in [usize::MAX, 1 + choice.below(64)] {
        let mut out = Vec::new();
        for chunk in body.data.chunks(most) {
            out.extend_from_slice(SizeLine::new(chunk.len()).as_bytes());
            out.extend_from_slice(chunk);
            out.extend_from_slice(b"\r\n");
        }
        if body.trailers.is_empty() {
            out.extend_from_slice(LAST);
        } else {
            let mut trailers = Fields::default();
            body.trailers.iter().for_each(|(name, value)| trailers.push(name, value));
            encode::trailers(&mut out, &trailers);
        }
        let expected = Chunked { len: out.len(), ..body.clone() };
        assert_eq!(chunked::body(&out), Reading::Whole(expected.clone()), "{}", shown(&out));
        assert_eq!(decoded(&out, &split::prefixes(&out)), Reading::Whole(expected));
    }
}
