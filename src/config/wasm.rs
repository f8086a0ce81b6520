//! `[wasm]`: components, and the workloads that they are deployed in.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::diagnostic::{Diagnostic, Place};
use super::filter::{self, Filter};
use super::guest::{self, Guest};
use super::table::Table;
use super::value::{self, Wanted, wanted};
use super::{Action, FieldChanges, Host, PathChange, Route, ToWorkload, Written};

const LATER: [&str; 1] = ["images"];
const COMPONENT_LATER: [&str; 1] = ["image"];
const WORKLOAD_LATER: [&str; 1] = ["manifest"];
const INTERFACE_LATER: [&str; 1] = ["name"];
const LIMITS_LATER: [&str; 1] = ["concurrency"];

/// The interface through which a component gets its requests.
pub const HANDLER: &str = "wasi:http/incoming-handler";

/// WebAssembly's own limit: 32 bits.
pub const MEMORY_MAX: u64 = 4 << 30;
pub const PAGE: u64 = 64 << 10;
const INSTANCES_MAX: u64 = 100_000;
const TABLE_ELEMENTS_MAX: u64 = 1 << 17;
const WAITING_MAX: u64 = 100_000;
const OUTGOING_MAX: u64 = 10_000;
const FAILURES_MAX: u64 = 1_000_000;

/// `[wasm]`.
#[derive(Clone, Debug, Default)]
pub struct Wasm {
    /// If any of it was written.
    pub place: Option<Place>,
    pub cache_dir: Option<PathBuf>,
    pub memory_total: Option<u64>,
    pub instances_total: Option<u32>,
    pub bodies_total: Option<u64>,
    pub components: Vec<Component>,
    pub workloads: Vec<Workload>,
    pub policies: Vec<Guest>,
    pub filters: Vec<Filter>,
}

/// `[wasm.components.NAME]`.
#[derive(Clone, Debug)]
pub struct Component {
    pub name: Written<String>,
    /// Its header.
    pub place: Place,
    /// Relative to this process. `None` if it is missing or wrong.
    pub file: Option<Written<PathBuf>>,
    pub env: Vec<(Written<String>, Written<String>)>,
    pub config: Vec<(Written<String>, Written<String>)>,
    /// A pattern.
    pub path: Option<Written<String>>,
    pub outgoing: Outgoing,
    pub limits: ComponentLimits,
}

/// `[wasm.components.NAME.outgoing]`: whom it may ask.
#[derive(Clone, Debug, Default)]
pub struct Outgoing {
    /// By their own names.
    pub upstreams: Vec<Written<String>>,
    /// Hosts, perhaps with a port, and the names of the upstreams that are asked in their place.
    pub hosts: Vec<(Written<String>, Written<String>)>,
}

/// `[wasm.components.NAME.limits]`.
#[derive(Clone, Debug, Default)]
pub struct ComponentLimits {
    pub memory: Option<u64>,
    pub table_elements: Option<u64>,
    pub cpu: Option<Duration>,
    pub time: Option<Duration>,
    /// May be 0.
    pub request_body: Option<u64>,
    /// May be 0.
    pub response_body: Option<u64>,
    /// May be 0.
    pub output: Option<u64>,
    /// May be 0.
    pub output_rate: Option<u64>,
    /// May be 0.
    pub outgoing_requests: Option<u32>,
    /// May be 0.
    pub outgoing_body: Option<u64>,
    pub reuse: Option<u32>,
    pub instances: Option<u32>,
    /// May be 0.
    pub waiting: Option<usize>,
    pub waiting_timeout: Option<Duration>,
    pub idle: Option<Duration>,
    /// May be 0.
    pub failures: Option<u32>,
    pub pause: Option<Written<Duration>>,
    pub pause_max: Option<Written<Duration>>,
}

/// `[wasm.workloads.NAME]`.
#[derive(Clone, Debug)]
pub struct Workload {
    pub name: Written<String>,
    /// Its header.
    pub place: Place,
    pub components: Vec<Written<String>>,
    /// Those for requests.
    pub interfaces: Vec<HostInterface>,
}

/// A `wasi:http/incoming-handler` that a workload has.
#[derive(Clone, Debug)]
pub struct HostInterface {
    /// Its header.
    pub place: Place,
    /// Whose requests come to it without a route.
    pub host: Option<Written<Host>>,
}

