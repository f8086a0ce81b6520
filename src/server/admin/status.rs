//! `/status`: what runs, as one JSON object. Keys may be added; none changes its meaning or goes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use serde_json::{Map, Value, json};

use super::board::{Board, Phase};
use super::observation::{Business, Group, Observation};
use super::{filters, policies};
use crate::process::readiness;
use crate::process::settings::Settings;
use crate::server::operation;
use crate::telemetry::Counters;
use crate::telemetry::counters::{
    BOUNDS_US, Counter, Failure, Histogram, Rejection, RouteCounters, UpstreamCounters,
};
use crate::upstream::{Endpoint, Endpoints, Health, Supervision};

pub fn status(board: &Board, seen: &Observation) -> Value {
    let phase = match board.phase() {
        Phase::Starting => "starting",
        Phase::Serving => "serving",
        Phase::Draining => "draining",
    };
    let tunnels = seen.sum(|counters| &counters.tunnels);
    let open: usize = seen.loads.iter().flatten().map(|load| load.open).sum();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "state": phase,
        "uptime_seconds": board.uptime().as_secs(),
        "generation": generation(seen),
        "workers": workers(board, seen),
        "connections": {
            "open": open,
            "accepted": seen.sum(|counters| &counters.connections),
            "denied": seen.sum(|counters| &counters.denied) + seen.sum(|counters| &counters.denied_by_address),
            "tunnels": tunnels.saturating_sub(seen.sum(|counters| &counters.tunnels_ended)),
        },
        "requests": seen.sum(|counters| &counters.exchanges),
        "log_lines_dropped": seen.sum(|counters| &counters.log_dropped),
        "panics": seen.sum(|counters| &counters.panics),
        // Upper ends of what the counts of durations are of; the last count is of what took longer.
        "bounds_seconds": BOUNDS_US.map(|us| f64::from(us) / 1e6),
        "routes": routes(seen),
        "upstreams": upstreams(seen),
        "policies": policies::status(seen),
        "middleware": filters::status(seen),
        "children": children(seen),
    })
}

/// Which plan is in force, and what still runs by earlier ones.
fn generation(seen: &Observation) -> Value {
    let since = seen.generation.since.duration_since(UNIX_EPOCH).unwrap_or_default();
    let former = seen.former.iter();
    let former: Vec<Value> =
        former.map(|(number, connections)| json!({ "number": number, "connections": connections })).collect();
    json!({
        "number": seen.generation.number,
        "since": since.as_secs(),
        "age_seconds": seen.generation.since.elapsed().unwrap_or_default().as_secs(),
        "former": former,
    })
}

fn workers(board: &Board, seen: &Observation) -> Vec<Value> {
    let mut silences = board.silences();
    let stuck: Vec<usize> = board.stuck().map(|(worker, _)| worker).collect();
    let counters = seen.counters.iter().enumerate();
    let worker = |(worker, counters): (usize, &Arc<Counters>)| {
        json!({
            "worker": worker,
            "responds": !stuck.contains(&worker),
            "silent_ms": silences.next().map(|silence| silence.as_millis() as u64),
            // Not known of one that is busy.
            "connections": seen.loads[worker].as_ref().map(|load| load.open),
            "requests": counters.exchanges.value(),
        })
    };
    counters.map(worker).collect()
}

fn counts<'a>(histograms: impl Iterator<Item = &'a Histogram>) -> Vec<u64> {
    let mut sums = vec![0; BOUNDS_US.len() + 1];
    for histogram in histograms {
        sums.iter_mut().zip(histogram.counts()).for_each(|(sum, count)| *sum += count);
    }
    sums
}

