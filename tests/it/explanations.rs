//! What `route` says of requests, to the letter: the transcripts of tests/explanations.
//!
//! A line that begins with `$ ` is a command, run by the real binary in that directory; below it
//! stands all that it says, and its exit code in brackets if that is not 0. With
//! `UPDATE_GOLDEN=1` what was said is written anew; read the difference before you keep it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde_json::Value;
use warpdrive::plan::explain::lost;
use warpdrive::proxy::explain::{Caller, explain};
use warpdrive::route::Verdict;
use warpdrive::{config, plan};

use crate::harness::proxy::{BINARY, run};
use crate::harness::{Builder, Origin};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/explanations")
}

/// The words of a command, as a shell takes them; only single quotes are known.
pub fn words(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for (index, part) in command.split('\'').enumerate() {
        let mut pieces = if index % 2 == 1 { vec![part] } else { part.split(' ').collect() }.into_iter();
        let first = pieces.next().unwrap_or_default();
        words.last_mut().unwrap().push_str(first);
        words.extend(pieces.map(str::to_owned));
    }
    words.retain(|word| !word.is_empty());
    words
}

/// What a command says on both streams, and its exit code.
pub fn said(command: &str) -> (String, Option<i32>) {
    let words = words(command);
    assert_eq!(words[0], "warpdrive", "{command}");
    let mut process = Command::new(BINARY);
    process.args(&words[1..]).current_dir(directory());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("WARPDRIVE_")) {
        process.env_remove(name);
    }
    let output = process.output().expect("the binary runs");
    let said = [output.stdout, output.stderr].concat();
    (String::from_utf8(said).expect("it is UTF-8"), output.status.code())
}

fn transcript(text: &str) -> String {
    let mut runs = Vec::new();
    for command in text.lines().filter_map(|line| line.strip_prefix("$ ")) {
        let (said, code) = said(command);
        let code = code.filter(|code| *code != 0).map_or(String::new(), |code| format!("[{code}]\n"));
        runs.push(format!("$ {command}\n{said}{code}"));
    }
    runs.join("\n")
}

fn cases(extension: &str) -> Vec<PathBuf> {
    let files = std::fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
}

#[test]
fn every_request_is_explained_as_it_was_reviewed() {
    let cases = cases("txt");
    assert!(cases.len() >= 5, "there are only {} cases", cases.len());
    let mut wrong = String::new();
    for case in cases {
        let text = std::fs::read_to_string(&case).unwrap();
        let said = transcript(&text);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&case, said).unwrap();
        } else if said != text {
            wrong += &format!("{} is\n{text}\nbut this was said:\n{said}", case.display());
        }
    }
    assert!(wrong.is_empty(), "{wrong}\nUPDATE_GOLDEN=1 accepts all of this");
}

#[test]
fn no_token_is_ever_shown() {
    for case in cases("txt") {
        let text = std::fs::read_to_string(&case).unwrap();
        for line in text.lines().filter(|line| !line.starts_with("$ ")) {
            for secret in ["0123456789abcdef", "another", "secret", "never to be shown"] {
                assert!(!line.contains(secret), "{}: {line}", case.display());
            }
        }
    }
}

/// Both forms, of every command of the transcripts.
#[test]
fn programs_are_told_the_same() {
    for case in cases("txt") {
        let text = std::fs::read_to_string(&case).unwrap();
        let commands = text.lines().filter_map(|line| line.strip_prefix("$ "));
        for command in commands.filter(|command| !command.contains("json")) {
            let (human, code) = said(command);
            let (json, same) = said(&format!("{command} --format json"));
            assert_eq!(code, same, "{command}");
            let Ok(told) = serde_json::from_str::<Value>(&json) else {
                assert!(json.starts_with("error: ") && json == human, "{command}: {json}");
                continue;
            };
            let text = |value: &Value| value.as_str().map(str::to_owned);
            let place = text(&told["route"]["place"]);
            assert_eq!(place.is_some(), code == Some(0), "{command}");
            let values = [place, text(&told["forward"]["request_line"]), text(&told["refused"]["reason"])];
            let lost = told["lost"].as_array().unwrap();
            let is_named = |lost: &&Value| lost["by"] != "host" && lost["by"] != "path";
            let wanted = lost.iter().filter(is_named).filter_map(|lost| text(&lost["wanted"]));
            for value in values.into_iter().flatten().chain(wanted) {
                assert!(human.contains(&value), "{command}: {value} is not in {human}");
            }
        }
    }
}

