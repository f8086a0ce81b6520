//! The numbers of `/metrics`, as a program reads them.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use crate::harness::Client;

/// Reads a page with Prometheus' own parsers, which refuse what is not well-formed.
const PARSER: &str = r#"
import sys
from prometheus_client.parser import text_string_to_metric_families as prometheus
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
parse = {"prometheus": prometheus, "openmetrics": openmetrics}[sys.argv[1]]
names = set()
for family in parse(sys.stdin.read()):
    assert family.name.startswith("warpdrive_"), family.name
    assert family.documentation, family.name
    assert family.type in ("counter", "gauge", "histogram", "summary"), family
    seen = set()
    for sample in family.samples:
        key = (sample.name, tuple(sorted(sample.labels.items())))
        assert key not in seen, key
        seen.add(key)
    names.add(family.name)
print(len(names))
"#;

pub struct Numbers {
    pub text: String,
    at: SocketAddr,
}

fn page(at: SocketAddr, accept: &str) -> (String, String) {
    let mut client = Client::connect(at);
    client.send(format!("GET /metrics HTTP/1.1\r\nHost: {at}\r\nAccept: {accept}\r\n\r\n"));
    let response = client.response();
    assert_eq!(response.status, 200, "{}", response.text());
    (response.head.value("content-type").unwrap_or_default().to_owned(), response.text())
}

impl Numbers {
    pub fn read(at: SocketAddr) -> Numbers {
        let (kind, text) = page(at, "*/*");
        assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
        Numbers { text, at }
    }

    /// The sum of all samples with this name and at least these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let samples = self.text.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
        });
        let wanted: Vec<String> = labels
            .iter()
            .map(|(name, value)| format!("{name}=\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"")))
            .collect();
        let fitting = samples.filter(|line| wanted.iter().all(|label| line.contains(label)));
        let values: Vec<f64> = fitting.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
        assert!(!values.is_empty(), "no {name} with {labels:?} in\n{}", self.text);
        values.iter().sum()
    }

    /// Both formats are well-formed, and tell of the same families.
    pub fn check(&self) {
        let accept = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5";
        let (kind, open) = page(self.at, accept);
        assert_eq!(kind, "application/openmetrics-text; version=1.0.0; charset=utf-8");
        let counts = [("prometheus", &self.text), ("openmetrics", &open)].map(|(format, text)| {
            // The Python that Debian's packages are for.
            let mut command = Command::new("/usr/bin/python3");
            command.args(["-c", PARSER, format]).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = command.spawn().expect("python3, as tests/run installs it");
            child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "python3-prometheus-client refuses as {format}:\n{text}");
            String::from_utf8(output.stdout).unwrap().trim().parse::<usize>().unwrap()
        });
        assert!(counts[0] == counts[1] && counts[0] > 25, "{counts:?}");
    }
}
