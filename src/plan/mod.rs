//! What runs: the configuration compiled, once, on the control thread.
//!
//! Immutable and complete: every default is filled in and every name is an id, so that on a
//! request's way nothing is looked up or parsed. Shared as `Arc<Plan>`; replaced whole.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::http::status::Status;
use crate::http::target::EncodedSlash;
use crate::route::{FieldChanges, PathChange, PathCondition, Template};
use crate::{http, middleware, net, route, telemetry, upstream, wasm};

pub use crate::middleware::auth::Settings as Token;
pub use admin::admin_socket;
pub use children::{Child, local_addresses};
pub use compile::{Loaded, compile, load};
pub use outgoing::Outgoing;
pub use reload::reload;
pub use rules::rules;
pub use upstream::UpstreamId;
pub use wasm::settings::FilterId;

mod admin;
mod children;
mod compile;
pub mod explain;
mod filters;
mod guards;
mod guests;
mod label;
mod log;
mod outgoing;
mod placeholder;
mod policies;
mod reload;
mod routes;
mod rules;
#[cfg(test)]
pub(crate) mod tests;
mod workloads;

/// Everything the workers and the control thread need to know of the configuration.
pub struct Plan {
    pub server: Server,
    pub dns: Dns,
    pub limits: Limits,
    pub forwarding: http::forwarding::Settings,
    /// Every response tells the client who answered.
    pub server_timing: bool,
    pub log: telemetry::access_log::Settings,
    pub tracing: Tracing,
    /// Indexed by [`UpstreamId`].
    pub upstreams: Box<[upstream::Settings]>,
    pub admin: Admin,
    /// What was asked for of components.
    pub wasm: wasm::Settings,
    /// What was compiled of that, by whoever is about to run the plan: it takes its time. Without
    /// components, and before that, nothing.
    pub guests: wasm::Guests,
    /// Whom components may ask; indexed by [`wasm::settings::ComponentId`].
    pub outgoing: Box<[Outgoing]>,
    /// The upstreams that each middleware may choose, by [`FilterId`].
    pub allowed: Box<[Box<[Allowed]>]>,
    /// The commands of upstreams, each after those that it depends on.
    pub children: Box<[Child]>,
    /// Indexed by [`RouteId`], in document order.
    pub routes: Box<[Route]>,
    pub tree: route::Tree<RouteId>,
}

impl Plan {
    /// Host and port of the only instance there is, as in the mode without a file.
    pub fn only_target(&self) -> Option<(&str, u16)> {
        let [upstream] = &*self.upstreams else {
            return None;
        };
        match &*upstream.instances {
            [upstream::Instance { place: upstream::Place::Host { host, port }, .. }] => Some((host, *port)),
            _ => None,
        }
    }
}

/// A route's index in [`Plan::routes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouteId(pub u32);

/// What is done with a request that a rule of the tree matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// `file:line` of its `[[routes]]`, for logs and explanations.
    pub place: String,
    /// What it is called where its requests are counted: the same for as long as its description
    /// is, or its conditions are.
    pub label: String,
    /// Taken in this order before the action.
    pub steps: Box<[Step]>,
    /// Passed by requests in this order, after the steps, and by responses in reverse.
    pub filters: Box<[FilterId]>,
    /// What has to let a request pass.
    pub guards: Box<[Guard]>,
    pub action: Action,
    /// Of every response of this route, whoever made it.
    pub response: FieldChanges,
    /// Its exchanges are in the access log.
    pub is_logged: bool,
    /// What its templates need captures of, if they need any.
    pub captured: Option<PathCondition>,
}

/// A built-in step of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Auth(Arc<middleware::auth::Settings>),
}

/// What may keep a request from the action of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    Token,
    Middleware(FilterId),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Forward(Forward),
    Redirect(Redirect),
    Respond(Respond),
    Workload(ToWorkload),
}

/// Where a request goes, and what is changed on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    pub upstream: UpstreamId,
    pub path: PathChange,
    pub fields: FieldChanges,
    pub connect_timeout: Duration,
    /// Silence of the upstream while we wait for a response or its next bytes.
    pub read_timeout: Duration,
}

/// An upstream that a middleware may choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    pub name: String,
    /// The way to it from a route that forwards nothing by itself.
    pub to: Forward,
}

/// The components of a workload answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToWorkload {
    pub workload: wasm::WorkloadId,
    /// What they are told instead of the path that was asked for.
    pub path: PathChange,
    pub fields: FieldChanges,
}

