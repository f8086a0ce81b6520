//! `/metrics`: which numbers there are, and of what. Their names and labels are an interface: they
//! may become more, none changes its meaning.

use std::fmt::Display;
use std::time::UNIX_EPOCH;

use super::board::{Board, Phase};
#[cfg(feature = "wasm")]
use super::guests;
use super::observation::{Business, Observation};
use super::{filters, policies};
use crate::plan::Action;
use crate::process::orders::State;
use crate::telemetry::Counters;
use crate::telemetry::counters::{Counter, Failure, Rejection};
use crate::telemetry::exposition::{Exposition, Format, Kind, Seconds};
use crate::upstream::Address;
use crate::wasm::Tally;

/// The classes of a status, in the order of their counters.
const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// The whole page.
pub fn page(format: Format, board: &Board, seen: &Observation) -> String {
    let mut page = Exposition::new(format);
    process(&mut page, board, seen);
    configuration(&mut page, board, seen);
    connections(&mut page, seen);
    routes(&mut page, seen);
    upstreams(&mut page, seen);
    endpoints(&mut page, seen);
    children(&mut page, seen);
    components(&mut page, seen);
    workers(&mut page, board, seen);
    policies::numbers(&mut page, seen);
    filters::numbers(&mut page, seen);
    #[cfg(feature = "wasm")]
    guests::numbers(&mut page, seen);
    page.finish()
}

fn one(page: &mut Exposition, name: &str, kind: Kind, help: &str, value: impl Display) {
    page.family(name, kind, help);
    page.number(&[], value);
}

fn process(page: &mut Exposition, board: &Board, seen: &Observation) {
    page.family("warpdrive_build_info", Kind::Gauge, "Which version runs; always 1.");
    page.number(&[("version", &env!("CARGO_PKG_VERSION"))], 1);
    let started = Seconds(board.started_at.as_nanos() as u64);
    let help = "When the data process was started, in seconds since 1970.";
    one(page, "warpdrive_start_time_seconds", Kind::Gauge, help, started);
    let is_ready = u8::from(board.phase() == Phase::Serving);
    one(
        page,
        "warpdrive_ready",
        Kind::Gauge,
        "1 while new connections are taken, 0 from a drain on.",
        is_ready,
    );
    let panics = seen.sum(|counters| &counters.panics);
    one(page, "warpdrive_panics", Kind::Counter, "Connections that were ended by a panic.", panics);
    let dropped = seen.sum(|counters| &counters.log_dropped);
    let help = "Lines of the access log that were dropped because they could not be written fast enough.";
    one(page, "warpdrive_log_dropped_lines", Kind::Counter, help, dropped);
    let dropped = seen.sum(|counters| &counters.spans_dropped);
    let help = "Spans that were dropped because they could not be exported fast enough.";
    one(page, "warpdrive_dropped_spans", Kind::Counter, help, dropped);
}

fn configuration(page: &mut Exposition, board: &Board, seen: &Observation) {
    let help = "Which configuration is in force, counted from 1 at the start of the data process.";
    one(page, "warpdrive_generation", Kind::Gauge, help, seen.generation.number);
    let since = seen.generation.since.duration_since(UNIX_EPOCH).unwrap_or_default();
    let help = "Since when, in seconds since 1970.";
    let since = Seconds(since.as_nanos() as u64);
    one(page, "warpdrive_generation_start_time_seconds", Kind::Gauge, help, since);
    let help = "Connections that are still bound to an earlier one.";
    one(page, "warpdrive_former_connections", Kind::Gauge, help, seen.former.values().sum::<usize>());
    let [done, refused] = board.reloads();
    page.family("warpdrive_reloads", Kind::Counter, "Reloads, by what became of them.");
    page.number(&[("result", &"done")], done);
    page.number(&[("result", &"refused")], refused);
}

fn connections(page: &mut Exposition, seen: &Observation) {
    let accepted = seen.sum(|counters| &counters.connections);
    let help = "Connections of clients that were accepted.";
    one(page, "warpdrive_connections_accepted", Kind::Counter, help, accepted);
    let help = "Those of them that were refused, by the limit that they exceeded.";
    page.family("warpdrive_connections_denied", Kind::Counter, help);
    page.number(&[("limit", &"connections")], seen.sum(|counters| &counters.denied));
    page.number(&[("limit", &"connections_per_ip")], seen.sum(|counters| &counters.denied_by_address));
    let tunnels = seen.sum(|counters| &counters.tunnels);
    let ended = seen.sum(|counters| &counters.tunnels_ended);
    one(page, "warpdrive_tunnels", Kind::Counter, "Tunnels that began, such as WebSockets.", tunnels);
    let help = "Tunnels that are open.";
    one(page, "warpdrive_tunnels_open", Kind::Gauge, help, tunnels.saturating_sub(ended));
}

