//! Reads one table, key by key, and reports what does not fit, with its place.
//!
//! A getter answers `None` for a key that is absent and for one that is wrong; the latter is
//! reported. [`Table::finish`] reports the keys that nobody asked for. Every key that is asked
//! for is recorded with its kind, so the readers are the one list of what there is.
//! Must not know: which tables and keys there are.

use std::ops::RangeInclusive;

use serde_json::json;

use super::Written;
use super::diagnostic::{Diagnostic, Place};
use super::node::{Entries, Entry, Node, Value, quoted};
use super::report::{Kind, Report, Setting};
use super::suggest::{self, Kind as Wants};
use super::value::{self, Wanted};

/// One table, and which of its keys have been asked for.
pub struct Table<'a> {
    /// As in the file: `[server]`, `[[routes]]`; empty for the file itself.
    title: String,
    names: Names,
    entries: &'a Entries,
    place: Place,
    report: &'a Report<'a>,
    known: Vec<String>,
    /// Of a setting that is recorded as a whole.
    is_part: bool,
}

/// What a table is called in settings, each with a dot at its end; empty for the file itself.
#[derive(Clone, Default)]
struct Names {
    key: String,
    shape: String,
}

impl Names {
    fn below(&self, key: &str, shape: &str) -> Names {
        Names { key: format!("{}{key}.", self.key), shape: format!("{}{shape}.", self.shape) }
    }
}

