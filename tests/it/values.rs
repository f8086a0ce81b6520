//! Where values come from, as an operator sees it: files, the environment, `--set`, and what
//! `check` and `env` tell of them.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use warpdrive::config::reference;

use crate::harness::client::get;
use crate::harness::proxy::{BINARY, Run, run};
use crate::harness::{Builder, Directory, Origin, Proxy};

/// A folder with a configuration of two files.
fn folder() -> Directory {
    let directory = Directory::fresh();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    std::fs::create_dir(directory.path().join("conf.d")).unwrap();
    write("warpdrive.toml", "include = [\"conf.d/*.toml\"]\n[server]\nhttp_port = 1\n");
    write(
        "conf.d/app.toml",
        "[upstreams.my-app]\nsocket = \"${RUN:-/run}/app.sock\"\nread_timeout_secs = 90\n\
         [[routes]]\nupstream = \"my-app\"\n",
    );
    directory
}

fn tell(verb: &str, directory: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Run {
    let mut command = Command::new(BINARY);
    command.arg(verb).args(arguments).current_dir(directory).envs(variables.iter().copied());
    run(&mut command)
}

#[test]
fn env_tells_every_setting_and_where_it_comes_from() {
    let folder = folder();
    let variables = [("WARPDRIVE_ADMIN_TOKEN", "0123456789abcdef"), ("RUN", "/tmp")];
    let told = tell("env", folder.path(), &["--set", "server.limits.fields=7"], &variables);
    assert_eq!((told.code, told.stderr.as_str()), (Some(0), ""), "{told:?}");
    let lines: Vec<String> =
        told.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let expected = [
        "include = [\"conf.d/*.toml\"] # warpdrive.toml:1",
        "server.http_port = 1 # warpdrive.toml:3",
        "server.https_port is not set",
        "server.bind = [\"0.0.0.0\", \"::\"] # default",
        "server.limits.fields = 7 # --set server.limits.fields",
        "server.limits.head_timeout = \"10s\" # default",
        "upstreams.my-app.host is not set",
        "upstreams.my-app.socket = \"/tmp/app.sock\" # conf.d/app.toml:2",
        "upstreams.my-app.read_timeout = \"90s\" # conf.d/app.toml:3",
        "upstreams.my-app.strategy = \"round_robin\" # default",
        "routes.1.path_prefix is not set",
        "routes.1.upstream = \"my-app\" # conf.d/app.toml:5",
        "auth.admin_token = (secret, set by environment:WARPDRIVE_ADMIN_TOKEN)",
    ];
    for line in expected {
        assert!(lines.iter().any(|told| told == line), "{line} is not in {lines:#?}");
    }

    let told = tell("env", folder.path(), &["--format", "json"], &variables);
    let told: Value = serde_json::from_str(&told.stdout).unwrap();
    let settings = told["settings"].as_array().unwrap();
    assert_eq!(settings.len(), lines.len());
    let find = |key: &str| settings.iter().find(|setting| setting["key"] == key).unwrap().to_string();
    assert_eq!(
        find("server.http_port"),
        r#"{"key":"server.http_port","value":1,"source":"warpdrive.toml:3"}"#
    );
    let secret = r#"{"key":"auth.admin_token","secret":true,"source":"environment:WARPDRIVE_ADMIN_TOKEN"}"#;
    assert_eq!(find("auth.admin_token"), secret);
}

#[test]
fn env_has_every_key_of_the_reference() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let told = tell("env", root, &["-c", "config/warpdrive.toml"], &[]);
    assert_eq!(told.code, Some(0), "{told:?}");
    let keys: Vec<&str> = told.stdout.lines().filter_map(|line| line.split(' ').next()).collect();
    // Of what the reference has as a comment only, and of which there may be any number, there is none.
    let is_absent = |shape: &str| {
        ["instances[]", "wasm.components.*", "wasm.policies.*", "wasm.middleware.*", "wasm.workloads.*"]
            .iter()
            .any(|part| shape.contains(part))
    };
    for entry in reference::entries().iter().filter(|entry| !is_absent(&entry.shape)) {
        let key = entry.shape.replace("*", "app").replace("[]", ".1");
        // A secret's file is a spelling of the secret.
        let key = key.strip_suffix("_file").unwrap_or(&key);
        let is_there = |told: &&str| *told == key || told.starts_with(&format!("{key}."));
        assert!(keys.iter().any(is_there), "{key} is not in {keys:#?}");
    }
}

