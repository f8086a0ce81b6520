//! Guests that are called on the way of a request and answer at once: load-balancing policies, and in
//! [`filter`] middleware.
//!
//! `settings` are what was asked for, and `loader` makes of that what can be called. `policy` is a
//! policy, compiled, linked and configured; `seat` is one on one core, which is asked; `instance` is a
//! running copy. Middleware has the same three. What they have in common: `guest` is either of
//! them, `running` any instance, `post` the place of one on its core, `maker` makes others in place of
//! those that fail, which wait among the `spares`. `bindings` are the interfaces in `wit/`; `facilities`,
//! `requests` and `asking` are our side of them, `asked` is what a call is about, `store` the memory that
//! guests share, `account` what is counted. `wasi` is for those of other gateways.
//!
//! Must not know: connections, upstreams, the plan.

pub mod settings;

#[cfg(feature = "wasm")]
pub mod account;
#[cfg(feature = "wasm")]
pub mod asked;
#[cfg(feature = "wasm")]
mod asking;
#[cfg(feature = "wasm")]
pub mod bindings;
#[cfg(feature = "wasm")]
mod complaints;
#[cfg(feature = "wasm")]
mod engine;
#[cfg(feature = "wasm")]
pub mod facilities;
#[cfg(feature = "wasm")]
pub mod filter;
#[cfg(feature = "wasm")]
pub mod guest;
#[cfg(feature = "wasm")]
pub mod inspect;
#[cfg(feature = "wasm")]
mod instance;
#[cfg(feature = "wasm")]
mod loader;
#[cfg(feature = "wasm")]
mod maker;
#[cfg(feature = "wasm")]
mod model;
#[cfg(feature = "wasm")]
pub mod policy;
#[cfg(feature = "wasm")]
mod post;
#[cfg(feature = "wasm")]
mod requests;
#[cfg(feature = "wasm")]
mod running;
#[cfg(feature = "wasm")]
pub mod seat;
#[cfg(feature = "wasm")]
mod spares;
#[cfg(feature = "wasm")]
mod store;
#[cfg(feature = "wasm")]
mod wasi;
#[cfg(feature = "wasm")]
mod watch;

#[cfg(not(feature = "wasm"))]
mod absent;
#[cfg(not(feature = "wasm"))]
pub use absent::{FilterSeats, Filters, Policies, Said, Seat, Seats};

#[cfg(feature = "wasm")]
pub use bindings::policy::exports::warpdrive::policy::load_balancer::Endpoint;
#[cfg(feature = "wasm")]
pub use filter::{Filters, Seats as FilterSeats};
#[cfg(feature = "wasm")]
pub use instance::Outcome;
#[cfg(feature = "wasm")]
pub use loader::{Known, Loader};
#[cfg(feature = "wasm")]
pub use policy::Policy;
#[cfg(feature = "wasm")]
pub use seat::{Policies, Said, Seat, Seats};

/// The engine of all of these, for so many cores.
///
/// # Errors
/// This machine has no room for it.
#[cfg(feature = "wasm")]
pub(super) fn engine(cores: usize) -> Result<wasmtime::Engine, String> {
    Ok(engine::Engine::new(cores)?.wasmtime)
}
