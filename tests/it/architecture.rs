//! The layout of the source, held as tables: who may use whom, where a library lives, how
//! long a file may be and what nothing may be called.

use crate::source::{Source, all};

/// Which modules of ours a module may use; `main` and the tests of a module are no exception.
const MAY_USE: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    // Of proxy only what it would do with a request; of worker its event loop, to try components on.
    (
        "cli",
        &[
            "server", "master", "plan", "config", "route", "process", "demo", "proxy", "http", "worker",
            "wasm",
        ],
    ),
    ("demo", &["http"]),
    ("master", &["process", "sys"]),
    (
        "server",
        &[
            "worker",
            "plan",
            "config",
            "process",
            "tls",
            "net",
            "upstream",
            "cache",
            "wasm",
            "telemetry",
            // To read the response to a check as that to a request is read.
            "http",
            "sys",
        ],
    ),
    ("worker", &["proxy", "plan", "net", "tls", "upstream", "cache", "wasm", "telemetry", "sys"]),
    ("proxy", &["plan", "route", "http", "middleware", "cache", "upstream", "wasm", "net", "telemetry"]),
    // Of upstream, net, process and telemetry only the types of their settings.
    (
        "plan",
        &[
            "config",
            "route",
            "http",
            "middleware",
            "cache",
            "upstream",
            "wasm",
            "net",
            "tls",
            "process",
            "telemetry",
        ],
    ),
    ("route", &["http"]),
    ("middleware", &["http"]),
    ("cache", &["http"]),
    // Alarms, queues and tasks of net; of sys, how a call is lent what it is about.
    ("wasm", &["http", "net", "sys", "telemetry"]),
    ("telemetry", &["http"]),
    ("upstream", &["net", "tls", "http"]),
    ("tls", &["net"]),
    ("net", &["sys"]),
    ("process", &["sys"]),
    ("config", &[]),
    ("http", &[]),
    ("sys", &[]),
];

/// Where a library may be named. What is not here may be used anywhere.
const HOMES: &[(&str, &[&str])] = &[
    // The one door to it.
    ("wasmtime", &["wasm"]),
    ("wasmtime_wasi", &["wasm"]),
    ("wasmtime_wasi_config", &["wasm"]),
    ("wasmtime_wasi_http", &["wasm"]),
    ("wasmparser", &["wasm"]),
    ("wat", &["wasm"]),
    ("sha2", &["wasm"]),
    ("matchit", &["wasm"]),
    // Bodies of components are bodies.
    ("http_body", &["wasm", "proxy"]),
    ("http_body_util", &["wasm", "server"]),
    ("bytes", &["wasm", "proxy"]),
    ("monoio", &["net", "worker"]),
    ("io_uring", &["worker"]),
    ("tokio", &["server"]),
    ("hickory_resolver", &["server"]),
    ("toml", &["config"]),
    ("annotate_snippets", &["config"]),
    ("serde", &["config", "wasm"]),
    ("glob", &["config"]),
    ("indexmap", &["config"]),
    ("constant_time_eq", &["middleware"]),
    ("libc", &["sys"]),
    ("rustix", &["sys", "net", "master", "process", "server", "worker", "wasm"]),
    ("rand", &["wasm"]),
    ("socket2", &["master", "server"]),
    ("signal_hook", &["demo", "master", "process", "server"]),
    ("httparse", &["http"]),
    ("crossbeam_channel", &["worker", "server", "telemetry"]),
    ("core_affinity", &["worker", "server"]),
    ("lexopt", &["cli"]),
    ("serde_json", &["cli", "config", "process", "server", "wasm"]),
    ("hyper", &["server"]),
    ("hyper_util", &["server"]),
    ("data_encoding", &["server"]),
    ("tracing_subscriber", &["process"]),
];

/// Pure modules, which do not even log.
const WITHOUT_TRACING: &[&str] = &["http", "route", "config"];

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;

/// Functions that may be longer, as `src/file.rs: name`.
const LONG_FUNCTIONS: &[&str] = &[];

const BANNED_NAMES: &[&str] = &[
    "util",
    "utils",
    "helper",
    "helpers",
    "common",
    "misc",
    "base",
    "manager",
    "handler",
    "processor",
    "service",
    "context",
    "data",
    "info",
    "wrapper",
];

/// To load compiled code is unsafe by nature; nothing else in it is.
const LOADS_CODE: &str = "src/wasm/code_cache.rs";

/// The places in the tests that may sleep: between two looks at a condition.
const SLEEPS_IN: &[&str] = &["tests/it/harness.rs"];

