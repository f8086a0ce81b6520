//! What is wrong with a configuration, where, and what would be right.
//!
//! A diagnostic carries the text it is about, so that whoever prints it needs nothing else.
//! Must not know: which mistakes there are.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A configuration file as it was read.
#[derive(Debug, PartialEq, Eq)]
pub struct Document {
    name: String,
    text: String,
    /// Where each line starts; the first at 0.
    line_starts: Vec<usize>,
    /// How many files come before it.
    rank: usize,
}

impl Document {
    /// `name` is the path as the operator wrote it.
    pub fn new(name: String, text: String) -> Document {
        let after_newlines = text.match_indices('\n').map(|(at, _)| at + 1);
        Document { line_starts: std::iter::once(0).chain(after_newlines).collect(), name, text, rank: 0 }
    }

    /// The same as one of several files: so many come before it.
    pub fn ranked(self, rank: usize) -> Document {
        Document { rank, ..self }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// The line that this byte is in, from 0, and where it starts.
    fn line_of(&self, at: usize) -> (usize, usize) {
        let line = self.line_starts.partition_point(|start| *start <= at) - 1;
        (line, self.line_starts[line])
    }
}

/// Where something was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A range of bytes of a file's text.
    Text { document: Arc<Document>, span: Range<usize> },
    /// A file as a whole, by name.
    File(String),
    /// A variable of the environment.
    Environment(String),
    /// `--set` for this key.
    Argument(String),
    /// The values that hold when nothing is written.
    Default,
}

impl Place {
    /// Line and column of the first character, both from 1; the column counts characters.
    pub fn line_and_column(&self) -> Option<(usize, usize)> {
        let Place::Text { document, span } = self else {
            return None;
        };
        let (line, start) = document.line_of(span.start);
        let before = document.text.get(start..span.start)?;
        Some((line + 1, before.chars().count() + 1))
    }

    /// `file:line`, for logs.
    pub fn file_and_line(&self) -> String {
        match (self, self.line_and_column()) {
            (Place::Text { document, .. }, Some((line, _))) => {
                format!("{}:{line}", document.name)
            }
            _ => self.to_string(),
        }
    }

    /// The line of the first character, without its end.
    fn line(&self) -> Option<&str> {
        let Place::Text { document, span } = self else {
            return None;
        };
        let (_, start) = document.line_of(span.start);
        document.text[start..].lines().next()
    }

    pub fn is_in_file(&self) -> bool {
        matches!(self, Place::Text { .. })
    }

    /// Whether a reader meets it after that one.
    pub fn is_after(&self, other: &Place) -> bool {
        self.order() > other.order()
    }

    /// Whether both are in one file, or neither is in a file.
    pub fn is_beside(&self, other: &Place) -> bool {
        match (self, other) {
            (Place::Text { document: one, .. }, Place::Text { document: other, .. }) => one == other,
            (Place::Text { .. }, _) | (_, Place::Text { .. }) => false,
            _ => true,
        }
    }

    /// How diagnostics are ordered: each file in its own order, then everything else.
    fn order(&self) -> (u8, usize, usize) {
        match self {
            Place::Text { document, span } => (0, document.rank, span.start),
            Place::File(_) => (1, 0, 0),
            Place::Environment(_) => (2, 0, 0),
            Place::Argument(_) => (3, 0, 0),
            Place::Default => (4, 0, 0),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, self.line_and_column()) {
            (Place::Text { document, .. }, Some((line, column))) => {
                write!(f, "{}:{line}:{column}", document.name)
            }
            (Place::Text { document, .. }, None) => f.write_str(&document.name),
            (Place::File(name), _) => f.write_str(name),
            (Place::Environment(name), _) => write!(f, "environment:{name}"),
            (Place::Argument(key), _) => write!(f, "--set {key}"),
            (Place::Default, _) => f.write_str("default"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The configuration cannot be run.
    Error,
    /// It can, but probably does not do what was meant.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        })
    }
}

/// One mistake, or one doubt. Its `Display` is several lines without a last line end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    pub severity: Severity,
    pub place: Place,
    pub message: String,
    pub help: Option<String>,
}

impl Diagnostic {
    pub fn error(place: Place, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Error, place, message: message.into(), help: None }
    }

    pub fn warning(place: Place, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(place, message) }
    }

    pub fn with_help(self, help: impl Into<String>) -> Diagnostic {
        Diagnostic { help: Some(help.into()), ..self }
    }

    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.place, self.severity, self.message)?;
        if let (Place::Text { span, .. }, Some((line, column)), Some(text)) =
            (&self.place, self.place.line_and_column(), self.place.line())
        {
            let before: String = text
                .chars()
                .take(column - 1)
                .map(|character| if character == '\t' { '\t' } else { ' ' })
                .collect();
            let rest = text.chars().count().saturating_sub(column - 1);
            let carets = "^".repeat(span.len().min(rest).max(1));
            write!(f, "\n{line:>5} | {text}\n      | {before}{carets}")?;
        }
        match &self.help {
            Some(help) => write!(f, "\nhelp: {help}"),
            None => Ok(()),
        }
    }
}

/// Puts diagnostics into the order in which a reader meets their places.
pub fn sort(diagnostics: &mut [Diagnostic]) {
    diagnostics.sort_by_key(|diagnostic| diagnostic.place.order());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str, span: Range<usize>) -> Place {
        let document = Document::new("warpdrive.toml".to_owned(), text.to_owned());
        Place::Text { document: Arc::new(document), span }
    }

    #[test]
    fn a_diagnostic_shows_its_line_and_a_caret() {
        let text = "[server]\n  prot = 80\n";
        let diagnostic = Diagnostic::error(place(text, 11..15), "unknown key `prot` in [server]")
            .with_help("did you mean `port`?");
        assert_eq!(
            diagnostic.to_string(),
            "warpdrive.toml:2:3: error: unknown key `prot` in [server]\n    \
             2 |   prot = 80\n      |   ^^^^\nhelp: did you mean `port`?"
        );
    }

    #[test]
    fn columns_count_characters_and_an_end_of_file_has_a_place() {
        assert_eq!(place("é = 1", 3..4).line_and_column(), Some((1, 3)));
        assert_eq!(place("a\n", 2..2).line_and_column(), Some((2, 1)));
        let at_end = Diagnostic::error(place("a\n", 2..2), "m").to_string();
        assert!(at_end.starts_with("warpdrive.toml:2:1: error: m"));
    }

    #[test]
    fn the_file_comes_before_the_environment() {
        let mut found = vec![
            Diagnostic::error(Place::Environment("WARPDRIVE_HTTP_PORT".to_owned()), "c"),
            Diagnostic::error(place("abc", 2..3), "b"),
            Diagnostic::error(place("abc", 0..1), "a"),
        ];
        sort(&mut found);
        let order: Vec<_> = found.iter().map(|one| one.message.as_str()).collect();
        assert_eq!(order, ["a", "b", "c"]);
    }
}
