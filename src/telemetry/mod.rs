//! What is told of the work done: the access log, counters.

pub mod access_log;
