//! Where a body ends (RFC 9112 6): one strict answer, or none.

use super::fields::{Known, list};
use super::head::Version;

/// How the length of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    Empty,
    /// More than 0 bytes, known beforehand.
    Known(u64),
    Chunked,
    /// Until the connection is closed: responses only.
    UntilClose,
}

/// Why a head's framing is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    LengthAndCoding,
    RepeatedLength,
    MalformedLength,
    UnknownCoding,
    RepeatedCoding,
    CodingInOldVersion,
}

impl Fault {
    pub fn reason(self) -> &'static str {
        match self {
            Fault::LengthAndCoding => "content-length together with transfer-encoding",
            Fault::RepeatedLength => "repeated content-length",
            Fault::MalformedLength => "malformed content-length",
            Fault::UnknownCoding => "transfer-encoding other than chunked",
            Fault::RepeatedCoding => "repeated transfer-encoding",
            Fault::CodingInOldVersion => "transfer-encoding in HTTP/1.0",
        }
    }
}

/// Collects the fields of one head that speak of its length.
#[derive(Clone, Copy, Debug, Default)]
pub struct Collected {
    length: Option<u64>,
    chunked: bool,
}

impl Collected {
    /// Takes one field; those of other kinds are none of its business.
    pub fn take(&mut self, known: Known, value: &[u8]) -> Result<(), Fault> {
        match known {
            Known::ContentLength if self.length.is_some() => return Err(Fault::RepeatedLength),
            Known::ContentLength => self.length = Some(parse_length(value)?),
            Known::TransferEncoding if self.chunked => return Err(Fault::RepeatedCoding),
            Known::TransferEncoding if value.eq_ignore_ascii_case(b"chunked") => self.chunked = true,
            Known::TransferEncoding => return Err(Fault::UnknownCoding),
            _ => {}
        }
        Ok(())
    }

    /// What the fields say together. Without any, `absent` holds.
    pub fn decide(self, version: Version, absent: BodyLength) -> Result<BodyLength, Fault> {
        match (self.length, self.chunked) {
            (Some(_), true) => Err(Fault::LengthAndCoding),
            (None, true) if version == Version::Http10 => Err(Fault::CodingInOldVersion),
            (None, true) => Ok(BodyLength::Chunked),
            (Some(0), false) => Ok(BodyLength::Empty),
            (Some(length), false) => Ok(BodyLength::Known(length)),
            (None, false) => Ok(absent),
        }
    }
}

/// Digits only, at most 18 of them: no sign, no list, no white space.
fn parse_length(value: &[u8]) -> Result<u64, Fault> {
    if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
        return Err(Fault::MalformedLength);
    }
    Ok(value.iter().fold(0, |length, digit| length * 10 + u64::from(digit - b'0')))
}

/// What `Connection` says (RFC 9112 9.3 and 9.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionOptions {
    pub close: bool,
    pub keep_alive: bool,
    pub upgrade: bool,
}

impl ConnectionOptions {
    /// Reads one `Connection` field; `name` gets every option that names a field.
    pub fn take(&mut self, value: &[u8], mut name: impl FnMut(&[u8])) {
        for option in list(value) {
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade = true;
            } else {
                name(option);
            }
        }
    }

    /// Whether the connection may serve another message after this one.
    pub fn is_persistent(self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep_alive)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(fields: &[(Known, &str)], version: Version) -> Result<BodyLength, Fault> {
        let mut collected = Collected::default();
        for (known, value) in fields {
            collected.take(*known, value.as_bytes())?;
        }
        collected.decide(version, BodyLength::Empty)
    }

    #[test]
    fn lengths_are_strict() {
        use Known::{ContentLength as Length, TransferEncoding as Coding};
        type Case = (&'static [(Known, &'static str)], Result<BodyLength, Fault>);
        let table: [Case; 16] = [
            (&[], Ok(BodyLength::Empty)),
            (&[(Length, "0")], Ok(BodyLength::Empty)),
            (&[(Length, "5")], Ok(BodyLength::Known(5))),
            (&[(Length, "999999999999999999")], Ok(BodyLength::Known(999_999_999_999_999_999))),
            (&[(Length, "1000000000000000000")], Err(Fault::MalformedLength)),
            (&[(Length, "")], Err(Fault::MalformedLength)),
            (&[(Length, "+5")], Err(Fault::MalformedLength)),
            (&[(Length, "5, 5")], Err(Fault::MalformedLength)),
            (&[(Length, "0x5")], Err(Fault::MalformedLength)),
            (&[(Length, "5"), (Length, "5")], Err(Fault::RepeatedLength)),
            (&[(Coding, "chunked")], Ok(BodyLength::Chunked)),
            (&[(Coding, "CHUNKED")], Ok(BodyLength::Chunked)),
            (&[(Coding, "gzip, chunked")], Err(Fault::UnknownCoding)),
            (&[(Coding, "identity")], Err(Fault::UnknownCoding)),
            (&[(Coding, "chunked"), (Coding, "chunked")], Err(Fault::RepeatedCoding)),
            (&[(Coding, "chunked"), (Length, "5")], Err(Fault::LengthAndCoding)),
        ];
        for (fields, expected) in table {
            assert_eq!(decide(fields, Version::Http11), expected, "{fields:?}");
        }
        let old = decide(&[(Coding, "chunked")], Version::Http10);
        assert_eq!(old, Err(Fault::CodingInOldVersion));
    }

    #[test]
    fn connections_persist_by_version_and_option() {
        let table = [
            ("", Version::Http11, true),
            ("", Version::Http10, false),
            ("keep-alive", Version::Http10, true),
            ("Close", Version::Http11, false),
            ("keep-alive, close", Version::Http10, false),
        ];
        for (value, version, expected) in table {
            let mut options = ConnectionOptions::default();
            options.take(value.as_bytes(), |_| {});
            assert_eq!(options.is_persistent(version), expected, "{value} {version:?}");
        }
    }
}
