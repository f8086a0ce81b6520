//! Components and workloads as they run: names to ids, defaults filled in, and each file looked at.

use std::path::PathBuf;
use std::time::Duration;

use super::{filters, guests, policies};
use crate::config::{self, Config, Diagnostic};
use crate::wasm::Settings;
use crate::wasm::settings::{Component, ComponentId, Limits, Patience, TABLE_ELEMENTS, Workload};

const CACHE_DIR: &str = "storage/warpdrive/wasm";
const MEMORY_TOTAL: u64 = 2 << 30;
const INSTANCES_TOTAL: u32 = 1000;
const BODIES_TOTAL: u64 = 256 << 20;

const MEMORY: u64 = 64 << 20;
const CPU: Duration = Duration::from_secs(1);
const TIME: Duration = Duration::from_secs(30);
const OUTPUT: u64 = 64 << 10;
const OUTPUT_RATE: u64 = 256 << 10;
const OUTGOING_REQUESTS: u32 = 100;
const REUSE: u32 = 1;
const INSTANCES: u32 = 100;
const WAITING: usize = 1000;
const WAITING_TIMEOUT: Duration = Duration::from_secs(5);
const IDLE: Duration = Duration::from_secs(60);
const FAILURES: u32 = 100;
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Everything about components; `cores` is the number of event loops.
pub fn settings(config: &Config, cores: usize, diagnostics: &mut Vec<Diagnostic>) -> Settings {
    let written = &config.wasm;
    if !cfg!(feature = "wasm") {
        if let Some(place) = &written.place {
            diagnostics.push(absent(place));
        }
        return Settings::default();
    }
    look_at_files(config, diagnostics);
    let workloads = written.workloads.iter().map(|one| workload(config, one, diagnostics)).collect();
    warn_of_unused(config, diagnostics);
    guests::compare_stores(config, diagnostics);
    let bodies_total = written.bodies_total.unwrap_or(BODIES_TOTAL);
    Settings {
        cache_dir: written.cache_dir.clone().unwrap_or_else(|| CACHE_DIR.into()),
        memory_total: written.memory_total.unwrap_or(MEMORY_TOTAL),
        instances_total: written.instances_total.unwrap_or(INSTANCES_TOTAL),
        bodies_total,
        cores,
        components: written.components.iter().map(|one| component(one, diagnostics)).collect(),
        workloads,
        policies: policies::settings(config, diagnostics),
        filters: filters::settings(config, bodies_total, diagnostics),
    }
}

/// There is nothing that could run a component.
pub fn absent(place: &config::Place) -> Diagnostic {
    let message = "this build has no Wasm: it was built without the feature `wasm`";
    Diagnostic::error(place.clone(), message).with_help("build it with the default features")
}

#[cfg(feature = "wasm")]
fn look_at_files(config: &Config, diagnostics: &mut Vec<Diagnostic>) {
    use crate::wasm::inspect;

    for component in &config.wasm.components {
        let Some(file) = &component.file else { continue };
        let found = inspect::read(&file.value).and_then(|bytes| inspect::check(&inspect::world(&bytes)?));
        if let Err(refusal) = found {
            let message = format!("{}: {}", file.value.display(), refusal.message);
            let wrong = Diagnostic::error(file.place.clone(), message);
            diagnostics.push(Diagnostic { help: refusal.help, ..wrong });
        }
    }
}

#[cfg(not(feature = "wasm"))]
fn look_at_files(_: &Config, _: &mut Vec<Diagnostic>) {}

fn component(written: &config::Component, diagnostics: &mut Vec<Diagnostic>) -> Component {
    let pairs = |pairs: &[(config::Written<String>, config::Written<String>)]| {
        pairs.iter().map(|(name, value)| (name.value.clone(), value.value.clone())).collect()
    };
    Component {
        name: written.name.value.clone(),
        place: written.place.file_and_line(),
        file: written.file.as_ref().map_or_else(PathBuf::new, |file| file.value.clone()),
        env: pairs(&written.env),
        config: pairs(&written.config),
        limits: limits(&written.limits, diagnostics),
    }
}

fn limits(written: &config::ComponentLimits, diagnostics: &mut Vec<Diagnostic>) -> Limits {
    Limits {
        memory: written.memory.unwrap_or(MEMORY),
        table_elements: written.table_elements.unwrap_or(TABLE_ELEMENTS),
        cpu: written.cpu.unwrap_or(CPU),
        time: written.time.unwrap_or(TIME),
        request_body: written.request_body.filter(|bytes| *bytes > 0),
        response_body: written.response_body.filter(|bytes| *bytes > 0),
        output: written.output.unwrap_or(OUTPUT),
        output_rate: written.output_rate.unwrap_or(OUTPUT_RATE),
        outgoing_requests: written.outgoing_requests.unwrap_or(OUTGOING_REQUESTS),
        outgoing_body: written.outgoing_body.filter(|bytes| *bytes > 0),
        reuse: written.reuse.unwrap_or(REUSE),
        instances: written.instances.unwrap_or(INSTANCES),
        waiting: written.waiting.unwrap_or(WAITING),
        waiting_timeout: written.waiting_timeout.unwrap_or(WAITING_TIMEOUT),
        idle: written.idle.unwrap_or(IDLE),
        patience: patience(written, diagnostics),
    }
}

