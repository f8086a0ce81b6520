//! What was written: a configuration as plain data, with the places it came from.
//!
//! [`Sources`] are the bytes, [`parse`] turns them into a [`Config`] and collects every mistake
//! on the way. What is absent stays absent: the defaults are the plan's.
//! Must not know: anything of ours. What names and numbers mean is decided elsewhere.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

pub use diagnostic::{Diagnostic, Document, Place, Position, Related, Severity, sort};
pub use file::{read, settings};
pub use filter::{Filter, Way};
pub use guest::Guest;
pub use layers::Override;
pub use render::{Colours, refusal, render, visible};
pub use report::{Kind, SecretFile, Setting};
pub use schema::schema;
pub use secret::Secret;
pub use sources::{DecodeError, File, Sources, environment, find_file};
pub use spelling::HIDDEN;
pub use suggest::nearest;
pub use value::{show_duration, show_size};
pub use wasm::{Component, ComponentLimits, HANDLER, HostInterface, Wasm, Workload};

mod action;
mod admin;
mod auth;
mod command;
mod conditions;
mod diagnostic;
mod dns;
mod file;
mod filter;
mod guest;
mod health;
mod include;
mod known;
mod layers;
mod log;
mod node;
mod object;
mod parse;
mod process;
mod quantity;
pub mod reference;
mod render;
mod report;
mod route;
mod schema;
mod secret;
mod secret_file;
mod server;
mod sources;
mod spelling;
mod strategy;
mod substitute;
mod suggest;
mod syntax;
mod table;
mod traces;
mod upstream;
mod value;
mod wasm;

mod variables;

#[cfg(test)]
mod layer_tests;
#[cfg(test)]
mod tests;

/// A value and where it was written.
#[derive(Clone, Debug)]
pub struct Written<T> {
    pub value: T,
    pub place: Place,
}

impl<T> Written<T> {
    pub fn new(value: T, place: Place) -> Written<T> {
        Written { value, place }
    }
}

/// Everything that was written, in the order in which it was.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file, or what there is without one.
    pub origin: Place,
    /// What the environment and arguments set.
    pub overrides: Vec<Override>,
    /// A text was not TOML all through, or not read: what seems to be absent may be there.
    pub is_torn: bool,
    pub server: Server,
    pub limits: Limits,
    pub dns: Dns,
    pub upstreams: Vec<Upstream>,
    pub routes: Vec<Route>,
    pub middleware: Middleware,
    pub log: Log,
    pub tracing: Tracing,
    pub auth: Auth,
    pub admin: Admin,
    pub wasm: Wasm,
}

impl Config {
    /// A configuration in which nothing was written.
    pub fn empty(origin: Place) -> Config {
        Config {
            origin,
            overrides: Vec::new(),
            is_torn: false,
            server: Server::default(),
            limits: Limits::default(),
            dns: Dns::default(),
            upstreams: Vec::new(),
            routes: Vec::new(),
            middleware: Middleware::default(),
            log: Log::default(),
            tracing: Tracing::default(),
            auth: Auth::default(),
            admin: Admin::default(),
            wasm: Wasm::default(),
        }
    }

    /// How much of what happens is reported. Not part of the plan: it is about this process.
    pub fn level(&self) -> Level {
        self.log.level.unwrap_or(Level::Info)
    }
}

/// `[server]`.
#[derive(Clone, Debug, Default)]
pub struct Server {
    /// 0 is any free port.
    pub http_port: Option<u16>,
    pub https_port: Option<Written<u16>>,
    pub bind: Option<Vec<IpAddr>>,
    pub worker_threads: Option<usize>,
    pub pin_cores: Option<bool>,
    pub trusted_proxies: Vec<Network>,
    /// Names of fields; a `*` at the end makes one a prefix.
    pub untrusted_headers: Vec<Written<String>>,
    pub io: Option<Io>,
    pub shutdown_timeout: Option<Duration>,
    pub watch: Option<bool>,
    pub abort_on_close: Option<bool>,
    pub encoded_slash: Option<EncodedSlash>,
}

/// What becomes of `%2F` in the path of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodedSlash {
    Keep,
    Reject,
}

/// The driver of the event loops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Io {
    Auto,
    IoUring,
    Epoll,
}

/// An address prefix. No bit is set after the first `bits` of the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    pub address: IpAddr,
    pub bits: u8,
}

/// `[server.limits]`. 0 in one of the fields that may be 0 is no limit.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    pub head_bytes: Option<usize>,
    pub fields: Option<usize>,
    pub uri_bytes: Option<usize>,
    /// Bytes; may be 0.
    pub request_body: Option<u64>,
    /// May be 0.
    pub connections: Option<usize>,
    /// May be 0.
    pub connections_per_ip: Option<u32>,
    pub head_timeout: Option<Duration>,
    pub idle_timeout: Option<Duration>,
    pub body_timeout: Option<Duration>,
    pub write_timeout: Option<Duration>,
    /// Bytes a second; may be 0.
    pub min_rate: Option<u64>,
    pub tunnel_timeout: Option<Duration>,
    pub tunnel_linger: Option<Duration>,
}

