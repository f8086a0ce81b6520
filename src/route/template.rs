//! Texts with parts of the request in them: `/posts/$1`, `https://${host}${uri}`.
//!
//! Hot path, where a route has one: nothing is allocated once the buffers have grown.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use regex_automata::meta::Cache;
use regex_automata::util::primitives::NonMaxUsize;

use super::rule::{PathCondition, Question};
use crate::http::target::sources;

/// A text, parsed for the captures of one path condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    pieces: Box<[Piece]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Capture(usize),
    Host,
    Path,
    Query,
}

/// What is wrong with a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplateFault {
    /// `${` without its end.
    Open,
    /// Neither a capture nor one of the names that are always there; and what there is.
    Unknown { name: String, known: Vec<String> },
}

impl fmt::Display for TemplateFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TemplateFault::Open => f.write_str("`${` needs a name and a `}`; a dollar sign is written `$$`"),
            TemplateFault::Unknown { name, known } => {
                write!(f, "`{name}` is not captured; there is `{}`", known.join("`, `"))
            }
        }
    }
}

/// What one match captured: ranges of the path. One for each core.
#[derive(Debug, Default)]
pub struct Captures {
    ranges: Vec<Option<Range<usize>>>,
    slots: Vec<Option<NonMaxUsize>>,
    /// By the number of the rule: a cache is good for one program only.
    caches: HashMap<usize, Cache>,
}

impl Template {
    /// `$1`, `$name` where no letter follows, `${name}`; `$$` is a dollar sign. A name is that of a capture, or
    /// `host`, `path`, `query` (with its `?`) or `uri` (both), unless captured.
    ///
    /// # Errors
    /// A name that `path` does not capture.
    pub fn parse(text: &str, path: &PathCondition) -> Result<Template, TemplateFault> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            literal.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                literal.push('$');
                rest = after;
                continue;
            }
            let (name, after) = reference(rest)?;
            rest = after;
            if name.is_empty() {
                literal.push('$');
                continue;
            }
            if !literal.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut literal)));
            }
            pieces.extend(resolve(name, path)?);
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal));
        }
        Ok(Template { pieces: pieces.into() })
    }

    /// The text, if it is the same for all requests.
    pub fn constant(&self) -> Option<&str> {
        match &*self.pieces {
            [] => Some(""),
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// What every expansion begins with, whatever the request.
    pub fn literal_start(&self) -> &str {
        match self.pieces.first() {
            Some(Piece::Text(text)) => text,
            _ => "",
        }
    }

    /// Whether the query can become a part of it.
    pub fn has_query(&self) -> bool {
        self.pieces.contains(&Piece::Query)
    }

    /// Whether the host that the client named can become a part of it.
    pub fn has_host(&self) -> bool {
        self.pieces.contains(&Piece::Host)
    }

    /// Whether it is a place to send a client to, on a host that the client cannot choose: it
    /// begins with `/`, with the path that was asked for, or with a scheme and a host of
    /// constant text and `$host`.
    pub fn is_location(&self) -> bool {
        let start = self.literal_start();
        let Some(scheme) = ["http://", "https://", "//"].iter().find(|scheme| start.starts_with(**scheme))
        else {
            return start.starts_with('/') || self.pieces.first() == Some(&Piece::Path);
        };
        let mut has_host = false;
        for (index, piece) in self.pieces.iter().enumerate() {
            match piece {
                Piece::Text(text) => {
                    let text = if index == 0 { &text[scheme.len()..] } else { text };
                    has_host |= !text.is_empty() && !text.starts_with(['/', '?', '#']);
                    if text.contains(['/', '?', '#']) {
                        return has_host;
                    }
                }
                Piece::Host => has_host = true,
                // It begins with a slash, which ends the host.
                Piece::Path => return has_host,
                // It begins with a question mark, if it is there at all.
                Piece::Query => {}
                Piece::Capture(_) => return false,
            }
        }
        has_host
    }

    /// Whether [`Captures`] have to be taken first.
    pub fn needs_captures(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Capture(_)))
    }

    /// Appends the text.
    pub fn expand(&self, out: &mut Vec<u8>, question: &Question<'_>, captures: &Captures) {
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Capture(index) => {
                    let range = captures.ranges.get(*index).cloned().flatten();
                    out.extend_from_slice(range.map_or(b"", |range| &question.path[range]));
                }
                Piece::Host => out.extend_from_slice(question.host),
                Piece::Path => out.extend_from_slice(question.path),
                Piece::Query => out.extend_from_slice(question.query),
            }
        }
    }
}

