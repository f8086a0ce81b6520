//! The built-in steps of a route, one a file: its settings, and plain functions on heads.
//!
//! Pure: no I/O, no clock. Must not know: routes, connections, and what a refusal looks like.

pub mod auth;
