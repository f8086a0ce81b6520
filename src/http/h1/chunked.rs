//! The chunked transfer coding (RFC 9112 7.1): a decoder that works in place, and the frames
//! of an encoder. Pure; the decoder takes its input in any pieces.

/// The longest chunk-size line, extensions included, in bytes.
const LINE_MAX: usize = 4096;
/// What the lines of a body may have beyond [`LINE_FREE`] bytes each and twice the data, in
/// bytes: extensions are dropped, so they would go past every limit of a body.
const EXCESS_MAX: u64 = 16 * 1024;
const LINE_FREE: u64 = 16;
/// The longest trailer section in bytes.
const TRAILERS_MAX: usize = 16 * 1024;

/// The last chunk and an empty trailer section.
pub const LAST: &[u8] = b"0\r\n\r\n";

/// Why the input is not chunked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Size,
    SizeTooLarge,
    LineEnd,
    LineTooLong,
    TooManyExtensions,
    ChunkEnd,
    TrailersTooLarge,
}

impl Fault {
    pub fn reason(self) -> &'static str {
        match self {
            Fault::Size => "malformed chunk size",
            Fault::SizeTooLarge => "chunk size too large",
            Fault::LineEnd => "malformed end of a chunk-size line",
            Fault::LineTooLong => "chunk-size line too long",
            Fault::TooManyExtensions => "chunk extensions larger than the body",
            Fault::ChunkEnd => "missing line end after a chunk",
            Fault::TrailersTooLarge => "trailer section too large",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Digits of the size seen so far.
    Size {
        digits: u8,
    },
    Extension,
    SizeLineFeed,
    Data,
    DataReturn,
    DataLineFeed,
    /// After the last chunk: an empty line, or the first of the trailers.
    LastLine,
    LastLineFeed,
    Trailers,
    Done,
}

/// Decodes one body.
///
/// ```text
/// Size ─;─ Extension ─┐
///   └──CR─────────────┴─ SizeLineFeed ─ Data ─ DataReturn ─ DataLineFeed ─ Size …
///                              └ size 0 ─ LastLine ─┬─ LastLineFeed ─ Done
///                                                   └─ Trailers ─ Done
/// ```
#[derive(Debug)]
pub struct Decoder {
    state: State,
    /// Of the current chunk: the size while it is read, then what is left of its data.
    left: u64,
    line: usize,
    /// Bytes of lines that no data and no allowance has made up for yet.
    excess: u64,
    trailers: Vec<u8>,
}

/// What one call decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// The data now lies in so many bytes at the start of the input.
    pub data: usize,
    /// So many bytes of the input were the body's; all of them unless it has ended.
    pub consumed: usize,
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder { state: State::Size { digits: 0 }, left: 0, line: 0, excess: 0, trailers: Vec::new() }
    }
}

impl Decoder {
    /// The last chunk and the trailer section have been read.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The trailer section with its final empty line; empty if it had no field.
    pub fn trailers(&self) -> &[u8] {
        &self.trailers
    }

    /// Decodes `input`, moving the data of all chunks in it to its start.
    pub fn decode(&mut self, input: &mut [u8]) -> Result<Decoded, Fault> {
        let (mut data, mut at) = (0, 0);
        while at < input.len() && self.state != State::Done {
            if self.state == State::Data {
                let len = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len() - at);
                input.copy_within(at..at + len, data);
                data += len;
                at += len;
                self.left -= len as u64;
                if self.left == 0 {
                    self.state = State::DataReturn;
                }
            } else {
                self.state = self.step(input[at])?;
                at += 1;
            }
        }
        Ok(Decoded { data, consumed: at })
    }

    /// One byte that is not data.
    fn step(&mut self, byte: u8) -> Result<State, Fault> {
        self.line += 1;
        if self.line > LINE_MAX && self.state != State::Trailers {
            return Err(Fault::LineTooLong);
        }
        match (self.state, byte) {
            (State::Size { digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                self.size_digit(digits, byte)
            }
            (State::Size { digits: 1.. }, b';') => Ok(State::Extension),
            (State::Size { digits: 1.. } | State::Extension, b'\r') => Ok(State::SizeLineFeed),
            (State::Size { .. }, _) => Err(Fault::Size),
            (State::Extension, b'\t' | b' '..=b'~' | 0x80..) => Ok(State::Extension),
            (State::SizeLineFeed, b'\n') => self.end_size_line(),
            (State::Extension | State::SizeLineFeed, _) => Err(Fault::LineEnd),
            (State::DataReturn, b'\r') => Ok(State::DataLineFeed),
            (State::DataLineFeed, b'\n') => {
                self.line = 0;
                Ok(State::Size { digits: 0 })
            }
            (State::LastLine, b'\r') => Ok(State::LastLineFeed),
            (State::LastLineFeed, b'\n') => Ok(State::Done),
            (State::LastLineFeed, _) => Err(Fault::LineEnd),
            (State::LastLine | State::Trailers, _) => self.trailer_byte(byte),
            _ => Err(Fault::ChunkEnd),
        }
    }

    fn end_size_line(&mut self) -> Result<State, Fault> {
        let line = std::mem::take(&mut self.line) as u64;
        if self.left == 0 {
            return Ok(State::LastLine);
        }
        let allowed = self.left.saturating_mul(2).saturating_add(LINE_FREE);
        self.excess = (self.excess + line).saturating_sub(allowed);
        if self.excess > EXCESS_MAX { Err(Fault::TooManyExtensions) } else { Ok(State::Data) }
    }

    fn size_digit(&mut self, digits: u8, byte: u8) -> Result<State, Fault> {
        // 15 digits: no sum of a size and what was counted before can overflow 64 bits.
        if digits == 15 {
            return Err(Fault::SizeTooLarge);
        }
        let digit = (byte as char).to_digit(16).ok_or(Fault::Size)?;
        self.left = if digits == 0 { 0 } else { self.left << 4 } | u64::from(digit);
        Ok(State::Size { digits: digits + 1 })
    }

    /// Trailers are kept as they come and parsed when their empty line is here.
    fn trailer_byte(&mut self, byte: u8) -> Result<State, Fault> {
        if self.trailers.len() == TRAILERS_MAX {
            return Err(Fault::TrailersTooLarge);
        }
        self.trailers.push(byte);
        let ended = self.trailers.ends_with(b"\r\n\r\n");
        if byte == b'\n' && !self.trailers.ends_with(b"\r\n") {
            return Err(Fault::LineEnd);
        }
        Ok(if ended { State::Done } else { State::Trailers })
    }
}