impl<'a> Table<'a> {
    /// The whole configuration.
    pub fn root(entries: &'a Entries, place: Place, report: &'a Report<'a>) -> Table<'a> {
        let (title, names) = (String::new(), Names::default());
        Table { title, names, entries, place, report, known: Vec::new(), is_part: false }
    }

    fn below(&self, title: String, names: Names, entries: &'a Entries, place: Place) -> Table<'a> {
        Table { title, names, entries, place, report: self.report, known: Vec::new(), is_part: false }
    }

    /// Its header, or the braces around it.
    pub fn place(&self) -> &Place {
        &self.place
    }

    pub fn title(&self) -> &str {
        &self.title
    }

    pub fn report(&self) -> &'a Report<'a> {
        self.report
    }

    /// Where the key is, if it is there, whatever its value.
    pub fn key_place(&self, key: &str) -> Option<Place> {
        self.entries.get(key).map(|entry| entry.place.clone())
    }

    pub fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Whether the key is there, with `[]`.
    pub fn is_empty_list(&self, key: &str) -> bool {
        let value = self.entries.get(key).map(|entry| &entry.node.value);
        matches!(value, Some(Value::Array(items)) if items.is_empty())
    }

    pub fn string(&mut self, key: &str) -> Option<Written<String>> {
        self.parsed(key, |text| Ok(text.to_owned()))
    }

    /// A string that `parse` understands.
    pub fn parsed<T>(
        &mut self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, Wanted>,
    ) -> Option<Written<T>> {
        let text = self.text(key, Wants::String);
        self.record(key, Kind::String, text.as_ref(), |text| json!(text));
        self.understood(key, text?, parse)
    }

    /// A string that may have parts of the request in it, as a template; `parse` looks at it.
    pub fn template(
        &mut self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<String, Wanted>,
    ) -> Option<Written<String>> {
        let node = self.entry(key);
        let text = node.and_then(|node| match (&node.template, &node.value) {
            (Some(text), _) | (None, Value::Template(text) | Value::String(text) | Value::Bare(text)) => {
                Some(Written::new(text.clone(), node.place.clone()))
            }
            (None, other) => self.mistyped(&node.place, key, Wants::String, other),
        });
        self.record(key, Kind::String, text.as_ref(), |text| json!(text));
        self.understood(key, text?, parse)
    }

    /// What `parse` makes of a text; what it does not understand is reported.
    fn understood<T>(
        &self,
        key: &str,
        text: Written<String>,
        parse: impl FnOnce(&str) -> Result<T, Wanted>,
    ) -> Option<Written<T>> {
        match parse(&text.value) {
            Ok(value) => Some(Written::new(value, text.place)),
            Err(wanted) => {
                self.unlike(text.place, key, &text.value, wanted);
                None
            }
        }
    }

    /// One of the given words. `later` are words that will be valid, but are not yet.
    pub fn choice<T: Clone>(&mut self, key: &str, choices: &[(&str, T)], later: &[&str]) -> Option<T> {
        let text = self.text(key, Wants::String);
        let words = choices.iter().map(|(word, _)| (*word).to_owned());
        self.record(key, Kind::Choice(words.collect()), text.as_ref(), |text| json!(text));
        let text = text?;
        let word = text.value.as_str();
        if let Some((_, value)) = choices.iter().find(|(name, _)| *name == word) {
            return Some(value.clone());
        }
        if later.contains(&word) {
            let message = format!("{key} `{word}` is known, but does not work yet in this version");
            self.report.error(&text.place, message);
            return None;
        }
        let mut names = String::new();
        for (index, (name, _)) in choices.iter().enumerate() {
            names += match index {
                0 => "",
                index if index + 1 == choices.len() => " or ",
                _ => ", ",
            };
            names += &format!("`{name}`");
        }
        let message = format!("{key} must be {names}, not `{word}`");
        let mut diagnostic = Diagnostic::error(text.place, message);
        let known = choices.iter().map(|(name, _)| *name).chain(later.iter().copied());
        if let Some(name) = suggest::nearest(word, known) {
            diagnostic = diagnostic.with_help(format!("did you mean `{name}`?"));
        }
        self.report.push(diagnostic);
        None
    }

    pub fn boolean(&mut self, key: &str) -> Option<Written<bool>> {
        let found = self.entry(key).and_then(|node| match &node.value {
            Value::Boolean(value) => Some(Written::new(*value, node.place.clone())),
            Value::Bare(text) => match value::boolean(text) {
                Some(value) => Some(Written::new(value, node.place.clone())),
                None => self.wrong(&node.place, key, &format!("true or false, not `{text}`")),
            },
            other => self.mistyped(&node.place, key, Wants::Boolean, other),
        });
        self.record(key, Kind::Boolean, found.as_ref(), |value| json!(value));
        found
    }

    pub fn integer<T>(&mut self, key: &str, range: RangeInclusive<u64>) -> Option<Written<T>>
    where
        T: TryFrom<u64>,
    {
        let found = self.whole_number(key, range.clone());
        let (least, most) = range.into_inner();
        self.record(key, Kind::Integer { least, most }, found.as_ref(), |number| json!(number));
        let found = found?;
        // Every range is one of numbers that its type has.
        Some(Written::new(T::try_from(found.value).ok()?, found.place))
    }

    pub(super) fn whole_number(&mut self, key: &str, range: RangeInclusive<u64>) -> Option<Written<u64>> {
        let node = self.entry(key)?;
        let (number, text) = match &node.value {
            Value::Integer(integer) => (integer.number, integer.text.clone()),
            Value::Bare(text) => (value::digits(text), format!("`{text}`")),
            other => return self.mistyped(&node.place, key, Wants::Integer, other),
        };
        match number.filter(|number| range.contains(number)) {
            Some(number) => Some(Written::new(number, node.place.clone())),
            None => {
                let wanted = match range.into_inner() {
                    (least, u64::MAX) => format!("an integer, {least} or more, not {text}"),
                    (least, most) => format!("an integer from {least} to {most}, not {text}"),
                };
                self.wrong(&node.place, key, &wanted)
            }
        }
    }

    /// A list of strings, each of which `parse` understands. One wrong string loses only itself.
    pub fn list<T>(
        &mut self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, Wanted>,
    ) -> Option<Vec<Written<T>>> {
        let items = self.items(key, Wants::Strings);
        let mut texts = Vec::new();
        let mut list = Vec::new();
        for item in items.into_iter().flat_map(|(_, items)| items) {
            let place = item.place.clone();
            let Some(text) = item.value.text() else {
                self.mistyped_item(place, key, Wants::String, &item.value);
                continue;
            };
            texts.push(text);
            match parse(text) {
                Ok(value) => list.push(Written::new(value, place)),
                Err(wanted) => self.unlike(place, &format!("each of {key}"), text, wanted),
            }
        }
        let written = items.map(|(place, _)| Written::new(texts, place.clone()));
        self.record(key, Kind::Strings, written.as_ref(), |texts| json!(texts));
        items.map(|_| list)
    }

    /// An empty one stands for one that is absent, so that its keys are asked for.
    pub fn table(&mut self, key: &str) -> Option<Table<'a>> {
        let names = self.names.below(key, key);
        if !self.has(key) {
            self.known.push(key.to_owned());
            let nothing = self.report.nothing();
            return Some(self.below(self.title_of(key), names, nothing, Place::Default));
        }
        let node = self.entry(key)?;
        match &node.value {
            Value::Table(entries) => Some(self.below(self.title_of(key), names, entries, node.place.clone())),
            other => self.mistyped(&node.place, key, Wants::Table, other),
        }
    }

    /// The tables of a `[[list]]`, in document order.
    pub fn tables(&mut self, key: &str) -> Option<Vec<Table<'a>>> {
        let title = format!("[{}]", self.title_of(key));
        let shape = format!("{key}[]");
        if self.report.is_describing() {
            let names = self.names.below(&shape, &shape);
            return Some(vec![self.below(title, names, self.report.nothing(), Place::Default)]);
        }
        let (_, items) = self.items(key, Wants::Tables)?;
        let mut tables = Vec::new();
        for (number, item) in (1..).zip(items) {
            let names = self.names.below(&format!("{key}.{number}"), &shape);
            match &item.value {
                Value::Table(entries) => {
                    tables.push(self.below(title.clone(), names, entries, item.place.clone()));
                }
                other => {
                    self.mistyped_item(item.place.clone(), key, Wants::Table, other);
                }
            }
        }
        Some(tables)
    }

