//! What a route is called where its requests are counted.
//!
//! Not by its place: with each line above it that comes or goes, it would be another one.

use std::collections::HashMap;

use super::Route;
use crate::config::{self, Host, Path};

/// Longer ones are cut, in characters.
const LABEL_MAX: usize = 120;

/// The description, or else the conditions in short. Values of fields and parameters are left out:
/// who may see what is counted may not know them.
pub fn label(route: &config::Route) -> String {
    if let Some(description) = route.description.as_ref().filter(|words| !words.is_empty()) {
        return cut(description);
    }
    let mut parts = Vec::new();
    let hosts: Vec<String> = route.hosts.iter().map(host).collect();
    if !hosts.is_empty() {
        parts.push(hosts.join(","));
    }
    if !route.methods.is_empty() {
        parts.push(route.methods.join(","));
    }
    parts.extend(route.path.as_ref().map(|path| match &path.value {
        Path::Exact(path) => format!("= {path}"),
        Path::Prefix(path) => format!("{}/*", path.trim_end_matches('/')),
        Path::Pattern(path) => path.clone(),
        Path::Regex(expression) => format!("~ {expression}"),
    }));
    parts.extend(route.fields.iter().map(|field| format!("[{}]", field.name)));
    parts.extend(route.parameters.iter().map(|parameter| format!("?{}", parameter.name)));
    if !route.clients.is_empty() {
        let clients: Vec<String> = route.clients.iter().map(ToString::to_string).collect();
        parts.push(format!("from {}", clients.join(",")));
    }
    parts.extend(route.scheme.map(|scheme| format!("{}:", scheme.word())));
    match parts.is_empty() {
        true => "*".to_owned(),
        false => cut(&parts.join(" ")),
    }
}

fn host(host: &Host) -> String {
    match host {
        Host::Exact(name) => name.clone(),
        Host::Below(suffix) => format!("*{suffix}"),
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LABEL_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Adds the place to labels that several routes have only because they were shortened. Those that
/// the operator gave to several are meant to be counted together.
pub fn tell_apart(routes: &mut [Route], written: &[config::Route]) {
    let described: Vec<String> =
        written.iter().filter(|one| one.description.is_some()).map(|one| one.place.file_and_line()).collect();
    let mut counts: HashMap<String, usize> = HashMap::new();
    for route in routes.iter() {
        *counts.entry(route.label.clone()).or_default() += 1;
    }
    for route in routes.iter_mut().filter(|route| counts[&route.label] > 1) {
        if !described.contains(&route.place) {
            route.label = format!("{} ({})", route.label, route.place);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::plan::tests::loaded;

    #[test]
    fn routes_are_called_by_their_conditions_or_by_their_description() {
        let routes = r#"
[[routes]]
description = "Monitoring"
path_exact = "/b"
upstream = "app"
[[routes]]
hosts = ["a.example", "*.b.example"]
methods = ["GET"]
path_exact = "/a"
upstream = "app"
[[routes]]
path_prefix = "/api/"
header = { name = "X-Version", value = "2" }
upstream = "app"
[[routes]]
path_prefix = "/api"
header = { name = "X-Version", value = "3" }
query = { name = "q" }
upstream = "app"
[[routes]]
path_prefix = "/x"
header = { name = "X-Version", value = "2" }
upstream = "app"
[[routes]]
path_prefix = "/x"
header = { name = "X-Version", value = "3" }
upstream = "app"
[[routes]]
path_exact = "/c"
client = ["10.0.0.0/8", "::1"]
scheme = "https"
upstream = "app"
[[routes]]
path_regex = "^/[0-9]+$"
upstream = "app"
[[routes]]
upstream = "app"
"#;
        let plan = loaded(&format!("[upstreams.app]\nsocket = \"a\"\n{routes}")).plan;
        let labels: Vec<&str> = plan.routes.iter().map(|route| route.label.as_str()).collect();
        let expected = [
            "Monitoring",
            "a.example,*.b.example GET = /a",
            "/api/* [X-Version]",
            "/api/* [X-Version] ?q",
            "/x/* [X-Version] (w.toml:22)",
            "/x/* [X-Version] (w.toml:26)",
            "= /c from 10.0.0.0/8,::1 https:",
            "~ ^/[0-9]+$",
            "*",
        ];
        assert_eq!(labels, expected);
    }
}
