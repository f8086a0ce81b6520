//! The one door to wasmtime: components that answer requests, and in [`hooks`] those that are asked
//! on a request's way.
//!
//! `settings` are what was asked for. `inspect` tells what a file is without running it, `kind` what
//! it is for, `trial` what its calls cost. `compiler`
//! makes code of components, on the control thread's behalf, with `code_cache` beside it; what comes
//! out are [`Guests`], which every core may use. `pool` are one core's instances of a component,
//! `breaker` gives it a pause after repeated failures, `call` is one request to an instance, `pipe`
//! the body on its way in, `outgoing` are the requests that it sends. `host` is what a guest can
//! reach, `limits` and `meter` how much of it.
//!
//! Nothing of a core enters a `Store`. Must not know: connections, the plan.

pub mod hooks;
pub mod settings;

#[cfg(feature = "wasm")]
mod breaker;
#[cfg(feature = "wasm")]
pub mod call;
#[cfg(feature = "wasm")]
mod clock;
#[cfg(feature = "wasm")]
mod code_cache;
#[cfg(feature = "wasm")]
pub mod compiler;
#[cfg(feature = "wasm")]
mod engine;
#[cfg(feature = "wasm")]
mod host;
#[cfg(feature = "wasm")]
pub mod inspect;
#[cfg(feature = "wasm")]
mod instance;
#[cfg(feature = "wasm")]
pub mod kind;
#[cfg(feature = "wasm")]
mod limits;
#[cfg(feature = "wasm")]
pub mod message;
#[cfg(feature = "wasm")]
mod meter;
#[cfg(feature = "wasm")]
pub mod outgoing;
#[cfg(feature = "wasm")]
mod output;
#[cfg(feature = "wasm")]
pub mod pipe;
#[cfg(feature = "wasm")]
pub mod pool;
#[cfg(feature = "wasm")]
pub mod throttle;
#[cfg(feature = "wasm")]
pub mod trial;
#[cfg(feature = "wasm")]
pub mod workload;

#[cfg(not(feature = "wasm"))]
mod absent;
#[cfg(not(feature = "wasm"))]
pub use absent::{Compiler, Guests, Pools, WorkloadId};

#[cfg(feature = "wasm")]
pub use compiler::{Compiler, Guests};
#[cfg(feature = "wasm")]
pub use pool::Pools;
pub use settings::Settings;
#[cfg(feature = "wasm")]
pub use settings::WorkloadId;

/// What the instances of one component have done, on all cores together, since it was compiled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub name: String,
    pub requests: u64,
    pub failed: u64,
    /// Instances.
    pub made: u64,
    /// Requests to instances that had served before.
    pub reused: u64,
    pub queued: u64,
    pub refused: u64,
    /// How often it got a pause after repeated failures, and requests that came within one.
    pub pauses: u64,
    pub shut_out: u64,
    /// On the processor.
    pub cpu_us: u64,
    /// Requests that it has sent.
    pub outgoing: u64,
    /// Of its output, what did not come to the log.
    pub dropped_lines: u64,
    pub dropped_bytes: u64,
}

/// Why a call of a component came to no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It did what ends an instance: `unreachable`, a division by zero, an access out of bounds.
    Trap,
    /// It ended after it was refused memory.
    Memory,
    /// It has used its time on the processor.
    Cpu,
    /// It took too long, whatever it did meanwhile.
    Time,
    /// It ended its own instance.
    Exit,
    /// It returned without an answer.
    NoAnswer,
    /// It answered with an error.
    Declined,
    /// It did not finish its answer.
    Cut,
    /// Its answer is longer than it may be, or than it said.
    TooLong,
    /// No instance of it could be made.
    NotMade,
    /// All instances are in use, and too many requests wait for one.
    QueueFull,
    /// Waited too long for an instance.
    QueueTimeout,
    /// It has failed too often in a row, and is asked again in so many seconds.
    Paused { secs: u16 },
}

impl Fault {
    /// In the words of the access log.
    pub fn reason(self) -> &'static str {
        match self {
            Fault::Trap => "component trapped",
            Fault::Memory => "component failed for want of memory",
            Fault::Cpu => "component used up its processor time",
            Fault::Time => "component timeout",
            Fault::Exit => "component ended itself",
            Fault::NoAnswer => "component gave no answer",
            Fault::Declined => "component answered with an error",
            Fault::Cut => "component ended within its answer",
            Fault::TooLong => "answer of a component too long",
            Fault::NotMade => "no room for another instance of the component",
            Fault::QueueFull => "too many requests wait for the component",
            Fault::QueueTimeout => "waited too long for the component",
            Fault::Paused { .. } => "component has failed too often and gets no requests for a while",
        }
    }
}
