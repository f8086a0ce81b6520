//! What there is to see of policies: numbers for `/metrics`, and what `/status` says.

use std::fmt::Display;
use std::sync::atomic::Ordering::Relaxed;

use serde_json::{Map, Value, json};

use super::observation::Observation;
use crate::telemetry::exposition::{Exposition, Kind};
use crate::wasm::hooks::Policy;
use crate::wasm::hooks::account::{Call, Kind as Failure, Verdict};

pub fn numbers(page: &mut Exposition, seen: &Observation) {
    let policies = &seen.plan.guests.policies;
    let each = || {
        policies.iter().map(|policy| (policy.guest.settings.name.as_str(), &policy.guest.component.account))
    };
    let help = "Requests that a policy was to pick an endpoint for, by what came of it. Where it picked none, the fallback did.";
    page.family("warpdrive_wasm_policy_calls", Kind::Counter, help);
    for (name, account) in each() {
        for (verdict, word) in Verdict::ALL {
            page.number(&[("policy", &name), ("verdict", &word)], account.count(verdict));
        }
    }
    let help = "What a policy took to pick an endpoint, or to decline.";
    page.family("warpdrive_wasm_policy_call_seconds", Kind::Histogram, help);
    for (name, account) in each() {
        page.histogram(&[("policy", &name)], account.cores.iter().map(|part| &part.duration));
    }
    let help = "Calls of a policy that failed, by what they were for and how.";
    page.family("warpdrive_wasm_policy_failures", Kind::Counter, help);
    for (name, account) in each() {
        for (call, what) in Call::ALL {
            for (kind, how) in Failure::ALL {
                let labels: [(&str, &dyn Display); 3] = [("policy", &name), ("call", &what), ("kind", &how)];
                page.number(&labels, account.sum(|part| part.failures(call, kind).value()));
            }
        }
    }
}

pub fn status(seen: &Observation) -> Value {
    seen.plan.guests.policies.iter().map(|policy| one(policy, seen)).collect()
}

fn one(policy: &Policy, seen: &Observation) -> Value {
    let settings = &policy.guest.settings;
    let account = &policy.guest.component.account;
    let calls: Map<String, Value> =
        Verdict::ALL.iter().map(|(verdict, word)| ((*word).into(), account.count(*verdict).into())).collect();
    let uses = |upstream: &&crate::upstream::Settings| {
        let id = upstream.policy.map(|id| id.0 as usize);
        id.is_some_and(|id| seen.plan.wasm.policies[id].name == settings.name)
    };
    let upstreams: Vec<&str> =
        seen.plan.upstreams.iter().filter(uses).map(|upstream| upstream.name.as_str()).collect();
    // Core by core; of one that is busy, or has nothing to say, null.
    let statistics: Vec<Value> = seen
        .loads
        .iter()
        .map(|load| {
            let said = load.iter().flat_map(|load| &load.policies).find(|said| said.policy == settings.name);
            said.map_or(Value::Null, |said| said.statistics.clone())
        })
        .collect();
    json!({
        "policy": settings.name,
        "state": if policy.guest.failure().is_none() { "loaded" } else { "absent" },
        "failure": policy.guest.failure(),
        "name": policy.about.as_ref().map(|about| &about.name),
        "version": policy.about.as_ref().map(|about| &about.version),
        "upstreams": upstreams,
        "calls": calls,
        "memory_bytes": account.sum(|part| part.memory.load(Relaxed)),
        "statistics": policy.about.as_ref().map(|_| statistics),
    })
}
