//! How a diagnostic looks to a reader at a terminal: as the compiler of Rust shows its own.
//!
//! Whatever is in the text, in a name or in a message, only printable characters leave here.
//! Must not know: which mistakes there are.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{Annotation, AnnotationKind, Element, Group, Level, Origin, Renderer, Snippet};

use super::diagnostic::{Diagnostic, Document, Place, Severity};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colours {
    On,
    Off,
}

/// Columns that a line of the text may take.
const WIDTH: usize = 100;
/// Two places of one line that are farther apart are shown one after the other.
const APART_MAX: usize = 60;
/// Bytes of a place that are marked.
const MARK_MAX: usize = 80;
/// Bytes of a line after a place that are looked at. What is shown is less.
const AROUND_MAX: usize = 4096;
/// Characters of a message, a label, a help: one may quote what has no bound itself.
const WORDS_MAX: usize = 400;

/// Why a configuration cannot be run: each with an empty line after it, and how many there are.
pub fn refusal(diagnostics: &[Diagnostic], colours: Colours) -> String {
    let count = |number: usize, noun: &str| {
        let plural = if number == 1 { "" } else { "s" };
        format!("{number} {noun}{plural}")
    };
    let mut text = String::new();
    for diagnostic in diagnostics {
        text += &format!("{}\n\n", render(diagnostic, colours));
    }
    let mistakes = diagnostics.iter().filter(|one| one.is_error()).count();
    let mut counts = count(mistakes, "error");
    if mistakes < diagnostics.len() {
        counts += &format!(", {}", count(diagnostics.len() - mistakes, "warning"));
    }
    text + &format!("configuration is not valid ({counts})\n")
}

/// Several lines, without a last line end.
pub fn render(diagnostic: &Diagnostic, colours: Colours) -> String {
    let renderer = match colours {
        Colours::On => Renderer::styled(),
        Colours::Off => Renderer::plain(),
    };
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = level.primary_title(words(&diagnostic.message));
    let mut group = Group::with_title(title).elements(elements(diagnostic));
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(words(help)));
    }
    renderer.term_width(WIDTH).render(&[group])
}

/// The places: excerpts of texts, or the names of what has no text.
fn elements(diagnostic: &Diagnostic) -> Vec<Element<'_>> {
    let mut excerpts: Vec<Excerpt<'_>> = Vec::new();
    let mut elements = Vec::new();
    let mut notes = Vec::new();
    match &diagnostic.place {
        Place::Text { document, span } => {
            let mark = Mark::new(document, span, AnnotationKind::Primary, diagnostic.label.as_deref());
            excerpts.push(Excerpt { document, marks: vec![mark] });
        }
        Place::CommandLine | Place::Default => {}
        place => elements.push(Origin::path(words(&place.to_string())).into()),
    }
    for related in &diagnostic.related {
        match &related.place {
            Place::Text { document, span } => {
                let mark = Mark::new(document, span, AnnotationKind::Context, Some(&related.label));
                let shown = excerpts.iter_mut().find(|excerpt| excerpt.can_hold(document, &mark));
                match shown {
                    Some(excerpt) => excerpt.marks.push(mark),
                    None => excerpts.push(Excerpt { document, marks: vec![mark] }),
                }
            }
            place => {
                let note = words(&format!("{}: {place}", related.label));
                notes.push(Level::NOTE.message(note).into());
            }
        }
    }
    elements.extend(excerpts.iter().map(|excerpt| excerpt.snippet().into()));
    elements.extend(notes);
    elements
}

/// A piece of one line.
struct Mark<'a> {
    /// From 1.
    line: usize,
    /// In bytes, from the start of the line, and within it.
    span: Range<usize>,
    kind: AnnotationKind,
    label: Option<&'a str>,
}

impl<'a> Mark<'a> {
    /// What goes on over several lines is marked in the first of them.
    fn new(
        document: &Document,
        span: &Range<usize>,
        kind: AnnotationKind,
        label: Option<&'a str>,
    ) -> Mark<'a> {
        let start = document.position(span.start);
        let line = document.lines(start.line, start.line);
        let text = without_return(&document.text()[line.clone()]);
        let at = text.floor_char_boundary(start.byte - line.start);
        let end = span.end.saturating_sub(line.start).min(at + MARK_MAX);
        let end = text.ceil_char_boundary(end).max(at);
        Mark { line: start.line, span: at..end, kind, label }
    }
}

/// Marks in one document that are shown as one.
struct Excerpt<'a> {
    document: &'a Arc<Document>,
    marks: Vec<Mark<'a>>,
}