/// `[dns]`.
#[derive(Clone, Debug, Default)]
pub struct Dns {
    pub servers: Vec<SocketAddr>,
    pub min_ttl: Option<Written<Duration>>,
    pub max_ttl: Option<Written<Duration>>,
}

/// `[upstreams.NAME]`.
#[derive(Clone, Debug)]
pub struct Upstream {
    pub name: Written<String>,
    /// At least one, if the upstream is without mistakes.
    pub instances: Vec<Instance>,
    pub strategy: Option<Strategy>,
    /// The name of what chooses endpoints before the strategy, which then is its fallback.
    pub policy: Option<Written<String>>,
    pub slow_start: Option<Duration>,
    /// May be 0.
    pub max_fails: Option<u32>,
    pub fail_timeout: Option<Duration>,
    /// May be 0.
    pub retries: Option<u32>,
    /// Of each instance; may be 0.
    pub max_connections: Option<u32>,
    /// May be 0.
    pub queue: Option<usize>,
    pub queue_timeout: Option<Duration>,
    pub hold: Option<Duration>,
    /// May be 0.
    pub hold_requests: Option<usize>,
    pub keepalive: Option<usize>,
    pub keepalive_idle: Option<Duration>,
    pub connect_timeout: Option<Duration>,
    pub read_timeout: Option<Duration>,
    pub write_timeout: Option<Duration>,
    pub health: Option<Health>,
    pub process: Option<Process>,
}

/// `[upstreams.NAME.health]`.
#[derive(Clone, Debug)]
pub struct Health {
    /// With its query, as it is sent.
    pub path: String,
    /// As in the field `Host`.
    pub host: Option<String>,
    pub interval: Option<Duration>,
    pub timeout: Option<Duration>,
    /// At least 1.
    pub unhealthy_threshold: Option<u32>,
    /// At least 1.
    pub healthy_threshold: Option<u32>,
    /// At least one range, each within 200 to 599.
    pub expect_status: Option<Vec<RangeInclusive<u16>>>,
    pub initial: Option<Initial>,
}

/// What an endpoint is until it was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initial {
    Up,
    Down,
}

/// `[upstreams.NAME.process]`.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its header.
    pub place: Place,
    /// `None` if it is missing or wrong.
    pub command: Option<Written<String>>,
    /// With placeholders, as the values of `env`.
    pub args: Vec<Written<String>>,
    /// Each with at least a program.
    pub before: Vec<Vec<String>>,
    pub env: Vec<(Written<String>, Written<String>)>,
    pub directory: Option<Written<PathBuf>>,
    pub user: Option<Written<String>>,
    pub depends_on: Vec<Written<String>>,
    pub restart: Option<Restart>,
    pub start_timeout: Option<Duration>,
    pub stop_timeout: Option<Duration>,
}

/// When a command that ended by itself is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    Always,
    OnFailure,
    Never,
}

/// One instance of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    pub address: Address,
    pub weight: Option<u32>,
    pub backup: Option<bool>,
}

/// Where an instance is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A name or an address, in lower case and without brackets.
    Host {
        host: String,
        port: u16,
    },
    Socket(PathBuf),
}

impl From<Address> for Instance {
    fn from(address: Address) -> Instance {
        Instance { address, weight: None, backup: None }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Strategy {
    RoundRobin,
    LeastConn,
    Random,
    IpHash,
    P2c,
    ConsistentHash(HashKey),
}

/// The part of a request by which it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    Client,
    Path,
    /// The name of a field, in lower case.
    Header(String),
    Cookie(String),
    Query(String),
}

/// One of `[[routes]]`.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its header.
    pub place: Place,
    /// In the operator's words.
    pub description: Option<String>,
    /// Nothing in it was wrong: these are all of its conditions.
    pub is_whole: bool,
    /// One of them, or any if there is none.
    pub hosts: Vec<Host>,
    pub path: Option<Written<Path>>,
    /// One of them, or any if there is none.
    pub methods: Vec<String>,
    /// All of them.
    pub fields: Vec<Condition>,
    /// All of them.
    pub parameters: Vec<Condition>,
    /// One of them has the client's address; any does if there is none.
    pub clients: Vec<Network>,
    pub scheme: Option<Scheme>,
    /// Where it is required, if it is.
    pub require_auth: Option<Place>,
    /// Names of middleware, in the order in which requests pass them.
    pub filters: Vec<Written<String>>,
    pub response_fields: FieldChanges,
    /// Whether it is in the access log.
    pub log: Option<bool>,
    pub action: Action,
}

/// The scheme of the URI that a client requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

