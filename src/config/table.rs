//! Reads one table of the file, key by key, and reports what does not fit, with its position.
//!
//! A getter answers `None` for a key that is absent and for one that is wrong; the latter is
//! reported. [`Table::finish`] reports the keys that nobody asked for.
//! Must not know: which tables and keys there are.

use std::cell::RefCell;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Written;
use super::diagnostic::{Diagnostic, Document, Place};
use super::suggest::{self, Kind};
use super::value::{self, Wanted};

/// The mistakes found so far in one file.
pub struct Report {
    document: Arc<Document>,
    found: RefCell<Vec<Diagnostic>>,
    /// The text was not TOML all through: what seems to be absent may be there.
    is_torn: bool,
}

impl Report {
    pub fn new(document: Arc<Document>, is_torn: bool) -> Report {
        Report { document, found: RefCell::default(), is_torn }
    }

    pub fn text(&self) -> &str {
        self.document.text()
    }

    pub fn place(&self, span: Range<usize>) -> Place {
        Place::Text { document: Arc::clone(&self.document), span }
    }

    pub fn push(&self, diagnostic: Diagnostic) {
        self.found.borrow_mut().push(diagnostic);
    }

    pub fn error(&self, place: &Place, message: impl Into<String>) {
        self.push(Diagnostic::error(place.clone(), message));
    }

    /// A mistake only if every table is where it was meant to be, and whole.
    pub fn push_unless_torn(&self, diagnostic: Diagnostic) {
        if !self.is_torn {
            self.push(diagnostic);
        }
    }

    /// How many mistakes have been found so far.
    pub fn len(&self) -> usize {
        self.found.borrow().len()
    }

    pub fn into_found(self) -> Vec<Diagnostic> {
        self.found.into_inner()
    }
}

/// One table, and which of its keys have been asked for.
pub struct Table<'a> {
    /// As in the file: `[server]`, `[[routes]]`; empty for the file itself.
    title: String,
    entries: &'a DeTable<'a>,
    place: Place,
    report: &'a Report,
    known: Vec<String>,
}

type Entry<'a> = (Place, &'a Spanned<DeValue<'a>>);

