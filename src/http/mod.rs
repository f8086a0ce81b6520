//! HTTP messages: bytes to types and back. No I/O, no clock.

pub mod forwarding;
pub mod h1;