/// Those that have had a request.
fn routes(seen: &Observation) -> Vec<Value> {
    let mut places: HashMap<&str, Vec<&str>> = HashMap::new();
    for route in &seen.plan.routes {
        places.entry(&route.label).or_default().push(&route.place);
    }
    let groups = seen.routes().into_iter();
    let route = |group: Group<RouteCounters>| {
        let statuses: Vec<u64> = (0..6).map(|class| group.sum(|one| &one.statuses[class])).collect();
        let requests: u64 = statuses.iter().sum();
        let seconds: u64 = group.histograms(|one| &one.duration).map(|one| one.sum_ns()).sum();
        (requests > 0).then(|| {
            json!({
                "route": &*group.name,
                "places": places.get(&*group.name).cloned().unwrap_or_default(),
                "requests": requests,
                "statuses": {
                    "1xx": statuses[1], "2xx": statuses[2], "3xx": statuses[3],
                    "4xx": statuses[4], "5xx": statuses[5], "none": statuses[0],
                },
                "bytes_in": group.sum(|one| &one.bytes_in),
                "bytes_out": group.sum(|one| &one.bytes_out),
                "duration_seconds": seconds as f64 / 1e9,
                "duration_counts": counts(group.histograms(|one| &one.duration)),
            })
        })
    };
    groups.filter_map(route).collect()
}

fn upstreams(seen: &Observation) -> Vec<Value> {
    let businesses = seen.businesses();
    let mut tables: HashMap<u32, &Endpoints> =
        seen.endpoints.iter().map(|table| (table.upstream.0, table)).collect();
    let mut all = Vec::new();
    let groups = seen.upstreams();
    for (settings, id) in seen.plan.upstreams.iter().zip(0..) {
        let (queued, held) = seen.waiting(&settings.name);
        let group = groups.iter().find(|group| *group.name == settings.name);
        let count = |of: &dyn Fn(&UpstreamCounters) -> &Counter| group.map_or(0, |group| group.sum(of));
        let responses = group.into_iter().flat_map(|group| group.histograms(|one| &one.response));
        let (answered, nanos) =
            responses.fold((0, 0), |(count, sum), one| (count + one.count(), sum + one.sum_ns()));
        let failures: Map<String, Value> = Failure::ALL
            .iter()
            .map(|(kind, word)| ((*word).into(), count(&|one| one.failures(*kind)).into()))
            .collect();
        let rejections: Map<String, Value> = Rejection::ALL
            .iter()
            .map(|(kind, word)| ((*word).into(), count(&|one| one.rejections(*kind)).into()))
            .collect();
        let table = tables.remove(&id);
        let endpoints = table.iter().flat_map(|table| table.endpoints.iter());
        let endpoints: Vec<Value> = endpoints
            .map(|one| {
                let business = businesses.get(&(settings.name.as_str(), &one.address));
                endpoint(one, settings.instances[one.instance as usize].backup, business.copied())
            })
            .collect();
        all.push(json!({
            "upstream": settings.name,
            "responses": answered,
            "response_seconds": nanos as f64 / 1e9,
            "retries": count(&|one| &one.retries),
            "ejections": count(&|one| &one.ejections),
            "failures": failures,
            "rejections": rejections,
            "queued": queued,
            "held": held,
            "endpoints": endpoints,
        }));
    }
    all
}

fn endpoint(endpoint: &Endpoint, is_backup: bool, business: Option<Business>) -> Value {
    let vitals = &endpoint.vitals;
    let health = match vitals.health() {
        Health::Unknown => "unknown",
        Health::Up => "up",
        Health::Down => "down",
    };
    let process = match vitals.supervision() {
        Supervision::None => None,
        Supervision::Ready => Some("ready"),
        Supervision::Starting => Some("starting"),
        Supervision::Stopped => Some("stopped"),
    };
    let business = business.unwrap_or_default();
    json!({
        "endpoint": endpoint.address.to_string(),
        "instance": endpoint.instance,
        "backup": is_backup,
        "usable": vitals.is_up() && !vitals.ejection().is_ejected(),
        "health": health,
        "process": process,
        "ejected": vitals.ejection().is_ejected(),
        "in_flight": business.in_flight,
        "idle_connections": business.idle,
    })
}

fn children(seen: &Observation) -> Vec<Value> {
    let settings = seen.plan.children.iter().map(|child| &child.settings);
    let child = |settings: &Settings| {
        let condition = seen.children.iter().find(|condition| condition.name == settings.name)?;
        let address: Option<readiness::Address> =
            condition.elsewhere.clone().or_else(|| operation::address(settings));
        Some(json!({
            "child": settings.name.to_string(),
            "state": condition.state.word(),
            "pid": condition.pid,
            "address": address.map(|address| address.to_string()),
            "restarts": condition.restarts,
            "last_end": (!condition.last_end.is_empty()).then_some(&condition.last_end),
        }))
    };
    settings.filter_map(child).collect()
}