/// The winner is the tree's, and is the first whose conditions hold, asked in turn.
#[test]
fn the_winner_is_the_first_whose_conditions_hold() {
    for file in cases("toml") {
        let sources = config::Sources::read(Some(file), Vec::new()).unwrap();
        let plan = Arc::new(plan::load(&sources).map_err(|_| "it is valid").unwrap().plan);
        let (config, _) = config::parse(&sources).unwrap();
        let rules = plan::rules(&config, &mut Vec::new());
        let mut asked = 0;
        for host in ["example.com", "a.example", "x.b.example", "t3.example", "old.example"] {
            for target in
                ["/", "/cable", "/sidekiq/x", "/user/7", "/users/7/posts", "/admin", "/app", "/old-api?q=a+b"]
            {
                for fields in ["", "X-API-Version: v2\r\n", "X-API-Version: v1\r\n"] {
                    let head = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n");
                    let told = explain(&plan, head.as_bytes(), Caller::default());
                    let question = told.question().expect("the routes were asked");
                    let first = rules.iter().find(|rule| rule.verdict(&question) == Verdict::Holds);
                    assert_eq!(told.route, first.map(|rule| rule.target), "{head}");
                    // Every earlier one has its reason.
                    let before = first.map_or(rules.len(), |rule| rule.target.0 as usize);
                    assert_eq!(lost(&config, &rules, &question, told.route).len(), before, "{head}");
                    asked += 1;
                }
            }
        }
        assert_eq!(asked, 120);
    }
}

/// What is shown is what an application gets, but for the stand-ins.
#[test]
fn what_is_shown_is_what_is_forwarded() {
    let origin = Origin::ok("app");
    let builder = Builder::new().upstream("app", &origin, "").route(
        "app",
        "path_regex = '^/(a+)/(.*)'\nrewrite = \"/$2\"\nremove_headers = [\"X-Real-IP\"]\n\
         add_headers = [{ name = \"X-First\", value = \"$1\" }, { name = \"Via\", value = \"none\" }]",
    );
    let file = builder.written();
    let mut command = Command::new(BINARY);
    command.arg("route").arg("-c").arg(&file);
    command.args(["--format", "json", "GET", "http://h.example/aa/x%41/y?z", "-H", "A-B: c"]);
    let told: Value = serde_json::from_str(&run(&mut command).stdout).unwrap();
    let proxy = builder.start();
    let mut client = proxy.client();
    client.send("GET /aa/x%41/y?z HTTP/1.1\r\nHost: h.example\r\nA-B: c\r\n\r\n");
    assert_eq!(client.response().text(), "app");
    let seen = origin.wait_requests(1).remove(0).head;
    let seen: Vec<&str> = std::str::from_utf8(&seen.raw).unwrap().trim_end().split("\r\n").collect();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let fields = told["forward"]["fields"].as_array().unwrap();
    assert_eq!(seen[0], text(&told["forward"]["request_line"]));
    assert_eq!(seen.len() - 1, fields.len(), "{seen:?} {fields:?}");
    for (line, field) in seen[1..].iter().zip(fields) {
        let (name, value) = (text(&field["name"]), text(&field["value"]));
        // The port of this configuration is any free one.
        if field["is_stand_in"] == true || name == "X-Forwarded-Port" {
            assert!(line.starts_with(&format!("{name}: ")), "{line} {field}");
        } else {
            assert_eq!(*line, format!("{name}: {value}"));
        }
    }
    let stand_ins: Vec<String> = fields
        .iter()
        .filter(|field| field["is_stand_in"] == true)
        .map(|field| text(&field["name"]))
        .collect();
    assert_eq!(stand_ins, ["X-Forwarded-For", "X-Request-Id", "X-Request-Start"]);
}

#[test]
fn the_options_of_other_commands_do_not_reach_it() {
    let (told, code) = said("warpdrive -c rails.toml route GET /");
    assert_eq!(code, Some(1));
    assert!(told.starts_with("error: `route` comes first, and its options after it"), "{told}");
    let (help, code) = said("warpdrive route --help");
    assert!(help.contains("Usage: warpdrive route") && code == Some(0), "{help}");
}
