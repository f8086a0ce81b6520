//! What a component is for, and what of the operator's stands behind what it imports.

use super::hooks::inspect::{FILTER, POLICY};
use super::inspect::{self, Refusal, World};

/// What a component can be for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It answers requests.
    Component,
    Policy,
    Middleware,
}

impl Kind {
    /// What it exports says it, whether or not there is all that it imports. One that is for nothing
    /// is taken for one that should answer requests.
    pub fn of(world: &World) -> Kind {
        match () {
            () if POLICY.is_exported(world) => Kind::Policy,
            () if FILTER.is_exported(world) => Kind::Middleware,
            () => Kind::Component,
        }
    }

    /// Whether one of this kind can be run with what there is for it.
    ///
    /// # Errors
    /// It cannot.
    pub fn check(self, world: &World) -> Result<(), Refusal> {
        match self {
            Kind::Component => inspect::check(world),
            Kind::Policy => POLICY.check(world),
            Kind::Middleware => FILTER.check(world),
        }
    }

    /// The table of the configuration that it belongs to.
    pub fn table(self) -> &'static str {
        match self {
            Kind::Component => "components",
            Kind::Policy => "policies",
            Kind::Middleware => "middleware",
        }
    }

    /// One word for programs.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Component => "component",
            Kind::Policy => "policy",
            Kind::Middleware => "middleware",
        }
    }
}

/// What stands behind an import, and which key grants it. None if there is no such interface.
pub fn grant(import: &str) -> Option<&'static str> {
    let name = import.split_once('@').map_or(import, |(name, _)| name);
    Some(match name {
        "wasi:http/outgoing-handler" => "sends requests to whom `outgoing` names, and to nobody else",
        "wasi:cli/environment" => "sees the variables in `env`, and no others",
        "wasi:config/store" => "sees the settings in `config`",
        "wasi:cli/stdout" | "wasi:cli/stderr" => "writes to the log, up to `limits.output`",
        "wasi:cli/stdin" => "is there, and empty",
        "wasi:cli/exit" => "ends its instance, not the process",
        "wasi:filesystem/types" | "wasi:filesystem/preopens" => "is there, but no file is",
        name if name.starts_with("wasi:sockets/") => "is there, but gives no socket",
        name if name.starts_with("wasi:") => "is always there",
        "warpdrive:guest/log" => "writes to the log, up to 100 lines a second",
        "warpdrive:guest/metrics" => "adds to the numbers in /metrics",
        "warpdrive:guest/settings" => "sees the settings in `config`",
        "warpdrive:guest/store" => "has a store of its own, or the one that `store` names",
        "warpdrive:guest/endpoints" => "sees the endpoints of all upstreams",
        "warpdrive:guest/http" => "sends requests to whom `upstreams` names, and to nobody else",
        "smg:gateway/middleware-types" => "is always there",
        name if name.starts_with("warpdrive:") => "is always there",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_is_for_what_it_exports() {
        let exporting =
            |name: &str| World { imports: Vec::new(), exports: vec![name.to_owned(), "a:b/c".to_owned()] };
        let table = [
            ("warpdrive:policy/load-balancer@0.1.0", Kind::Policy, true),
            ("warpdrive:middleware/filter@0.1.0", Kind::Middleware, true),
            ("smg:gateway/middleware-on-request", Kind::Middleware, true),
            ("wasi:http/incoming-handler@0.2.0", Kind::Component, true),
            ("wasi:cli/run@0.2.0", Kind::Component, false),
        ];
        for (export, kind, works) in table {
            let world = exporting(export);
            assert_eq!((Kind::of(&world), kind.check(&world).is_ok()), (kind, works), "{export}");
        }
    }

    #[test]
    fn every_interface_that_is_there_is_described() {
        for name in ["wasi:http/types@0.2.3", "wasi:sockets/tcp@0.2.0", "warpdrive:guest/clock@0.1.0"] {
            assert!(grant(name).is_some(), "{name}");
        }
        assert_eq!(grant("acme:db/query@1.0.0"), None);
    }
}