impl<'a> Excerpt<'a> {
    fn can_hold(&self, document: &Arc<Document>, mark: &Mark<'_>) -> bool {
        let is_far = |other: &Mark<'_>| {
            other.line == mark.line && other.span.start.abs_diff(mark.span.start) > APART_MAX
        };
        Arc::ptr_eq(self.document, document) && !self.marks.iter().any(is_far)
    }

    /// Of all that lies between the marks, only lines with a mark are complete.
    fn snippet(&self) -> Snippet<'a, Annotation<'a>> {
        let lines = self.marks.iter().map(|mark| mark.line);
        let (first, last) = (lines.clone().min().unwrap_or(1), lines.max().unwrap_or(1));
        let mut source = String::new();
        let mut annotations = Vec::new();
        for line in first..=last {
            let text = &self.document.text()[self.document.lines(line, line)];
            let text = without_return(text);
            let marks: Vec<&Mark<'a>> = self.marks.iter().filter(|mark| mark.line == line).collect();
            let end = marks.iter().map(|mark| mark.span.end).max().unwrap_or_default();
            let shown = &text[..text.floor_char_boundary(end.saturating_add(AROUND_MAX))];
            for mark in marks {
                let before = source.len() + visible(&shown[..mark.span.start]).len();
                let marked = visible(&shown[mark.span.clone()]).len();
                let mut annotation = mark.kind.span(before..before + marked);
                if let Some(label) = mark.label {
                    annotation = annotation.label(words(label));
                }
                annotations.push(annotation);
            }
            source.push_str(&visible(shown));
            source.push('\n');
        }
        // A line end after the last line would be a line of its own if a mark is at its end.
        source.pop();
        let path = words(self.document.name());
        Snippet::source(source).line_start(first).path(path).annotations(annotations)
    }
}

fn without_return(line: &str) -> &str {
    line.strip_suffix('\r').unwrap_or(line)
}

/// One line of printable characters, of a length that can be read.
fn words(text: &str) -> String {
    let mut words = visible(text).replace('\t', " ");
    if let Some((end, _)) = words.char_indices().nth(WORDS_MAX) {
        words.truncate(end);
        words.push('…');
    }
    words
}

/// The text with a visible character for each one that would move the cursor, change the
/// order of others or not be seen at all; but for tabs, as many characters as before.
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unprintable) {
        return Cow::Borrowed(text);
    }
    let shown = text.chars().map(|character| match (character, u32::from(character)) {
        ('\t', _) => character,
        // The pictures of the control characters are in their order.
        (_, code @ 0..0x20) => char::from_u32(0x2400 + code).unwrap_or(char::REPLACEMENT_CHARACTER),
        ('\u{7f}', _) => '\u{2421}',
        _ if is_unprintable(character) => char::REPLACEMENT_CHARACTER,
        _ => character,
    });
    Cow::Owned(shown.collect())
}

