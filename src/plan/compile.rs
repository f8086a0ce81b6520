//! [`Config`] to [`Plan`]: cross references to ids, defaults filled in.
//!
//! All that can be wrong between the parts of a configuration is found here, all at once; what
//! is wrong within one value was found when it was read. Start, check and reload all come here.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::admin::admin;
use super::children::children;
use super::log::{log, tracing};
use super::outgoing::{self, outgoing};
use super::routes::routes;
use super::rules::{network, rules, tree};
use super::{Dns, Limits, Plan, RouteId, Server, filters, guards, policies, workloads};
use crate::config::{self, Config, Diagnostic, Sources};
use crate::http::fields::Known;
use crate::http::forwarding::{self, NamePattern};
use crate::http::h1::changes::is_fixed;
use crate::http::target::EncodedSlash;
use crate::process::events;
use crate::route::{Rule, cover};
use crate::upstream::health::{Check, Initial};
use crate::upstream::{HashKey, ejection};
use crate::{net, upstream, wasm};

pub(super) const HTTP_PORT: u16 = 8080;
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);

const HEAD_BYTES: usize = 32 << 10;
const FIELDS: usize = 100;
const URI_BYTES: usize = 8 << 10;
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
const CLIENT_WRITE_TIMEOUT: Duration = Duration::from_secs(30);
const TUNNEL_TIMEOUT: Duration = Duration::from_secs(60 * 60);
const TUNNEL_LINGER: Duration = Duration::from_secs(5);

const WEIGHT: u32 = 1;
const MAX_FAILS: u32 = 3;
const FAIL_TIMEOUT: Duration = Duration::from_secs(10);
const RETRIES: u32 = 1;
const QUEUE: usize = 128;
const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);
const HOLD: Duration = Duration::from_secs(30);
const HOLD_REQUESTS: usize = 1000;
const KEEPALIVE: usize = 64;
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

const MIN_TTL: Duration = Duration::from_secs(1);
const MAX_TTL: Duration = Duration::from_secs(5 * 60);

const CHECK_INTERVAL: Duration = Duration::from_secs(10);
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);
const UNHEALTHY_THRESHOLD: u32 = 3;
const HEALTHY_THRESHOLD: u32 = 2;
const EXPECT_STATUS: RangeInclusive<u16> = 200..=399;

/// A configuration that can be run.
pub struct Loaded {
    pub plan: Plan,
    /// In document order.
    pub warnings: Vec<Diagnostic>,
    /// What the environment and arguments set.
    pub overrides: Vec<config::Override>,
    /// The least important events that are told.
    pub events: events::Settings,
}

/// Parses and compiles.
///
/// # Errors
/// Everything that is wrong with the configuration, and the warnings, in document order.
pub fn load(sources: &Sources) -> Result<Loaded, Vec<Diagnostic>> {
    let (config, mut diagnostics) = config::read(sources);
    if diagnostics.iter().any(Diagnostic::is_error) {
        // Any other check would take what could not be read for absent.
        if !config.is_torn {
            let rules = rules(&config, &mut diagnostics);
            routes(&config, &rules, &mut diagnostics);
            find_unreachable(&config, &rules, &mut diagnostics);
            children(&config, &mut diagnostics);
            log(&config, &mut diagnostics);
        }
        config::sort(&mut diagnostics);
        return Err(diagnostics);
    }
    let compiled = compile(&config);
    let (Ok((_, found)) | Err(found)) = &compiled;
    diagnostics.extend(found.iter().cloned());
    config::sort(&mut diagnostics);
    match compiled {
        Ok((plan, _)) => {
            let events = events(&config.log);
            Ok(Loaded { plan, warnings: diagnostics, overrides: config.overrides, events })
        }
        Err(_) => Err(diagnostics),
    }
}