fn routes(page: &mut Exposition, seen: &Observation) {
    let mut groups = seen.routes();
    // A route has numbers from its first request on: there may be many thousands.
    groups.retain(|group| group.counters.iter().any(|counters| counters.duration.count() > 0));
    page.family("warpdrive_requests", Kind::Counter, "Requests that ended, by route and class of status.");
    for group in &groups {
        for (at, class) in CLASSES.iter().enumerate() {
            page.number(&[("route", &group.name), ("code", class)], group.sum(|one| &one.statuses[at]));
        }
    }
    page.family("warpdrive_request_bytes", Kind::Counter, "Bytes of the bodies of requests.");
    for group in &groups {
        page.number(&[("route", &group.name)], group.sum(|one| &one.bytes_in));
    }
    page.family("warpdrive_response_bytes", Kind::Counter, "Bytes of the bodies of responses.");
    for group in &groups {
        page.number(&[("route", &group.name)], group.sum(|one| &one.bytes_out));
    }
    let help = "From the head of a request to the end of its response; of a tunnel, to its beginning.";
    page.family("warpdrive_request_duration_seconds", Kind::Histogram, help);
    for group in &groups {
        page.histogram(&[("route", &group.name)], group.histograms(|one| &one.duration));
    }
    page.family("warpdrive_route_info", Kind::Gauge, "Where a route is written, and its upstream; always 1.");
    let is_used = |label: &str| groups.iter().any(|group| &*group.name == label);
    for route in seen.plan.routes.iter().filter(|route| is_used(&route.label)) {
        let upstream = match &route.action {
            Action::Forward(forward) => seen.plan.upstreams[forward.upstream.0 as usize].name.as_str(),
            Action::Redirect(_) | Action::Respond(_) | Action::Workload(_) => "",
        };
        page.number(&[("route", &route.label), ("place", &route.place), ("upstream", &upstream)], 1);
    }
}

const DROPPED_LINES: &str = "Lines of a component's output that were too many for the log.";
const DROPPED_BYTES: &str = "Bytes of a component's output that were too many for the log, or for a request.";

fn components(page: &mut Exposition, seen: &Observation) {
    let tallies = seen.plan.guests.tallies();
    if tallies.is_empty() {
        return;
    }
    type Number = fn(&Tally) -> u64;
    let families: [(&str, &str, Number); 11] = [
        ("warpdrive_component_requests", "Requests that a component was asked.", |one| one.requests),
        ("warpdrive_component_failures", "Calls that failed, whatever the reason.", |one| one.failed),
        ("warpdrive_component_instances_made", "Instances of a component that were made.", |one| one.made),
        ("warpdrive_component_reused", "Requests to an instance that had served before.", |one| one.reused),
        ("warpdrive_component_queued", "Requests that waited for an instance.", |one| one.queued),
        ("warpdrive_component_refused", "Requests that waited for an instance in vain.", |one| one.refused),
        ("warpdrive_component_pauses", "How often it got a pause after repeated failures.", |one| one.pauses),
        ("warpdrive_component_shut_out", "Requests that came within such a pause.", |one| one.shut_out),
        ("warpdrive_component_outgoing", "Requests that a component has sent.", |one| one.outgoing),
        ("warpdrive_component_output_dropped_lines", DROPPED_LINES, |one| one.dropped_lines),
        ("warpdrive_component_output_dropped_bytes", DROPPED_BYTES, |one| one.dropped_bytes),
    ];
    for (name, help, number) in families {
        page.family(name, Kind::Counter, help);
        for tally in &tallies {
            page.number(&[("component", &tally.name)], number(tally));
        }
    }
    page.family("warpdrive_component_cpu_seconds", Kind::Counter, "Processor time of a component.");
    for tally in &tallies {
        page.number(&[("component", &tally.name)], Seconds(tally.cpu_us * 1000));
    }
}

fn upstreams(page: &mut Exposition, seen: &Observation) {
    let groups = seen.upstreams();
    let help = "From the head of a request to that of the upstream's response, with all waiting and retries.";
    page.family("warpdrive_upstream_response_seconds", Kind::Histogram, help);
    for group in &groups {
        page.histogram(&[("upstream", &group.name)], group.histograms(|one| &one.response));
    }
    let help = "What connecting took, of connections that came about.";
    page.family("warpdrive_upstream_connect_seconds", Kind::Histogram, help);
    for group in &groups {
        page.histogram(&[("upstream", &group.name)], group.histograms(|one| &one.connect));
    }
    page.family("warpdrive_upstream_failures", Kind::Counter, "What endpoints did wrong, by kind.");
    for group in &groups {
        for (failure, kind) in Failure::ALL {
            let count = group.sum(|one| one.failures(failure));
            page.number(&[("upstream", &group.name), ("kind", &kind)], count);
        }
    }
    let help = "Requests that came to no endpoint, by reason.";
    page.family("warpdrive_upstream_rejections", Kind::Counter, help);
    for group in &groups {
        for (rejection, reason) in Rejection::ALL {
            let count = group.sum(|one| one.rejections(rejection));
            page.number(&[("upstream", &group.name), ("reason", &reason)], count);
        }
    }
    page.family("warpdrive_upstream_retries", Kind::Counter, "Requests that were tried on another endpoint.");
    for group in &groups {
        page.number(&[("upstream", &group.name)], group.sum(|one| &one.retries));
    }
    let help = "How often an endpoint was left alone for a while because requests to it had failed.";
    page.family("warpdrive_upstream_ejections", Kind::Counter, help);
    for group in &groups {
        page.number(&[("upstream", &group.name)], group.sum(|one| &one.ejections));
    }
    page.family("warpdrive_upstream_queued", Kind::Gauge, "Requests that wait for a connection.");
    for upstream in &seen.plan.upstreams {
        page.number(&[("upstream", &upstream.name)], seen.waiting(&upstream.name).0);
    }
    page.family("warpdrive_upstream_held", Kind::Gauge, "Requests that wait for a process that starts.");
    for upstream in &seen.plan.upstreams {
        page.number(&[("upstream", &upstream.name)], seen.waiting(&upstream.name).1);
    }
}

