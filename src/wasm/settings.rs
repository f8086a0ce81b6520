//! What was asked for of components and workloads, complete: every default is filled in.

use std::path::PathBuf;
use std::time::Duration;

use super::hooks;

/// Elements that the tables of one instance may have unless somebody says otherwise.
pub const TABLE_ELEMENTS: u64 = 100_000;

/// Everything about components. Without any, there is no engine.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Where compiled code is kept.
    pub cache_dir: PathBuf,
    /// Bytes of memory that the instances of the whole process may have together.
    pub memory_total: u64,
    /// Instances of the whole process.
    pub instances_total: u32,
    /// Bytes of all bodies that are held at once because middleware is to see them whole.
    pub bodies_total: u64,
    /// Event loops among which the totals are divided.
    pub cores: usize,
    /// Indexed by [`ComponentId`].
    pub components: Vec<Component>,
    /// Indexed by [`WorkloadId`].
    pub workloads: Vec<Workload>,
    /// Indexed by the number of a policy.
    pub policies: Vec<hooks::settings::Guest>,
    /// Indexed by [`FilterId`].
    pub filters: Vec<hooks::settings::Filter>,
}

impl Settings {
    /// Components that there are, whatever they are for.
    pub fn count(&self) -> usize {
        self.components.len() + self.policies.len() + self.filters.len()
    }
}

impl Settings {
    /// Whether there is to be another number of instances than there is room for.
    pub fn is_other_room(&self, running: &Settings) -> bool {
        !running.components.is_empty() && self.instances_total != running.instances_total
    }
}

/// A component's index in [`Settings::components`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ComponentId(pub u32);

/// A workload's index in [`Settings::workloads`].
#[cfg(feature = "wasm")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WorkloadId(pub u32);

#[cfg(feature = "wasm")]
impl WorkloadId {
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A middleware's index in [`Settings::filters`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FilterId(pub u32);

/// One component, and what its instances may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    pub name: String,
    /// `file:line` of its table, for messages.
    pub place: String,
    pub file: PathBuf,
    /// Variables of the environment that it sees; it sees no others.
    pub env: Vec<(String, String)>,
    /// What it can ask for through `wasi:config`.
    pub config: Vec<(String, String)>,
    pub limits: Limits,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of linear memory of one instance, in all of its memories together.
    pub memory: u64,
    /// Elements of the tables of one instance, in all of them together.
    pub table_elements: u64,
    /// On the processor, for one request.
    pub cpu: Duration,
    /// Until the head of an answer is here, and then silence between its pieces.
    pub time: Duration,
    /// Bytes of a request's body; `None` is no bound but the server's.
    pub request_body: Option<u64>,
    /// Bytes of a response's body.
    pub response_body: Option<u64>,
    /// Bytes that an instance may write to the log for one request.
    pub output: u64,
    /// Bytes that all instances of one core may write to the log in a second.
    pub output_rate: u64,
    /// Requests that it may send while it answers one.
    pub outgoing_requests: u32,
    /// Bytes of the body of such a request, and of the body of the answer to it.
    pub outgoing_body: Option<u64>,
    /// Requests that one instance serves, one after the other. At least 1.
    pub reuse: u32,
    /// Instances of one core. At least 1.
    pub instances: u32,
    /// Requests of one core that wait for an instance.
    pub waiting: usize,
    pub waiting_timeout: Duration,
    /// How long an instance is kept that nobody needs.
    pub idle: Duration,
    pub patience: Patience,
}

/// When a component gets no requests for a while, and how long that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Failed calls in a row on one core; 0 is never.
    pub failures: u32,
    /// The first pause; each one after a failed trial is twice as long.
    pub pause: Duration,
    pub pause_max: Duration,
}

/// Components that are deployed together: a request goes to one of them by its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    pub name: String,
    /// By path in the syntax of `matchit`, no two for the same.
    pub paths: Vec<(String, ComponentId)>,
    /// What takes the paths that nobody else takes.
    pub rest: Option<ComponentId>,
}