    /// A table, or a list of tables, which is one setting as a whole.
    pub fn parts(&mut self, key: &str, kind: Kind) -> Vec<Table<'a>> {
        let node = self.entry(key);
        let written = node.map(|node| Written::new(node.value.to_json(), node.place.clone()));
        self.record(key, kind, written.as_ref(), serde_json::Value::clone);
        let items = match node.map(|node| (node, &node.value)) {
            None => &[],
            Some((_, Value::Array(items))) => items.as_slice(),
            Some((node, _)) => std::slice::from_ref(node),
        };
        let mut tables = Vec::new();
        for item in items {
            match &item.value {
                Value::Table(entries) => {
                    let part = self.below(self.title_of(key), Names::default(), entries, item.place.clone());
                    tables.push(Table { is_part: true, ..part });
                }
                Value::Array(_) | Value::Unknown => {
                    self.mistyped_item(item.place.clone(), key, Wants::Table, &item.value);
                }
                other => {
                    let message = format!("{key} must be a table or a list of tables, not {}", other.kind());
                    let help = format!("such as {key} = {{ name = \"NAME\", value = \"VALUE\" }}");
                    self.report.push(Diagnostic::error(item.place.clone(), message).with_help(help));
                }
            }
        }
        tables
    }

    /// All entries, each a table under a name of the operator's, in document order.
    pub fn named_tables(&mut self) -> Vec<(Written<String>, Table<'a>)> {
        let mut tables = Vec::new();
        if self.report.is_describing() {
            let names = self.names.below("*", "*");
            let table = self.below(self.title_of("*"), names, self.report.nothing(), Place::Default);
            tables.push((Written::new("*".to_owned(), Place::Default), table));
        }
        for (name, entry) in self.entries {
            self.known.push(name.clone());
            match &entry.node.value {
                Value::Table(entries) => {
                    let names = self.names.below(&quoted(name), "*");
                    let place = entry.node.place.clone();
                    let table = self.below(self.title_of(name), names, entries, place);
                    tables.push((Written::new(name.clone(), entry.place.clone()), table));
                }
                other => {
                    self.mistyped::<()>(&entry.place, name, Wants::Table, other);
                }
            }
        }
        tables
    }

    /// The strings of the list `key` in the table `table`, if that is how they are written. Asks
    /// for neither: what is not read yet may still be looked at.
    pub fn peek_texts(&self, table: &str, key: &str) -> Vec<(&'a str, &'a Place)> {
        let Some(Value::Table(below)) = self.entries.get(table).map(|entry| &entry.node.value) else {
            return Vec::new();
        };
        let Some(Value::Array(items)) = below.get(key).map(|entry| &entry.node.value) else {
            return Vec::new();
        };
        items.iter().filter_map(|item| Some((item.value.text()?, &item.place))).collect()
    }

    /// Reports every key that was not asked for; `later` are those that do not work yet.
    pub fn finish(self, later: &[&str]) {
        let within = match self.title.as_str() {
            "" => String::new(),
            title => format!(" in {title}"),
        };
        for (name, entry) in self.entries {
            let name = name.as_str();
            if self.known.iter().any(|known| known == name) {
                continue;
            }
            if later.contains(&name) {
                let message = format!("`{name}`{within} is known, but does not work yet in this version");
                self.report.error(&entry.place, message);
                continue;
            }
            let diagnostic = self.unknown(entry, name, &within, later);
            match self.title.as_str() {
                // Where a header is torn, its keys are found here.
                "" => self.report.push_unless_torn(diagnostic),
                _ => self.report.push(diagnostic),
            }
        }
    }

    fn unknown(&self, entry: &Entry, name: &str, within: &str, later: &[&str]) -> Diagnostic {
        let known = self.known.iter().map(String::as_str).chain(later.iter().copied());
        let tables = match &entry.node.value {
            Value::Table(entries) => Some(first_table(entries)),
            Value::Array(items) => {
                matches!(items.first().map(|item| &item.value), Some(Value::Table(_))).then_some(None)
            }
            _ => None,
        };
        let (message, help) = match tables {
            Some(below) if self.title.is_empty() => {
                (format!("unknown table `{name}`"), Some(suggest::table(name, below, known)))
            }
            _ => (format!("unknown key `{name}`{within}"), suggest::key(name, &self.title, known)),
        };
        Diagnostic { help, ..Diagnostic::error(entry.place.clone(), message) }
    }

    /// Notes that the key is known, and returns its value.
    pub(super) fn entry(&mut self, key: &str) -> Option<&'a Node> {
        self.known.push(key.to_owned());
        let node = &self.entries.get(key)?.node;
        (!matches!(node.value, Value::Unknown)).then_some(node)
    }

    /// A string as it is written; `wanted` is what it is to be.
    pub(super) fn text(&mut self, key: &str, wanted: Wants) -> Option<Written<String>> {
        let node = self.entry(key)?;
        match node.value.text() {
            Some(text) if text.contains('\0') => self.wrong(&node.place, key, "without a NUL character"),
            Some(text) => Some(Written::new(text.to_owned(), node.place.clone())),
            None => self.mistyped(&node.place, key, wanted, &node.value),
        }
    }

    /// The list's place and its items.
    fn items(&mut self, key: &str, wanted: Wants) -> Option<(&'a Place, &'a [Node])> {
        let node = self.entry(key)?;
        match &node.value {
            Value::Array(items) => Some((&node.place, items)),
            other => self.mistyped(&node.place, key, wanted, other),
        }
    }

    pub(super) fn record<T>(
        &self,
        key: &str,
        kind: Kind,
        found: Option<&Written<T>>,
        show: impl FnOnce(&T) -> serde_json::Value,
    ) {
        if self.is_part || !self.report.is_recording() {
            return;
        }
        self.report.record(Setting {
            key: format!("{}{key}", self.names.key),
            shape: format!("{}{key}", self.names.shape),
            kind,
            value: found.map(|found| Written::new(show(&found.value), found.place.clone())),
        });
    }

    /// Whether two spellings of one setting are there, which is an error.
    pub(super) fn are_both(&mut self, key: &str, other: &str) -> bool {
        let (Some(first), Some(second)) = (self.key_place(key), self.key_place(other)) else {
            return false;
        };
        self.known.extend([key.to_owned(), other.to_owned()]);
        let (earlier, later) = if first.is_after(&second) { (second, first) } else { (first, second) };
        let message = format!("{key} and {other} are the same setting");
        let both = Diagnostic::error(later, message).with_related(earlier, "first here");
        self.report.push(both.with_label("again here").with_help("keep one of them"));
        true
    }

    fn title_of(&self, key: &str) -> String {
        format!("[{}]", self.path_of(key))
    }

    fn path_of(&self, key: &str) -> String {
        match self.title.trim_start_matches('[').trim_end_matches(']') {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        }
    }

    /// Reports a string that is not what was wanted.
    pub(super) fn unlike(&self, place: Place, key: &str, text: &str, wanted: Wanted) {
        let written = match text {
            "" => "an empty string".to_owned(),
            text => format!("`{text}`"),
        };
        let message = format!("{key} must be {}, not {written}", wanted.what);
        self.report.push(Diagnostic { help: wanted.help, ..Diagnostic::error(place, message) });
    }

    /// Reports a quantity; `meant` is how it would be written.
    pub(super) fn misspelt<T>(
        &self,
        place: &Place,
        key: &str,
        wanted: &str,
        meant: Option<String>,
    ) -> Option<T> {
        let help = meant.map(|meant| format!("write {key} = \"{meant}\""));
        let message = format!("{key} must be {wanted}");
        self.report.push(Diagnostic { help, ..Diagnostic::error(place.clone(), message) });
        None
    }

    pub(super) fn wrong<T>(&self, place: &Place, key: &str, wanted: &str) -> Option<T> {
        self.report.error(place, format!("{key} must be {wanted}"));
        None
    }

    pub(super) fn mistyped_item(&self, place: Place, key: &str, wanted: Wants, found: &Value) {
        if !matches!(found, Value::Unknown) {
            let (wanted, found) = (wanted.words(), found.kind());
            self.report.error(&place, format!("each of {key} must be {wanted}, not {found}"));
        }
    }

    pub(super) fn mistyped<T>(&self, place: &Place, key: &str, wanted: Wants, found: &Value) -> Option<T> {
        if matches!(found, Value::Unknown) {
            return None;
        }
        let path = self.path_of(key);
        let name = if wanted == Wants::Table { &path } else { key };
        let message = format!("{name} must be {}, not {}", wanted.words(), found.kind());
        let help = suggest::retyped(key, &path, wanted, found);
        self.report.push(Diagnostic { help, ..Diagnostic::error(place.clone(), message) });
        None
    }
}

/// The name of the first table among these.
fn first_table(entries: &Entries) -> Option<&str> {
    let is_table = |entry: &Entry| matches!(entry.node.value, Value::Table(_));
    entries.iter().find(|(_, entry)| is_table(entry)).map(|(name, _)| name.as_str())
}
