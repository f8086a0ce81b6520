//! What `check` says of each mistake in tests/diagnostics, to the letter.
//!
//! `NAME.toml` is checked by the real binary in that directory. `NAME.stderr` is what a reader
//! sees, `NAME.json`, where it is there, what a program gets. Lines at the top of a case may set
//! the scene: `# env: NAME=value`, `# args: …` (instead of `check -c NAME.toml`). With
//! `UPDATE_GOLDEN=1` the expected files are written anew; read the difference before you keep it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::harness::proxy::BINARY;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/diagnostics")
}

fn is_update() -> bool {
    std::env::var_os("UPDATE_GOLDEN").is_some()
}

/// The files with this extension, without it, in order.
fn names(extension: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(directory()).expect("the directory of the cases");
    let paths = entries.map(|entry| entry.expect("an entry of it").path());
    paths
        .filter(|path| path.extension() == Some(OsStr::new(extension)))
        .map(|path| path.file_stem().expect("it has a name").to_string_lossy().into_owned())
        .collect()
}

struct Case {
    name: String,
    environment: Vec<(String, String)>,
    arguments: Vec<String>,
}

impl Case {
    fn read(name: &str) -> Case {
        let bytes = std::fs::read(directory().join(format!("{name}.toml"))).expect("a case");
        let text = String::from_utf8_lossy(&bytes);
        let mut environment = Vec::new();
        let mut arguments = vec!["check".to_owned(), "-c".to_owned(), format!("{name}.toml")];
        for line in text.lines().take_while(|line| line.starts_with("# ")) {
            if let Some((name, value)) =
                line.strip_prefix("# env: ").and_then(|variable| variable.split_once('='))
            {
                environment.push((name.to_owned(), value.to_owned()));
            } else if let Some(words) = line.strip_prefix("# args: ") {
                arguments = words.split_whitespace().map(str::to_owned).collect();
            }
        }
        Case { name: name.to_owned(), environment, arguments }
    }

    fn run(&self, more: &[&str]) -> Output {
        let mut command = Command::new(BINARY);
        command.args(&self.arguments).args(more).current_dir(directory());
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_ours(name)) {
            command.env_remove(name);
        }
        let variables = self.environment.iter().map(|(name, value)| (name, value));
        command.envs(variables).output().expect("the binary runs")
    }

    /// Compares, or writes. `None`: as it should be.
    fn compare(&self, extension: &str, said: &[u8]) -> Option<String> {
        let file = directory().join(format!("{}.{extension}", self.name));
        let said = String::from_utf8(said.to_vec()).expect("it is UTF-8");
        if is_update() {
            std::fs::write(&file, said).expect("a file of ours");
            return None;
        }
        let expected = std::fs::read_to_string(&file).unwrap_or_default();
        let name = &self.name;
        (said != expected).then(|| format!("{name}.{extension} is\n{expected}\nbut this was said:\n{said}"))
    }
}

fn is_ours(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with("WARPDRIVE_") || name == "NO_COLOR" || name == "TERM"
}

#[test]
fn every_mistake_is_explained_as_it_was_reviewed() {
    let mut wrong = Vec::new();
    for name in names("toml") {
        let case = Case::read(&name);
        let output = case.run(&[]);
        wrong.extend(case.compare("stderr", &output.stderr));
        let is_valid = String::from_utf8_lossy(&output.stdout).starts_with("configuration is valid");
        assert_eq!(output.status.code(), Some(i32::from(!is_valid)), "{name}");
        assert_eq!(is_valid, name.starts_with("warning_"), "{name}");
    }
    assert!(wrong.is_empty(), "{}\nUPDATE_GOLDEN=1 accepts all of this", wrong.join("\n"));
}

#[test]
fn programs_are_told_the_same() {
    let mut wrong = Vec::new();
    for name in names("json") {
        let case = Case::read(&name);
        let output = case.run(&["--format", "json"]);
        wrong.extend(case.compare("json", &output.stdout));
        assert!(output.stderr.is_empty(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
        assert_eq!(output.status.code(), Some(i32::from(report["valid"] != true)), "{name}");
    }
    assert!(wrong.is_empty(), "{}\nUPDATE_GOLDEN=1 accepts all of this", wrong.join("\n"));
}

/// Each message stands in the JSON form as it does in the other, but for what harms a terminal.
#[test]
fn both_forms_agree_on_every_case() {
    for name in names("toml") {
        let case = Case::read(&name);
        // Without a configuration there is no report.
        if name.starts_with("argument_") {
            continue;
        }
        let output = case.run(&["--format", "json"]);
        let report: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
        let seen = String::from_utf8(case.run(&[]).stderr).expect("it is UTF-8");
        let titles = seen.lines().filter(|line| line.starts_with("error: ") || line.starts_with("warning: "));
        let titles: Vec<&str> = titles.collect();
        let diagnostics = report["diagnostics"].as_array().expect("a list");
        assert_eq!(titles.len(), diagnostics.len(), "{name}");
        for (title, diagnostic) in titles.iter().zip(diagnostics) {
            let word = |key: &str| diagnostic[key].as_str().expect("a string");
            let (severity, message) = (word("severity"), word("message"));
            let is_plain = !message.contains(char::is_control);
            let told = title.strip_prefix(severity).and_then(|rest| rest.strip_prefix(": "));
            assert!(told.is_some_and(|told| told == message || !is_plain), "{name}: {title}");
        }
    }
}

#[test]
fn no_expected_file_is_left_over() {
    // They are just being written.
    if is_update() {
        return;
    }
    let cases = names("toml");
    assert!(cases.len() >= 40, "there are only {} cases", cases.len());
    assert_eq!(names("stderr"), cases, "every case has its words, and there are no others");
    let programs = names("json");
    assert!(!programs.is_empty() && programs.is_subset(&cases), "{programs:?}");
}

#[test]
fn minus_t_is_check_and_colours_are_for_terminals() {
    let run = |arguments: &[&str], variables: &[(&str, &str)]| {
        let case = Case {
            name: String::new(),
            environment: variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
        };
        String::from_utf8(case.run(&[]).stderr).expect("it is UTF-8")
    };
    let file = "unknown_key.toml";
    let plain = run(&["check", "-c", file], &[]);
    assert!(plain.contains("unknown key") && !plain.contains('\u{1b}'), "{plain:?}");
    assert_eq!(run(&["-t", "-c", file], &[("TERM", "xterm")]), plain);
    assert_eq!(run(&["-c", file, "--color", "never"], &[]), plain);
    let coloured = run(&["-t", "-c", file, "--color", "always"], &[("NO_COLOR", "1"), ("TERM", "dumb")]);
    assert!(coloured.contains("\u{1b}["), "{coloured:?}");
}
