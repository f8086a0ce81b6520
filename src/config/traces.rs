//! `[tracing]`.

use super::diagnostic::Diagnostic;
use super::table::Table;
use super::value::{self, Wanted, wanted};
use super::{Collector, Traceparent, Tracing};

/// Where the protocol has traces, unless somebody says otherwise.
const PATH: &str = "/v1/traces";

const NAME_MAX: usize = 255;

pub fn read(mut table: Table<'_>) -> Tracing {
    let words = [("pass", Traceparent::Pass), ("trusted", Traceparent::Trusted), ("any", Traceparent::Any)];
    let tracing = Tracing {
        traceparent: table.choice("traceparent", &words, &[]),
        sample: table.fraction("sample"),
        export: table.parsed("export", collector).map(|written| written.value),
        service_name: table.parsed("service_name", service_name).map(|written| written.value),
    };
    refuse_idle(&table, &tracing);
    table.finish(&[]);
    tracing
}

/// What is of traces, or of spans, is for those who have some.
fn refuse_idle(table: &Table<'_>, tracing: &Tracing) {
    let has_no_traces = match tracing.traceparent {
        Some(Traceparent::Pass) => true,
        Some(Traceparent::Trusted | Traceparent::Any) => false,
        None => !table.has("traceparent") && !table.has("export"),
    };
    let refuse = |key: &str, message: &str, help: &str| {
        if let Some(place) = table.key_place(key) {
            table.report().push(Diagnostic::error(place, message).with_help(help));
        }
    };
    if has_no_traces {
        let help = "write traceparent = \"trusted\" in [tracing]";
        refuse("sample", "sample is of traces that begin here, and none does", help);
        refuse("export", "there are no spans to export: traceparent is only passed on", help);
    }
    if !table.has("export") {
        let help = "write export = \"http://HOST:4318\", or leave it out";
        refuse("service_name", "service_name is told with spans, and none are exported", help);
    }
}

fn collector(text: &str) -> Result<Collector, Wanted> {
    let wrong = || wanted("a URL such as \"http://127.0.0.1:4318\"");
    let Some(rest) = text.strip_prefix("http://") else {
        return Err(match text.starts_with("https://") {
            true => wrong().with_help("https does not work yet in this version"),
            false => wrong(),
        });
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let Some((host, port)) = authority.rsplit_once(':') else {
        return Err(wrong().with_help("write its port; that of OTLP over HTTP is 4318"));
    };
    let port = value::digits(port).and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
    let is_bare_v6 = host.contains(':') && !host.starts_with('[');
    let is_path = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    let (Some(port), Ok(host), true, false) = (port, value::upstream_host(host), is_path, is_bare_v6) else {
        return Err(wrong());
    };
    let path = if matches!(path, "" | "/") { PATH } else { path };
    Ok(Collector { host, port, path: path.to_owned() })
}

fn service_name(text: &str) -> Result<String, Wanted> {
    match text.len() {
        1..=NAME_MAX if !text.contains(char::is_control) => Ok(text.to_owned()),
        _ => Err(wanted(format!("a name of 1 to {NAME_MAX} bytes"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_a_url() {
        let at = |host: &str, port, path: &str| {
            Some(Collector { host: host.to_owned(), port, path: path.to_owned() })
        };
        let cases = [
            ("http://127.0.0.1:4318", at("127.0.0.1", 4318, "/v1/traces")),
            ("http://Collector.example:80/", at("collector.example", 80, "/v1/traces")),
            ("http://[::1]:4318/otlp/traces?x", at("::1", 4318, "/otlp/traces?x")),
            ("http://::1:4318", None),
            ("http://a", None),
            ("http://:4318", None),
            ("http://a:0", None),
            ("http://a:99999", None),
            ("http://a:4318/x y", None),
            ("http://user@a:4318", None),
            ("https://a:4318", None),
            ("a:4318", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(collector(text).ok(), expected, "{text}");
        }
    }
}