/// What a route does with a request.
#[derive(Clone, Debug)]
pub enum Action {
    Forward(Forward),
    Redirect(Redirect),
    Respond(Respond),
    Workload(ToWorkload),
}

/// Where a route leads, and what is changed on the way.
#[derive(Clone, Debug)]
pub struct Forward {
    pub upstream: Written<String>,
    pub path: PathChange,
    pub fields: FieldChanges,
    pub connect_timeout: Option<Duration>,
    pub read_timeout: Option<Duration>,
}

/// A workload's components answer, and what is changed of what they are told.
#[derive(Clone, Debug)]
pub struct ToWorkload {
    pub workload: Written<String>,
    pub path: PathChange,
    pub fields: FieldChanges,
}

#[derive(Clone, Debug)]
pub enum PathChange {
    Keep,
    /// The prefix that was matched goes.
    Strip,
    /// A template.
    Rewrite(Written<String>),
}

/// Fields that are set, by name and template, and those that are removed.
#[derive(Clone, Debug, Default)]
pub struct FieldChanges {
    pub set: Vec<(Written<String>, Written<String>)>,
    pub removed: Vec<Written<String>>,
}

#[derive(Clone, Debug)]
pub struct Redirect {
    /// A template.
    pub to: Written<String>,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

#[derive(Clone, Debug)]
pub struct Respond {
    /// 200 to 599.
    pub status: u16,
    /// Empty for 204, 205 and 304.
    pub body: String,
}

/// A host of a route, in lower case, without a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    Exact(String),
    /// What follows the `*`: `.example.com`.
    Below(String),
}

/// A path of a route; in normal form, but for the expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Path {
    Exact(String),
    Prefix(String),
    /// `/user/{id}`: with names whose spelling was not looked at.
    Pattern(String),
    Regex(String),
}

/// What a route asks of a field or a parameter.
#[derive(Clone, Debug)]
pub struct Condition {
    pub name: String,
    pub test: Test,
}

#[derive(Clone, Debug)]
pub enum Test {
    Present,
    Absent,
    Equals(String),
    /// An expression.
    Matches(Written<String>),
}

/// `[middleware]`.
#[derive(Clone, Debug, Default)]
pub struct Middleware {
    pub log_requests: Option<bool>,
    pub forward_headers: Option<Written<bool>>,
    pub server_timing: Option<bool>,
}

/// `[auth]`.
#[derive(Clone, Debug, Default)]
pub struct Auth {
    /// Visible characters of ASCII, at least one.
    pub admin_token: Option<Written<Secret>>,
    /// There is one, but it cannot be used.
    pub is_wrong: bool,
}

/// `[admin]`.
#[derive(Clone, Debug, Default)]
pub struct Admin {
    pub socket: Option<PathBuf>,
    pub listen: Option<Written<SocketAddr>>,
    /// Visible characters of ASCII, at least one.
    pub token: Option<Written<Secret>>,
    /// There is one, but it cannot be used.
    pub is_wrong: bool,
}

/// `[log]`.
#[derive(Clone, Debug, Default)]
pub struct Log {
    pub format: Option<LogFormat>,
    /// There if the format is custom, and only then. Its names were not looked at.
    pub template: Option<Written<String>>,
    pub output: Option<LogOutput>,
    /// Of what went well, from 0 to 1.
    pub sample: Option<f64>,
    /// Names of parameters.
    pub redact_query: Option<Vec<String>>,
    pub level: Option<Level>,
    pub events: Option<Events>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Json,
    Combined,
    Custom,
}

/// Where the access log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogOutput {
    Stdout,
    Stderr,
    File(PathBuf),
    /// The path of its socket.
    Journald(PathBuf),
}

/// `[tracing]`.
#[derive(Clone, Debug, Default)]
pub struct Tracing {
    pub traceparent: Option<Traceparent>,
    /// From 0 to 1.
    pub sample: Option<f64>,
    /// There only if spans are made.
    pub export: Option<Collector>,
    pub service_name: Option<String>,
}

/// Who takes spans by HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector {
    /// A name or an address, in lower case and without brackets.
    pub host: String,
    pub port: u16,
    /// Begins with a slash.
    pub path: String,
}

/// What becomes of the field of this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traceparent {
    Pass,
    /// That of a trusted proxy is continued.
    Trusted,
    /// Anyone's is.
    Any,
}

/// The form of what the process says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Events {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
}

/// The configuration and its warnings, or everything that is wrong, in document order.
///
/// # Errors
/// There is at least one mistake; the warnings are among the mistakes.
pub fn parse(sources: &Sources) -> Result<(Config, Vec<Diagnostic>), Vec<Diagnostic>> {
    let (config, diagnostics) = read(sources);
    if diagnostics.iter().any(Diagnostic::is_error) {
        return Err(diagnostics);
    }
    Ok((config, diagnostics))
}