fn is_unprintable(character: char) -> bool {
    let is_format = matches!(character,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
    is_format || character.is_control() && character != '\t'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str, text: &str, span: Range<usize>) -> Place {
        let document = Document::new(name.to_owned(), text.to_owned());
        Place::Text { document: Arc::new(document), span }
    }

    fn shown(diagnostic: &Diagnostic) -> String {
        render(diagnostic, Colours::Off)
    }

    fn lines(diagnostic: &Diagnostic) -> Vec<String> {
        shown(diagnostic).lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_mistake_has_its_line_its_carets_and_its_help() {
        let text = "[server]\n  prot = 80\n";
        let mistake = Diagnostic::error(place("w.toml", text, 11..15), "unknown key `prot`")
            .with_label("not a key")
            .with_help("did you mean `port`?");
        let expected = [
            "error: unknown key `prot`",
            " --> w.toml:2:3",
            "  |",
            "2 |   prot = 80",
            "  |   ^^^^ not a key",
            "  |",
            "  = help: did you mean `port`?",
        ];
        assert_eq!(lines(&mistake), expected);
    }

    #[test]
    fn other_places_are_shown_with_the_first() {
        let document = Arc::new(Document::new("w.toml".to_owned(), "a = 1\n\n\n\nb = 2\n".to_owned()));
        let at = |span| Place::Text { document: Arc::clone(&document), span };
        let mistake = Diagnostic::warning(at(9..10), "both")
            .with_related(at(0..1), "here")
            .with_related(place("other.toml", "c = 3", 4..5), "there")
            .with_related(Place::Environment("X".to_owned()), "set here");
        let expected = [
            "warning: both",
            " --> w.toml:5:1",
            "  |",
            "1 | a = 1",
            "  | - here",
            "...",
            "5 | b = 2",
            "  | ^",
            "  |",
            " ::: other.toml:1:5",
            "  |",
            "1 | c = 3",
            "  |     - there",
            "  |",
            "  = note: set here: environment:X",
        ];
        assert_eq!(lines(&mistake), expected);
    }

    #[test]
    fn what_has_no_text_has_no_excerpt() {
        let variable = Diagnostic::error(Place::Environment("X".to_owned()), "m").with_help("h");
        assert_eq!(lines(&variable), ["error: m", "--> environment:X", " = help: h"]);
        let argument = Diagnostic::error(Place::CommandLine, "m");
        assert_eq!(lines(&argument), ["error: m"]);
    }

    #[test]
    fn carets_stand_below_tabs_wide_and_combining_characters() {
        let text = "\té漢e\u{301}\u{1b}[1m = \"\u{9b}\"";
        let start = text.find('=').expect("it is there");
        let drawn = lines(&Diagnostic::error(place("w", text, start..start + 1), "m"));
        assert_eq!(drawn[3], "1 |     é漢e\u{301}␛[1m = \"\u{fffd}\"");
        assert_eq!(drawn[4], "  |              ^");
    }

    #[test]
    fn long_lines_and_long_words_are_cut() {
        let text = format!("x = [{}7, {}]", "1, ".repeat(500), "2, ".repeat(500));
        let span = text.find('7').map(|at| at..at + 1).expect("it is there");
        let drawn = lines(&Diagnostic::error(place("w", &text, span), "m".repeat(5000)));
        assert!(drawn[0].chars().count() < 500);
        assert_eq!(drawn[1], " --> w:1:1506");
        assert!(drawn[3].chars().count() < 120 && drawn[3].contains("1, 7, 2"), "{}", drawn[3]);
        let column = |line: &str, mark| line.chars().position(|character| character == mark);
        assert_eq!(column(&drawn[3], '7'), column(&drawn[4], '^'));
    }

    #[test]
    fn places_far_apart_in_one_line_are_shown_one_after_the_other() {
        let text = format!("a = 1{}, b = 2", " ".repeat(300));
        let document = Arc::new(Document::new("w".to_owned(), text));
        let at = |span| Place::Text { document: Arc::clone(&document), span };
        let mistake = Diagnostic::error(at(307..308), "m").with_related(at(0..1), "first");
        let longest = lines(&mistake).iter().map(|line| line.chars().count()).max();
        assert!(longest < Some(120), "{}", shown(&mistake));
        assert!(shown(&mistake).contains("::: w:1:1\n"), "{}", shown(&mistake));
    }

    #[test]
    fn colours_are_only_where_they_are_wanted() {
        let mistake = Diagnostic::error(place("w", "a", 0..1), "m");
        assert!(render(&mistake, Colours::On).contains("\u{1b}["));
        assert!(!shown(&mistake).contains('\u{1b}'));
    }

    /// Numbers that look random and are the same in every run.
    fn next(state: &mut u64, below: usize) -> usize {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(*state >> 33).expect("31 bits") % below
    }

    #[test]
    fn any_text_with_any_places_is_drawn_in_printable_characters() {
        const PIECES: [&str; 22] = [
            "a",
            "key = ",
            "\n",
            "\r\n",
            "\r",
            "\t",
            "é",
            "漢字",
            "e\u{301}",
            "\u{1b}[31m",
            "\u{9b}",
            "\u{7f}",
            "\0",
            "\u{202e}",
            "\u{200d}",
            "\u{feff}",
            "👩\u{200d}👩",
            "\u{2028}",
            "\"\"\"",
            "    ",
            "\u{e0041}",
            "[x]",
        ];
        let mut state = 7;
        for round in 0..4000 {
            let count = match next(&mut state, 8) {
                0 => next(&mut state, 400),
                _ => next(&mut state, 12),
            };
            let mut texts = [String::new(), String::new()];
            for text in &mut texts {
                (0..count).for_each(|_| text.push_str(PIECES[next(&mut state, PIECES.len())]));
            }
            let documents = texts.clone().map(|text| Arc::new(Document::new(text.clone(), text)));
            let mut anywhere = || {
                let document = Arc::clone(&documents[next(&mut state, 2)]);
                let (start, end) = (next(&mut state, 40), next(&mut state, 60));
                let scale = next(&mut state, document.text().len() / 16 + 2);
                Place::Text { document, span: start * scale..end * scale }
            };
            let mut mistake = Diagnostic::error(anywhere(), texts[0].clone()).with_label(texts[1].clone());
            for _ in 0..round % 4 {
                mistake = mistake.with_related(anywhere(), texts[0].clone());
            }
            let drawn = shown(&mistake.with_help(texts[1].clone()));
            let hidden = drawn.chars().find(|character| is_unprintable(*character) && *character != '\n');
            assert_eq!(hidden, None, "in {drawn:?}");
        }
    }
}
