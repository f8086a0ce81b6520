//! The JSON Schema of a configuration file, for editors: the keys are those that the reader asks
//! for, the descriptions and defaults are those of the reference.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::file::all_settings;
use super::reference;
use super::report::{Kind, Setting};
use super::value::DURATION_MAX;

/// A string that is replaced before it is read.
const SUBSTITUTION: &str = r"\$\{";

/// A whole value that is replaced before it is read, so that it may be of another type.
const WHOLE_SUBSTITUTION: &str = r"^\$\{[^}]*\}$";

const STATUSES: &str = r"^[2-5][0-9]{2}( *- *[2-5][0-9]{2})?$";
const DURATION: &str = r"^[0-9]+ *(ms|s|m|h)$";
const SIZE: &str = r"^[0-9]+ *(|B|KiB|k|K|MiB|m|M|GiB|g|G)$";

/// The schema as text.
pub fn schema() -> String {
    let told = reference::entries();
    let told: HashMap<&str, &reference::Entry> =
        told.iter().rev().map(|entry| (entry.shape.as_str(), entry)).collect();
    let mut root = table();
    for setting in all_settings() {
        let place = place_of(&mut root, &setting.shape, &told);
        let (_, key) = setting.shape.rsplit_once('.').unwrap_or(("", &setting.shape));
        for (key, mut property) in properties(key, &setting.kind) {
            describe(&mut property, &setting, &key, &told);
            place.insert(key, property);
        }
    }
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "WarpDrive",
        "description": "A configuration file of WarpDrive.",
    });
    if let (Some(schema), Value::Object(root)) = (schema.as_object_mut(), root) {
        schema.extend(root);
    }
    format!("{schema:#}\n")
}

fn table() -> Value {
    json!({ "type": "object", "properties": {}, "additionalProperties": false })
}

/// The properties of the table that a setting of this shape is in. Tables on the way are made.
fn place_of<'a>(
    root: &'a mut Value,
    shape: &str,
    told: &HashMap<&str, &reference::Entry>,
) -> &'a mut Map<String, Value> {
    let mut at = root;
    let mut so_far = String::new();
    let mut segments: Vec<&str> = shape.split('.').collect();
    segments.pop();
    for segment in segments {
        so_far += if so_far.is_empty() { "" } else { "." };
        so_far += segment;
        let description = told.get(so_far.as_str()).map_or("", |entry| &entry.description);
        let described = |mut value: Value| {
            if !description.is_empty() {
                value["description"] = json!(description);
            }
            value
        };
        at = match segment.strip_suffix("[]") {
            _ if segment == "*" => {
                if !at["additionalProperties"].is_object() {
                    at["additionalProperties"] = described(table());
                }
                &mut at["additionalProperties"]
            }
            Some(list) => {
                let lists = &mut at["properties"][list];
                if lists.is_null() {
                    *lists = described(json!({ "type": "array", "items": table() }));
                }
                &mut lists["items"]
            }
            None => {
                let tables = &mut at["properties"][segment];
                if tables.is_null() {
                    *tables = described(table());
                }
                tables
            }
        };
    }
    at["properties"].as_object_mut().expect("every table was made with properties")
}

fn conditions(whole: &Value) -> Value {
    let string = json!({ "type": "string" });
    let condition = json!({
        "type": "object",
        "properties": {
            "name": string,
            "value": string,
            "value_regex": string,
            "absent": { "anyOf": [{ "type": "boolean" }, whole] },
        },
        "required": ["name"],
        "additionalProperties": false,
    });
    json!({ "anyOf": [condition, { "type": "array", "items": condition, "minItems": 1 }] })
}

/// The spellings of a key, each with what it takes.
fn properties(key: &str, kind: &Kind) -> Vec<(String, Value)> {
    let replaced = json!({ "type": "string", "pattern": SUBSTITUTION });
    let whole = json!({ "type": "string", "pattern": WHOLE_SUBSTITUTION });
    let integer = |least: u64, most: u64| match most {
        u64::MAX => json!({ "type": "integer", "minimum": least }),
        _ => json!({ "type": "integer", "minimum": least, "maximum": most }),
    };
    let string = json!({ "type": "string" });
    let one = |value| vec![(key.to_owned(), value)];
    match kind {
        Kind::String => one(string),
        Kind::Conditions => one(conditions(&whole)),
        Kind::Fields { may_remove } => {
            let mut field = json!({
                "type": "object",
                "properties": { "name": string, "value": string },
                "required": ["name"],
                "additionalProperties": false,
            });
            match may_remove {
                true => field["properties"]["remove"] = json!({ "anyOf": [{ "type": "boolean" }, whole] }),
                false => field["required"] = json!(["name", "value"]),
            }
            one(json!({ "anyOf": [field, { "type": "array", "items": field, "minItems": 1 }] }))
        }
        Kind::Statuses => {
            let status = integer(200, 599);
            let range = json!({ "type": "string", "pattern": STATUSES });
            let list = json!({ "type": "array", "items": { "anyOf": [status.clone(), range.clone()] }, "minItems": 1 });
            one(json!({ "anyOf": [status, range, list, replaced] }))
        }
        Kind::Strings => one(json!({ "type": "array", "items": string })),
        Kind::Commands => {
            let command = json!({ "type": "array", "items": string, "minItems": 1 });
            one(json!({ "type": "array", "items": command }))
        }
        Kind::Variables => one(json!({ "type": "object", "additionalProperties": string })),
        Kind::Object => one(json!({ "type": "object" })),
        Kind::Boolean => one(json!({ "anyOf": [{ "type": "boolean" }, whole] })),
        Kind::Choice(words) => one(json!({ "anyOf": [{ "enum": words }, replaced] })),
        Kind::Integer { least, most } => one(json!({ "anyOf": [integer(*least, *most), whole] })),
        Kind::Fraction => one(json!({ "anyOf": [{ "type": "number", "minimum": 0, "maximum": 1 }, whole] })),
        Kind::Duration => {
            let with_unit = json!({ "type": "string", "pattern": DURATION });
            let secs = integer(1, DURATION_MAX.as_secs());
            vec![
                (key.to_owned(), json!({ "anyOf": [with_unit, replaced] })),
                (format!("{key}_secs"), json!({ "anyOf": [secs, whole] })),
            ]
        }
        Kind::Size { least, most } => {
            let bytes = integer(*least, *most);
            let with_unit = json!({ "type": "string", "pattern": SIZE });
            let mut both = one(json!({ "anyOf": [bytes.clone(), with_unit, replaced] }));
            if !key.ends_with("_bytes") {
                both.push((format!("{key}_bytes"), json!({ "anyOf": [bytes, whole] })));
            }
            both
        }
        Kind::Secret => vec![(key.to_owned(), string.clone()), (format!("{key}_file"), string)],
    }
}

/// Adds what the reference says. An instance of an upstream has the keys of an upstream.
fn describe(property: &mut Value, setting: &Setting, key: &str, told: &HashMap<&str, &reference::Entry>) {
    let shape = setting.shape.replace(".instances[]", "");
    let said = told.get(setting.shape.as_str()).filter(|entry| !entry.description.is_empty());
    let Some(entry) = said.or(told.get(shape.as_str())) else {
        return;
    };
    property["description"] = json!(entry.description);
    if let Some(default) = &entry.default
        && setting.shape.ends_with(key)
    {
        property["default"] = default.clone();
    }
}