/// The plan and the warnings.
///
/// # Errors
/// Every mistake between the parts of the configuration, and the warnings.
pub fn compile(config: &Config) -> Result<(Plan, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut diagnostics = Vec::new();
    let dns = dns(&config.dns, &mut diagnostics);
    let rules = rules(config, &mut diagnostics);
    let routes = routes(config, &rules, &mut diagnostics);
    find_unreachable(config, &rules, &mut diagnostics);
    let tree = tree(config, rules.clone(), &mut diagnostics);
    guards::warn_of_gaps(config, &rules, &routes, tree.as_ref(), &mut diagnostics);
    let children = children(config, &mut diagnostics);
    let log = log(config, &mut diagnostics);
    let admin = admin(config, !children.is_empty(), &mut diagnostics);
    let server = server(&config.server);
    let wasm = workloads::settings(config, server.worker_threads, &mut diagnostics);
    let outgoing = outgoing(config, &mut diagnostics);
    let allowed = filters::allowed(config, &mut diagnostics);
    policies::refuse_unknown(config, &mut diagnostics);
    refuse_unusable_token(config, &mut diagnostics);
    refuse_slashes(config, &mut diagnostics);
    warn_of_unused(config, &mut diagnostics);
    refuse_untrusted(config, &mut diagnostics);
    warn_of_nobody_trusted(config, &mut diagnostics);
    if config.routes.is_empty() {
        let message = "there are no routes: every request will be answered with 404";
        let help = "write [[routes]] and below it upstream = \"NAME\"";
        diagnostics.push(Diagnostic::warning(config.origin.clone(), message).with_help(help));
    }
    let (Some(tree), Some(log), false) = (tree, log, diagnostics.iter().any(Diagnostic::is_error)) else {
        return Err(diagnostics);
    };
    let plan = Plan {
        server,
        wasm,
        guests: wasm::Guests::default(),
        outgoing: outgoing.into(),
        allowed,
        dns,
        limits: limits(config),
        forwarding: forwarding(config),
        server_timing: config.middleware.server_timing.unwrap_or(false),
        log,
        tracing: tracing(&config.tracing),
        upstreams: config.upstreams.iter().map(|upstream| settings(config, upstream)).collect(),
        admin,
        children: children.into(),
        routes: routes.into(),
        tree,
    };
    Ok((plan, diagnostics))
}

fn server(written: &config::Server) -> Server {
    let every_address = || vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    let addresses: Vec<IpAddr> = written.bind.clone().unwrap_or_else(every_address);
    let port = written.http_port.unwrap_or(HTTP_PORT);
    let parallelism = || std::thread::available_parallelism().map_or(1, usize::from);
    Server {
        listen: addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect(),
        worker_threads: written.worker_threads.unwrap_or_else(parallelism),
        is_default_threads: written.worker_threads.is_none(),
        pin_cores: written.pin_cores.unwrap_or(true),
        io: match written.io {
            None | Some(config::Io::Auto) => net::Io::Auto,
            Some(config::Io::IoUring) => net::Io::IoUring,
            Some(config::Io::Epoll) => net::Io::Epoll,
        },
        shutdown_timeout: written.shutdown_timeout.unwrap_or(SHUTDOWN_TIMEOUT),
        watch: written.watch.unwrap_or(false),
    }
}

fn dns(written: &config::Dns, diagnostics: &mut Vec<Diagnostic>) -> Dns {
    let or = |ttl: &Option<config::Written<Duration>>, default| ttl.as_ref().map_or(default, |ttl| ttl.value);
    let (min_ttl, max_ttl) = (or(&written.min_ttl, MIN_TTL), or(&written.max_ttl, MAX_TTL));
    if let (true, Some(ttl)) = (min_ttl > max_ttl, written.min_ttl.as_ref().or(written.max_ttl.as_ref())) {
        let [min, max] = [min_ttl, max_ttl].map(config::show_duration);
        let message = format!("min_ttl of [dns] is {min}, longer than max_ttl, which is {max}");
        let help = "an answer is used at least as long as min_ttl, and at most as long as max_ttl";
        diagnostics.push(Diagnostic::error(ttl.place.clone(), message).with_help(help));
    }
    Dns { servers: written.servers.as_slice().into(), min_ttl, max_ttl }
}

fn limits(config: &Config) -> Limits {
    let written = &config.limits;
    Limits {
        head_bytes: written.head_bytes.unwrap_or(HEAD_BYTES),
        fields: written.fields.unwrap_or(FIELDS),
        uri_bytes: written.uri_bytes.unwrap_or(URI_BYTES),
        request_body: written.request_body.filter(|bytes| *bytes > 0),
        connections: written.connections.filter(|most| *most > 0),
        connections_per_ip: written.connections_per_ip.filter(|most| *most > 0),
        head_timeout: written.head_timeout.unwrap_or(HEAD_TIMEOUT),
        idle_timeout: written.idle_timeout.unwrap_or(IDLE_TIMEOUT),
        body_timeout: written.body_timeout.unwrap_or(BODY_TIMEOUT),
        write_timeout: written.write_timeout.unwrap_or(CLIENT_WRITE_TIMEOUT),
        min_rate: written.min_rate.filter(|rate| *rate > 0),
        tunnel_timeout: written.tunnel_timeout.unwrap_or(TUNNEL_TIMEOUT),
        tunnel_linger: written.tunnel_linger.unwrap_or(TUNNEL_LINGER),
        abort_on_close: config.server.abort_on_close.unwrap_or(true),
        encoded_slash: match config.server.encoded_slash {
            None | Some(config::EncodedSlash::Keep) => EncodedSlash::Keep,
            Some(config::EncodedSlash::Reject) => EncodedSlash::Reject,
        },
    }
}

