//! The tests of the whole: the real binary between raw clients and scripted origins, and the
//! layout of the source. One binary, so that it is linked once.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere, and says where")]

mod access_log;
mod actions;
mod admin;
mod admin_clients;
#[cfg(feature = "wasm")]
mod alike;
mod applications;
mod architecture;
mod auth;
mod balancing;
mod browser;
mod demo;
mod diagnostics;
mod endings;
mod event_streams;
mod explanations;
mod failover;
mod faults;
mod fields;
mod harness;
mod health;
mod hostile;
mod lifecycle;
mod limits;
mod listeners;
#[cfg(feature = "wasm")]
mod middleware;
mod names;
mod numbers;
mod operators;
mod page;
mod policies;
mod rails;
mod readme;
mod refusals;
mod rehearsal;
mod reload;
mod requests;
mod responses;
mod reuse;
mod review;
mod rolls;
mod routing;
mod schema;
mod senders;
mod servers;
mod source;
mod spans;
mod supervision;
mod terminal;
mod traces;
mod trailers;
mod tunnels;
mod values;
#[cfg(feature = "wasm")]
mod wasm_commands;
#[cfg(feature = "wasm")]
mod workload_limits;
#[cfg(feature = "wasm")]
mod workload_outgoing;
#[cfg(feature = "wasm")]
mod workload_pauses;
#[cfg(feature = "wasm")]
mod workloads;
mod wrapping;
