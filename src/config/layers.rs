//! The layers of a configuration to one tree: files, then the environment, then arguments.
//!
//! Files are of one rank: what one of them says no other may say again. Of the other layers the
//! later one wins, for each key by itself. Must not know: which keys there are.

use super::diagnostic::{Diagnostic, Place};
use super::include::INCLUDE;
use super::node::{Entries, Entry, Node, Value, quoted, stem};
use super::parse::{self, Parsed};
use super::sources::{File, Sources};
use super::variables;

/// Everything that was written, in one tree.
pub struct Layers {
    pub entries: Entries,
    /// The first file, or what there is without one.
    pub origin: Place,
    pub overrides: Vec<Override>,
    pub mistakes: Vec<Diagnostic>,
    /// Lines whose syntax is broken, as `file:line`.
    pub torn: Vec<String>,
}

/// A key that the environment or an argument sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    pub key: String,
    pub place: Place,
    /// Where the files set it.
    pub replaced: Option<Place>,
}

/// One key of a layer above the files.
pub struct Change {
    pub path: Vec<String>,
    pub node: Node,
}

pub fn merge(sources: &Sources) -> Layers {
    let files = sources.file.iter().chain(&sources.included).enumerate();
    let parse =
        |(rank, file): (usize, &File)| parse::parse(&file.name(), &file.text, rank, &sources.variables);
    join(sources, files.map(parse).collect())
}

/// The same, of files that were parsed already.
pub fn join(sources: &Sources, files: Vec<Parsed>) -> Layers {
    let origin = match &sources.file {
        Some(file) => Place::File(file.name()),
        None => Place::Default,
    };
    let mut layers = Layers {
        entries: Entries::new(),
        origin,
        overrides: Vec::new(),
        mistakes: Vec::new(),
        torn: Vec::new(),
    };
    for parsed in files {
        layers.mistakes.extend(parsed.mistakes);
        layers.torn.extend(parsed.torn);
        let mut joining = Joining { path: Vec::new(), mistakes: &mut layers.mistakes };
        joining.join(&mut layers.entries, parsed.entries);
    }
    if sources.file.is_none() {
        layers.entries = variables::one_upstream();
    }
    let (changes, mistakes) =
        variables::changes(&sources.environment, sources.file.is_some(), &layers.entries);
    layers.mistakes.extend(mistakes);
    layers.apply(changes, Repeated::IsWrong);
    let mut changes = Vec::new();
    for argument in &sources.arguments {
        match of_argument(argument) {
            Ok(change) => changes.push(change),
            Err(mistake) => layers.mistakes.push(mistake),
        }
    }
    layers.apply(changes, Repeated::LastWins);
    layers
}

/// What a layer says of a key that it has twice.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repeated {
    IsWrong,
    LastWins,
}

impl Layers {
    fn apply(&mut self, changes: Vec<Change>, repeated: Repeated) {
        let mut applied: Vec<(Vec<String>, Place)> = Vec::new();
        for change in changes {
            let mut setting = change.path.clone();
            if let Some(last) = setting.last_mut() {
                *last = stem(last).to_owned();
            }
            let place = change.node.place.clone();
            if change.path.first().is_some_and(|key| key == INCLUDE) {
                self.mistakes.push(Diagnostic::error(place, "include works in a file only"));
                continue;
            }
            match applied.iter().find(|(other, _)| *other == setting) {
                Some((_, other)) if repeated == Repeated::IsWrong => {
                    let message = format!("it sets the same as {other}: keep one of them");
                    self.mistakes.push(Diagnostic::error(place, message));
                    continue;
                }
                _ => applied.push((setting, place.clone())),
            }
            let names: Vec<String> = change.path.iter().map(|name| quoted(name)).collect();
            let key = names.join(".");
            let replaced = set(&mut self.entries, &change.path, change.node);
            match self.overrides.iter_mut().find(|earlier| earlier.key == key) {
                Some(earlier) => earlier.place = place,
                None => self.overrides.push(Override { key, place, replaced }),
            }
        }
    }
}