#[test]
fn env_of_a_wrong_configuration_tells_what_is_wrong() {
    let folder = folder();
    let refused = tell("env", folder.path(), &["--set", "server.io=x"], &[]);
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""));
    assert!(refused.stderr.contains("--set server.io"), "{refused:?}");
}

#[test]
fn nothing_is_said_to_be_undefined_that_may_be_in_a_file_that_was_not_read() {
    let folder = folder();
    std::fs::write(folder.path().join("conf.d/app.toml"), b"\xff").unwrap();
    let text = "include = [\"conf.d/*.toml\"]\n[[routes]]\nupstream = \"my-app\"\n";
    std::fs::write(folder.path().join("warpdrive.toml"), text).unwrap();
    let refused = tell("check", folder.path(), &[], &[]);
    assert!(refused.stderr.contains("conf.d/app.toml: line 1 of the file is not UTF-8"), "{refused:?}");
    assert!(refused.stderr.ends_with("(1 error)"), "{refused:?}");
}

#[test]
fn check_tells_what_is_not_from_a_file() {
    let folder = folder();
    let variables = [("WARPDRIVE_HTTP_PORT", "2"), ("WARPDRIVE_UPSTREAMS__MY_APP__READ_TIMEOUT", "9s")];
    let told = tell("check", folder.path(), &["--set", "log.level=warn"], &variables);
    assert_eq!(told.code, Some(0), "{told:?}");
    for line in [
        "server.http_port is set by environment:WARPDRIVE_HTTP_PORT, not by warpdrive.toml:3",
        "upstreams.my-app.read_timeout is set by environment:WARPDRIVE_UPSTREAMS__MY_APP__READ_TIMEOUT, \
         not by conf.d/app.toml:3",
        "log.level is set by --set log.level",
    ] {
        assert!(told.stdout.lines().any(|told| told == line), "{line} is not in {told:?}");
    }
    let plain = tell("check", folder.path(), &[], &[]);
    assert_eq!((plain.code, plain.stdout.contains("set by")), (Some(0), false), "{plain:?}");
}

#[test]
fn what_was_checked_is_what_runs() {
    let origin = Origin::ok("included");
    let included = "[upstreams.app]\nhost = \"127.0.0.1\"\nport = \"${ORIGIN}\"\n\
                    [[routes]]\nupstream = \"app\"\n";
    let port = origin.address().port().to_string();
    let proxy = Builder::new()
        .file("more/app.toml", included)
        .before("include = [\"more/*.toml\"]")
        .variable("ORIGIN", &port)
        .variable("WARPDRIVE_SERVER__HTTP_PORT", "0")
        .port(1)
        .start();
    assert_eq!(get(proxy.address(), "/").text(), "included");
    let file = proxy.directory().join("more/app.toml");
    std::fs::write(file, "nonsense").unwrap();
    // Another data process gets what the first one got.
    proxy.signal_data_process(rustix::process::Signal::KILL);
    proxy.stderr_contains("starting another");
    assert_eq!(get(proxy.address(), "/").text(), "included");
}

#[test]
fn without_a_file_plain_names_and_arguments_are_enough() {
    let origin = Origin::ok("simple");
    let directory = Directory::fresh();
    let mut command = Command::new(BINARY);
    let port = format!("upstreams.default.port={}", origin.address().port());
    command.args(["--set", &port]);
    command.env("HTTP_PORT", "1").env("WARPDRIVE_HTTP_PORT", "0").env("TARGET_HOST", "127.0.0.1");
    command.env("HTTP_IDLE_TIMEOUT", "60").env("MAX_REQUEST_BODY", "3").env("LOG_REQUESTS", "1");
    command.env("DATABASE_URL", "the application's").env("GZIP_COMPRESSION_ENABLED", "false");
    let log = directory.path().join("none");
    let proxy = Proxy::spawn(command, log, directory);
    assert_eq!(get(proxy.address(), "/any").text(), "simple");
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody");
    assert_eq!(client.response_to("POST").status, 413);

    let directory = Directory::fresh();
    let refused = tell("run", directory.path(), &[], &[("TLS_DOMAIN", "a.example")]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("TLS_DOMAIN is known, but does not work yet"), "{refused:?}");
}
