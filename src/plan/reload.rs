//! What a running process takes over of a changed configuration, and what it cannot.

use super::compile::{Loaded, load};
use super::{Plan, Server};
use crate::config::{self, Diagnostic, Place, Sources};
use crate::process::events;
use crate::telemetry::access_log::Destination;

/// Parses and compiles for a process that runs by another plan.
///
/// # Errors
/// As of [`load`]; or every setting that only another process could have.
pub fn reload(
    sources: &Sources,
    running: &Plan,
    events: events::Settings,
) -> Result<Loaded, Vec<Diagnostic>> {
    let mut loaded = load(sources)?;
    keep_threads(&mut loaded.plan.server, &running.server);
    let mut refused: Vec<Diagnostic> = fixed(&loaded, running, events)
        .into_iter()
        .filter(|(_, is_changed)| *is_changed)
        .map(|(key, _)| refuse(sources, key))
        .collect();
    if refused.is_empty() {
        return Ok(loaded);
    }
    refused.extend(loaded.warnings);
    config::sort(&mut refused);
    Err(refused)
}

/// What the machine can run at once may change; the number of workers does not follow.
fn keep_threads(server: &mut Server, running: &Server) {
    if server.is_default_threads && running.is_default_threads {
        server.worker_threads = running.worker_threads;
    }
}

/// What cannot change, and whether it would.
fn fixed(loaded: &Loaded, running: &Plan, events: events::Settings) -> [(&'static str, bool); 9] {
    let next = &loaded.plan;
    let (server, before) = (&next.server, &running.server);
    let destination = match &next.log.destination {
        Destination::File(_) => "log.file",
        Destination::Stdout | Destination::Stderr | Destination::Journald(_) => "log.output",
    };
    let (export, exported) = (&next.tracing.export, &running.tracing.export);
    let export_key = match (export, exported) {
        (Some(one), Some(other)) if one.service_name != other.service_name => "tracing.service_name",
        _ => "tracing.export",
    };
    [
        ("server.worker_threads", server.worker_threads != before.worker_threads),
        ("server.pin_cores", server.pin_cores != before.pin_cores),
        ("server.io", server.io != before.io),
        ("middleware.log_requests", next.log.enabled != running.log.enabled),
        (destination, next.log.destination != running.log.destination),
        ("log.level", loaded.events.level != events.level),
        ("log.events", loaded.events.form != events.form),
        (export_key, export != exported),
        // The room for them is made once, when there are the first components.
        ("wasm.instances_total", next.wasm.is_other_room(&running.wasm)),
    ]
}

fn refuse(sources: &Sources, key: &str) -> Diagnostic {
    let settings = config::settings(sources);
    let written = settings.into_iter().find(|setting| setting.key == key).and_then(|setting| setting.value);
    let (place, what) = match (written, &sources.file) {
        (Some(value), _) => (value.place, "changed"),
        (None, Some(file)) => (Place::File(file.name()), "removed"),
        (None, None) => (Place::Default, "removed"),
    };
    let message = format!("{key} cannot be {what} while WarpDrive runs");
    Diagnostic::error(place, message).with_help("change it back, or restart WarpDrive: nothing was reloaded")
}
