//! What a route makes of a request and its response: another path, other fields, another place.
//!
//! Pure: templates and the captures of one match in, bytes out. Hot path, where a route has
//! some: nothing is allocated once the outputs have grown, but for a path that has to be put in
//! normal form again.

use super::rule::Question;
use super::template::{Captures, Template};
use crate::http::fields::{is_same_name, push_field};
use crate::http::target;

/// How the path that is forwarded comes from the path that was matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathChange {
    Keep,
    /// The first so many segments go, empty ones not counted; `/` stays if nothing is left.
    Strip(usize),
    /// The first so many segments are replaced by a path.
    Prefix(usize, Template),
    /// The whole path is another one.
    Whole(Template),
}

/// Fields that a route removes, sets or replaces. Setting one removes those that were there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldChanges {
    /// In any case and with `_` for `-`; those that are set are among them.
    pub removed: Box<[String]>,
    pub set: Box<[(String, Template)]>,
}

impl PathChange {
    /// Writes the path to `out`.
    ///
    /// # Errors
    /// The parts do not make a path: an expression has cut an escape in two.
    pub fn apply(
        &self,
        question: &Question<'_>,
        captures: &Captures,
        out: &mut Vec<u8>,
    ) -> Result<(), target::Fault> {
        out.clear();
        let path = question.path;
        match self {
            PathChange::Keep => out.extend_from_slice(path),
            PathChange::Strip(segments) => out.extend_from_slice(behind(*segments, path)),
            PathChange::Prefix(segments, template) => {
                template.expand(out, question, captures);
                let rest = behind(*segments, path);
                if rest.starts_with(b"/") && out.ends_with(b"/") {
                    out.pop();
                }
                out.extend_from_slice(rest);
            }
            PathChange::Whole(template) => template.expand(out, question, captures),
        }
        if *self != PathChange::Keep {
            begin_with_one_slash(out);
        }
        if self.templates().next().is_none() {
            return Ok(());
        }
        // What is put together from parts in normal form need not be: `/x..` without its `/x`.
        if memchr::memmem::find(out, b"/.").is_some() || memchr::memchr(b'%', out).is_some() {
            *out = target::normalise(out)?;
            begin_with_one_slash(out);
        }
        Ok(())
    }

    pub fn templates(&self) -> impl Iterator<Item = &Template> {
        match self {
            PathChange::Keep | PathChange::Strip(_) => None,
            PathChange::Prefix(_, template) | PathChange::Whole(template) => Some(template),
        }
        .into_iter()
    }
}

/// What stands in a path behind so many segments that are not empty: nothing, or what begins with
/// the slash that ends them.
fn behind(segments: usize, path: &[u8]) -> &[u8] {
    let mut rest = path;
    for _ in 0..segments {
        let start = rest.iter().position(|&byte| byte != b'/').unwrap_or(rest.len());
        rest = &rest[start..];
        rest = &rest[memchr::memchr(b'/', rest).unwrap_or(rest.len())..];
    }
    rest
}

/// More of them, or backslashes among them, would be the beginning of a host (RFC 3986 4.2).
fn begin_with_one_slash(path: &mut Vec<u8>) {
    let slashes = path.iter().take_while(|byte| matches!(byte, b'/' | b'\\')).count();
    path.splice(..slashes, [b'/']);
}

impl FieldChanges {
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.set.is_empty()
    }

    /// Those that are removed and not set again.
    pub fn only_removed(&self) -> impl Iterator<Item = &str> {
        let is_set =
            |name: &str| self.set.iter().any(|(set, _)| is_same_name(set.as_bytes(), name.as_bytes()));
        self.removed.iter().map(String::as_str).filter(move |name| !is_set(name))
    }

    /// Appends the fields that are set, each as a line. Their values are parts of a request
    /// that was parsed, or the operator's: none has a line's end in it.
    pub fn write(&self, question: &Question<'_>, captures: &Captures, out: &mut Vec<u8>) {
        for (name, value) in &self.set {
            match value.constant() {
                Some(text) => push_field(out, name.as_bytes(), text.as_bytes()),
                None => {
                    push_field(out, name.as_bytes(), b"");
                    out.truncate(out.len() - 2);
                    value.expand(out, question, captures);
                    out.extend_from_slice(b"\r\n");
                }
            }
        }
    }

    pub fn templates(&self) -> impl Iterator<Item = &Template> {
        self.set.iter().map(|(_, template)| template)
    }
}