#[track_caller]
fn check_none(what: &str, found: Vec<String>) {
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

fn table<'a>(table: &'a [(&str, &'a [&'a str])], key: &str) -> Option<&'a [&'a str]> {
    table.iter().find(|(name, _)| *name == key).map(|(_, list)| *list)
}

/// The modules named as `crate::x`, `crate::{x, y::…}` or, in `main`, `warpdrive::x`.
fn modules_used(source: &Source) -> Vec<(usize, String)> {
    let mut used = Vec::new();
    for (at, word) in source.words() {
        let after = source.code[at + word.len()..].trim_start();
        let Some(after) = after.strip_prefix("::") else {
            continue;
        };
        let is_root = word == "crate" || (word == "warpdrive" && source.module() == "main");
        if is_root {
            let names = first_names(after.trim_start());
            used.extend(names.into_iter().map(|name| (source.line_of(at), name)));
        }
    }
    used
}

/// `a` of `a::b`, and `a`, `c` of `{a::b, c::{d, e}}`.
fn first_names(path: &str) -> Vec<String> {
    let name = |text: &str| {
        let text = text.trim_start();
        let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
        text[..end.unwrap_or(text.len())].to_owned()
    };
    let Some(group) = path.strip_prefix('{') else {
        return vec![name(path)];
    };
    let mut names = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            '}' | ',' if depth == 0 => {
                names.push(name(&group[start..at]));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

#[test]
fn names_of_a_group_are_found() {
    let cases = [
        ("http::h1::parse;", vec!["http"]),
        ("{http, net::{self, Io}, plan};", vec!["http", "net", "plan"]),
        ("{\n    a::b,\n    c,\n};", vec!["a", "c"]),
    ];
    for (path, names) in cases {
        assert_eq!(first_names(path), names, "{path}");
    }
}

#[test]
fn imports_point_down() {
    let mut found = Vec::new();
    for source in all("src") {
        let module = source.module();
        if module == "lib" {
            continue;
        }
        let Some(allowed) = table(MAY_USE, module) else {
            found.push(format!("{}: {module} is not in the table", source.path));
            continue;
        };
        for (line, used) in modules_used(&source) {
            let is_module = table(MAY_USE, &used).is_some();
            if is_module && used != module && !allowed.contains(&used.as_str()) {
                found.push(format!("{}:{line}: {module} may not use {used}", source.path));
            }
        }
    }
    check_none("imports against the layers", found);
}

#[test]
fn only_three_modules_name_the_configuration() {
    let may: Vec<&str> =
        MAY_USE.iter().filter(|(_, list)| list.contains(&"config")).map(|(name, _)| *name).collect();
    assert_eq!(may, ["cli", "server", "plan"]);
}

#[test]
fn libraries_stay_in_their_homes() {
    let mut found = Vec::new();
    for source in all("src") {
        let module = source.module();
        for (at, word) in source.words() {
            let is_root = !source.code[..at].trim_end().ends_with([':', '.']);
            let after = source.code[at + word.len()..].trim_start();
            let before = source.code[..at].trim_end();
            let is_path = after.starts_with("::") || before.ends_with("use") && after.starts_with(';');
            if !is_root || !is_path {
                continue;
            }
            let strays = match word {
                "tracing" => WITHOUT_TRACING.contains(&module),
                _ => table(HOMES, word).is_some_and(|homes| !homes.contains(&module)),
            };
            if strays {
                let line = source.line_of(at);
                found.push(format!("{}:{line}: {word} in {module}", source.path));
            }
        }
    }
    check_none("libraries outside their homes", found);
}

#[test]
fn only_sys_is_unsafe() {
    let mut found = Vec::new();
    let may = |source: &&Source| source.module() == "sys" || source.path == LOADS_CODE;
    for source in all("src").iter().filter(|source| !may(source)) {
        for (at, word) in source.words() {
            if word == "unsafe" {
                found.push(format!("{}:{}", source.path, source.line_of(at)));
            }
        }
    }
    check_none("unsafe outside src/sys", found);
}

#[test]
fn files_are_short() {
    let mut found = Vec::new();
    for source in all("src").into_iter().chain(all("tests")) {
        let lines = source.text.lines().count();
        if lines > FILE_LINES_MAX {
            found.push(format!("{}: {lines} lines", source.path));
        }
    }
    check_none("files that are too long", found);
}

/// The functions of a file with the number of lines between their braces.
fn functions(source: &Source) -> Vec<(String, usize)> {
    let words = source.words();
    let mut functions = Vec::new();
    for pair in words.windows(2) {
        let [(at, "fn"), (name_at, name)] = pair else {
            continue;
        };
        if source.code[at + 2..*name_at].trim() != "" {
            continue;
        }
        if let Some(lines) = body_lines(&source.code[*name_at..]) {
            functions.push(((*name).to_owned(), lines));
        }
    }
    functions
}

/// Lines strictly between the braces of the function that begins here.
fn body_lines(code: &str) -> Option<usize> {
    let (mut brackets, mut braces) = (0, 0);
    let mut open = 0;
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' if braces == 0 => brackets += 1,
            ')' | ']' if braces == 0 => brackets -= 1,
            ';' if braces == 0 && brackets == 0 => return None,
            '{' => {
                if braces == 0 {
                    open = at;
                }
                braces += 1;
            }
            '}' => {
                braces -= 1;
                if braces == 0 {
                    return Some(code[open..at].matches('\n').count().saturating_sub(1));
                }
            }
            _ => {}
        }
    }
    None
}

