//! The JSON Schema for editors: current, and right about what is valid.

use std::path::{Path, PathBuf};

use jsonschema::Validator;
use serde_json::{Value, json};
use warpdrive::config::{self, Sources, reference};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The schema as it is in the repository; `UPDATE_GOLDEN=1` writes it first.
fn committed() -> String {
    let file = root().join("config/warpdrive.schema.json");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, config::schema()).unwrap();
    }
    std::fs::read_to_string(file).unwrap_or_default()
}

fn validator() -> Validator {
    let schema: Value = serde_json::from_str(&config::schema()).unwrap();
    jsonschema::meta::validate(&schema).unwrap();
    jsonschema::validator_for(&schema).unwrap()
}

fn as_json(text: &str) -> Value {
    let table: toml::Table = text.parse().unwrap_or_else(|error| panic!("{error} in:\n{text}"));
    serde_json::to_value(table).unwrap()
}

/// The values of the file and every commented key as well, each by its own.
fn examples() -> Vec<(PathBuf, String)> {
    let files = std::fs::read_dir(root().join("config")).unwrap().flatten().map(|entry| entry.path());
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn the_committed_schema_is_what_the_program_says() {
    let is_current = committed() == config::schema();
    assert!(is_current, "config/warpdrive.schema.json is not current: UPDATE_GOLDEN=1 writes it anew");
}

#[test]
fn the_examples_are_valid() {
    let validator = validator();
    let examples = examples();
    assert!(examples.len() >= 3);
    for (path, text) in examples {
        let errors: Vec<String> =
            validator.iter_errors(&as_json(&text)).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(errors.is_empty(), "{}: {errors:#?}", path.display());
    }
    let more = r#"
include = ["conf.d/*.toml"]
[server]
http_port = "${PORT:-8080}"
pin_cores = "${PIN}"
shutdown_timeout_secs = 5
[server.limits]
request_body_bytes = 5
head_bytes = 4096
uri_bytes = "${SIZE} KiB"
[upstreams."b c"]
instances = [{ socket = "s", weight = 1000 }, { host = "h", port = 1, backup = true }]
hash_key = "header:X-A"
slow_start = "30s"
strategy = "${STRATEGY}"
read_timeout = "250ms"
[upstreams."b c".health]
path = "/health"
interval_secs = 5
expect_status = [200, "301-303"]
[dns]
servers = ["10.0.0.2:5353"]
min_ttl = "2s"
[auth]
admin_token_file = "/run/token"
[[routes]]
hosts = ["*.example.com"]
methods = ["GET"]
header = { name = "X-A" }
query = [{ name = "a", value = "1" }, { name = "b", absent = true }]
upstream = "b c"
"#;
    assert!(validator.is_valid(&as_json(more)), "{:?}", validator.validate(&as_json(more)));
}

#[test]
fn mistakes_are_not_valid() {
    let validator = validator();
    let mistakes = [
        "sever.http_port = 1",
        "server.http_prt = 1",
        "server.http_port = 70000",
        "server.http_port = \"80\"",
        "server.http_port = -1",
        "server.pin_cores = 1",
        "server.pin_cores = \"true\"",
        "server.bind = \"::1\"",
        "server.bind = [1]",
        "server.io = \"epol\"",
        "server.shutdown_timeout = 5",
        "server.shutdown_timeout = \"5 days\"",
        "server.shutdown_timeout_secs = \"5s\"",
        "server.limits.fields = 1000",
        "server.limits.request_body = \"1 MB\"",
        "upstreams.a = 3",
        "upstreams.a.weight = 3",
        "upstreams.a.instances = [{ socket = \"s\", weight = 0 }]",
        "upstreams.a.strategy = \"least_con\"",
        "upstreams.a.instances = { host = \"h\" }",
        "upstreams.a.instances = [{ hots = \"h\" }]",
        "routes = { upstream = \"a\" }",
        "routes = [{ upstreem = \"a\" }]",
        "routes = [{ require_auth = \"yes\" }]",
        "routes = [{ upstream = \"a\", header = \"X-A\" }]",
        "routes = [{ upstream = \"a\", headers = [] }]",
        "routes = [{ upstream = \"a\", query = { value = \"1\" } }]",
        "routes = [{ upstream = \"a\", query = { name = \"a\", vlaue = \"1\" } }]",
        "routes = [{ upstream = \"a\", methods = \"GET\" }]",
        "upstreams.a.health = \"/\"",
        "upstreams.a.health = { path = \"/\", initial = \"unknown\" }",
        "upstreams.a.health = { path = \"/\", expect_status = 99 }",
        "upstreams.a.health = { path = \"/\", expect_status = \"2xx\" }",
        "upstreams.a.health = { path = \"/\", expect_status = [] }",
        "upstreams.a.health = { path = \"/\", interval = 5 }",
        "dns.servers = \"10.0.0.2\"",
        "dns.ttl = \"5s\"",
        "auth.admin_token = 3",
        "include = \"a\"",
    ];
    for text in mistakes {
        assert!(!validator.is_valid(&as_json(text)), "{text}");
        let sources = Sources {
            file: Some(config::File { path: PathBuf::from("w.toml"), text: text.to_owned() }),
            ..Sources::default()
        };
        let is_refused = config::read(&sources).1.iter().any(config::Diagnostic::is_error);
        assert!(is_refused, "the program takes {text}");
    }
}

/// The reader's keys are the reference's, both ways, so nothing is without a description.
#[test]
fn every_key_is_in_the_reference_and_the_reference_has_no_other() {
    let schema: Value = serde_json::from_str(&config::schema()).unwrap();
    let told = reference::entries();
    for entry in &told {
        let mut at = &schema;
        for segment in entry.shape.split('.') {
            at = match segment.strip_suffix("[]") {
                _ if segment == "*" => &at["additionalProperties"],
                Some(list) => &at["properties"][list]["items"],
                None => &at["properties"][segment],
            };
        }
        assert!(at.is_object(), "{} is in the reference only", entry.shape);
    }
    let mut without = Vec::new();
    find_undescribed("", &schema, &mut without);
    assert_eq!(without, Vec::<String>::new(), "keys without a description in config/warpdrive.toml");
    let port = told.iter().find(|entry| entry.shape == "server.http_port").unwrap();
    assert_eq!(port.default, Some(json!(8080)));
    assert!(port.description.starts_with("Port for HTTP"), "{}", port.description);
}

fn find_undescribed(path: &str, schema: &Value, found: &mut Vec<String>) {
    let properties = schema["properties"].as_object().into_iter().flatten();
    for (key, property) in properties {
        let path = format!("{path}.{key}");
        let is_table = property["type"] == "object" || property["items"]["type"] == "object";
        if !is_table && property["description"].as_str().is_none_or(str::is_empty) {
            found.push(path.clone());
        }
        find_undescribed(&path, property, found);
        find_undescribed(&path, &property["items"], found);
        find_undescribed(&path, &property["additionalProperties"], found);
    }
}
