//! What is wrong with a configuration, where, and what would be right.
//!
//! A diagnostic carries the text it is about, so that whoever prints it needs nothing else.
//! Must not know: which mistakes there are, nor how they look.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::render::{Colours, render};

pub const BYTE_ORDER_MARK: char = '\u{feff}';

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
    /// `name` is the path as the operator wrote it. A byte order mark is not part of the text.
    pub fn new(name: String, mut text: String) -> Document {
        if text.starts_with(BYTE_ORDER_MARK) {
            text.drain(..BYTE_ORDER_MARK.len_utf8());
        }
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

    /// Where a byte is; one within a character, or after the end, is the next before it that
    /// begins one, or the end.
    pub(super) fn position(&self, at: usize) -> Position {
        let byte = self.text.floor_char_boundary(at);
        let (line, start) = self.line_of(byte);
        let column = self.text[start..byte].chars().count() + 1;
        Position { byte, line: line + 1, column }
    }

    /// The bytes of the lines from `first` to `last`, from 1, without the last one's end.
    pub(super) fn lines(&self, first: usize, last: usize) -> Range<usize> {
        let start = self.line_starts.get(first.saturating_sub(1)).copied().unwrap_or(self.text.len());
        let end = self.line_starts.get(last).map_or(self.text.len(), |next| next - 1);
        start..end.max(start)
    }
}

/// A place in a text, for a reader and for a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// From 0, in UTF-8.
    pub byte: usize,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
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
    /// The arguments of this process.
    CommandLine,
    /// `--set` for this key.
    Argument(String),
    /// The values that hold when nothing is written.
    Default,
}

impl Place {
    /// The first character, and the one after the last.
    pub fn range(&self) -> Option<Range<Position>> {
        let Place::Text { document, span } = self else {
            return None;
        };
        let end = span.end.max(span.start);
        Some(document.position(span.start)..document.position(end))
    }

    /// Where the bytes in `range` of a string are, if this is where the string stands and it is
    /// written there as it is read: without escapes and substitutions.
    pub fn within(&self, text: &str, range: &Range<usize>) -> Option<Place> {
        let Place::Text { document, span } = self else {
            return None;
        };
        let written = document.text.get(span.clone())?;
        let quotes = written.len().checked_sub(text.len())? / 2;
        let is_same = written.get(quotes..written.len() - quotes)? == text;
        let start = span.start + quotes;
        let is_inside = range.start <= range.end && range.end <= text.len();
        (is_same && is_inside).then(|| Place::Text {
            document: Arc::clone(document),
            span: start + range.start..start + range.end,
        })
    }

    /// Line and column of the first character, both from 1; the column counts characters.
    pub fn line_and_column(&self) -> Option<(usize, usize)> {
        let start = self.range()?.start;
        Some((start.line, start.column))
    }

    /// The file that it is in, or that it is.
    pub fn file(&self) -> Option<&str> {
        match self {
            Place::Text { document, .. } => Some(document.name()),
            Place::File(name) => Some(name),
            _ => None,
        }
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

    pub fn is_in_file(&self) -> bool {
        matches!(self, Place::Text { .. })
    }

    /// Whether a reader meets it after that one.
    pub fn is_after(&self, other: &Place) -> bool {
        self.order() > other.order()
    }

    /// How diagnostics are ordered: each file in its own order, then everything else.
    pub(super) fn order(&self) -> (u8, usize, usize) {
        match self {
            Place::Text { document, span } => (0, document.rank, span.start),
            Place::File(_) => (1, 0, 0),
            Place::Environment(_) => (2, 0, 0),
            Place::CommandLine => (3, 0, 0),
            Place::Argument(_) => (4, 0, 0),
            Place::Default => (5, 0, 0),
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
            (Place::CommandLine, _) => f.write_str("command line"),
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
    /// What there is to say at the place itself, in a few words.
    pub label: Option<String>,
    /// Other places that explain this one.
    pub related: Vec<Related>,
    /// What would be right.
    pub help: Option<String>,
}

/// Another place, and what it has to do with the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Related {
    pub place: Place,
    pub label: String,
}

impl Diagnostic {
    pub fn error(place: Place, message: impl Into<String>) -> Diagnostic {
        let severity = Severity::Error;
        Diagnostic { severity, place, message: message.into(), label: None, related: Vec::new(), help: None }
    }

    pub fn warning(place: Place, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(place, message) }
    }

    pub fn with_label(self, label: impl Into<String>) -> Diagnostic {
        Diagnostic { label: Some(label.into()), ..self }
    }

    pub fn with_related(mut self, place: Place, label: impl Into<String>) -> Diagnostic {
        self.related.push(Related { place, label: label.into() });
        self
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
        f.write_str(&render(self, Colours::Off))
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
    fn columns_count_characters_and_an_end_of_file_has_a_place() {
        assert_eq!(place("é = 1", 3..4).line_and_column(), Some((1, 3)));
        assert_eq!(place("a\n", 2..2).line_and_column(), Some((2, 1)));
        assert_eq!(place("\u{feff}a", 0..1).line_and_column(), Some((1, 1)));
    }

    #[test]
    fn a_place_has_an_end_whatever_its_span() {
        let range = |text: &str, span| {
            let range = place(text, span).range().expect("it is in a text");
            ((range.start.line, range.start.column), (range.end.line, range.end.column))
        };
        assert_eq!(range("ab\ncd", 1..4), ((1, 2), (2, 2)));
        assert_eq!(range("é", 1..1), ((1, 1), (1, 1)));
        assert_eq!(range("a", 7..9), ((1, 2), (1, 2)));
        #[expect(clippy::reversed_empty_ranges, reason = "that is what it is about")]
        let reversed = range("abc", 2..1);
        assert_eq!(reversed, ((1, 3), (1, 3)));
    }

    #[test]
    fn a_part_of_a_string_has_a_place_if_it_is_written_as_it_is_read() {
        let part = |written: &str, text: &str| {
            let place = place(written, 0..written.len()).within(text, &(1..2))?;
            place.line_and_column()
        };
        assert_eq!(part("\"abc\"", "abc"), Some((1, 3)));
        assert_eq!(part("'''abc'''", "abc"), Some((1, 5)));
        assert_eq!(part("\"\\u0061bc\"", "abc"), None);
        assert_eq!(part("'a'", "a"), None);
        assert_eq!(Place::Default.within("abc", &(1..2)), None);
    }

    #[test]
    fn lines_end_before_their_line_ends() {
        let document = Document::new("x".to_owned(), "a\nbc\n".to_owned());
        assert_eq!(document.lines(1, 1), 0..1);
        assert_eq!(document.lines(1, 2), 0..4);
        assert_eq!(document.lines(3, 3), 5..5);
        assert_eq!(document.lines(9, 9), 5..5);
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
