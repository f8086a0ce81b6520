//! Redacts e-mail addresses, card numbers (Luhn) and telephone numbers in the bodies of responses, as
//! they stream, across the borders of chunks, in bounded memory.
//!
//! It reads text: UTF-8 or ASCII. Not found are addresses behind escapes (`\u0040`, `%40`), in
//! compressed bodies (the guest asks the upstream for none) or in encodings such as base64.

#[cfg(target_family = "wasm")]
mod guest;

/// What is held back between chunks, at most. An address has 254 bytes (RFC 5321 4.5.3.1), a number fewer.
const RUN_MAX: usize = 512;
/// Of a longer run this much stays for the next look, so that what lies across the cut is found.
const OVERLAP: usize = 320;

/// Redacts one body.
#[derive(Default)]
pub struct Redactor {
    held: Vec<u8>,
    pub found: u32,
}

enum Run {
    /// It ends before this index.
    Ended(usize),
    /// It may go on in the next chunk.
    Open,
    TooLong,
}

impl Redactor {
    /// What goes on in place of a chunk. None: the chunk itself.
    pub fn chunk(&mut self, chunk: &[u8], last: bool) -> Option<Vec<u8>> {
        let was_holding = !self.held.is_empty();
        let found = self.found;
        let mut bytes = std::mem::take(&mut self.held);
        bytes.extend_from_slice(chunk);
        let mut out = Vec::with_capacity(bytes.len());
        let mut at = 0;
        while at < bytes.len() {
            if !is_of_run(bytes[at]) {
                out.push(bytes[at]);
                at += 1;
                continue;
            }
            at = match end_of_run(&bytes, at, last) {
                Run::Ended(end) => self.redact(&bytes[at..end], end - at, &mut out) + at,
                Run::TooLong => self.redact(&bytes[at..at + RUN_MAX], RUN_MAX - OVERLAP, &mut out) + at,
                Run::Open => {
                    self.held.extend_from_slice(&bytes[at..]);
                    break;
                }
            };
        }
        let is_same = !was_holding && self.held.is_empty() && self.found == found;
        (!is_same).then_some(out)
    }

    /// Writes a run up to `until`, or to the end of what is found across that. Returns how far it came.
    fn redact(&mut self, run: &[u8], until: usize, out: &mut Vec<u8>) -> usize {
        let mut at = 0;
        while at < until {
            match find(run, at) {
                Some((end, label)) => {
                    out.extend_from_slice(label.as_bytes());
                    self.found = self.found.saturating_add(1);
                    at = end;
                }
                None => {
                    out.push(run[at]);
                    at += 1;
                }
            }
        }
        at
    }
}

/// What an address or a number is made of.
fn is_of_run(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"@._%+-()".contains(&byte)
}

/// A space belongs to a run only within a number.
fn end_of_run(bytes: &[u8], start: usize, last: bool) -> Run {
    let mut at = start;
    loop {
        if at - start >= RUN_MAX {
            return Run::TooLong;
        }
        match bytes.get(at) {
            None if last => return Run::Ended(at),
            None => return Run::Open,
            Some(byte) if is_of_run(*byte) => at += 1,
            Some(b' ') if at > start && (bytes[at - 1].is_ascii_digit() || bytes[at - 1] == b')') => {
                match bytes.get(at + 1) {
                    Some(next) if next.is_ascii_digit() || b"(+".contains(next) => at += 1,
                    None if !last => return Run::Open,
                    _ => return Run::Ended(at),
                }
            }
            Some(_) => return Run::Ended(at),
        }
    }
}

/// What begins at `at` of a run: where it ends, and what stands in its place.
fn find(run: &[u8], at: usize) -> Option<(usize, &'static str)> {
    let before = at.checked_sub(1).map(|index| run[index]);
    let is_local = |byte: u8| byte.is_ascii_alphanumeric() || b"._%+-".contains(&byte);
    if is_local(run[at])
        && !before.is_some_and(is_local)
        && let Some(end) = email(run, at)
    {
        return Some((end, "[email]"));
    }
    let starts = run[at].is_ascii_digit() || b"+(".contains(&run[at]);
    if starts && !before.is_some_and(|byte| byte.is_ascii_alphanumeric() || b"+._%(@".contains(&byte)) {
        return number(run, at);
    }
    None
}

fn email(run: &[u8], start: usize) -> Option<usize> {
    let local =
        run[start..].iter().position(|&byte| !(byte.is_ascii_alphanumeric() || b"._%+-".contains(&byte)))?;
    let domain = start + local + 1;
    if run[domain - 1] != b'@' || local == 0 || local > 64 {
        return None;
    }
    let is_of_domain = |byte: &u8| byte.is_ascii_alphanumeric() || b".-".contains(byte);
    let length = run[domain..].iter().position(|byte| !is_of_domain(byte)).unwrap_or(run.len() - domain);
    // A full stop after an address is the sentence's.
    let text = &run[domain..domain + length];
    let length = text.iter().rposition(u8::is_ascii_alphanumeric)? + 1;
    let dot = text[..length].iter().rposition(|&byte| byte == b'.')?;
    let top = &text[dot + 1..length];
    (dot > 0 && top.len() >= 2 && top.iter().any(u8::is_ascii_alphabetic)).then_some(domain + length)
}