/// Where a client is sent: `to`, expanded. A path that begins with more slashes than were
/// written would be another host's, and is cut to one: `/` and the captured `/evil.example`.
pub fn location(to: &Template, question: &Question<'_>, captures: &Captures, out: &mut Vec<u8>) {
    out.clear();
    to.expand(out, question, captures);
    if out.starts_with(b"/") && !to.literal_start().starts_with("//") {
        begin_with_one_slash(out);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{PathCondition, Pattern, Program, Sender};
    use super::*;
    use crate::http::fields::Fields;

    fn question<'a>(path: &'a str, fields: &'a Fields) -> Question<'a> {
        let path = path.as_bytes();
        Question {
            method: b"GET",
            host: b"a.example",
            canonical: path,
            path,
            query: b"?q",
            fields,
            sender: Sender::default(),
        }
    }

    fn regex(text: &str) -> PathCondition {
        PathCondition::Regex(Program::parse(text).unwrap())
    }

    #[test]
    fn paths_are_changed() {
        let any = || PathCondition::Any;
        let template = |text: &str, path: &PathCondition| Template::parse(text, path).unwrap();
        let prefix = |len, text: &str| (any(), PathChange::Prefix(len, template(text, &any())));
        let whole = |path: PathCondition, text: &str| {
            let change = PathChange::Whole(template(text, &path));
            (path, change)
        };
        let strip = || (any(), PathChange::Strip(1));
        let table = [
            (strip(), "/sidekiq/jobs", "/jobs"),
            (strip(), "/sidekiq/", "/"),
            (strip(), "/sidekiq", "/"),
            (strip(), "*", "/"),
            (strip(), "//sidekiq//jobs//7", "/jobs//7"),
            (strip(), "/sidekiq/\\/jobs", "/jobs"),
            (strip(), "/%73idekiq/jobs", "/jobs"),
            ((any(), PathChange::Strip(2)), "/a//b/c/d", "/c/d"),
            ((any(), PathChange::Keep), "/sidekiq", "/sidekiq"),
            (prefix(1, "/new-api"), "/old-api/users", "/new-api/users"),
            (prefix(1, "/new-api"), "/old-api", "/new-api"),
            (prefix(1, "/new-api"), "/old-api/", "/new-api/"),
            (prefix(1, "/new/"), "/old-api/x", "/new/x"),
            (prefix(1, "/"), "/old-api/x", "/x"),
            (prefix(1, "/"), "/old-api", "/"),
            (prefix(0, "/new"), "/x", "/new/x"),
            (whole(any(), "/down"), "/x", "/down"),
            (whole(regex("^/users/([0-9]+)"), "/u/$1"), "/users/7/x", "/u/7"),
            (whole(regex("^/api(/.*)?"), "$1"), "/api/x", "/x"),
            (whole(regex("^/api(/.*)?"), "$1"), "/api", "/"),
            (whole(regex("^/x(.*)"), "/$1"), "/x..", "/"),
            (whole(regex("^/x(.*)"), "/a/$1/b"), "/x..", "/b"),
            (whole(regex("^/x(.*)"), "/a$1"), "/x%2F", "/a%2F"),
        ];
        let fields = Fields::default();
        let mut captures = Captures::default();
        for (rule, ((condition, change), path, expected)) in table.into_iter().enumerate() {
            captures.take(rule, &condition, &question(path, &fields));
            let mut out = b"from before".to_vec();
            change.apply(&question(path, &fields), &captures, &mut out).unwrap();
            assert_eq!(String::from_utf8_lossy(&out), expected, "{path} {change:?}");
        }
    }

    #[test]
    fn half_an_escape_makes_no_path() {
        let condition = regex("^/(.)(.*)");
        let change = PathChange::Whole(Template::parse("/$1x", &condition).unwrap());
        let (fields, mut captures, mut out) = (Fields::default(), Captures::default(), Vec::new());
        captures.take(0, &condition, &question("/%2F", &fields));
        let fault = change.apply(&question("/%2F", &fields), &captures, &mut out);
        assert_eq!(fault, Err(target::Fault::Escape));
    }

    #[test]
    fn fields_are_written_as_lines() {
        let path = PathCondition::Pattern(Pattern::parse("/t/{tenant}/{*rest}").unwrap());
        let template = |text: &str| Template::parse(text, &path).unwrap();
        let set =
            [("X-Tenant", "$tenant"), ("X-Const", "5$$"), ("X-Uri", "<${host}${uri}>"), ("X-Empty", "")];
        let set = set.map(|(name, value)| (name.to_owned(), template(value)));
        let changes = FieldChanges { removed: Box::default(), set: set.into() };
        let fields = Fields::default();
        let mut captures = Captures::default();
        captures.take(0, &path, &question("/t/blue/x", &fields));
        let mut out = Vec::new();
        changes.write(&question("/t/blue/x", &fields), &captures, &mut out);
        let expected = "X-Tenant: blue\r\nX-Const: 5$\r\nX-Uri: <a.example/t/blue/x?q>\r\nX-Empty: \r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn a_place_stays_on_the_host_that_was_meant() {
        let pattern = || PathCondition::Pattern(Pattern::parse("/go/{*rest}").unwrap());
        let table = [
            (pattern(), "/$rest", "/go//evil.example", "/evil.example"),
            (pattern(), "/$rest", "/go/\\evil.example", "/evil.example"),
            (PathCondition::Any, "$uri", "//evil.example/x", "/evil.example/x?q"),
            (PathCondition::Any, "//cdn.example$path", "/x", "//cdn.example/x"),
            (PathCondition::Any, "https://${host}$path", "//x", "https://a.example//x"),
            (PathCondition::Any, "/login?back=$path", "/x", "/login?back=/x"),
        ];
        let fields = Fields::default();
        let mut captures = Captures::default();
        for (rule, (condition, to, path, expected)) in table.into_iter().enumerate() {
            let to = Template::parse(to, &condition).unwrap();
            captures.take(rule, &condition, &question(path, &fields));
            let mut out = Vec::new();
            location(&to, &question(path, &fields), &captures, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), expected, "{path}");
        }
    }
}
