//! Whom components may ask, as it is known on every request: authorities to upstreams.

use super::Forward;
use super::routes::forward_to;
use crate::config::{self, Config, Diagnostic};

/// Whom the instances of one component may ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outgoing {
    /// The authority that a component writes, in lower case and without the port if that is 80.
    destinations: Vec<(String, Forward)>,
}

impl Outgoing {
    /// Where a request for this authority goes; nowhere if it may not be sent.
    pub fn destination(&self, authority: &str) -> Option<&Forward> {
        let authority = without_default_port(authority);
        let mut destinations = self.destinations.iter();
        let found = destinations.find(|(allowed, _)| allowed.eq_ignore_ascii_case(authority));
        found.map(|(_, forward)| forward)
    }
}

/// By component, in the order in which they are written.
pub fn outgoing(config: &Config, diagnostics: &mut Vec<Diagnostic>) -> Vec<Outgoing> {
    config.wasm.components.iter().map(|component| of(config, component, diagnostics)).collect()
}

/// The names of upstreams that components may ask.
pub fn used(config: &Config) -> impl Iterator<Item = &str> {
    let asked = config.wasm.components.iter().map(|component| &component.outgoing);
    asked
        .flat_map(|asked| asked.upstreams.iter().chain(asked.hosts.iter().map(|(_, upstream)| upstream)))
        .map(|upstream| upstream.value.as_str())
}

fn of(config: &Config, component: &config::Component, diagnostics: &mut Vec<Diagnostic>) -> Outgoing {
    let written = &component.outgoing;
    let by_name = written.upstreams.iter().map(|upstream| (upstream, upstream));
    let by_host = written.hosts.iter().map(|(host, upstream)| (host, upstream));
    let mut destinations: Vec<(String, Forward)> = Vec::new();
    for (host, upstream) in by_name.chain(by_host) {
        let Some(forward) = forward_to(config, upstream, diagnostics) else { continue };
        let authority = without_default_port(&host.value).to_ascii_lowercase();
        if destinations.iter().any(|(other, _)| *other == authority) {
            let message = format!("component `{}` may ask `{authority}` already", component.name.value);
            let twice = Diagnostic::error(host.place.clone(), message);
            diagnostics.push(twice.with_help("remove one of them"));
        }
        destinations.push((authority, forward));
    }
    Outgoing { destinations }
}

fn without_default_port(authority: &str) -> &str {
    authority.strip_suffix(":80").unwrap_or(authority)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{FieldChanges, PathChange, UpstreamId};
    use super::*;

    #[test]
    fn a_component_asks_whom_it_may() {
        let outgoing = Outgoing {
            destinations: ["api", "pay.example.com", "other.example:8080"]
                .map(|authority| (authority.to_owned(), forward_to_anything()))
                .into(),
        };
        let cases = [
            ("api", true),
            ("API:80", true),
            ("api:81", false),
            ("pay.example.com", true),
            ("example.com", false),
            ("other.example", false),
            ("other.example:8080", true),
            ("user@api", false),
            ("", false),
        ];
        for (authority, is_allowed) in cases {
            assert_eq!(outgoing.destination(authority).is_some(), is_allowed, "{authority}");
        }
    }

    fn forward_to_anything() -> Forward {
        Forward {
            upstream: UpstreamId(0),
            path: PathChange::Keep,
            fields: FieldChanges::default(),
            connect_timeout: Duration::ZERO,
            read_timeout: Duration::ZERO,
        }
    }
}