fn forwarding(config: &Config) -> forwarding::Settings {
    let untrusted = config.server.untrusted_headers.iter();
    forwarding::Settings {
        trusted: config.server.trusted_proxies.iter().map(network).collect(),
        keep_received: config.middleware.forward_headers.as_ref().is_some_and(|forward| forward.value),
        untrusted: untrusted.map(|name| NamePattern::of(&name.value)).collect(),
    }
}

fn settings(config: &Config, written: &config::Upstream) -> upstream::Settings {
    upstream::Settings {
        name: written.name.value.clone(),
        instances: written.instances.iter().map(|one| instance(written, one)).collect(),
        policy: policies::of_upstream(config, written),
        strategy: strategy(written.strategy.as_ref()),
        slow_start: written.slow_start.unwrap_or(Duration::ZERO),
        ejection: ejection::Settings {
            max_fails: written.max_fails.unwrap_or(MAX_FAILS),
            fail_timeout: written.fail_timeout.unwrap_or(FAIL_TIMEOUT),
        },
        retries: written.retries.unwrap_or(RETRIES),
        queue: written.queue.unwrap_or(QUEUE),
        queue_timeout: written.queue_timeout.unwrap_or(QUEUE_TIMEOUT),
        hold: written.hold.unwrap_or(HOLD),
        hold_requests: written.hold_requests.unwrap_or(HOLD_REQUESTS),
        write_timeout: written.write_timeout.unwrap_or(WRITE_TIMEOUT),
        keepalive: written.keepalive.unwrap_or(KEEPALIVE),
        keepalive_idle: written.keepalive_idle.unwrap_or(KEEPALIVE_IDLE),
        check: written.health.as_ref().map(check),
    }
}

fn check(written: &config::Health) -> Check {
    Check {
        path: written.path.clone(),
        host: written.host.clone(),
        interval: written.interval.unwrap_or(CHECK_INTERVAL),
        timeout: written.timeout.unwrap_or(CHECK_TIMEOUT),
        unhealthy_threshold: written.unhealthy_threshold.unwrap_or(UNHEALTHY_THRESHOLD),
        healthy_threshold: written.healthy_threshold.unwrap_or(HEALTHY_THRESHOLD),
        expect_status: match &written.expect_status {
            Some(ranges) => ranges.as_slice().into(),
            None => [EXPECT_STATUS].into(),
        },
        initial: match written.initial {
            None | Some(config::Initial::Up) => Initial::Up,
            Some(config::Initial::Down) => Initial::Down,
        },
    }
}

fn instance(upstream: &config::Upstream, written: &config::Instance) -> upstream::Instance {
    upstream::Instance {
        place: match &written.address {
            config::Address::Host { host, port } => upstream::Place::Host { host: host.clone(), port: *port },
            config::Address::Socket(path) => upstream::Place::Socket(path.clone()),
        },
        weight: written.weight.unwrap_or(WEIGHT),
        backup: written.backup.unwrap_or(false),
        connections_max: upstream.max_connections.unwrap_or(0),
    }
}

fn strategy(written: Option<&config::Strategy>) -> upstream::Strategy {
    match written {
        None | Some(config::Strategy::RoundRobin) => upstream::Strategy::RoundRobin,
        Some(config::Strategy::LeastConn) => upstream::Strategy::LeastConn,
        Some(config::Strategy::Random) => upstream::Strategy::Random,
        Some(config::Strategy::IpHash) => upstream::Strategy::IpHash,
        Some(config::Strategy::P2c) => upstream::Strategy::P2c,
        Some(config::Strategy::ConsistentHash(key)) => upstream::Strategy::ConsistentHash(match key {
            config::HashKey::Client => HashKey::Client,
            config::HashKey::Path => HashKey::Path,
            // Requests have their host in other places, too.
            config::HashKey::Header(name) if name == "host" => HashKey::Host,
            config::HashKey::Header(name) => HashKey::Field(name.clone()),
            config::HashKey::Cookie(name) => HashKey::Cookie(name.clone()),
            config::HashKey::Query(name) => HashKey::Parameter(name.clone()),
        }),
    }
}

/// Why a token cannot be used was said by whoever read it. If nobody did, no route may be open
/// for that.
fn refuse_unusable_token(config: &Config, diagnostics: &mut Vec<Diagnostic>) {
    let required = config.routes.iter().find_map(|route| route.require_auth.as_ref());
    if let (Some(place), true) = (required, config.auth.is_wrong) {
        let message = "this route requires a token, and the configured one cannot be used";
        diagnostics.push(Diagnostic::error(place.clone(), message));
    }
}

