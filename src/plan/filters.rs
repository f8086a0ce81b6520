//! Middleware as it runs: names to ids, defaults filled in, and each file looked at.

use std::time::Duration;

use super::routes::{forward_to, undefined};
use super::{Allowed, guests};
use crate::config::{self, Config, Diagnostic};
use crate::wasm::hooks::settings::{Filter, OnFailure, Waiting, Way};
use crate::wasm::settings::FilterId;

const STATUS: u16 = 503;
const BODY_MAX: usize = 1 << 20;
const TIMEOUT: Duration = Duration::from_secs(5);
const INSTANCES: usize = 16;

/// In the list of one route. An exchange has one bit for each.
const OF_ROUTE_MAX: usize = 32;

/// All of it, in document order.
pub fn settings(config: &Config, bodies_total: u64, diagnostics: &mut Vec<Diagnostic>) -> Vec<Filter> {
    for filter in &config.wasm.filters {
        let name = &filter.guest.name.value;
        if let Some(file) = &filter.guest.file {
            let help = match filter.on_load_failure {
                Some(config::Way::Open) => "until it is there, requests pass without it",
                _ => "until it is there, its routes answer nothing but its status",
            };
            guests::look_at(file, &guests::FILTER, help, diagnostics);
        }
        if let Some(policy) = config.wasm.policies.iter().find(|policy| policy.name.value == *name) {
            let message = format!("a policy and a middleware are both called `{name}`");
            let taken = Diagnostic::error(filter.guest.name.place.clone(), message);
            let taken = taken.with_related(policy.name.place.clone(), "the policy");
            diagnostics.push(taken.with_help("give one of them another name: their numbers go by it"));
        }
        let most = filter.max_body.unwrap_or(BODY_MAX as u64);
        if most > bodies_total {
            let [most, total] = [most, bodies_total].map(config::show_size);
            let message = format!(
                "max_body of middleware `{name}` is {most}, more than bodies_total of [wasm], which is {total}"
            );
            let help =
                "all bodies that are held at once share bodies_total: make it larger, or max_body smaller";
            diagnostics.push(Diagnostic::error(filter.guest.place.clone(), message).with_help(help));
        }
        let has_it = |route: &config::Route| route.filters.iter().any(|one| one.value == *name);
        if !config.routes.iter().any(has_it) {
            let message = format!("middleware `{name}` is not used by any route");
            let help = format!("a route uses it with middleware = [\"{name}\"]");
            diagnostics.push(Diagnostic::warning(filter.guest.name.place.clone(), message).with_help(help));
        }
    }
    config.wasm.filters.iter().map(filter).collect()
}

/// Those of a route, in the order in which requests pass them. What is wrong with them is reported.
pub fn of_route(
    config: &Config,
    route: &config::Route,
    diagnostics: &mut Vec<Diagnostic>,
) -> Box<[FilterId]> {
    let mut ids = Vec::with_capacity(route.filters.len());
    for (index, name) in route.filters.iter().enumerate() {
        let mut all = (0..).map(FilterId).zip(&config.wasm.filters);
        if !cfg!(feature = "wasm") {
            diagnostics.push(super::workloads::absent(&name.place));
        } else if let Some(first) = route.filters[..index].iter().find(|first| first.value == name.value) {
            let message = format!("middleware `{}` is twice in the list of this route", name.value);
            let twice = Diagnostic::error(name.place.clone(), message);
            let twice = twice.with_related(first.place.clone(), "first here");
            diagnostics.push(twice.with_help("remove one of them"));
        } else if let Some((id, _)) = all.find(|(_, filter)| filter.guest.name.value == name.value) {
            ids.push(id);
        } else {
            let names = config.wasm.filters.iter().map(|one| &one.guest.name);
            diagnostics.push(undefined("middleware", "wasm.middleware", names, name));
        }
    }
    if let Some(name) = route.filters.get(OF_ROUTE_MAX) {
        let message = format!("a route has at most {OF_ROUTE_MAX} middleware");
        diagnostics.push(Diagnostic::error(name.place.clone(), message));
    }
    ids.into()
}

/// The upstreams that each may choose, by [`FilterId`].
pub fn allowed(config: &Config, diagnostics: &mut Vec<Diagnostic>) -> Box<[Box<[Allowed]>]> {
    let mut one = |name: &config::Written<String>| {
        let to = forward_to(config, name, diagnostics)?;
        Some(Allowed { name: name.value.clone(), to })
    };
    config.wasm.filters.iter().map(|filter| filter.upstreams.iter().filter_map(&mut one).collect()).collect()
}

fn filter(written: &config::Filter) -> Filter {
    let way = |written: Option<config::Way>| match written {
        Some(config::Way::Open) => Way::Open,
        // What is not sure is not let through.
        None | Some(config::Way::Closed) => Way::Closed,
    };
    Filter {
        guest: guests::settings(&written.guest),
        on_failure: OnFailure {
            error: way(written.on_error),
            timeout: way(written.on_timeout),
            overload: way(written.on_overload),
            load: way(written.on_load_failure),
            status: written.status.unwrap_or(STATUS),
        },
        body_max: written.max_body.map_or(BODY_MAX, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
        waiting: Waiting {
            timeout: written.timeout.unwrap_or(TIMEOUT),
            instances: written.instances.unwrap_or(INSTANCES),
        },
    }
}
