//! Whether a component is a policy, told by its world.

use crate::wasm::inspect::{Refusal, World};

const EXPORT: &str = "warpdrive:policy/load-balancer";

/// The interfaces that a policy can have.
const PROVIDED: [&str; 8] = [
    "warpdrive:guest/log",
    "warpdrive:guest/metrics",
    "warpdrive:guest/settings",
    "warpdrive:guest/clock",
    "warpdrive:guest/random",
    "warpdrive:guest/store",
    "warpdrive:guest/endpoints",
    "warpdrive:policy/requests",
];

fn is_version_0_1(version: &str) -> bool {
    version.strip_prefix("0.1.").is_some_and(|patch| patch.bytes().all(|byte| byte.is_ascii_digit()))
}

fn is(name: &str, interfaces: &[&str]) -> bool {
    let (interface, version) = name.split_once('@').unwrap_or((name, ""));
    interfaces.contains(&interface) && is_version_0_1(version)
}

/// # Errors
/// It is none, or wants what a policy cannot have.
pub fn check(world: &World) -> Result<(), Refusal> {
    if !world.exports.iter().any(|name| is(name, &[EXPORT])) {
        let exports = match world.exports.as_slice() {
            [] => "nothing".to_owned(),
            names => names.join(", "),
        };
        let message = format!("it is no policy: it exports {exports}, and not {EXPORT}@0.1.0");
        let refusal = Refusal { message, help: None };
        return Err(match world.imports.as_slice() {
            [] => refusal,
            names => Refusal { help: Some(format!("it imports {}", names.join(", "))), ..refusal },
        });
    }
    let missing: Vec<&str> =
        world.imports.iter().map(String::as_str).filter(|name| !is(name, &PROVIDED)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let help = match missing.iter().all(|name| name.starts_with("wasi:")) {
        true => {
            "a policy has no WASI: build for wasm32-unknown-unknown, or without the standard library's I/O"
        }
        false => "it must not wait, and has what `warpdrive:guest` and `warpdrive:policy/requests` give it",
    };
    let message = format!("it imports {}, which a policy cannot have", missing.join(", "));
    Err(Refusal { message, help: Some(help.to_owned()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_told_by_its_world() {
        let world = |imports: &[&str], exports: &[&str]| {
            let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            World { imports: owned(imports), exports: owned(exports) }
        };
        let export = "warpdrive:policy/load-balancer@0.1.0";
        let table = [
            (world(&[], &[export]), Ok(())),
            (world(&["warpdrive:guest/store@0.1.3"], &["a:b/c", export]), Ok(())),
            (
                world(&[], &[]),
                Err("it is no policy: it exports nothing, and not warpdrive:policy/load-balancer@0.1.0"),
            ),
            (
                world(&[], &["warpdrive:policy/load-balancer@0.2.0", "a:b/c"]),
                Err("it is no policy: it exports warpdrive:policy/load-balancer@0.2.0, a:b/c, \
                     and not warpdrive:policy/load-balancer@0.1.0"),
            ),
            (
                world(&["warpdrive:guest/http@0.1.0", "wasi:io/poll@0.2.0"], &[export]),
                Err("it imports warpdrive:guest/http@0.1.0, wasi:io/poll@0.2.0, which a policy cannot have"),
            ),
        ];
        for (world, expected) in table {
            let judged = check(&world).map_err(|refusal| refusal.message);
            assert_eq!(judged, expected.map_err(str::to_owned), "{world:?}");
        }
    }
}
