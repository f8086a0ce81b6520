//! What there is to see of middleware: numbers for `/metrics`, and what `/status` says.

use std::sync::atomic::Ordering::Relaxed;

use serde_json::{Map, Value, json};

use super::observation::Observation;
use crate::plan::FilterId;
use crate::telemetry::exposition::{Exposition, Kind};
use crate::wasm::hooks::filter::tally::Hook;
use crate::wasm::hooks::filter::{Access, Filter};

pub fn numbers(page: &mut Exposition, seen: &Observation) {
    let each =
        || seen.plan.guests.filters.iter().map(|filter| (filter.guest.settings.name.as_str(), &filter.tally));
    let help = "Calls of a middleware by hook and by what came of them. Without an instance there was none.";
    page.family("warpdrive_wasm_middleware_calls", Kind::Counter, help);
    for (name, tally) in each() {
        for (hook, hook_word) in Hook::ALL {
            for (outcome, word) in hook.outcomes() {
                let count = tally.count(hook, outcome);
                page.number(&[("middleware", &name), ("hook", &hook_word), ("result", &word)], count);
            }
        }
    }
    let help = "What the calls of a middleware took, by hook.";
    page.family("warpdrive_wasm_middleware_call_seconds", Kind::Histogram, help);
    for (name, tally) in each() {
        for (hook, word) in Hook::ALL {
            page.histogram(&[("middleware", &name), ("hook", &word)], tally.durations(hook));
        }
    }
    let help =
        "Failures of a middleware by what was done: open let the exchange pass without it, closed answered.";
    page.family("warpdrive_wasm_middleware_failures", Kind::Counter, help);
    for (name, tally) in each() {
        page.number(&[("middleware", &name), ("action", &"open")], tally.sum(|part| &part.opened));
        page.number(&[("middleware", &name), ("action", &"closed")], tally.sum(|part| &part.closed));
    }
    let help = "Requests that a middleware has sent itself.";
    page.family("warpdrive_wasm_middleware_requests", Kind::Counter, help);
    for (name, tally) in each() {
        page.number(&[("middleware", &name)], tally.sum(|part| &part.sent));
    }
}

pub fn status(seen: &Observation) -> Value {
    let filters = seen.plan.guests.filters.iter().enumerate();
    filters.map(|(index, filter)| one(FilterId(index as u32), filter, seen)).collect()
}

fn one(id: FilterId, filter: &Filter, seen: &Observation) -> Value {
    let calls: Map<String, Value> = Hook::ALL
        .iter()
        .map(|(hook, word)| {
            let counts = hook.outcomes().map(|(outcome, word)| (word, filter.tally.count(*hook, outcome)));
            let counts: Map<String, Value> = counts
                .filter(|(_, count)| *count > 0)
                .map(|(word, count)| (word.into(), count.into()))
                .collect();
            ((*word).to_owned(), counts.into())
        })
        .collect();
    let routes: Vec<&str> = seen
        .plan
        .routes
        .iter()
        .filter(|route| route.filters.contains(&id))
        .map(|route| route.label.as_str())
        .collect();
    let hooks = [
        (filter.hooks.request, Hook::Request),
        (filter.hooks.response, Hook::Response),
        (filter.hooks.log, Hook::Log),
        (filter.hooks.request_body == Access::Stream, Hook::RequestBody),
        (filter.hooks.response_body == Access::Stream, Hook::ResponseBody),
    ];
    let hooks: Vec<&str> = hooks.iter().filter(|(has, _)| *has).map(|(_, hook)| hook.word()).collect();
    json!({
        "middleware": filter.guest.settings.name,
        "state": if filter.guest.failure().is_none() { "loaded" } else { "absent" },
        "failure": filter.guest.failure(),
        "hooks": if filter.guest.failure().is_none() { hooks } else { Vec::new() },
        "routes": routes,
        "calls": calls,
        "passed_after_failures": filter.tally.sum(|part| &part.opened),
        "refused_after_failures": filter.tally.sum(|part| &part.closed),
        "requests_sent": filter.tally.sum(|part| &part.sent),
        "memory_bytes": filter.guest.component.account.sum(|part| part.memory.load(Relaxed)),
    })
}