#[test]
fn functions_are_short() {
    let mut found = Vec::new();
    for source in all("src").into_iter().chain(all("tests")) {
        for (name, lines) in functions(&source) {
            let place = format!("{}: {name}", source.path);
            if lines > FUNCTION_LINES_MAX && !LONG_FUNCTIONS.contains(&place.as_str()) {
                found.push(format!("{place}: {lines} lines"));
            }
        }
    }
    check_none("functions that are too long", found);
}

#[test]
fn lines_of_a_function_are_counted() {
    let text = "fn a(x: [u8; 2]) -> u8 {\n    1\n}\nfn b();\nfn c() {}\n";
    let source = Source { path: String::new(), text: text.to_owned(), code: text.to_owned() };
    let wanted = [("a".to_owned(), 1), ("c".to_owned(), 0)];
    assert_eq!(functions(&source), wanted);
}

#[test]
fn names_say_what_things_are() {
    let mut found = Vec::new();
    for source in all("src") {
        let below = source.path.trim_start_matches("src/").trim_end_matches(".rs");
        for part in below.split('/').filter(|part| BANNED_NAMES.contains(part)) {
            found.push(format!("{}: {part}", source.path));
        }
        for pair in source.words().windows(2) {
            let [(_, keyword), (at, name)] = pair else {
                continue;
            };
            if !["mod", "struct", "enum", "trait", "type", "union"].contains(keyword) {
                continue;
            }
            // What a library's trait calls a type of its own is not ours to say.
            let line = source.code[..*at].rsplit('\n').next().unwrap_or_default();
            if *keyword == "type" && line.starts_with(' ') {
                continue;
            }
            // The last word of a type says what it is: `RouteContext` is a context.
            let last = name.rfind(char::is_uppercase).map_or(*name, |at| &name[at..]);
            if BANNED_NAMES.contains(&last.to_ascii_lowercase().as_str()) {
                found.push(format!("{}:{}: {name}", source.path, source.line_of(*at)));
            }
        }
    }
    check_none("names that say nothing", found);
}

#[test]
fn every_file_opens_with_what_it_is() {
    let silent = |source: &Source| !source.text.starts_with("//! ");
    let found = all("src").into_iter().chain(all("tests")).filter(silent);
    check_none("files without an opening", found.map(|source| source.path).collect());
}

#[test]
fn nothing_is_left_for_later() {
    let mut found = Vec::new();
    for source in all("src").into_iter().chain(all("tests")) {
        for (at, word) in source.words() {
            let after = source.code[at + word.len()..].trim_start();
            let before = source.code[..at].trim_end();
            let left = match word {
                "todo" | "unimplemented" => after.starts_with('!'),
                "ignore" => before.ends_with("#["),
                _ => false,
            };
            if left {
                found.push(format!("{}:{}: {word}", source.path, source.line_of(at)));
            }
        }
    }
    check_none("left for later", found);
}

#[test]
fn tests_wait_for_conditions_and_do_not_sleep() {
    let mut found = Vec::new();
    for source in all("tests") {
        for (at, word) in source.words() {
            let is_call = source.code[at + word.len()..].starts_with('(');
            if word == "sleep" && is_call && !SLEEPS_IN.contains(&source.path.as_str()) {
                found.push(format!("{}:{}", source.path, source.line_of(at)));
            }
        }
    }
    check_none("sleeps in tests", found);
}
