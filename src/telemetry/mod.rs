//! What is told of the work done: the access log and per-core counters. Written by workers,
//! read by `control`; must not know how a request is served.

pub mod access_log;
pub mod counters;
pub mod exposition;
pub mod panics;
pub mod share;

pub use access_log::{AccessLog, Record};
pub use counters::{Counters, Ledger};
pub use share::Share;