impl Captures {
    /// Takes what the path condition of the rule with this number, which holds, captures. An
    /// expression matches the canonical form, and captures what stands for that in the normal one.
    pub fn take(&mut self, rule: usize, condition: &PathCondition, question: &Question<'_>) {
        self.ranges.clear();
        let path = question.path;
        match condition {
            PathCondition::Pattern(pattern) => {
                let ranges = &mut self.ranges;
                pattern.captures(path, |captured| {
                    let start = captured.as_ptr() as usize - path.as_ptr() as usize;
                    ranges.push(Some(start..start + captured.len()));
                });
            }
            PathCondition::Regex(program) => {
                let cache = self.caches.entry(rule).or_insert_with(|| program.scratch());
                program.captures(cache, question.canonical, &mut self.slots);
                let range = |pair: &[Option<NonMaxUsize>]| Some(pair[0]?.get()..pair[1]?.get());
                self.ranges.extend(self.slots.chunks_exact(2).map(range));
                if question.canonical.len() != path.len() {
                    let sources: Vec<Range<usize>> = sources(path).collect();
                    self.ranges.iter_mut().flatten().for_each(|range| *range = source(&sources, range));
                }
            }
            PathCondition::Any | PathCondition::Exact(_) | PathCondition::Prefix(_) => {}
        }
    }
}

/// Where a range of the canonical form is in the normal one.
fn source(sources: &[Range<usize>], range: &Range<usize>) -> Range<usize> {
    match sources.get(range.clone()) {
        Some([first, .., last]) => first.start..last.end,
        Some([only]) => only.clone(),
        _ => 0..0,
    }
}

/// The name after a dollar sign, and what follows it.
fn reference(rest: &str) -> Result<(&str, &str), TemplateFault> {
    if let Some(inner) = rest.strip_prefix('{') {
        return match inner.split_once('}') {
            Some(("", _)) | None => Err(TemplateFault::Open),
            Some(found) => Ok(found),
        };
    }
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let end = rest.bytes().position(|byte| !is_name(byte)).unwrap_or(rest.len());
    // `$1x` is the first group and an x.
    let digits = rest.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
    Ok(rest.split_at(if digits > 0 { digits } else { end }))
}

fn resolve(name: &str, path: &PathCondition) -> Result<Vec<Piece>, TemplateFault> {
    let captured = match path {
        PathCondition::Pattern(pattern) => {
            let by_number = name.parse().ok().filter(|number| (1..=pattern.names().count()).contains(number));
            by_number.map(|number| number - 1).or_else(|| pattern.names().position(|known| known == name))
        }
        PathCondition::Regex(program) => {
            let by_number = name.parse().ok().filter(|number| *number < program.group_count());
            by_number.or_else(|| program.group(name))
        }
        PathCondition::Any | PathCondition::Exact(_) | PathCondition::Prefix(_) => None,
    };
    match (captured, name) {
        (Some(index), _) => Ok(vec![Piece::Capture(index)]),
        (None, "host") => Ok(vec![Piece::Host]),
        (None, "path") => Ok(vec![Piece::Path]),
        (None, "query") => Ok(vec![Piece::Query]),
        (None, "uri") => Ok(vec![Piece::Path, Piece::Query]),
        (None, _) => Err(TemplateFault::Unknown { name: name.to_owned(), known: known(path) }),
    }
}

/// All names that a template may use.
fn known(path: &PathCondition) -> Vec<String> {
    let mut names: Vec<String> = match path {
        PathCondition::Pattern(pattern) => pattern.names().map(str::to_owned).collect(),
        PathCondition::Regex(program) => program.groups(),
        PathCondition::Any | PathCondition::Exact(_) | PathCondition::Prefix(_) => Vec::new(),
    };
    names.extend(["host", "path", "query", "uri"].map(str::to_owned));
    names
}

#[cfg(test)]
mod tests {
    use super::super::{Pattern, Program, Sender};
    use super::*;
    use crate::http::fields::Fields;
    use crate::http::target::canonicalise;

