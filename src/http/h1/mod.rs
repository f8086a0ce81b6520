//! HTTP/1.1 on the wire (RFC 9112): parse, encode, chunked coding. Pure.

pub mod changes;
pub mod chunked;
pub mod encode;
pub mod parse;

pub use parse::{Bounds, Parsed, Refusal};

/// The most fields that a head can be configured to have.
pub const FIELDS_MAX: usize = 256;
