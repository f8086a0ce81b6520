//! Mistakes of the text itself: what the parser says of it, in words that lead somewhere.
//!
//! Must not know: which tables and keys there are.

use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue, Error};

use super::diagnostic::{Diagnostic, Document, Place};
use super::value;

/// What the parser found at one place of the text. `root` is what it could understand.
pub fn explain(mistake: &Error, root: &DeTable<'_>, document: &Arc<Document>) -> Diagnostic {
    let text = document.text();
    let span = mistake.span().unwrap_or(text.len()..text.len());
    let place = place_in(document, span.clone());
    let written = text.get(span.clone()).map(str::trim).unwrap_or_default();
    let message = mistake.message();
    if message == "duplicate key" {
        return duplicate(written, span, root, document);
    }
    if let Some((message, help)) = clearer(message) {
        return Diagnostic::error(place, message).with_help(help);
    }
    if !message.starts_with("string values must be quoted") {
        return Diagnostic::error(place, message);
    }
    if written.is_empty() {
        return Diagnostic::error(place, "a value is missing");
    }
    let unquoted = Diagnostic::error(place, format!("`{written}` is not a value: a string needs quotes"));
    match meant(written) {
        Some(meant) => unquoted.with_help(format!("write {meant}")),
        None => unquoted,
    }
}

fn place_in(document: &Arc<Document>, span: Range<usize>) -> Place {
    Place::Text { document: Arc::clone(document), span }
}

/// Words of the parser that do not say what to do, in words that do.
fn clearer(message: &str) -> Option<(String, &'static str)> {
    let is = |beginning: &str| message.starts_with(beginning);
    match message {
        "invalid basic string, expected `\"`" => Some(("the string has no end".to_owned(), "add a `\"`")),
        "invalid literal string, expected `'`" => Some(("the string has no end".to_owned(), "add a `'`")),
        _ if is("missing escaped value") => Some((
            "this is no escape sequence".to_owned(),
            "write `\\\\` for a backslash, or put the string into single quotes",
        )),
        _ if is("key with no value") => {
            Some((message.to_owned(), "a line is KEY = VALUE, or the header of a table such as [server]"))
        }
        _ => None,
    }
}

/// How a bare word is written, if it may be one at all.
fn meant(word: &str) -> Option<String> {
    let is_quantity = || value::duration(word).is_some() || value::ip_address(word).is_some();
    match word {
        "True" | "TRUE" | "yes" | "on" => Some("true".to_owned()),
        "False" | "FALSE" | "no" | "off" => Some("false".to_owned()),
        word if word.contains(char::is_whitespace) => None,
        word if word.starts_with(|first: char| first.is_ascii_digit()) && !is_quantity() => None,
        word => Some(format!("\"{}\"", word.escape_debug())),
    }
}

fn duplicate(name: &str, span: Range<usize>, root: &DeTable<'_>, document: &Arc<Document>) -> Diagnostic {
    let before = document.text().get(..span.start).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let is_header = before[line_start..].trim_start().starts_with('[');
    let place = place_in(document, span.clone());
    let duplicate = match is_header {
        true => Diagnostic::error(place, format!("table `{name}` is there twice"))
            .with_help("write all keys of a table under one header"),
        false => {
            Diagnostic::error(place, format!("key `{name}` is there twice")).with_help("keep one of them")
        }
    };
    let first = match is_header {
        true => earlier_header(document.text(), line_start),
        false => earlier(name.trim_matches(['"', '\'']), &span, root),
    };
    match first {
        Some(first) => {
            duplicate.with_label("again here").with_related(place_in(document, first), "first here")
        }
        None => duplicate,
    }
}

/// The first line that begins with the same header as the one that starts here.
fn earlier_header(text: &str, start: usize) -> Option<Range<usize>> {
    let (before, rest) = text.split_at_checked(start)?;
    let line = rest.lines().next()?;
    let header = line.get(..=line.rfind(']')?)?.trim();
    let mut at = 0;
    before.split_inclusive('\n').find_map(|line| {
        let bare = line.trim_start();
        let first = at + line.len() - bare.len();
        at += line.len();
        bare.starts_with(header).then(|| first..first + header.len())
    })
}

/// The last key of this name before the span. Keys of a table follow each other, so it is of
/// the same table, unless it is in a value that ended before.
fn earlier(name: &str, span: &Range<usize>, table: &DeTable<'_>) -> Option<Range<usize>> {
    let below = |value: &Spanned<DeValue<'_>>| match value.get_ref() {
        DeValue::Table(entries) => earlier(name, span, entries),
        DeValue::Array(items) => items
            .iter()
            .filter_map(|item| match item.get_ref() {
                DeValue::Table(entries) => earlier(name, span, entries),
                _ => None,
            })
            .max_by_key(|found| found.start),
        _ => None,
    };
    let mut last: Option<Range<usize>> = None;
    for (key, value) in table {
        let own = (key.get_ref() == name && key.span().start < span.start).then(|| key.span());
        let is_over =
            |found: &Range<usize>| value.span().contains(&found.start) && value.span().end <= span.start;
        let inner = below(value).filter(|found| !is_over(found));
        last = [last, own, inner].into_iter().flatten().max_by_key(|found| found.start);
    }
    last
}