pub fn read(table: &mut Table<'_>) -> Wasm {
    let Some(mut table) = table.table("wasm") else {
        return Wasm::default();
    };
    let is_there = is_there(&table);
    let wasm = Wasm {
        place: is_there.then(|| table.place().clone()),
        cache_dir: table.parsed("cache_dir", path).map(|path| path.value),
        memory_total: table.size("memory_total", PAGE..=u64::MAX),
        instances_total: table.integer("instances_total", 1..=INSTANCES_MAX).map(|most| most.value),
        bodies_total: table.size("bodies_total", PAGE..=u64::MAX),
        components: named(&mut table, "components", "component", read_component),
        workloads: named(&mut table, "workloads", "workload", read_workload),
        policies: named(&mut table, "policies", "policy", guest::read_policy),
        filters: named(&mut table, "middleware", "middleware", filter::read),
    };
    table.finish(&LATER);
    wasm
}

/// A workload with a host is a route to it, after all that are written as routes.
pub fn routes(wasm: &Wasm) -> impl Iterator<Item = Route> + '_ {
    wasm.workloads.iter().flat_map(|workload| {
        workload.interfaces.iter().filter_map(|interface| {
            let host = interface.host.as_ref()?.value.clone();
            Some(Route {
                place: interface.place.clone(),
                description: None,
                is_whole: true,
                hosts: vec![host],
                path: None,
                methods: Vec::new(),
                fields: Vec::new(),
                parameters: Vec::new(),
                clients: Vec::new(),
                scheme: None,
                require_auth: None,
                filters: Vec::new(),
                log: None,
                response_fields: FieldChanges::default(),
                action: Action::Workload(ToWorkload {
                    workload: workload.name.clone(),
                    path: PathChange::Keep,
                    fields: FieldChanges::default(),
                }),
            })
        })
    })
}

