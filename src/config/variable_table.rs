//! The getter of a table for variables of the environment of a command: a table whose keys are
//! the operator's, and whose values are nobody else's business.

use serde_json::json;

use super::Written;
use super::node::Value;
use super::report::Kind;
use super::suggest::Kind as Wants;
use super::table::Table;

impl Table<'_> {
    /// `key = { NAME = "value" }`: names and values, in the order in which they are written.
    pub fn variables(&mut self, key: &str) -> Vec<(Written<String>, Written<String>)> {
        let node = self.entry(key);
        let written = node.map(|node| Written::new((), node.place.clone()));
        // The values may be secrets.
        self.record(key, Kind::Variables, written.as_ref(), |()| json!(null));
        let entries = match node.map(|node| (node, &node.value)) {
            None => return Vec::new(),
            Some((_, Value::Table(entries))) => entries,
            Some((node, other)) => {
                self.mistyped::<()>(&node.place, key, Wants::Table, other);
                return Vec::new();
            }
        };
        let mut variables = Vec::new();
        for (name, entry) in entries {
            let place = &entry.node.place;
            let is_name = !name.is_empty() && !name.contains(['=', '\0']);
            match entry.node.value.text() {
                _ if !is_name => {
                    let message = format!("`{}` cannot be the name of a variable", name.escape_debug());
                    self.report().error(&entry.place, message);
                }
                Some(text) if text.contains('\0') => {
                    self.report().error(place, format!("{name} must be without a NUL character"));
                }
                Some(text) => variables.push((
                    Written::new(name.clone(), entry.place.clone()),
                    Written::new(text.to_owned(), place.clone()),
                )),
                None => {
                    self.mistyped::<()>(place, name, Wants::String, &entry.node.value);
                }
            }
        }
        variables
    }
}
