//! HTTP/1 read slowly and strictly: from the text of RFC 9112 and from what the README says is
//! refused. No code is shared with the product, so that the two do not err alike.
//!
//! Every reader takes the bytes from their start and says how many were its own.

pub mod chunked;
pub mod fields;
pub mod head;
pub mod target;

/// What bytes are to a reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading<T> {
    Whole(T),
    /// More has to come before it can be told.
    Incomplete,
    Refused(&'static str),
}

impl<T> Reading<T> {
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Reading<U> {
        match self {
            Reading::Whole(whole) => Reading::Whole(change(whole)),
            Reading::Incomplete => Reading::Incomplete,
            Reading::Refused(reason) => Reading::Refused(reason),
        }
    }

    pub fn is_refused(&self) -> bool {
        matches!(self, Reading::Refused(_))
    }
}

/// What a head may be at most: bytes, fields, bytes of the request target.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub head: usize,
    pub fields: usize,
    pub uri: usize,
}

/// Where a message's body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    Empty,
    Length(u64),
    Chunked,
    UntilClose,
}