/// Groups of digits with single separators (two around brackets). What counts is the longest that is a
/// card or a telephone number and ends with a group, as other numbers may follow.
fn number(run: &[u8], start: usize) -> Option<(usize, &'static str)> {
    let mut digits = Vec::with_capacity(19);
    let mut groups = Vec::with_capacity(8);
    let mut separators = 1;
    let mut longest = None;
    for (index, &byte) in run.iter().enumerate().skip(start) {
        if byte.is_ascii_digit() {
            if separators > 0 {
                groups.push(0);
            }
            if digits.len() == 19 {
                break;
            }
            separators = 0;
            digits.push(byte - b'0');
            *groups.last_mut()? += 1;
            let is_end =
                run.get(index + 1).is_none_or(|next| !next.is_ascii_alphanumeric() && !b"_@%".contains(next));
            if is_end && let Some(label) = label(run[start], &digits, &groups) {
                longest = Some((index + 1, label));
            }
        } else if (b" .-()".contains(&byte) && separators < 2) || index == start {
            separators += 1;
        } else {
            break;
        }
    }
    longest
}

fn label(first: u8, digits: &[u8], groups: &[u8]) -> Option<&'static str> {
    let count = digits.len();
    if first != b'+' && (13..=19).contains(&count) && is_luhn(digits) {
        return Some("[card]");
    }
    // Without a plus, only as they are written in North America: too much else is ten digits.
    let is_phone = match first {
        b'+' => (8..=15).contains(&count),
        _ => matches!(groups, [3, 3, 4] | [1, 3, 3, 4]),
    };
    is_phone.then_some("[phone]")
}

/// ISO/IEC 7812-1, annex B. Zeros alone are no card.
fn is_luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(index, &digit)| match (index % 2, u32::from(digit)) {
            (0, digit) => digit,
            (_, digit) if digit > 4 => digit * 2 - 9,
            (_, digit) => digit * 2,
        })
        .sum();
    sum > 0 && sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_chunks(text: &[u8], size: usize) -> Vec<u8> {
        let mut redactor = Redactor::default();
        let mut out = Vec::new();
        for chunk in text.chunks(size) {
            out.extend(redactor.chunk(chunk, false).unwrap_or_else(|| chunk.to_vec()));
            assert!(redactor.held.len() <= RUN_MAX);
        }
        out.extend(redactor.chunk(b"", true).unwrap_or_default());
        out
    }

    /// Whatever the chunks are.
    fn check(text: &str, expected: &str) {
        for size in [1, 2, 3, 5, 7, 11, 16, 64, 65536] {
            let found = in_chunks(text.as_bytes(), size);
            assert_eq!(String::from_utf8_lossy(&found), expected, "in chunks of {size}");
        }
    }

    #[test]
    fn what_is_private_is_redacted() {
        check("mail ann.b+x@mail.example.com, please.", "mail [email], please.");
        check("ann@example.com.", "[email].");
        check("{\"to\":\"ann@example.com\"}", "{\"to\":\"[email]\"}");
        check("<ann@example.com><bob@example.org>", "<[email]><[email]>");
        check("pay 4111 1111 1111 1111 now", "pay [card] now");
        check("4111-1111-1111-1111", "[card]");
        check("n=378282246310005;", "n=[card];");
        check("call +49 30 1234567 today", "call [phone] today");
        check("call (555) 123-4567!", "call [phone]!");
        check("555-123-4567", "[phone]");
        check("4111 1111 1111 1111 12/27", "[card] 12/27");
        check("7 4111 1111 1111 1111 123 x", "7 [card] 123 x");
        check("555-123-4567 17", "[phone] 17");
    }

    #[test]
    fn what_is_not_stays() {
        for text in [
            "",
            "4111 1111 1111 1112",
            "order 1234567890",
            "2026-11-25 20:00:00",
            "0000000000000000",
            "v1.2.3 @home a@b x@y. @ 10.0.0.1",
            "id 41111111111111111111111111",
            "grüße an alle (und 5 mehr) ",
        ] {
            check(text, text);
        }
    }

    #[test]
    fn a_long_run_is_neither_held_nor_hides_an_address() {
        for before in [100, 190, 191, 192, 193, 400, 511, 512, 5000] {
            let text = format!("{}(ann@example.com)", "x".repeat(before));
            check(&text, &format!("{}([email])", "x".repeat(before)));
        }
    }

    #[test]
    fn an_untouched_chunk_is_not_copied() {
        let mut redactor = Redactor::default();
        assert_eq!(redactor.chunk(b"nothing to see here.\n", false), None);
        assert_eq!(redactor.chunk(b"at the end ann", false), Some(b"at the end ".to_vec()));
        assert_eq!(redactor.chunk(b"", true), Some(b"ann".to_vec()));
    }
}
