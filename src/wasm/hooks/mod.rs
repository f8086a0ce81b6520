//! Guests that are called on the way of a request and answer at once: load-balancing policies.
//!
//! `settings` are what was asked for. `policy` is one of them, compiled, linked and configured;
//! `seat` is one on one core, which is asked. `instance` is a running copy, `maker` makes
//! others in place of those that fail. `bindings` are the interfaces in `wit/`; `facilities` and
//! `requests` are our side of them, `asked` is what a call is about, `store` the memory that
//! guests share, `account` what is counted.
//!
//! Must not know: connections, upstreams, the plan.

pub mod settings;

#[cfg(feature = "wasm")]
pub mod account;
#[cfg(feature = "wasm")]
pub mod asked;
#[cfg(feature = "wasm")]
pub mod bindings;
#[cfg(feature = "wasm")]
mod engine;
#[cfg(feature = "wasm")]
mod facilities;
#[cfg(feature = "wasm")]
pub mod inspect;
#[cfg(feature = "wasm")]
mod instance;
#[cfg(feature = "wasm")]
mod maker;
#[cfg(feature = "wasm")]
mod model;
#[cfg(feature = "wasm")]
pub mod policy;
#[cfg(feature = "wasm")]
mod requests;
#[cfg(feature = "wasm")]
pub mod seat;
#[cfg(feature = "wasm")]
mod store;
#[cfg(feature = "wasm")]
mod watch;

#[cfg(not(feature = "wasm"))]
mod absent;
#[cfg(not(feature = "wasm"))]
pub use absent::{Policies, Said, Seat, Seats};

#[cfg(feature = "wasm")]
pub use bindings::policy::exports::warpdrive::policy::load_balancer::Endpoint;
#[cfg(feature = "wasm")]
pub use instance::Outcome;
#[cfg(feature = "wasm")]
pub use policy::{Loader, Policy};
#[cfg(feature = "wasm")]
pub use seat::{Policies, Said, Seat, Seats};
