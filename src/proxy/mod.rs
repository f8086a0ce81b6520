//! The life of a request, from its first byte to its last.
//!
//! `connection` turns bytes into requests, `exchange` is what is done with one, step by step,
//! `readings` refuses paths that an application could read past the guards of another route,
//! `forward` is the way to an upstream and back, `asking` what it does for a `policy` that picks
//! endpoints, `upload` tells whose silence counts on it, `guest` is the way to a component and back,
//! `outgoing` that of the requests which it sends, `filters` are the middleware of a route, `answer`
//! what comes from it instead of a response, `body` moves what follows a head. Two kinds of
//! exchange outlive their plan: what follows an upgrade is a `tunnel`, what follows the head of
//! server-sent events an `event_stream`. `respond` is what we say ourselves, `core` what one core
//! owns. `explain` tells what would be done with a request, without doing it.

mod answer;
mod asking;
pub mod body;
pub mod changes;
pub mod connection;
pub mod core;
pub mod downstream;
pub mod error;
pub mod event_stream;
pub mod exchange;
pub mod explain;
#[cfg(feature = "wasm")]
mod filters;
#[cfg(not(feature = "wasm"))]
#[path = "filters/absent.rs"]
mod filters;
pub mod flight;
pub mod forward;
#[cfg(feature = "wasm")]
mod guest;
#[cfg(not(feature = "wasm"))]
#[path = "guest_absent.rs"]
mod guest;
mod hold;
mod lease;
#[cfg(feature = "wasm")]
mod outgoing;
#[cfg(feature = "wasm")]
mod policy;
#[cfg(not(feature = "wasm"))]
#[path = "policy_absent.rs"]
mod policy;
mod readings;
pub mod respond;
mod steps;
pub mod trace;
pub mod tunnel;
mod upload;

pub use self::core::{Core, Load, Own};
