//! Policies as they run: names to ids, defaults filled in, and each file looked at.

use super::guests;
use crate::config::{self, Config, Diagnostic};
use crate::upstream::PolicyId;
use crate::wasm::hooks::settings::Guest;

/// All of them, in document order.
pub fn settings(config: &Config, diagnostics: &mut Vec<Diagnostic>) -> Vec<Guest> {
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
    config.wasm.policies.iter().map(guests::settings).collect()
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
