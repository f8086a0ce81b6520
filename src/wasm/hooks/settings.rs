//! What was asked for of policies and middleware, complete: every default is filled in.

use std::path::PathBuf;
use std::time::Duration;

/// A guest, and what its instances may do. Of a policy there is no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    pub name: String,
    /// `file:line` of its table, for messages.
    pub place: String,
    pub file: PathBuf,
    /// A JSON object: what the operator has to say to it.
    pub config: serde_json::Map<String, serde_json::Value>,
    pub limits: Limits,
    /// The name of its store: that of the guest, unless several share one.
    pub store: String,
    /// Bytes that the store may have, keys and bookkeeping counted.
    pub store_bytes: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of linear memory of one instance, in all of its memories together.
    pub memory: u64,
    /// On the processor, for one call.
    pub time: Duration,
}

/// A middleware, and what is done where it fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    pub guest: Guest,
    pub on_failure: OnFailure,
    /// Bytes of a body that it may see at once.
    pub body_max: usize,
    pub waiting: Waiting,
}

/// What there is for calls of a middleware that sends requests of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// From the moment at which it is to be called to its answer.
    pub timeout: Duration,
    /// Of one core, at most.
    pub instances: usize,
}

/// What is done where a middleware fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnFailure {
    /// It has trapped, or said what cannot be.
    pub error: Way,
    pub timeout: Way,
    /// There is no instance of it.
    pub overload: Way,
    /// It could not be loaded.
    pub load: Way,
    /// What is answered where the way is closed.
    pub status: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The exchange goes on as if it were not there.
    Open,
    /// Nothing passes.
    Closed,
}
