//! Whether a component is a policy or middleware that can be run, told by its world.

use super::filter::smg;
use crate::wasm::inspect::{self, Refusal, World};

/// What a kind of guest exports and may import, all of it in version 0.1.
pub struct Interface {
    /// Such as "a policy", and "no policy".
    title: &'static str,
    none: &'static str,
    export: &'static str,
    /// What only this kind may import, besides what every guest may.
    own: &'static [&'static str],
    /// Why others are not there.
    help: &'static str,
    /// What those of another gateway export, each by itself.
    foreign: &'static [&'static str],
}

pub const POLICY: Interface = Interface {
    title: "a policy",
    none: "no policy",
    export: "warpdrive:policy/load-balancer",
    own: &["warpdrive:policy/requests"],
    help: "it must not wait, and has what `warpdrive:guest` and `warpdrive:policy/requests` give it",
    foreign: &[],
};

pub const FILTER: Interface = Interface {
    title: "middleware",
    none: "no middleware",
    export: "warpdrive:middleware/filter",
    own: &["warpdrive:middleware/messages", "warpdrive:middleware/chunks", "warpdrive:guest/http"],
    help: "it has what `warpdrive:guest` and `warpdrive:middleware/messages` give it",
    foreign: &[smg::ON_REQUEST, smg::ON_RESPONSE],
};

/// The interfaces that every guest can have.
const COMMON: [&str; 7] = [
    "warpdrive:guest/log",
    "warpdrive:guest/metrics",
    "warpdrive:guest/settings",
    "warpdrive:guest/clock",
    "warpdrive:guest/random",
    "warpdrive:guest/store",
    "warpdrive:guest/endpoints",
];

/// What guests export, and where they are configured.
const PLACES: [(&str, &str); 6] = [
    ("warpdrive:policy/load-balancer", "it is a policy: configure it as [wasm.policies.NAME]"),
    ("warpdrive:middleware/filter", "it is middleware: configure it as [wasm.middleware.NAME]"),
    (smg::ON_REQUEST, "it is middleware: configure it as [wasm.middleware.NAME]"),
    (smg::ON_RESPONSE, "it is middleware: configure it as [wasm.middleware.NAME]"),
    ("wasi:http/incoming-handler", "it answers requests: configure it as [wasm.components.NAME]"),
    ("wasi:http/handler", "it answers requests: configure it as [wasm.components.NAME]"),
];

fn is_version_0_1(version: &str) -> bool {
    version.strip_prefix("0.1.").is_some_and(|patch| patch.bytes().all(|byte| byte.is_ascii_digit()))
}

fn split(name: &str) -> (&str, &str) {
    name.split_once('@').unwrap_or((name, ""))
}

fn is(name: &str, interface: &str) -> bool {
    let (own, version) = split(name);
    own == interface && is_version_0_1(version)
}

impl Interface {
    /// Whatever its version, and whatever else a component with this export wants.
    pub fn is_exported(&self, world: &World) -> bool {
        world.exports.iter().any(|name| split(name).0 == self.export) || self.is_foreign(world)
    }

    fn is_foreign(&self, world: &World) -> bool {
        world.exports.iter().any(|name| self.foreign.contains(&name.as_str()))
    }

