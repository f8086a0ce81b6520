//! What there is to see of every guest that is called on a request's way, whatever it is for.

use std::sync::atomic::Ordering::Relaxed;

use super::observation::Observation;
use crate::telemetry::exposition::{Exposition, Kind};
use crate::wasm::hooks::facilities::Component;

pub fn numbers(page: &mut Exposition, seen: &Observation) {
    let guests = &seen.plan.guests;
    let all = || {
        let policies = guests.policies.iter().map(|policy| &*policy.guest.component);
        policies.chain(guests.filters.iter().map(|filter| &*filter.guest.component))
    };
    page.family("warpdrive_wasm_instances_made", Kind::Counter, "Instances of a component that were made.");
    for Component { name, account, .. } in all() {
        page.number(&[("component", &name)], account.sum(|part| part.made.value()));
    }
    page.family("warpdrive_wasm_memory_bytes", Kind::Gauge, "Memory of the instances of a component.");
    for Component { name, account, .. } in all() {
        page.number(&[("component", &name)], account.sum(|part| part.memory.load(Relaxed)));
    }
    page.family("warpdrive_wasm_store_bytes", Kind::Gauge, "What a component's store has in use.");
    for component in all() {
        page.number(&[("component", &component.name)], component.store.used());
    }
    let help = "Bodies that are held because middleware is to see them whole.";
    page.family("warpdrive_wasm_held_bodies_bytes", Kind::Gauge, help);
    page.number(&[], guests.bodies.used());
    page.family("warpdrive_wasm_metric", Kind::Summary, "What a component has observed, by its own names.");
    for Component { name, account, .. } in all() {
        for (metric, sum, count) in account.observations() {
            page.summary(&[("component", &name), ("name", &metric)], sum, count);
        }
    }
    let help = "Observations of a component whose name or value could not be.";
    page.family("warpdrive_wasm_metrics_dropped", Kind::Counter, help);
    for Component { name, account, .. } in all() {
        page.number(&[("component", &name)], account.sum(|part| part.observations_dropped.load(Relaxed)));
    }
    let help = "Lines of a component that were too many for the log.";
    page.family("warpdrive_wasm_log_dropped_lines", Kind::Counter, help);
    for Component { name, account, .. } in all() {
        page.number(&[("component", &name)], account.sum(|part| part.log.dropped().lines));
    }
    let help = "Bytes of what a component wrote that were too many for the log.";
    page.family("warpdrive_wasm_log_dropped_bytes", Kind::Counter, help);
    for Component { name, account, .. } in all() {
        page.number(&[("component", &name)], account.sum(|part| part.log.dropped().bytes));
    }
}
