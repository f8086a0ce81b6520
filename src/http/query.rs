//! The parameters of a query, as forms write them (URL Standard, 5.1).
//!
//! Hot path: nothing is copied.

use super::target::hex;

/// Names and values as they stand in the query, which may begin with its `?`.
pub fn parameters(query: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let query = query.strip_prefix(b"?").unwrap_or(query);
    let pieces = query.split(|&byte| byte == b'&').filter(|piece| !piece.is_empty());
    pieces.map(|piece| match memchr::memchr(b'=', piece) {
        Some(at) => (&piece[..at], &piece[at + 1..]),
        None => (piece, &piece[piece.len()..]),
    })
}

/// The bytes with escapes undone; `+` is a space. What is not an escape stays as it is.
pub fn decoded(text: &[u8]) -> impl Iterator<Item = u8> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (byte, after) = match rest {
            [] => return None,
            [b'+', after @ ..] => (b' ', after),
            [b'%', high, low, after @ ..] => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, after),
                _ => (b'%', &rest[1..]),
            },
            [byte, after @ ..] => (*byte, after),
        };
        rest = after;
        Some(byte)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_split_and_escapes_undone() {
        let table: [(&str, &[(&str, &str)]); 6] = [
            ("", &[]),
            ("?", &[]),
            ("?a=1&b=2", &[("a", "1"), ("b", "2")]),
            ("?a&&b=&=c", &[("a", ""), ("b", ""), ("", "c")]),
            ("?a+b=%41%zz%4&x=%", &[("a b", "A%zz%4"), ("x", "%")]),
            ("a=b=c", &[("a", "b=c")]),
        ];
        for (query, expected) in table {
            let text = |bytes| String::from_utf8(decoded(bytes).collect()).unwrap();
            let found: Vec<(String, String)> =
                parameters(query.as_bytes()).map(|(name, value)| (text(name), text(value))).collect();
            let found: Vec<(&str, &str)> = found.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
            assert_eq!(found, expected, "{query}");
        }
    }
}
