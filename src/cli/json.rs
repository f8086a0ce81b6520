//! What `check` has to say, as one JSON object for editors and other programs.
//!
//! Names are stable: a key may be added, none changes its meaning or goes.

use serde_json::{Value, json};

use crate::config::{Diagnostic, Place};
use crate::plan::Loaded;

/// The whole answer, on several lines.
pub fn report(loaded: &Result<Loaded, Vec<Diagnostic>>) -> String {
    let (diagnostics, plan) = match loaded {
        Ok(loaded) => (&loaded.warnings, Some(&loaded.plan)),
        Err(diagnostics) => (diagnostics, None),
    };
    let errors = diagnostics.iter().filter(|one| one.is_error()).count();
    let report = json!({
        "valid": plan.is_some(),
        "diagnostics": diagnostics.iter().map(diagnostic).collect::<Vec<Value>>(),
        "summary": {
            "errors": errors,
            "warnings": diagnostics.len() - errors,
            "upstreams": plan.map(|plan| plan.upstreams.len()),
            "routes": plan.map(|plan| plan.routes.len()),
        },
    });
    visible(&format!("{report:#}"))
}

fn diagnostic(diagnostic: &Diagnostic) -> Value {
    let mut value = json!({
        "severity": diagnostic.severity.to_string(),
        "message": diagnostic.message,
    });
    add_place(&mut value, &diagnostic.place);
    value["label"] = json!(diagnostic.label);
    let related = diagnostic.related.iter().map(|related| {
        let mut value = json!({});
        add_place(&mut value, &related.place);
        value["label"] = json!(related.label);
        value
    });
    value["related"] = Value::Array(related.collect());
    value["help"] = json!(diagnostic.help);
    value
}

/// What is not in a file has only the words of its place, what is a whole file also its name.
fn add_place(value: &mut Value, place: &Place) {
    value["place"] = json!(place.to_string());
    value["file"] = json!(place.file());
    let range = place.range();
    let (start, end) = (range.as_ref().map(|range| range.start), range.as_ref().map(|range| range.end));
    value["line"] = json!(start.map(|start| start.line));
    value["column"] = json!(start.map(|start| start.column));
    value["end_line"] = json!(end.map(|end| end.line));
    value["end_column"] = json!(end.map(|end| end.column));
    value["byte"] = json!(start.map(|start| start.byte));
    value["end_byte"] = json!(end.map(|end| end.byte));
}

/// Control characters that JSON allows in a string would still reach a terminal.
pub fn visible(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            '\n' => text.push(character),
            control if control.is_control() => text += &format!("\\u{:04x}", u32::from(control)),
            _ => text.push(character),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::config::{File, Sources};
    use crate::plan;

    fn reported(text: &str) -> (String, Value) {
        let file = File { path: PathBuf::from("w.toml"), text: text.to_owned() };
        let report = report(&plan::load(&Sources { file: Some(file), ..Sources::default() }));
        let value = serde_json::from_str(&report).expect("it is JSON");
        (report, value)
    }

    #[test]
    fn places_are_in_characters_and_in_bytes() {
        let (_, value) = reported("routes = [{ path_prefix = \"/é\", upstream = \"a\" }]");
        let first = &value["diagnostics"][0];
        let at = |key: &str| first[key].as_u64().expect("a number");
        assert_eq!(at("line"), 1);
        assert_eq!((at("column"), at("end_column")), (27, 31));
        assert_eq!((at("byte"), at("end_byte")), (26, 31));
        assert_eq!(first["file"], "w.toml");
        assert_eq!(value["valid"], false);
    }

    #[test]
    fn no_control_character_is_in_it_but_line_ends() {
        let (report, value) = reported("[log]\nlevel = \"\\u009b31m\\u007f\\u001b[31m\"\n");
        assert!(report.chars().all(|character| character == '\n' || !character.is_control()));
        let message = value["diagnostics"][0]["message"].as_str().expect("a string");
        assert!(message.contains("`\u{9b}31m\u{7f}\u{1b}[31m`"), "{message}");
    }

    #[test]
    fn a_valid_configuration_has_counts() {
        let (_, value) = reported("upstreams.a.socket = \"a\"\nroutes = [{ upstream = \"a\" }]\n");
        let summary = json!({ "errors": 0, "warnings": 0, "upstreams": 1, "routes": 1 });
        assert_eq!(value["summary"], summary);
        assert_eq!(value["valid"], true);
    }
}