/// The tables below `key`, each read by `read`, in document order.
fn named<T>(
    table: &mut Table<'_>,
    key: &str,
    what: &str,
    read: fn(Written<String>, Table<'_>) -> T,
) -> Vec<T> {
    let Some(mut table) = table.table(key) else { return Vec::new() };
    let tables = table.named_tables();
    let mut all = Vec::with_capacity(tables.len());
    for (name, table) in tables {
        if name.value.is_empty() || name.value.contains(|c: char| c.is_control() || c == '/') {
            let message = format!("the name of a {what} must have characters, visible ones, and no slash");
            table.report().error(&name.place, message);
        }
        all.push(read(name, table));
    }
    all
}

fn read_component(name: Written<String>, mut table: Table<'_>) -> Component {
    let file = table.parsed("file", path);
    if !table.has("file") && is_there(&table) {
        let message = format!("{} has no file", table.title());
        let missing = Diagnostic::error(table.place().clone(), message);
        table.report().push_unless_torn(missing.with_help("such as file = \"app.wasm\""));
    }
    let component = Component {
        name,
        place: table.place().clone(),
        file: file.map(|file| Written::new(beside(&file), file.place.clone())),
        env: table.variables("env"),
        config: table.variables("config"),
        path: read_interface_config(&mut table),
        outgoing: read_outgoing(&mut table),
        limits: read_limits(&mut table),
    };
    table.finish(&COMPONENT_LATER);
    component
}

/// A path is relative to the file that it stands in.
pub fn beside(path: &Written<PathBuf>) -> PathBuf {
    let folder = path.place.file().and_then(|file| Path::new(file).parent());
    folder.unwrap_or(Path::new("")).join(&path.value)
}

/// The path of the interface for requests; there is nothing to be said about other interfaces.
fn read_interface_config(table: &mut Table<'_>) -> Option<Written<String>> {
    let mut table = table.table("interface_config")?;
    let mut path = None;
    for (interface, mut table) in table.named_tables() {
        let found = table.parsed("path", value::route_pattern);
        let bare = interface.value.split('@').next().unwrap_or_default();
        if bare == HANDLER {
            path = found;
        } else if interface.place != Place::Default {
            let message = format!("there is nothing to configure of the interface {}", interface.value);
            let unknown = Diagnostic::error(interface.place, message);
            table.report().push(unknown.with_help(format!("\"{HANDLER}\" has a path")));
        }
        table.finish(&[]);
    }
    path
}

fn read_outgoing(table: &mut Table<'_>) -> Outgoing {
    let Some(mut table) = table.table("outgoing") else {
        return Outgoing::default();
    };
    let outgoing = Outgoing {
        upstreams: table.list("upstreams", |text| Ok(text.to_owned())).unwrap_or_default(),
        hosts: table.variables("hosts"),
    };
    for (host, _) in &outgoing.hosts {
        if !is_authority(&host.value) {
            let message = format!("`{}` is not a host", host.value.escape_debug());
            let wrong = Diagnostic::error(host.place.clone(), message);
            table.report().push(wrong.with_help("such as \"api.example.com\" or \"api.example.com:8080\""));
        }
    }
    table.finish(&[]);
    outgoing
}

/// A host, and perhaps a port.
fn is_authority(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    text.bytes().all(is_plain)
}

fn read_limits(table: &mut Table<'_>) -> ComponentLimits {
    let Some(mut table) = table.table("limits") else {
        return ComponentLimits::default();
    };
    let limits = ComponentLimits {
        memory: table.size("memory", PAGE..=MEMORY_MAX),
        table_elements: table.integer("table_elements", 1..=TABLE_ELEMENTS_MAX).map(|most| most.value),
        cpu: table.duration("cpu"),
        time: table.duration("time"),
        request_body: table.size("request_body", 0..=u64::MAX),
        response_body: table.size("response_body", 0..=u64::MAX),
        output: table.size("output", 0..=u64::MAX),
        output_rate: table.size("output_rate", 0..=u64::MAX),
        outgoing_requests: table.integer("outgoing_requests", 0..=OUTGOING_MAX).map(|most| most.value),
        outgoing_body: table.size("outgoing_body", 0..=u64::MAX),
        reuse: table.integer("reuse", 1..=u64::from(u32::MAX)).map(|requests| requests.value),
        instances: table.integer("instances", 1..=INSTANCES_MAX).map(|most| most.value),
        waiting: table.integer("waiting", 0..=WAITING_MAX).map(|most| most.value),
        waiting_timeout: table.duration("waiting_timeout"),
        idle: table.duration("idle"),
        failures: table.integer("failures", 0..=FAILURES_MAX).map(|failures| failures.value),
        pause: table.placed_duration("pause"),
        pause_max: table.placed_duration("pause_max"),
    };
    table.finish(&LIMITS_LATER);
    limits
}

fn read_workload(name: Written<String>, mut table: Table<'_>) -> Workload {
    let components = table.list("components", |text| Ok(text.to_owned()));
    if !table.has("components") && is_there(&table) {
        let message = format!("{} has no components", table.title());
        let missing = Diagnostic::error(table.place().clone(), message);
        table.report().push_unless_torn(missing.with_help("such as components = [\"app\"]"));
    }
    let interfaces = table.tables("host_interfaces").unwrap_or_default();
    let interfaces = interfaces.into_iter().filter_map(read_host_interface).collect();
    let place = table.place().clone();
    table.finish(&WORKLOAD_LATER);
    Workload { name, place, components: components.unwrap_or_default(), interfaces }
}

fn read_host_interface(mut table: Table<'_>) -> Option<HostInterface> {
    let place = table.place().clone();
    let namespace = table.string("namespace");
    let package = table.string("package");
    let interfaces = table.list("interfaces", |text| Ok(text.to_owned()));
    let host = table.table("config").and_then(|mut config| {
        let host = config.parsed("host", value::route_host);
        config.finish(&[]);
        host
    });
    for key in ["namespace", "package", "interfaces"] {
        if !table.has(key) && is_there(&table) {
            let message = format!("a host interface needs a {key}");
            let help =
                "such as namespace = \"wasi\", package = \"http\" and interfaces = [\"incoming-handler\"]";
            table.report().push_unless_torn(Diagnostic::error(place.clone(), message).with_help(help));
        }
    }
    let report = table.report();
    table.finish(&INTERFACE_LATER);
    let (namespace, package) = (namespace?, package?);
    let mut is_http = false;
    for interface in interfaces? {
        let full = format!("{}:{}/{}", namespace.value, package.value, interface.value);
        if full == HANDLER {
            is_http = true;
            continue;
        }
        let message = format!("the host interface {full} is not there, or does not work yet in this version");
        let refused = Diagnostic::error(interface.place, message);
        report.push(refused.with_help(format!("{HANDLER} works")));
    }
    is_http.then_some(HostInterface { place, host })
}

/// It was written; else its keys are only asked for.
fn is_there(table: &Table<'_>) -> bool {
    *table.place() != Place::Default
}

pub fn path(text: &str) -> Result<PathBuf, Wanted> {
    match text {
        "" => Err(wanted("a path")),
        path => Ok(path.into()),
    }
}