fn patience(written: &config::ComponentLimits, diagnostics: &mut Vec<Diagnostic>) -> Patience {
    let [pause, pause_max] = [(&written.pause, PAUSE), (&written.pause_max, PAUSE_MAX)]
        .map(|(written, default)| written.as_ref().map_or(default, |written| written.value));
    if let (true, Some(wrong)) = (pause > pause_max, written.pause.as_ref().or(written.pause_max.as_ref())) {
        let [first, most] = [pause, pause_max].map(config::show_duration);
        let message = format!("pause is {first}, longer than pause_max, which is {most}");
        let help = "the first pause is as long as pause, and no later one longer than pause_max";
        diagnostics.push(Diagnostic::error(wrong.place.clone(), message).with_help(help));
    }
    Patience { failures: written.failures.unwrap_or(FAILURES), pause, pause_max }
}

/// Its components by their paths; what cannot be told apart is reported.
fn workload(config: &Config, written: &config::Workload, diagnostics: &mut Vec<Diagnostic>) -> Workload {
    let mut members: Vec<(&config::Component, ComponentId)> = Vec::new();
    for name in &written.components {
        match find(config, &name.value) {
            None => diagnostics.push(undefined(config, name)),
            Some((found, _)) if members.iter().any(|(one, _)| one.name.value == found.name.value) => {
                let message =
                    format!("component `{}` is twice in workload `{}`", name.value, written.name.value);
                diagnostics
                    .push(Diagnostic::error(name.place.clone(), message).with_help("remove one of them"));
            }
            Some(found) => members.push(found),
        }
    }
    let without_path: Vec<_> = members.iter().filter(|(one, _)| one.path.is_none()).collect();
    if let [(first, _), (second, _), ..] = without_path.as_slice() {
        let (one, other, name) = (&first.name.value, &second.name.value, &written.name.value);
        let message = format!("components `{one}` and `{other}` of workload `{name}` both take all paths");
        let help = format!(
            "give at least one of them a path: [wasm.components.{other}.interface_config.\"{}\"] path = \"/{other}\"",
            config::HANDLER
        );
        diagnostics.push(Diagnostic::error(written.place.clone(), message).with_help(help));
    }
    let rest = without_path.first().map(|(_, id)| *id);
    let paths: Vec<_> =
        members.iter().filter_map(|(one, id)| Some((one.path.as_ref()?.value.clone(), *id))).collect();
    refuse_conflicts(written, &members, diagnostics);
    Workload { name: written.name.value.clone(), paths, rest }
}

fn find<'a>(config: &'a Config, name: &str) -> Option<(&'a config::Component, ComponentId)> {
    let mut all = config.wasm.components.iter().zip((0..).map(ComponentId));
    all.find(|(component, _)| component.name.value == name)
}

#[cfg(feature = "wasm")]
fn refuse_conflicts(
    workload: &config::Workload,
    members: &[(&config::Component, ComponentId)],
    diagnostics: &mut Vec<Diagnostic>,
) {
    use crate::wasm::workload::{PathFault, check_paths};

    let with_path: Vec<_> = members.iter().filter_map(|(one, _)| Some((one, one.path.as_ref()?))).collect();
    let paths = with_path.iter().map(|(_, path)| path.value.as_str());
    let Err((number, fault)) = check_paths(paths) else { return };
    let (component, path) = with_path[number];
    let wrong = match fault {
        PathFault::Malformed(why) => {
            let message = format!("path is not a pattern: {why}");
            let help = "such as \"/user/{id}\" or \"/files/{*rest}\"";
            Diagnostic::error(path.place.clone(), message).with_help(help)
        }
        PathFault::Taken(by) => {
            let other = with_path.iter().find(|(_, path)| path.value == by);
            let name = other.map_or("", |(other, _)| other.name.value.as_str());
            let message = format!(
                "components `{name}` and `{}` of workload `{}` take the same path",
                component.name.value, workload.name.value
            );
            let taken = Diagnostic::error(path.place.clone(), message);
            match other {
                Some((_, first)) => taken.with_related(first.place.clone(), "the other one"),
                None => taken,
            }
        }
    };
    diagnostics.push(wrong);
}

#[cfg(not(feature = "wasm"))]
fn refuse_conflicts(_: &config::Workload, _: &[(&config::Component, ComponentId)], _: &mut Vec<Diagnostic>) {}

fn undefined(config: &Config, name: &config::Written<String>) -> Diagnostic {
    let undefined =
        Diagnostic::error(name.place.clone(), format!("component `{}` is not defined", name.value));
    let names = || config.wasm.components.iter().map(|one| one.name.value.as_str());
    match config::nearest(&name.value, names()) {
        Some(meant) => undefined.with_help(format!("did you mean `{meant}`?")),
        None => undefined.with_help(format!("write [wasm.components.{}]", name.value)),
    }
}

fn warn_of_unused(config: &Config, diagnostics: &mut Vec<Diagnostic>) {
    for component in &config.wasm.components {
        let name = &component.name.value;
        let has_it = |workload: &config::Workload| workload.components.iter().any(|one| one.value == *name);
        if !config.wasm.workloads.iter().any(has_it) {
            let message = format!("component `{name}` is in no workload");
            let unused = Diagnostic::warning(component.name.place.clone(), message);
            diagnostics.push(unused.with_help(format!("a workload has it with components = [\"{name}\"]")));
        }
    }
    for workload in &config.wasm.workloads {
        let name = &workload.name.value;
        let leads_to = |route: &config::Route| match &route.action {
            config::Action::Workload(to) => to.workload.value == *name,
            _ => false,
        };
        if !config.routes.iter().any(leads_to) {
            let message = format!("no request comes to workload `{name}`");
            let unused = Diagnostic::warning(workload.name.place.clone(), message);
            let help = format!(
                "a route leads to it with workload = \"{name}\", or it has a host interface with a host"
            );
            diagnostics.push(unused.with_help(help));
        }
    }
}
