//! `warpdrive wasm`: what a component is, and what its calls cost, by the real binary.

use std::path::Path;

use serde_json::Value;

use crate::explanations::said;

fn guest(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests").join(name);
    path.to_str().expect("a path that is text").to_owned()
}

fn json(command: &str) -> (Value, Option<i32>) {
    let (text, code) = said(command);
    (serde_json::from_str(&text).unwrap_or_else(|error| panic!("{command}: {error}: {text}")), code)
}

#[test]
fn inspect_tells_the_kind_the_world_and_what_to_grant() {
    let probe = guest("probe.wasm");
    let (text, code) = said(&format!("warpdrive wasm inspect {probe}"));
    assert_eq!(code, Some(0), "{text}");
    for part in [
        "kind     answers requests\n",
        "works    yes\n",
        "sends requests to whom `outgoing` names, and to nobody else\n",
        &format!("  [wasm.components.probe]\n  file = \"{probe}\"\n"),
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let table = [
        ("probe.wasm", "component", "wasi:http/incoming-handler@"),
        ("policies/sticky.wasm", "policy", "warpdrive:policy/load-balancer@"),
        ("middleware/auth.wasm", "middleware", "warpdrive:middleware/filter@"),
    ];
    for (file, kind, export) in table {
        let (told, code) = json(&format!("warpdrive wasm inspect {} --format json", guest(file)));
        assert_eq!((&told["kind"], &told["works"], code), (&kind.into(), &true.into(), Some(0)), "{file}");
        let exports = told["exports"].as_array().expect("a list");
        assert!(exports.iter().any(|name| name.as_str().unwrap().starts_with(export)), "{file}: {told}");
    }
}

#[test]
fn inspect_fails_for_what_cannot_be_run_and_says_why() {
    let wrong = guest("middleware/wrong-world.wat");
    let (text, code) = said(&format!("warpdrive wasm inspect {wrong}"));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("works    no: "), "{text}");
    let (told, code) = json(&format!("warpdrive wasm inspect {wrong} --format json"));
    assert_eq!((&told["works"], code), (&false.into(), Some(1)));
    assert!(told["reason"].is_string() && told["configuration"].is_null(), "{told}");
    for (file, reason) in
        [("missing.wasm", "cannot read the file"), ("README.md", "neither a component nor the text of one")]
    {
        let (text, code) = said(&format!("warpdrive wasm inspect {}", guest(file)));
        assert_eq!(code, Some(1), "{text}");
        assert!(text.starts_with("error: ") && text.contains(reason), "{text}");
    }
}

#[test]
fn bench_measures_each_kind_of_component() {
    let rows = |file: &str, rest: &str| {
        let command = format!("warpdrive wasm bench {} {rest} --seconds 0.05 --format json", guest(file));
        let (told, code) = json(&command);
        assert_eq!(code, Some(0), "{told}");
        assert!(told["compile_ns"].as_u64() > Some(0) && told["memory_bytes"].as_u64() > Some(0), "{told}");
        for row in told["rows"].as_array().expect("a list") {
            assert!(row["calls"].as_u64() > Some(0) && row["median_ns"].as_u64() > Some(0), "{row}");
        }
        let calls: Vec<String> =
            told["rows"].as_array().unwrap().iter().map(|row| row["call"].to_string()).collect();
        (told["said"].as_str().expect("a text").to_owned(), calls.len())
    };
    assert_eq!(rows("probe.wasm", "GET /bytes?1000"), ("200 with 1000 bytes".to_owned(), 2));
    let (said, count) = rows("policies/sticky.wasm", "--config {\"field\":\"x-user\"} GET / -H 'X-User: u1'");
    assert!(said.starts_with("endpoint ") && count == 2, "{said}, {count}");
    let config = r#"{"keys":{"k1":"0123456789abcdef0123456789abcdef"}}"#;
    assert_eq!(
        rows("middleware/auth.wasm", &format!("--config '{config}'")),
        ("respond with 401".to_owned(), 2)
    );
}

#[test]
fn bench_says_what_is_wrong_once() {
    let table = [
        // A key of an algorithm that needs more bytes than these.
        ("middleware/auth.wasm", "--config '{\"keys\":{\"k1\":\"short\"}}'", 1, "k1"),
        ("middleware/wrong-world.wat", "", 1, "wrong-world.wat"),
        ("probe.wasm", "GET /trap", 1, "component trapped"),
        ("probe.wasm", "--seconds 0", 2, "--seconds must be more than 0"),
    ];
    for (file, rest, expected, reason) in table {
        let (text, code) = said(&format!("warpdrive wasm bench {} {rest}", guest(file)));
        assert_eq!(code, Some(expected), "{text}");
        assert!(text.contains("error: ") && text.contains(reason), "{reason} is not in {text}");
        assert_eq!(text.matches("error: ").count(), 1, "{text}");
    }
}
