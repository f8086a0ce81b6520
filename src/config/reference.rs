//! What `config/warpdrive.toml` says about each key: its description and its default. A test
//! holds the file to the code, so what is said once is said there.

use super::diagnostic::Place;
use super::parse;

const TEXT: &str = include_str!("../../config/warpdrive.toml");

/// These have no default: they are there so that the reference is a whole configuration.
const EXAMPLES: [&str; 4] =
    ["upstreams.*.host", "upstreams.*.port", "routes[].path_prefix", "routes[].upstream"];

/// One key or, with no default, one table.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// As in [`super::Setting`].
    pub shape: String,
    pub description: String,
    pub default: Option<serde_json::Value>,
}

/// All keys and tables, in the order of the file.
pub fn entries() -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut table = String::new();
    // The table of an example within a comment: to the end of the comment.
    let mut example: Option<String> = None;
    let mut description = String::new();
    // A line of values ends a description; the next comment begins another one.
    let mut is_told = false;
    for line in TEXT.lines() {
        let (bare, is_comment) = match line.strip_prefix('#') {
            Some(comment) => (comment.trim_start_matches(' '), true),
            None => (line, false),
        };
        if line.is_empty() {
            description.clear();
            example = None;
        } else if let Some(shape) = header(bare) {
            entries.push(Entry {
                shape: shape.clone(),
                description: std::mem::take(&mut description),
                default: None,
            });
            if is_comment {
                example = Some(shape);
            } else {
                table = shape;
            }
            is_told = true;
        } else if let Some((key, value)) = assignment(bare) {
            let table = example.as_ref().unwrap_or(&table);
            let shape = if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") };
            let has_default = !is_comment && !EXAMPLES.contains(&shape.as_str());
            let default = has_default.then_some(value);
            entries.push(Entry { shape, description: description.clone(), default });
            is_told = true;
        } else {
            if is_told {
                description.clear();
            }
            is_told = false;
            if !description.is_empty() {
                description.push(' ');
            }
            description.push_str(bare);
        }
    }
    entries
}

/// `[server.limits]`, `[[routes]]`, `[upstreams.app]` as shapes.
fn header(line: &str) -> Option<String> {
    let (inner, is_list) = match line.strip_prefix("[[").and_then(|rest| rest.strip_suffix("]]")) {
        Some(inner) => (inner, true),
        None => (line.strip_prefix('[')?.strip_suffix(']')?, false),
    };
    let mut segments: Vec<&str> = inner.split('.').collect();
    if let ["upstreams", name, ..] = segments.as_mut_slice() {
        *name = "*";
    }
    if let ["routes", _, ..] = segments.as_mut_slice() {
        segments[0] = "routes[]";
    }
    if let ["wasm", "components" | "policies" | "middleware" | "workloads", name, below @ ..] =
        segments.as_mut_slice()
    {
        *name = "*";
        match below {
            ["interface_config", interface] => *interface = "*",
            ["host_interfaces", _] => below[0] = "host_interfaces[]",
            _ => {}
        }
    }
    Some(segments.join(".") + if is_list { "[]" } else { "" })
}

/// A key and its value.
fn assignment(line: &str) -> Option<(&str, serde_json::Value)> {
    let (key, value) = line.split_once(" = ")?;
    let is_key = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let node = parse::value(value, &Place::Default).filter(|_| is_key)?;
    Some((key, node.value.to_json()))
}