fn warn_of_unused(config: &Config, diagnostics: &mut Vec<Diagnostic>) {
    let used = config.routes.iter().filter_map(|one| match &one.action {
        config::Action::Forward(forward) => Some(forward.upstream.value.as_str()),
        config::Action::Redirect(_) | config::Action::Respond(_) | config::Action::Workload(_) => None,
    });
    let chosen = config.wasm.filters.iter().flat_map(|filter| &filter.upstreams);
    let chosen = chosen.map(|name| name.value.as_str());
    let used: HashSet<&str> = used.chain(outgoing::used(config)).chain(chosen).collect();
    for upstream in &config.upstreams {
        let name = upstream.name.value.as_str();
        if !used.contains(name) {
            let message = format!("upstream `{name}` is not used by any route");
            let unused = Diagnostic::warning(upstream.name.place.clone(), message);
            diagnostics.push(unused.with_help(format!("a route uses it with upstream = \"{name}\"")));
        }
    }
}

fn refuse_untrusted(config: &Config, diagnostics: &mut Vec<Diagnostic>) {
    let is_needed = |name: &str| is_fixed(name) || Known::of(name.as_bytes()) == Known::Host;
    for name in config.server.untrusted_headers.iter().filter(|name| is_needed(&name.value)) {
        let message = format!("{} says how a message is framed or routed, whoever sends it", name.value);
        let help = "name fields that the application believes";
        diagnostics.push(Diagnostic::error(name.place.clone(), message).with_help(help));
    }
    let is_ours = |name: &str| {
        let known = Known::of_any_spelling(name.as_bytes());
        !is_needed(name) && !matches!(known, Known::Other | Known::Claim | Known::Override)
    };
    for name in config.server.untrusted_headers.iter().filter(|name| is_ours(&name.value)) {
        let message = format!("{} cannot be listed: WarpDrive has a rule of its own for it", name.value);
        let help = "leave it out; remove_headers of a route removes it from everybody's requests";
        diagnostics.push(Diagnostic::error(name.place.clone(), message).with_help(help));
    }
}

fn warn_of_nobody_trusted(config: &Config, diagnostics: &mut Vec<Diagnostic>) {
    let Some(forward) = config.middleware.forward_headers.as_ref().filter(|forward| forward.value) else {
        return;
    };
    if config.server.trusted_proxies.is_empty() {
        let message = "forward_headers changes nothing: no address is trusted";
        let help = "name the proxies in front of this one in trusted_proxies of [server]";
        diagnostics.push(Diagnostic::warning(forward.place.clone(), message).with_help(help));
    }
}

fn find_unreachable(config: &Config, rules: &[Rule<RouteId>], diagnostics: &mut Vec<Diagnostic>) {
    for shadowed in cover::shadowed(rules) {
        let route = |number: usize| &config.routes[rules[number].target.0 as usize];
        diagnostics.push(unreachable(route(shadowed.rule), route(shadowed.by), shadowed.is_same));
    }
}

/// With `encoded_slash = "reject"` no request has a path with an encoded slash.
fn refuse_slashes(config: &Config, diagnostics: &mut Vec<Diagnostic>) {
    if config.server.encoded_slash != Some(config::EncodedSlash::Reject) {
        return;
    }
    for path in config.routes.iter().filter_map(|route| route.path.as_ref()) {
        let (config::Path::Exact(text) | config::Path::Prefix(text) | config::Path::Pattern(text)) =
            &path.value
        else {
            continue;
        };
        if text.contains("%2F") {
            let message = "this route can never match: requests with an encoded slash are refused";
            let help = "set encoded_slash = \"keep\" in [server], or remove the route";
            diagnostics.push(Diagnostic::error(path.place.clone(), message).with_help(help));
        }
    }
}

fn unreachable(route: &config::Route, earlier: &config::Route, is_same: bool) -> Diagnostic {
    let place = route.place.clone();
    let unreachable = match is_same {
        true => {
            Diagnostic::error(place, "this route can never match: an earlier one has the same conditions")
                .with_related(earlier.place.clone(), "this one takes all of its requests")
                .with_help("remove one of them, or change its conditions")
        }
        false => {
            Diagnostic::error(place, "this route can never match: an earlier one takes all of its requests")
                .with_related(earlier.place.clone(), "this one takes them")
                .with_help("put the narrower route first, or remove one of them")
        }
    };
    unreachable.with_label("no request comes this far")
}

fn events(log: &config::Log) -> events::Settings {
    let level = match log.level.unwrap_or(config::Level::Info) {
        config::Level::Error => tracing::Level::ERROR,
        config::Level::Warn => tracing::Level::WARN,
        config::Level::Info => tracing::Level::INFO,
        config::Level::Debug => tracing::Level::DEBUG,
    };
    let form = match log.events {
        None | Some(config::Events::Text) => events::Form::Text,
        Some(config::Events::Json) => events::Form::Json,
    };
    events::Settings { level, form }
}