/// The client is sent elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    pub status: Status,
    pub to: Template,
}

/// A response that is the same for all requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Respond {
    pub status: Status,
    pub body: Box<[u8]>,
}

impl Route {
    /// Whether something guards `other` that does not guard this one.
    pub fn lacks_guard_of(&self, other: &Route) -> bool {
        other.guards.iter().any(|guard| !self.guards.contains(guard))
    }

    /// Whether it hands requests to an application, which reads their paths in its own way.
    pub fn reaches_application(&self) -> bool {
        matches!(self.action, Action::Forward(_) | Action::Workload(_))
    }

    /// Whether it answers every request with an error.
    pub fn denies(&self) -> bool {
        matches!(&self.action, Action::Respond(answer) if answer.status.0 >= 400)
    }

    fn templates(&self) -> impl Iterator<Item = &Template> {
        let (path, fields, to) = match &self.action {
            Action::Forward(forward) => (Some(&forward.path), Some(&forward.fields), None),
            Action::Redirect(redirect) => (None, None, Some(&redirect.to)),
            Action::Workload(to) => (Some(&to.path), Some(&to.fields), None),
            Action::Respond(_) => (None, None, None),
        };
        let fields = fields.into_iter().chain([&self.response]);
        let path = path.into_iter().flat_map(PathChange::templates);
        path.chain(to).chain(fields.flat_map(FieldChanges::templates))
    }
}

/// The process: threads and listeners. Cannot change without a restart, but for the listeners.
#[derive(Clone, Debug)]
pub struct Server {
    pub listen: Vec<SocketAddr>,
    /// At least 1.
    pub worker_threads: usize,
    /// Nobody said how many: there are as many as the machine can run at once.
    pub is_default_threads: bool,
    pub pin_cores: bool,
    pub io: net::Io,
    pub shutdown_timeout: Duration,
    /// A change of a file that the configuration was read from is a reload.
    pub watch: bool,
}

/// Where names of upstreams are asked for, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// Those of the system, if there are none.
    pub servers: Box<[SocketAddr]>,
    /// An answer is used for as long as it says, but at least and at most so long. The first is
    /// not longer than the second.
    pub min_ttl: Duration,
    pub max_ttl: Duration,
}

/// Our part in traces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracing {
    pub continued: http::trace_context::Continued,
    /// Of the traces that begin here, and of those of strangers.
    pub sample: telemetry::Share,
    /// Where sampled spans go.
    pub export: Option<Export>,
}

/// A collector of OpenTelemetry that takes spans by HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// A name or an address.
    pub host: String,
    pub port: u16,
    /// Begins with a slash.
    pub path: String,
    pub service_name: String,
}

/// Where operators and their programs reach the process.
#[derive(Clone, Debug)]
pub struct Admin {
    /// A Unix socket, where everything may be asked and done.
    pub socket: Option<PathBuf>,
    /// Where anyone on this machine, or who has the token, may look.
    pub listen: Option<SocketAddr>,
    pub token: Option<Token>,
}

/// Bounds of what one client may ask of us. `None` is no bound.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Head of a request, request line and field section together, in bytes.
    pub head_bytes: usize,
    /// Number of fields in a head: 1 to [`http::h1::FIELDS_MAX`].
    pub fields: usize,
    /// Length of the request target, in bytes.
    pub uri_bytes: usize,
    /// Length of a request body, in bytes.
    pub request_body: Option<u64>,
    /// Open downstream connections of the whole process.
    pub connections: Option<usize>,
    /// Open downstream connections of one client address, in the whole process.
    pub connections_per_ip: Option<u32>,
    /// From the first byte of a head to its last.
    pub head_timeout: Duration,
    /// Silence between two requests.
    pub idle_timeout: Duration,
    /// Silence while a request body is read.
    pub body_timeout: Duration,
    /// Silence while a client takes none of a response.
    pub write_timeout: Duration,
    /// Bytes a second that a request body must reach on average after `body_timeout`.
    pub min_rate: Option<u64>,
    /// Silence of a tunnel, both ways.
    pub tunnel_timeout: Duration,
    /// From the end of what the upstream of a tunnel sends to that of the tunnel.
    pub tunnel_linger: Duration,
    /// A client that ends its stream (FIN) before it has an answer is gone, as after a reset.
    pub abort_on_close: bool,
    /// What becomes of `%2F` in a path.
    pub encoded_slash: EncodedSlash,
}
