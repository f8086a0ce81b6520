//! The text of one file to a tree: TOML's syntax, and the variables in its strings.
//!
//! Must not know: which keys there are, and that there are other files.

use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{BYTE_ORDER_MARK, Diagnostic, Document, Place};
use super::node::{Entries, Entry, Integer, Node, Value};
use super::secret;
use super::substitute::{self, Fault, Outcome};
use super::syntax;

/// What could be understood of a text.
#[derive(Debug)]
pub struct Parsed {
    pub entries: Entries,
    pub mistakes: Vec<Diagnostic>,
    /// The lines whose syntax is broken, as `file:line`.
    pub torn: Vec<String>,
}

/// Name and value of each variable that there is.
pub type Variables = [(String, String)];

/// Parses the text of the file `name`, before which so many others come.
pub fn parse(name: &str, text: &str, rank: usize, variables: &Variables) -> Parsed {
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    let (root, mistakes) = DeTable::parse_recoverable(text);
    let document = Document::new(name.to_owned(), secret::hide(text, root.get_ref())).ranked(rank);
    let mut parser =
        Parser { document: Arc::new(document), variables: Some(variables), mistakes: Vec::new() };
    let mut torn = Vec::new();
    for mistake in mistakes {
        let explained = syntax::explain(&mistake, root.get_ref(), &parser.document);
        torn.push(explained.place.file_and_line());
        parser.mistakes.push(explained);
    }
    Parsed { entries: parser.table(root.get_ref()), mistakes: parser.mistakes, torn }
}

/// The names of all variables in the strings of a text.
pub fn variable_names(text: &str) -> Vec<String> {
    fn find(value: &DeValue<'_>, names: &mut Vec<String>) {
        match value {
            DeValue::String(text) => {
                names.extend(substitute::names(text).into_iter().map(str::to_owned));
            }
            DeValue::Array(items) => items.iter().for_each(|item| find(item.get_ref(), names)),
            DeValue::Table(entries) => entries.values().for_each(|value| find(value.get_ref(), names)),
            _ => {}
        }
    }
    let mut names = Vec::new();
    if !text.contains("${") {
        return names;
    }
    let (root, _) = DeTable::parse_recoverable(text);
    root.get_ref().values().for_each(|value| find(value.get_ref(), &mut names));
    names
}

/// A TOML value by itself, as arguments and variables hold it. `None`: it is none.
pub fn value(text: &str, place: &Place) -> Option<Node> {
    let line = format!("value = {text}");
    let root = DeTable::parse(&line).ok()?;
    if root.get_ref().len() != 1 {
        return None;
    }
    let document = Document::new(String::new(), String::new());
    let mut parser = Parser { document: Arc::new(document), variables: None, mistakes: Vec::new() };
    let mut node = parser.node(root.get_ref().get("value")?);
    put(&mut node, place);
    Some(node)
}

/// A key by itself, `a.b."c d"`, as its segments. `None`: it is none.
pub fn key(text: &str) -> Option<Vec<String>> {
    let line = format!("{text} = 0");
    let root = DeTable::parse(&line).ok()?;
    let mut table = root.get_ref();
    let mut segments = Vec::new();
    loop {
        let mut entries = table.iter();
        let (Some((key, value)), None) = (entries.next(), entries.next()) else {
            return None;
        };
        segments.push(key.get_ref().to_string());
        match value.get_ref() {
            DeValue::Table(inner) => table = inner,
            DeValue::Integer(_) => return Some(segments),
            _ => return None,
        }
    }
}

fn put(node: &mut Node, place: &Place) {
    node.place = place.clone();
    match &mut node.value {
        Value::Array(items) => items.iter_mut().for_each(|item| put(item, place)),
        Value::Table(entries) => {
            for entry in entries.values_mut() {
                entry.place = place.clone();
                put(&mut entry.node, place);
            }
        }
        _ => {}
    }
}

struct Parser<'a> {
    document: Arc<Document>,
    /// `None`: strings stay as they are.
    variables: Option<&'a Variables>,
    mistakes: Vec<Diagnostic>,
}

impl Parser<'_> {
    fn place(&self, span: Range<usize>) -> Place {
        Place::Text { document: Arc::clone(&self.document), span }
    }

    fn table(&mut self, table: &DeTable<'_>) -> Entries {
        let mut sorted: Vec<_> = table.iter().collect();
        sorted.sort_by_key(|(key, _)| key.span().start);
        let mut entries = Entries::with_capacity(sorted.len());
        for (key, value) in sorted {
            let entry = Entry { place: self.place(key.span()), node: self.node(value) };
            entries.insert(key.get_ref().to_string(), entry);
        }
        entries
    }

    fn node(&mut self, value: &Spanned<DeValue<'_>>) -> Node {
        let place = self.place(value.span());
        let value = match value.get_ref() {
            DeValue::String(text) => return self.string(text, place),
            DeValue::Integer(integer) => Value::Integer(Integer {
                text: integer.to_string(),
                number: u64::from_str_radix(integer.as_str(), integer.radix()).ok(),
            }),
            DeValue::Float(float) => Value::Float(float.to_string()),
            DeValue::Boolean(value) => Value::Boolean(*value),
            DeValue::Datetime(datetime) => Value::Datetime(datetime.to_string()),
            DeValue::Array(items) => Value::Array(items.iter().map(|item| self.node(item)).collect()),
            DeValue::Table(entries) => Value::Table(self.table(entries)),
        };
        Node::new(place, value)
    }

    /// A string with its variables replaced.
    fn string(&mut self, text: &str, place: Place) -> Node {
        let Some(variables) = self.variables else {
            return Node::new(place, Value::String(text.to_owned()));
        };
        let look_up = |name: &str| {
            let found = variables.iter().find(|(other, _)| other == name);
            found.map(|(_, value)| value.clone())
        };
        let fault = match substitute::substitute(text, look_up) {
            Ok(Outcome::Plain) => return Node::new(place, Value::String(text.to_owned())),
            Ok(Outcome::Template(text)) => return Node::new(place, Value::Template(text)),
            Ok(Outcome::Substituted { text, is_whole, template }) => {
                let value = if is_whole { Value::Bare(text) } else { Value::String(text) };
                return Node { place, value, template: Some(template) };
            }
            Err(fault) => fault,
        };
        let mistake = match fault {
            Fault::Undefined(name) => {
                let place = self.narrow(&place, &format!("${{{name}}}"));
                Diagnostic::error(place, format!("the variable {name} is not set"))
                    .with_help(format!("set it in the environment, or give a default: \"${{{name}:-…}}\""))
            }
            Fault::Unclosed => Diagnostic::error(place.clone(), "`${` has no `}` that ends it")
                .with_help("write `$${` for `${` itself"),
            Fault::Name(name) => {
                let place = self.narrow(&place, &format!("${{{name}}}"));
                Diagnostic::error(place, format!("`{name}` is not the name of a variable"))
                    .with_help("write \"${NAME}\" or \"${NAME:-default}\", or `$${` for `${` itself")
            }
        };
        self.mistakes.push(mistake);
        Node::new(place, Value::Unknown)
    }

    /// The part of a place that has these very characters, if there is one.
    fn narrow(&self, place: &Place, part: &str) -> Place {
        let Place::Text { span, .. } = place else {
            return place.clone();
        };
        let within = self.document.text().get(span.clone()).and_then(|text| text.find(part));
        match within {
            Some(at) => self.place(span.start + at..span.start + at + part.len()),
            None => place.clone(),
        }
    }
}
