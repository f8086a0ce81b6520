//! WarpDrive: a reverse proxy for Linux with one event loop per core.
//!
//! The folders in reading order, from what the operator writes to what runs:
//!
//! 1. [`config`]: what was written. [`plan`]: what runs, compiled from it.
//! 2. [`route`]: the decision tree. [`http`]: bytes to messages and back, no I/O.
//!    [`middleware`]: the built-in steps of a route.
//! 3. [`proxy`]: the life of a request; `proxy::exchange` is its straight line.
//! 4. [`upstream`]: endpoints, balance, health, connection pools. [`wasm`]: components that
//!    answer, the one door to wasmtime. [`net`]: streams, buffers, deadlines.
//! 5. [`worker`]: one core. [`telemetry`]: one record per exchange.
//! 6. [`server`]: the control thread of the data process. [`master`]: the small process
//!    above it. [`process`]: what the two say to each other, and children. [`sys`]: the kernel's edge.
//! 7. [`demo`]: the servers behind `warpdrive demo`.
//!
//! Imports point down; `tests/it/architecture.rs` holds the table. Nothing below `proxy`
//! names `plan`; only `plan`, `server` and `cli` name `config`; `http` and `route`
//! do no I/O and read no clock; only `sys` is unsafe, and the loading of compiled code in `wasm`;
//! only `server` talks to all cores.

pub mod cli;
pub mod config;
pub mod demo;
pub mod http;
pub mod master;
pub mod middleware;
pub mod net;
pub mod plan;
pub mod process;
pub mod proxy;
pub mod route;
pub mod server;
pub mod sys;
pub mod telemetry;
pub mod upstream;
pub mod wasm;
pub mod worker;
