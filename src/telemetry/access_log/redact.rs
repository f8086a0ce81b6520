//! Parameters of a query whose values nobody is to read in a log.
//!
//! Hot path: no allocation.

/// What the value is in the log.
const REDACTED: &[u8] = b"REDACTED";

/// Longest name whose escapes are undone; a longer one is taken for one that is to be hidden.
pub const NAME_MAX: usize = 128;

/// The names of such parameters, in any case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redaction {
    names: Box<[Box<[u8]>]>,
    /// A bit for each length that one of them has.
    lengths: u128,
}

impl Redaction {
    pub fn of<'a>(names: impl Iterator<Item = &'a str>) -> Redaction {
        let names: Box<[Box<[u8]>]> = names.map(|name| name.as_bytes().into()).collect();
        let lengths = names.iter().fold(0, |bits, name| bits | length_bit(name.len()));
        Redaction { names, lengths }
    }

    /// Appends a query, which may begin with its `?`; `push` escapes.
    pub fn write(&self, out: &mut Vec<u8>, query: &[u8], push: impl Fn(&mut Vec<u8>, &[u8])) {
        // What was not appended yet.
        let mut rest = query;
        let mut at = usize::from(query.first() == Some(&b'?'));
        while !self.names.is_empty() && at < query.len() {
            let len = memchr::memchr2(b'&', b';', &query[at..]).unwrap_or(query.len() - at);
            let parameter = &query[at..at + len];
            if let Some(equals) = memchr::memchr(b'=', parameter)
                && self.hides(&parameter[..equals])
            {
                let before = at + equals + 1 - (query.len() - rest.len());
                push(out, &rest[..before]);
                out.extend_from_slice(REDACTED);
                rest = &query[at + len..];
            }
            at += len + 1;
        }
        push(out, rest);
    }

    /// Appends an absolute or relative reference.
    pub fn write_reference(&self, out: &mut Vec<u8>, reference: &[u8], push: impl Fn(&mut Vec<u8>, &[u8])) {
        let query = memchr::memchr(b'?', reference).unwrap_or(reference.len());
        push(out, &reference[..query]);
        self.write(out, &reference[query..], push);
    }

    /// Whether it is one of the names, once its escapes are undone: by itself, or as the last part
    /// of `user[password]`.
    fn hides(&self, name: &[u8]) -> bool {
        match name.iter().any(|byte| matches!(byte, b'%' | b']')) {
            true => self.hides_spelt(name),
            false => self.has(name),
        }
    }

    #[cold]
    fn hides_spelt(&self, name: &[u8]) -> bool {
        let mut plain = [0; NAME_MAX];
        let Some(len) = undo(name, &mut plain) else {
            return true;
        };
        let plain = &plain[..len];
        let last = match plain.strip_suffix(b"]") {
            Some(inner) => &inner[memchr::memrchr(b'[', inner).map_or(0, |at| at + 1)..],
            None => plain,
        };
        self.has(last)
    }

    /// In any case.
    fn has(&self, name: &[u8]) -> bool {
        let is_possible = self.lengths & length_bit(name.len()) != 0;
        is_possible && self.names.iter().any(|known| known.eq_ignore_ascii_case(name))
    }
}

/// Every name is shorter than the bits are many.
fn length_bit(len: usize) -> u128 {
    1_u128.checked_shl(len as u32).unwrap_or(0)
}

/// Writes the name without escapes; `None` if it has no room.
fn undo(name: &[u8], plain: &mut [u8; NAME_MAX]) -> Option<usize> {
    let digit = |at: usize| (*name.get(at)? as char).to_digit(16).map(|digit| digit as u8);
    let (mut at, mut len) = (0, 0);
    while at < name.len() {
        let (byte, taken) = match (name[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => (high << 4 | low, 3),
            (byte, _, _) => (byte, 1),
        };
        *plain.get_mut(len)? = byte;
        len += 1;
        at += taken;
    }
    Some(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redacted(query: &str) -> String {
        let redaction = Redaction::of(["token", "X-Amz-Signature"].into_iter());
        let mut out = Vec::new();
        redaction.write_reference(&mut out, query.as_bytes(), |out, bytes| out.extend_from_slice(bytes));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn values_of_the_names_are_hidden_and_nothing_else() {
        let long = format!("?{}%61=1", "a".repeat(NAME_MAX));
        let long_hidden = long.replace("=1", "=REDACTED");
        let cases = [
            ("", ""),
            ("?", "?"),
            ("?a=1&b", "?a=1&b"),
            ("?token=1", "?token=REDACTED"),
            ("?a=1&token=x=y&b=2", "?a=1&token=REDACTED&b=2"),
            ("?TOKEN=1;token=2&token=&token", "?TOKEN=REDACTED;token=REDACTED&token=REDACTED&token"),
            ("?tokens=1&xtoken=2", "?tokens=1&xtoken=2"),
            ("?%74oke%6E=1&t%zz=2&x=%", "?%74oke%6E=REDACTED&t%zz=2&x=%"),
            (
                "?user[token]=1&user%5Btoken%5D=2&token[x]=3",
                "?user[token]=REDACTED&user%5Btoken%5D=REDACTED&token[x]=3",
            ),
            ("?x-amz-signature=ab&&", "?x-amz-signature=REDACTED&&"),
            ("https://a.example/p?token=1&q=2", "https://a.example/p?token=REDACTED&q=2"),
            (&long, &long_hidden),
        ];
        for (query, expected) in cases {
            assert_eq!(redacted(query), expected, "{query}");
        }
    }

    #[test]
    fn without_names_nothing_is_hidden() {
        let mut out = Vec::new();
        Redaction::default().write(&mut out, b"?token=1", |out, bytes| out.extend_from_slice(bytes));
        assert_eq!(out, b"?token=1");
    }
}
