//! The tree between the text and its reader: keys and values, each with the place where it was
//! written, whichever layer that was.
//!
//! Must not know: which keys there are, and which layers.

use indexmap::IndexMap;
use serde_json::json;

use super::diagnostic::Place;

/// The entries of a table, in the order in which they were written.
pub type Entries = IndexMap<String, Entry>;

/// A key and its value.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where the key is.
    pub place: Place,
    pub node: Node,
}

/// A value and where it is.
#[derive(Clone, Debug)]
pub struct Node {
    pub place: Place,
    pub value: Value,
    /// Of a string with variables: the same as a template, in which what they hold is text.
    pub template: Option<String>,
}

impl Node {
    pub fn new(place: Place, value: Value) -> Node {
        Node { place, value, template: None }
    }
}

#[derive(Clone, Debug)]
pub enum Value {
    String(String),
    /// A word without a type, from the environment, an argument or a substitution: whatever its
    /// key wants, a string, an integer or a boolean.
    Bare(String),
    /// A string with parts of the request in it.
    Template(String),
    Integer(Integer),
    Float(String),
    Boolean(bool),
    Datetime(String),
    Array(Vec<Node>),
    Table(Entries),
    /// There is one, but what it is cannot be told; why was reported.
    Unknown,
}

#[derive(Clone, Debug)]
pub struct Integer {
    /// As it was written.
    pub text: String,
    /// `None`: negative, or too large.
    pub number: Option<u64>,
}

impl Value {
    /// What it is, as a sentence names it.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::String(_) | Value::Bare(_) => "a string",
            Value::Template(_) => "a string with parts of the request in it",
            Value::Integer(_) => "an integer",
            Value::Float(_) => "a decimal number",
            Value::Boolean(_) => "a boolean",
            Value::Datetime(_) => "a date",
            Value::Array(_) => "a list",
            Value::Table(_) => "a table",
            Value::Unknown => "unknown",
        }
    }

    /// A string, typed or not.
    pub fn text(&self) -> Option<&str> {
        match self {
            Value::String(text) | Value::Bare(text) => Some(text),
            _ => None,
        }
    }

    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Value::String(text) | Value::Bare(text) | Value::Template(text) => json!(text),
            Value::Float(text) | Value::Datetime(text) => json!(text),
            Value::Integer(integer) => json!(integer.number),
            Value::Boolean(value) => json!(value),
            Value::Unknown => json!(null),
            Value::Array(items) => items.iter().map(|item| item.value.to_json()).collect(),
            Value::Table(entries) => {
                entries.iter().map(|(key, entry)| (key.clone(), entry.node.value.to_json())).collect()
            }
        }
    }
}

/// What belongs to a key by its name: `x`, `x_secs`, `x_bytes` and `x_file` are one setting.
pub fn stem(key: &str) -> &str {
    ["_secs", "_bytes", "_file"].iter().find_map(|suffix| key.strip_suffix(suffix)).unwrap_or(key)
}

/// A name as a key of TOML.
pub fn quoted(name: &str) -> String {
    let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    match !name.is_empty() && name.bytes().all(is_bare) {
        true => name.to_owned(),
        false => json!(name).to_string(),
    }
}