/// The size line of a chunk of `len` bytes, for writing in front of it.
pub struct SizeLine {
    bytes: [u8; 18],
    start: usize,
}

impl SizeLine {
    pub fn new(len: usize) -> SizeLine {
        let mut bytes = [0; 18];
        bytes[16..].copy_from_slice(b"\r\n");
        let mut start = 16;
        let mut rest = len;
        loop {
            start -= 1;
            bytes[start] = b"0123456789abcdef"[rest & 15];
            rest >>= 4;
            if rest == 0 {
                break;
            }
        }
        SizeLine { bytes, start }
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes `input` cut into pieces of `size` bytes.
    fn decode(input: &[u8], size: usize) -> Result<(Vec<u8>, Vec<u8>, usize, bool), Fault> {
        let mut decoder = Decoder::default();
        let (mut data, mut consumed) = (Vec::new(), 0);
        for piece in input.chunks(size) {
            let mut piece = piece.to_vec();
            let decoded = decoder.decode(&mut piece)?;
            data.extend_from_slice(&piece[..decoded.data]);
            consumed += decoded.consumed;
        }
        Ok((data, decoder.trailers().to_vec(), consumed, decoder.is_done()))
    }

    #[test]
    fn any_split_decodes_alike() {
        type Case = (&'static str, &'static str, &'static str, usize);
        let table: [Case; 5] = [
            ("0\r\n\r\n", "", "", 0),
            ("5\r\nhello\r\n0\r\n\r\n", "hello", "", 0),
            ("5;a=b;c=\"d\"\r\nhello\r\n00A \r\n", "", "", usize::MAX),
            (
                "1\r\na\r\nA\r\n0123456789\r\n0\r\nX: y\r\nZ: w\r\n\r\nGET",
                "a0123456789",
                "X: y\r\nZ: w\r\n\r\n",
                3,
            ),
            ("5 ;x\r\nhello\r\n0\r\n\r\n", "", "", usize::MAX),
        ];
        for (input, data, trailers, rest) in table {
            for size in 1..=input.len() {
                let decoded = decode(input.as_bytes(), size);
                if rest == usize::MAX {
                    assert!(decoded.is_err(), "{input:?} in pieces of {size}");
                    continue;
                }
                let expected = (data.into(), trailers.into(), input.len() - rest, true);
                assert_eq!(decoded, Ok(expected), "{input:?} in pieces of {size}");
            }
        }
    }

    #[test]
    fn malformed_chunks_are_refused() {
        let table = [
            ("\r\n", Fault::Size),
            ("+5\r\n", Fault::Size),
            ("0x5\r\n", Fault::Size),
            ("5 \r\n", Fault::Size),
            ("5\n", Fault::Size),
            ("5\rx", Fault::LineEnd),
            ("5;a\nhello", Fault::LineEnd),
            ("5;a\0\r\n", Fault::LineEnd),
            ("1000000000000000\r\n", Fault::SizeTooLarge),
            ("2\r\nabc", Fault::ChunkEnd),
            ("2\r\nab\n", Fault::ChunkEnd),
            ("2\r\nab\rx", Fault::ChunkEnd),
            ("0\r\nX: y\n\n", Fault::LineEnd),
        ];
        for (input, expected) in table {
            assert_eq!(decode(input.as_bytes(), 3), Err(expected), "{input:?}");
        }
        let longest = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(LINE_MAX - 4));
        assert_eq!(decode(longest.as_bytes(), 100).map(|(data, ..)| data), Ok(b"hello".into()));
        let long = format!("5;{}\r\n", "x".repeat(LINE_MAX));
        assert_eq!(decode(long.as_bytes(), 100), Err(Fault::LineTooLong));
        let trailers = format!("0\r\nX: {}", "x".repeat(TRAILERS_MAX));
        assert_eq!(decode(trailers.as_bytes(), 100), Err(Fault::TrailersTooLarge));
    }

    #[test]
    fn extensions_may_not_outweigh_the_data() {
        let line = |size: usize, extension: usize| {
            format!("{size:x};{}\r\n{}\r\n", "e".repeat(extension), "d".repeat(size))
        };
        for (chunk, count, expected) in [
            (line(1, 10), 10_000, Ok(())),
            (line(1, 4000), 4, Ok(())),
            (line(1, 4000), 5, Err(Fault::TooManyExtensions)),
            (line(1, 100), 1000, Err(Fault::TooManyExtensions)),
            (line(100, 100), 10_000, Ok(())),
        ] {
            let decoded = decode(chunk.repeat(count).as_bytes(), 1000).map(drop);
            assert_eq!(decoded, expected, "{count} times {} bytes", chunk.len());
        }
    }

    #[test]
    fn size_lines_are_hexadecimal() {
        for len in [1, 15, 16, 255, 4096, usize::MAX] {
            assert_eq!(SizeLine::new(len).as_bytes(), format!("{len:x}\r\n").as_bytes());
        }
    }
}
