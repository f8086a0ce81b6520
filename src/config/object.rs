//! A table whose keys and values are the operator's, as JSON for whoever is to understand it.

use serde_json::{Map, Number, Value as Json, json};

use super::node::{Entries, Node, Value};
use super::report::Kind;
use super::suggest::Kind as Wants;
use super::table::Table;
use super::{Diagnostic, Written};

impl Table<'_> {
    /// All of a table; nothing if it is not there. Its values may be secrets, and are never shown.
    pub fn object(&mut self, key: &str) -> Map<String, Json> {
        let node = self.entry(key);
        let written = node.map(|node| Written::new((), node.place.clone()));
        self.record(key, Kind::Object, written.as_ref(), |()| json!(null));
        match node.map(|node| (node, &node.value)) {
            None => Map::new(),
            Some((_, Value::Table(entries))) => self.entries_as_json(entries),
            Some((node, other)) => {
                self.mistyped::<()>(&node.place, key, Wants::Table, other);
                Map::new()
            }
        }
    }

    fn entries_as_json(&self, entries: &Entries) -> Map<String, Json> {
        entries.iter().map(|(key, entry)| (key.clone(), self.node_as_json(&entry.node))).collect()
    }

    fn node_as_json(&self, node: &Node) -> Json {
        let number = |text: &str, number: Option<Number>| match number {
            Some(number) => Json::Number(number),
            None => {
                let message = format!("`{text}` is no number that JSON has");
                self.report()
                    .push(Diagnostic::error(node.place.clone(), message).with_help("write it as a string"));
                Json::Null
            }
        };
        match &node.value {
            Value::Table(entries) => Json::Object(self.entries_as_json(entries)),
            Value::Array(items) => items.iter().map(|item| self.node_as_json(item)).collect(),
            Value::Integer(integer) => match integer.number {
                Some(natural) => json!(natural),
                None => {
                    let digits = integer.text.replace('_', "");
                    number(&integer.text, digits.parse::<i64>().ok().map(Number::from))
                }
            },
            Value::Float(text) => {
                let digits = text.replace('_', "");
                number(text, digits.parse().ok().and_then(Number::from_f64))
            }
            other => other.to_json(),
        }
    }
}