/// An address of an upstream, which may be that of several instances.
struct Endpoint<'a> {
    upstream: &'a str,
    address: &'a Address,
    is_up: bool,
    is_ejected: bool,
    business: Business,
}

fn endpoints(page: &mut Exposition, seen: &Observation) {
    let all = all_endpoints(seen);
    let mut family = |name: &str, help: &str, of: &dyn Fn(&Endpoint<'_>) -> u64| {
        page.family(name, Kind::Gauge, help);
        for one in &all {
            page.number(&[("upstream", &one.upstream), ("endpoint", one.address)], of(one));
        }
    };
    let help = "1 unless its health check fails or its process is not ready.";
    family("warpdrive_endpoint_up", help, &|one| u64::from(one.is_up));
    let help = "1 while it gets no requests because several have failed.";
    family("warpdrive_endpoint_ejected", help, &|one| u64::from(one.is_ejected));
    family("warpdrive_endpoint_in_flight", "Requests that are with it.", &|one| one.business.in_flight);
    let help = "Connections to it that wait for a request.";
    family("warpdrive_endpoint_idle_connections", help, &|one| one.business.idle);
}

fn all_endpoints(seen: &Observation) -> Vec<Endpoint<'_>> {
    let businesses = seen.businesses();
    let mut all: Vec<Endpoint<'_>> = Vec::new();
    for table in &seen.endpoints {
        let upstream = seen.plan.upstreams[table.upstream.0 as usize].name.as_str();
        let first = all.len();
        for endpoint in table.endpoints.iter() {
            let address = &endpoint.address;
            let (is_up, is_ejected) = (endpoint.vitals.is_up(), endpoint.vitals.ejection().is_ejected());
            match all[first..].iter_mut().find(|one| one.address == address) {
                Some(known) => {
                    known.is_up |= is_up;
                    known.is_ejected &= is_ejected;
                }
                None => {
                    let business = businesses.get(&(upstream, address)).copied().unwrap_or_default();
                    all.push(Endpoint { upstream, address, is_up, is_ejected, business });
                }
            }
        }
    }
    all
}

fn children(page: &mut Exposition, seen: &Observation) {
    page.family("warpdrive_child_state", Kind::Gauge, "1 for the state that a command is in.");
    for child in &seen.children {
        for state in [State::Starting, State::Ready, State::Stopped] {
            let is_it = u8::from(child.state == state);
            page.number(&[("child", &child.name), ("state", &state.word())], is_it);
        }
    }
    let help = "How often a command was started again after it had ended by itself.";
    page.family("warpdrive_child_restarts", Kind::Counter, help);
    for child in &seen.children {
        page.number(&[("child", &child.name)], child.restarts);
    }
}

fn workers(page: &mut Exposition, board: &Board, seen: &Observation) {
    let of_each = |page: &mut Exposition, of: &dyn Fn(usize) -> Option<u64>| {
        for worker in 0..seen.counters.len() {
            if let Some(value) = of(worker) {
                page.number(&[("worker", &worker)], value);
            }
        }
    };
    let mut stuck = vec![false; seen.counters.len()];
    board.stuck().for_each(|(worker, _)| stuck[worker] = true);
    page.family("warpdrive_worker_up", Kind::Gauge, "0 if a worker has not responded for several seconds.");
    of_each(page, &|worker| Some(u64::from(!stuck[worker])));
    let counted =
        |of: fn(&Counters) -> &Counter| move |worker: usize| Some(of(&seen.counters[worker]).value());
    page.family("warpdrive_worker_requests", Kind::Counter, "Requests that ended, and connections refused.");
    of_each(page, &counted(|counters| &counters.exchanges));
    page.family("warpdrive_worker_connections", Kind::Gauge, "Connections of clients that are open.");
    of_each(page, &|worker| seen.loads[worker].as_ref().map(|load| load.open as u64));
    let help = "Those of them that were refused and are read until the client has seen the answer.";
    page.family("warpdrive_worker_lingering_connections", Kind::Gauge, help);
    of_each(page, &|worker| seen.loads[worker].as_ref().map(|load| load.lingering as u64));
    let help = "How much later than due its event loop came to its next tick, ten times a second.";
    page.family("warpdrive_worker_delay_seconds", Kind::Histogram, help);
    for (worker, counters) in seen.counters.iter().enumerate() {
        page.histogram(&[("worker", &worker)], std::iter::once(&counters.ticks));
    }
}
