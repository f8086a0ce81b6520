//! Policies as they run: names to ids, defaults filled in, and each file looked at.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::{self, Config, Diagnostic};
use crate::upstream::PolicyId;
use crate::wasm::hooks::settings::{Limits, Policy};

const MEMORY: u64 = 64 << 20;
const TIME: Duration = Duration::from_millis(2);
const STORE_BYTES: usize = 16 << 20;

/// All of them, in document order.
pub fn settings(config: &Config, diagnostics: &mut Vec<Diagnostic>) -> Vec<Policy> {
    look_at_files(config, diagnostics);
    compare_stores(config, diagnostics);
    for policy in &config.wasm.policies {
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
        store: written.store.as_ref().map_or_else(|| name.clone(), |store| store.value.clone()),
        store_bytes: store_bytes(written),
        name,
    }
}

fn store_bytes(written: &config::Policy) -> usize {
    written.store_size.map_or(STORE_BYTES, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX))
}

/// Policies that share a store have to agree on how large it is.
fn compare_stores(config: &Config, diagnostics: &mut Vec<Diagnostic>) {
    let of = |policy: &config::Policy| match &policy.store {
        Some(store) => store.value.clone(),
        None => policy.name.value.clone(),
    };
    for (index, one) in config.wasm.policies.iter().enumerate() {
        let mut before = config.wasm.policies[..index].iter().filter(|before| of(before) == of(one));
        let Some(other) = before.find(|before| store_bytes(before) != store_bytes(one)) else { continue };
        let (name, other) = (&one.name.value, &other.name.value);
        let message =
            format!("policies `{other}` and `{name}` share the store `{}`, but not its size", of(one));
        let help = "give both the same store_size";
        diagnostics.push(Diagnostic::error(one.place.clone(), message).with_help(help));
    }
}

/// A file that is not there is only warned of: the fallback decides without it. What is there and is
/// no policy will never be one.
#[cfg(feature = "wasm")]
fn look_at_files(config: &Config, diagnostics: &mut Vec<Diagnostic>) {
    use crate::wasm::hooks::inspect::check;
    use crate::wasm::inspect;

    for policy in &config.wasm.policies {
        let Some(file) = &policy.file else { continue };
        let path = file.value.display();
        let found = match inspect::read(&file.value) {
            Ok(bytes) => inspect::world(&bytes).and_then(|world| check(&world)),
            Err(refusal) if !file.value.exists() => {
                let message = format!("{path}: {}", refusal.message);
                let help = "until it is there, the fallback of its upstreams decides";
                diagnostics.push(Diagnostic::warning(file.place.clone(), message).with_help(help));
                continue;
            }
            Err(refusal) => Err(refusal),
        };
        if let Err(refusal) = found {
            let message = format!("{path}: {}", refusal.message);
            let wrong = Diagnostic::error(file.place.clone(), message);
            diagnostics.push(Diagnostic { help: refusal.help, ..wrong });
        }
    }
}

#[cfg(not(feature = "wasm"))]
fn look_at_files(_: &Config, _: &mut Vec<Diagnostic>) {}