    fn pattern(text: &str) -> PathCondition {
        PathCondition::Pattern(Pattern::parse(text).unwrap())
    }

    fn regex(text: &str) -> PathCondition {
        PathCondition::Regex(Program::parse(text).unwrap())
    }

    #[test]
    fn templates_take_parts_of_the_request() {
        let table = [
            (pattern("/user/{id}/{*rest}"), "/u/${id}?of=$rest", "/user/7/a/b", "/u/7?of=a/b"),
            (pattern("/user/{id}"), "$1$$1", "/user/7", "7$1"),
            (regex("^/users/([0-9]+)/posts"), "/posts/$1x", "/users/7/posts", "/posts/7x"),
            (regex("^/(?<who>[a-z]+)(/x)?"), "$0|${who}|$2|", "/me", "/me|me||"),
            (PathCondition::Any, "https://${host}${uri}", "/x", "https://a.example/x?q"),
            (PathCondition::Any, "$path$query $ 5$", "/x", "/x?q $ 5$"),
            (pattern("/{host}"), "$host", "/captured", "captured"),
            (pattern("/@/{who}"), "$who", "//%40/%40me", "%40me"),
            (pattern("/@/{*rest}"), "$rest", "/%40//b%40", "/b%40"),
            (regex("^/users/(.*)"), "<$1>", "/users//7%40//x%7C", "<7%40//x%7C>"),
            (regex("^/users(/.*)"), "<$1>", "//users//7", "<//7>"),
            (regex("^/users/([0-9]+)()"), "<$1$2>", "/users//7", "<7>"),
            (regex("^/@([a-z;]+)/(.*)"), "<$1 $2>", "/%40me%3B/%40", "<me%3B %40>"),
            (regex("^/t/([^/]*)/"), "<$1>", "/t//a/x", "<a>"),
        ];
        let mut captures = Captures::default();
        for (rule, (condition, text, path, expected)) in table.into_iter().enumerate() {
            let template = Template::parse(text, &condition).unwrap();
            let fields = Fields::default();
            let path = path.as_bytes();
            let canonical = &canonicalise(path);
            let (method, host, sender) = (&b"GET"[..], &b"a.example"[..], Sender::default());
            let question = Question { method, host, canonical, path, query: b"?q", fields: &fields, sender };
            captures.take(rule, &condition, &question);
            let mut out = Vec::new();
            template.expand(&mut out, &question, &captures);
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn a_location_is_on_a_host_that_the_client_cannot_choose() {
        let table = [
            ("/login", true),
            ("/$rest", true),
            ("$path", true),
            ("$uri", true),
            ("//cdn.example/x", true),
            ("https://a.example", true),
            ("https://a.example/$1", true),
            ("https://$host$uri", true),
            ("https://www.$host/$rest", true),
            ("https://${host}:8443$path", true),
            ("https://a.example?to=$rest", true),
            ("", false),
            ("login", false),
            ("ftp://a.example", false),
            ("https://", false),
            ("https:///x", false),
            ("https://$path", false),
            ("$rest", false),
            ("$query", false),
            ("https://$rest", false),
            ("https://$rest.a.example/", false),
            ("https://a.example$rest", false),
            ("https://$host$rest", false),
        ];
        for (text, expected) in table {
            let template = Template::parse(text, &pattern("/{id}/{*rest}")).unwrap();
            assert_eq!(template.is_location(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_captured_is_refused() {
        let unknown = |name: &str, known: &[&str]| {
            let known = known.iter().chain(&["host", "path", "query", "uri"]).map(|name| (*name).to_owned());
            TemplateFault::Unknown { name: name.to_owned(), known: known.collect() }
        };
        let table = [
            (pattern("/{id}"), "/${ids}", unknown("ids", &["id"])),
            (pattern("/{id}"), "/$2", unknown("2", &["id"])),
            (regex("^/(a)(?<n>b)"), "$3", unknown("3", &["0", "1", "2", "n"])),
            (PathCondition::prefix("/a"), "$1", unknown("1", &[])),
            (pattern("/{id}"), "/${id", TemplateFault::Open),
            (pattern("/{id}"), "/${}", TemplateFault::Open),
        ];
        for (condition, text, expected) in table {
            assert_eq!(Template::parse(text, &condition), Err(expected), "{text}");
        }
    }
}