    /// # Errors
    /// It is no such guest, or wants what it cannot have.
    pub fn check(&self, world: &World) -> Result<(), Refusal> {
        if !world.exports.iter().any(|name| is(name, self.export)) {
            if self.is_foreign(world) {
                return check_foreign(world);
            }
            return Err(self.no_such_guest(world));
        }
        let is_there = |name: &str| self.own.iter().chain(&COMMON).any(|there| is(name, there));
        let missing: Vec<&str> =
            world.imports.iter().map(String::as_str).filter(|name| !is_there(name)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let title = self.title;
        let help = match missing.iter().all(|name| name.starts_with("wasi:")) {
            true => format!(
                "{title} has no WASI: build for wasm32-unknown-unknown, or without the standard library's I/O"
            ),
            false => self.help.to_owned(),
        };
        let message = format!("it imports {}, which {title} cannot have", missing.join(", "));
        Err(Refusal { message, help: Some(help) })
    }

    fn no_such_guest(&self, world: &World) -> Refusal {
        let exports = match world.exports.as_slice() {
            [] => "nothing".to_owned(),
            names => names.join(", "),
        };
        let is_other = |(interface, _): &&(&str, &str)| {
            *interface != self.export && world.exports.iter().any(|name| split(name).0 == *interface)
        };
        let help = match PLACES.iter().find(is_other) {
            Some((_, help)) => Some((*help).to_owned()),
            None if world.imports.is_empty() => None,
            None => Some(format!("it imports {}", world.imports.join(", "))),
        };
        let Interface { none, export, .. } = self;
        Refusal { message: format!("it is {none}: it exports {exports}, and not {export}@0.1.0"), help }
    }
}

/// One of another gateway has of WASI what its language brings along.
fn check_foreign(world: &World) -> Result<(), Refusal> {
    let is_there = |name: &&String| {
        name.as_str() == smg::TYPES || inspect::is_provided(name) && !split(name).0.starts_with("wasi:http/")
    };
    let missing: Vec<&str> =
        world.imports.iter().filter(|name| !is_there(name)).map(String::as_str).collect();
    match missing.is_empty() {
        true => Ok(()),
        false => {
            let message = format!("it imports {}, which middleware cannot have", missing.join(", "));
            Err(Refusal { message, help: Some("it has no HTTP and no sockets of its own".to_owned()) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_are_told_by_their_worlds() {
        let world = |imports: &[&str], exports: &[&str]| {
            let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            World { imports: owned(imports), exports: owned(exports) }
        };
        let policy = "warpdrive:policy/load-balancer@0.1.0";
        let filter = "warpdrive:middleware/filter@0.1.0";
        let table = [
            (&POLICY, world(&[], &[policy]), Ok(())),
            (&POLICY, world(&["warpdrive:guest/store@0.1.3"], &["a:b/c", policy]), Ok(())),
            (
                &POLICY,
                world(&[], &[]),
                Err("it is no policy: it exports nothing, and not warpdrive:policy/load-balancer@0.1.0"),
            ),
            (
                &POLICY,
                world(&[], &["warpdrive:policy/load-balancer@0.2.0", "a:b/c"]),
                Err("it is no policy: it exports warpdrive:policy/load-balancer@0.2.0, a:b/c, \
                     and not warpdrive:policy/load-balancer@0.1.0"),
            ),
            (
                &POLICY,
                world(&["warpdrive:guest/http@0.1.0", "wasi:io/poll@0.2.0"], &[policy]),
                Err("it imports warpdrive:guest/http@0.1.0, wasi:io/poll@0.2.0, which a policy cannot have"),
            ),
            (
                &POLICY,
                world(&["warpdrive:middleware/messages@0.1.0"], &[policy]),
                Err("it imports warpdrive:middleware/messages@0.1.0, which a policy cannot have"),
            ),
            (
                &FILTER,
                world(&["warpdrive:guest/store@0.1.3", "warpdrive:middleware/messages@0.1.0"], &[filter]),
                Ok(()),
            ),
            (
                &FILTER,
                world(&[], &[policy]),
                Err("it is no middleware: it exports warpdrive:policy/load-balancer@0.1.0, \
                     and not warpdrive:middleware/filter@0.1.0"),
            ),
            (&FILTER, world(&["warpdrive:guest/http@0.1.0"], &[filter]), Ok(())),
            (
                &FILTER,
                world(&["smg:gateway/middleware-types", "wasi:io/poll@0.2.0"], &[smg::ON_REQUEST]),
                Ok(()),
            ),
            (
                &FILTER,
                world(&["wasi:http/types@0.2.0", "wasi:io/poll@0.2.0"], &[smg::ON_RESPONSE]),
                Err("it imports wasi:http/types@0.2.0, which middleware cannot have"),
            ),
            (
                &FILTER,
                world(&["wasi:io/poll@0.2.0"], &[filter]),
                Err("it imports wasi:io/poll@0.2.0, which middleware cannot have"),
            ),
        ];
        for (interface, world, expected) in table {
            let judged = interface.check(&world).map_err(|refusal| refusal.message);
            assert_eq!(judged, expected.map_err(str::to_owned), "{world:?}");
        }
    }

    #[test]
    fn a_guest_of_another_kind_is_shown_its_place() {
        let world = World { imports: Vec::new(), exports: vec!["warpdrive:middleware/filter@0.1.0".into()] };
        let help = POLICY.check(&world).err().and_then(|refusal| refusal.help);
        assert_eq!(help.as_deref(), Some("it is middleware: configure it as [wasm.middleware.NAME]"));
    }
}
