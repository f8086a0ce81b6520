//! What is told of the work done: the access log, spans and per-core counters. Written by workers,
//! read by `control`; must not know how a request is served.

pub mod access_log;
pub mod counters;
pub mod exposition;
mod outbox;
pub mod panics;
pub mod protobuf;
pub mod share;
pub mod spans;

pub use access_log::{AccessLog, Record};
pub use counters::{Counters, Ledger};
pub use share::Share;
pub use spans::Spans;
