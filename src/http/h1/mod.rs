//! HTTP/1.1 on the wire.

/// The most fields a head can be configured to have.
pub const FIELDS_MAX: usize = 256;