impl<'a> Table<'a> {
    pub fn new(
        title: impl Into<String>,
        entries: &'a DeTable<'a>,
        place: Place,
        report: &'a Report,
    ) -> Table<'a> {
        Table { title: title.into(), entries, place, report, known: Vec::new() }
    }

    /// Its header, or the braces around it.
    pub fn place(&self) -> &Place {
        &self.place
    }

    pub fn title(&self) -> &str {
        &self.title
    }

    pub fn report(&self) -> &'a Report {
        self.report
    }

    /// Where the key is, if it is there, whatever its value.
    pub fn key_place(&self, key: &str) -> Option<Place> {
        let (key, _) = self.entries.get_key_value(key)?;
        Some(self.report.place(key.span()))
    }

    pub fn has(&self, key: &str) -> bool {
        self.entries.get_key_value(key).is_some()
    }

    /// Whether the key is there, with `[]`.
    pub fn is_empty_list(&self, key: &str) -> bool {
        let value = self.entries.get(key).map(Spanned::get_ref);
        matches!(value, Some(DeValue::Array(items)) if items.is_empty())
    }

    pub fn string(&mut self, key: &str) -> Option<Written<String>> {
        let (place, value) = self.entry(key)?;
        match value.get_ref() {
            DeValue::String(text) if text.contains('\0') => {
                self.wrong(&place, key, "without a NUL character");
                None
            }
            DeValue::String(text) => Some(Written::new(text.clone().into_owned(), place)),
            other => self.mistyped(&place, key, Kind::String, other),
        }
    }

    /// A string that `parse` understands.
    pub fn parsed<T>(
        &mut self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, Wanted>,
    ) -> Option<Written<T>> {
        let text = self.string(key)?;
        match parse(&text.value) {
            Ok(value) => Some(Written::new(value, text.place)),
            Err(wanted) => {
                self.unlike(text.place, key, &text.value, wanted);
                None
            }
        }
    }

    /// One of the given words. `later` are words that will be valid, but are not yet.
    pub fn choice<T: Copy>(&mut self, key: &str, choices: &[(&str, T)], later: &[&str]) -> Option<T> {
        let text = self.string(key)?;
        let word = text.value.as_str();
        if let Some((_, value)) = choices.iter().find(|(name, _)| *name == word) {
            return Some(*value);
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
        let (place, value) = self.entry(key)?;
        match value.get_ref() {
            DeValue::Boolean(value) => Some(Written::new(*value, place)),
            other => self.mistyped(&place, key, Kind::Boolean, other),
        }
    }

    pub fn integer<T: TryFrom<u64>>(&mut self, key: &str, range: RangeInclusive<u64>) -> Option<Written<T>> {
        let (place, value) = self.entry(key)?;
        let DeValue::Integer(written) = value.get_ref() else {
            return self.mistyped(&place, key, Kind::Integer, value.get_ref());
        };
        let number = u64::from_str_radix(written.as_str(), written.radix())
            .ok()
            .filter(|number| range.contains(number))
            .and_then(|number| T::try_from(number).ok());
        match number {
            Some(number) => Some(Written::new(number, place)),
            None => {
                let (least, most) = range.into_inner();
                let wanted = format!("an integer from {least} to {most}, not {written}");
                self.wrong(&place, key, &wanted);
                None
            }
        }
    }

    /// `key = "5s"`, or whole seconds under `key_secs`; longer than nothing, at most a day.
    pub fn duration(&mut self, key: &str) -> Option<Duration> {
        let in_secs = format!("{key}_secs");
        if self.are_both(key, &in_secs) {
            return None;
        }
        let secs_max = value::DURATION_MAX.as_secs();
        if let Some(secs) = self.integer(&in_secs, 1..=secs_max) {
            return Some(Duration::from_secs(secs.value));
        }
        let (place, written) = self.entry(key)?;
        let wanted = match written.get_ref() {
            DeValue::String(text) => match value::duration(text) {
                Some(found) if found.is_zero() => format!("longer than 0, not \"{text}\""),
                Some(found) if found > value::DURATION_MAX => {
                    format!("at most \"24h\", not \"{text}\"")
                }
                Some(found) => return Some(found),
                None => {
                    let wanted = "a duration such as \"5s\", \"250ms\", \"5m\" or \"1h\"";
                    self.misspelt(place, key, &format!("{wanted}, not \"{text}\""), suggest::duration(text));
                    return None;
                }
            },
            DeValue::Integer(number) => {
                let message = format!("{key} must be a duration with a unit, not {number}");
                let help = format!("write {key} = \"{number}s\" or {in_secs} = {number}");
                self.report.push(Diagnostic::error(place, message).with_help(help));
                return None;
            }
            other => return self.mistyped(&place, key, Kind::Duration, other),
        };
        self.wrong(&place, key, &wanted);
        None
    }

    /// Bytes: an integer, or `"32 KiB"`; an integer also under `key_bytes`.
    pub fn size(&mut self, key: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let in_bytes = format!("{key}_bytes");
        if !key.ends_with("_bytes") {
            if self.are_both(key, &in_bytes) {
                return None;
            }
            if let Some(bytes) = self.integer(&in_bytes, range.clone()) {
                return Some(bytes.value);
            }
        }
        let (place, written) = self.entry(key)?;
        let (number, text) = match written.get_ref() {
            DeValue::Integer(number) => {
                (u64::from_str_radix(number.as_str(), number.radix()).ok(), number.to_string())
            }
            DeValue::String(text) => match value::size(text) {
                Some(number) => (Some(number), format!("\"{text}\"")),
                None => {
                    let wanted = format!("a size in B, KiB, MiB or GiB such as \"32 KiB\", not \"{text}\"");
                    self.misspelt(place, key, &wanted, suggest::size(text));
                    return None;
                }
            },
            other => return self.mistyped(&place, key, Kind::Size, other),
        };
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            let wanted = match range.into_inner() {
                (least, u64::MAX) => format!("{least} bytes or more, not {text}"),
                (least, most) => format!("from {least} to {most} bytes, not {text}"),
            };
            self.wrong(&place, key, &wanted);
        }
        number
    }

    /// A list of strings, each of which `parse` understands. One wrong string loses only itself.
    pub fn list<T>(
        &mut self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, Wanted>,
    ) -> Option<Vec<Written<T>>> {
        let (place, value) = self.entry(key)?;
        let DeValue::Array(items) = value.get_ref() else {
            return self.mistyped(&place, key, Kind::Strings, value.get_ref());
        };
        let mut list = Vec::new();
        for item in items.iter() {
            let place = self.report.place(item.span());
            let DeValue::String(text) = item.get_ref() else {
                self.mistyped_item(place, key, Kind::String, item.get_ref());
                continue;
            };
            match parse(text) {
                Ok(value) => list.push(Written::new(value, place)),
                Err(wanted) => self.unlike(place, &format!("each of {key}"), text, wanted),
            }
        }
        Some(list)
    }

    pub fn table(&mut self, key: &str) -> Option<Table<'a>> {
        let (place, value) = self.entry(key)?;
        match value.get_ref() {
            DeValue::Table(entries) => Some(Table::new(self.title_of(key), entries, place, self.report)),
            other => self.mistyped(&place, key, Kind::Table, other),
        }
    }

    /// The tables of a `[[list]]`, in document order.
    pub fn tables(&mut self, key: &str) -> Option<Vec<Table<'a>>> {
        let (place, value) = self.entry(key)?;
        let DeValue::Array(items) = value.get_ref() else {
            return self.mistyped(&place, key, Kind::Tables, value.get_ref());
        };
        let title = format!("[{}]", self.title_of(key));
        let mut tables = Vec::new();
        for item in items.iter() {
            let place = self.report.place(item.span());
            match item.get_ref() {
                DeValue::Table(entries) => {
                    tables.push(Table::new(&title, entries, place, self.report));
                }
                other => {
                    self.mistyped_item(place, key, Kind::Table, other);
                }
            }
        }
        Some(tables)
    }

    /// All entries, each a table under a name of the operator's, in document order.
    pub fn named_tables(&mut self) -> Vec<(Written<String>, Table<'a>)> {
        let mut tables = Vec::new();
        for (name, value) in self.entries {
            self.known.push(name.get_ref().to_string());
            let name_place = self.report.place(name.span());
            let DeValue::Table(entries) = value.get_ref() else {
                let name = name.get_ref();
                self.mistyped::<()>(&name_place, name, Kind::Table, value.get_ref());
                continue;
            };
            let title = self.title_of(name.get_ref());
            let place = self.report.place(value.span());
            let name = Written::new(name.get_ref().to_string(), name_place);
            let table = Table::new(title, entries, place, self.report);
            tables.push((name.span_start(), (name, table)));
        }
        tables.sort_by_key(|(start, _)| *start);
        tables.into_iter().map(|(_, entry)| entry).collect()
    }

    /// Reports every key that was not asked for; `later` are those that do not work yet.
    pub fn finish(self, later: &[&str]) {
        let within = match self.title.as_str() {
            "" => String::new(),
            title => format!(" in {title}"),
        };
        for (key, _) in self.entries {
            let name: &str = key.get_ref();
            if self.known.iter().any(|known| known == name) {
                continue;
            }
            let place = self.report.place(key.span());
            if later.contains(&name) {
                let message = format!("`{name}`{within} is known, but does not work yet in this version");
                self.report.error(&place, message);
                continue;
            }
            let diagnostic = self.unknown(place, name, &within, later);
            match self.title.as_str() {
                // Where a header is torn, its keys are found here.
                "" => self.report.push_unless_torn(diagnostic),
                _ => self.report.push(diagnostic),
            }
        }
    }

    fn unknown(&self, place: Place, name: &str, within: &str, later: &[&str]) -> Diagnostic {
        let known = self.known.iter().map(String::as_str).chain(later.iter().copied());
        let tables = match self.entries.get(name).map(Spanned::get_ref) {
            Some(DeValue::Table(entries)) => Some(first_table(entries)),
            Some(DeValue::Array(items)) => {
                let first = items.first().map(Spanned::get_ref);
                matches!(first, Some(DeValue::Table(_))).then_some(None)
            }
            _ => None,
        };
        let (message, help) = match tables {
            Some(below) if self.title.is_empty() => {
                (format!("unknown table `{name}`"), Some(suggest::table(name, below, known)))
            }
            _ => (format!("unknown key `{name}`{within}"), suggest::key(name, &self.title, known)),
        };
        Diagnostic { help, ..Diagnostic::error(place, message) }
    }

    /// Notes that the key is known, and returns its value with the value's place.
    fn entry(&mut self, key: &str) -> Option<Entry<'a>> {
        self.known.push(key.to_owned());
        let value = self.entries.get(key)?;
        Some((self.report.place(value.span()), value))
    }

    /// Whether two spellings of one setting are there, which is an error.
    fn are_both(&mut self, key: &str, other: &str) -> bool {
        let (Some(first), Some(second)) = (self.key_place(key), self.key_place(other)) else {
            return false;
        };
        self.known.extend([key.to_owned(), other.to_owned()]);
        let (earlier, later) = match (&first, &second) {
            (Place::Text { span: a, .. }, Place::Text { span: b, .. }) if a.start > b.start => {
                (second, first)
            }
            _ => (first, second),
        };
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
    fn unlike(&self, place: Place, key: &str, text: &str, wanted: Wanted) {
        let written = match text {
            "" => "an empty string".to_owned(),
            text => format!("`{text}`"),
        };
        let message = format!("{key} must be {}, not {written}", wanted.what);
        self.report.push(Diagnostic { help: wanted.help, ..Diagnostic::error(place, message) });
    }

    /// Reports a quantity; `meant` is how it would be written.
    fn misspelt(&self, place: Place, key: &str, wanted: &str, meant: Option<String>) {
        let help = meant.map(|meant| format!("write {key} = \"{meant}\""));
        let message = format!("{key} must be {wanted}");
        self.report.push(Diagnostic { help, ..Diagnostic::error(place, message) });
    }

    fn wrong(&self, place: &Place, key: &str, wanted: &str) {
        self.report.error(place, format!("{key} must be {wanted}"));
    }

    fn mistyped_item(&self, place: Place, key: &str, wanted: Kind, found: &DeValue<'_>) {
        let (wanted, found) = (wanted.words(), suggest::name_of(found));
        self.report.error(&place, format!("each of {key} must be {wanted}, not {found}"));
    }

    fn mistyped<T>(&self, place: &Place, key: &str, wanted: Kind, found: &DeValue<'_>) -> Option<T> {
        let path = self.path_of(key);
        let name = if wanted == Kind::Table { &path } else { key };
        let message = format!("{name} must be {}, not {}", wanted.words(), suggest::name_of(found));
        let help = suggest::retyped(key, &path, wanted, found);
        self.report.push(Diagnostic { help, ..Diagnostic::error(place.clone(), message) });
        None
    }
}

/// The name of the first table among these.
fn first_table<'a>(entries: &'a DeTable<'_>) -> Option<&'a str> {
    let tables = entries.iter().filter(|(_, value)| matches!(value.get_ref(), DeValue::Table(_)));
    tables.min_by_key(|(name, _)| name.span().start).map(|(name, _)| name.get_ref().as_ref())
}
