//! The getters of a table for what commands have: other commands, and variables, whose names are
//! the operator's and whose values are nobody else's business.

use serde_json::json;

use super::Written;
use super::node::Value;
use super::report::Kind;
use super::suggest::Kind as Wants;
use super::table::Table;
use super::value::Wanted;

impl Table<'_> {
    /// `key = [["program", "argument"], …]`; `parse` looks at the programs.
    pub fn commands(
        &mut self,
        key: &str,
        parse: impl Fn(&str) -> Result<String, Wanted>,
    ) -> Vec<Vec<String>> {
        let node = self.entry(key);
        let written = node.map(|node| Written::new(node.value.to_json(), node.place.clone()));
        self.record(key, Kind::Commands, written.as_ref(), serde_json::Value::clone);
        let items = match node.map(|node| (node, &node.value)) {
            None => return Vec::new(),
            Some((_, Value::Array(items))) => items,
            Some((node, other)) => {
                self.mistyped::<()>(&node.place, key, Wants::Strings, other);
                return Vec::new();
            }
        };
        let mut commands = Vec::new();
        for item in items {
            let Value::Array(words) = &item.value else {
                self.mistyped_item(item.place.clone(), key, Wants::Strings, &item.value);
                continue;
            };
            let mut command = Vec::new();
            for word in words {
                match word.value.text() {
                    Some(text) if text.contains('\0') => {
                        self.report().error(&word.place, format!("{key} must be without a NUL character"));
                    }
                    Some(text) if command.is_empty() => match parse(text) {
                        Ok(program) => command.push(program),
                        Err(wanted) => self.unlike(word.place.clone(), "a program", text, wanted),
                    },
                    Some(text) => command.push(text.to_owned()),
                    None => self.mistyped_item(word.place.clone(), key, Wants::String, &word.value),
                }
            }
            if words.is_empty() {
                self.report().error(&item.place, format!("each of {key} must begin with a program"));
            }
            commands.push(command);
        }
        commands
    }

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
