//! Policies as they run: names to ids, defaults filled in, and each file looked at.

use std::path::PathBuf;
use std::time::Duration;

use super::guests;
use crate::config::{self, Config, Diagnostic};
use crate::upstream::PolicyId;
use crate::wasm::hooks::settings::{Limits, Policy};

const MEMORY: u64 = 64 << 20;
const TIME: Duration = Duration::from_millis(2);

/// All of them, in document order.
pub fn settings(config: &Config, diagnostics: &mut Vec<Diagnostic>) -> Vec<Policy> {
    for policy in &config.wasm.policies {
        if let Some(file) = &policy.file {
            let help = "until it is there, the fallback of its upstreams decides";
            guests::look_at(file, &guests::POLICY, help, diagnostics);
        }
        let is_meant = |upstream: &config::Upstream| {
            upstream.policy.as_ref().is_some_and(|name| name.value == policy.name.value)
        };
        if !config.upstreams.iter().any(is_meant) {
            let name = &policy.name.value;
            let message = format!("policy `{name}` is not used by any upstream");
            let help = format!("an upstream uses it with strategy = \"wasm\" and policy = \"{name}\"");
            diagnostics.push(Diagnostic::warning(policy.name.place.clone(), message).with_help(help));
        }
    }
    config.wasm.policies.iter().map(policy).collect()
}

/// The policy that an upstream names.
pub fn of_upstream(config: &Config, upstream: &config::Upstream) -> Option<PolicyId> {
    let name = upstream.policy.as_ref()?;
    find(config, &name.value)
}

/// Upstreams whose policy is not there, or that cannot have one.
pub fn refuse_unknown(config: &Config, diagnostics: &mut Vec<Diagnostic>) {
    for name in config.upstreams.iter().filter_map(|upstream| upstream.policy.as_ref()) {
        if !cfg!(feature = "wasm") {
            diagnostics.push(super::workloads::absent(&name.place));
        } else if find(config, &name.value).is_none() {
            let defined = config.wasm.policies.iter().map(|policy| policy.name.value.as_str());
            let message = format!("policy `{}` is not defined", name.value);
            let help = match config::nearest(&name.value, defined.clone()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None if config.wasm.policies.is_empty() => {
                    format!("define it: [wasm.policies.{}]", name.value)
                }
                None => format!("there are {}", defined.collect::<Vec<_>>().join(", ")),
            };
            diagnostics.push(Diagnostic::error(name.place.clone(), message).with_help(help));
        }
    }
}

fn find(config: &Config, name: &str) -> Option<PolicyId> {
    let mut all = (0..).map(PolicyId).zip(&config.wasm.policies);
    all.find(|(_, policy)| policy.name.value == name).map(|(id, _)| id)
}

fn policy(written: &config::Policy) -> Policy {
    let name = written.name.value.clone();
    Policy {
        place: written.place.file_and_line(),
        file: written.file.as_ref().map_or_else(PathBuf::new, |file| file.value.clone()),
        config: written.config.clone(),
        limits: Limits {
            memory: written.max_memory.unwrap_or(MEMORY),
            time: written.max_execution_time.unwrap_or(TIME),
        },
        store: guests::store(&written.name, written.store.as_ref()).to_owned(),
        store_bytes: guests::store_bytes(written.store_size),
        name,
    }
}