/// Puts a value where a path leads, and tells where the one was that it replaces. Tables that
/// are missing are made; another spelling of the same setting goes.
fn set(entries: &mut Entries, path: &[String], node: Node) -> Option<Place> {
    let (key, below) = path.split_first()?;
    let place = node.place.clone();
    if below.is_empty() {
        // Tables have names of the operator's, which spell nothing.
        let is_twin = |(other, entry): &(&String, &Entry)| {
            *other != key && stem(other) == stem(key) && !matches!(entry.node.value, Value::Table(_))
        };
        let twin = entries.iter().find(is_twin).map(|(twin, _)| twin.clone());
        let twin = twin.and_then(|twin| entries.shift_remove(&twin));
        let replaced = entries.insert(key.clone(), Entry { place, node }).or(twin);
        return replaced.map(|entry| entry.node.place).filter(|place| *place != Place::Default);
    }
    let empty = || Node::new(place.clone(), Value::Table(Entries::new()));
    let entry = entries.entry(key.clone()).or_insert_with(|| Entry { place: place.clone(), node: empty() });
    if !matches!(entry.node.value, Value::Table(_)) {
        *entry = Entry { place: place.clone(), node: empty() };
    }
    match &mut entry.node.value {
        Value::Table(inner) => set(inner, below, node),
        _ => None,
    }
}

/// `KEY=VALUE`: a path of keys as TOML has it, and a value.
fn of_argument(argument: &str) -> Result<Change, Diagnostic> {
    let (key, value) = argument.split_once('=').unwrap_or((argument, ""));
    let key = key.trim();
    let place = Place::Argument(key.to_owned());
    if !argument.contains('=') {
        let help = "write --set KEY=VALUE, as in --set server.http_port=8081";
        return Err(Diagnostic::error(place, "a value is missing").with_help(help));
    }
    match parse::key(key) {
        Some(path) => Ok(Change { path, node: untyped(value.trim(), &place) }),
        None => {
            let message = format!("`{key}` is not a key");
            let help = "write --set KEY=VALUE, as in --set server.http_port=8081";
            Err(Diagnostic::error(place, message).with_help(help))
        }
    }
}

/// A value of TOML if it is written as a string, a list or a table; else a word that may stand
/// for whatever its key wants.
pub fn untyped(text: &str, place: &Place) -> Node {
    let is_typed = text.starts_with(['"', '\'', '[', '{']);
    let typed = if is_typed { parse::value(text, place) } else { None };
    typed.unwrap_or_else(|| Node::new(place.clone(), Value::Bare(text.to_owned())))
}

/// One file added to those before it.
struct Joining<'a> {
    path: Vec<String>,
    mistakes: &'a mut Vec<Diagnostic>,
}

impl Joining<'_> {
    fn join(&mut self, into: &mut Entries, from: Entries) {
        for (key, entry) in from {
            let Some(there) = into.get_mut(&key) else {
                into.insert(key, entry);
                continue;
            };
            match (&mut there.node.value, entry.node.value) {
                // An upstream is whole in one file.
                (Value::Table(inner), Value::Table(other)) if self.path != ["upstreams"] => {
                    self.path.push(key);
                    self.join(inner, other);
                    self.path.pop();
                }
                (Value::Array(items), Value::Array(more)) if self.path.is_empty() => items.extend(more),
                (Value::Table(_), Value::Table(_)) => {
                    let message = format!("upstream `{key}` is defined in two files");
                    let help = "define it in one of them only";
                    self.mistakes.push(twice(message, entry.place, &there.place, help));
                }
                _ => {
                    let message = format!("{key} is set in two files");
                    self.mistakes.push(twice(
                        message,
                        entry.place,
                        &there.place,
                        "set it in one of them only",
                    ));
                }
            }
        }
    }
}

fn twice(message: String, place: Place, first: &Place, help: &str) -> Diagnostic {
    let again = Diagnostic::error(place, message).with_label("again here");
    again.with_related(first.clone(), "first here").with_help(help)
}
