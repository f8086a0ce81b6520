//! The decision tree against a scan of all rules, and what is said to cover against what holds.
//!
//! Each line of the input is a rule or a question: a kind, `host/path`, and words behind it. The
//! kinds are `=` exact, `^` prefix, `{` pattern, `~` expression (its text is the path without
//! the slash), `*` any path, and `?` for a question. A host that begins with a dot is any name
//! below it. Words of a rule are conditions: `m:METHOD`, `f:name`, `f:!name`, `f:name=value` and
//! the same with `q:` for parameters. Of a question `m:METHOD` and `f:name=value`.

use warpdrive::http::fields::Fields;
use warpdrive::http::target::canonicalise;
use warpdrive::route::cover::shadowed;
use warpdrive::route::{
    Condition, HostPattern, Methods, PathCondition, Pattern, Program, Question, Rule, Sender, Test, Tree,
    Verdict,
};

use crate::shown;

pub fn check(input: &[u8]) {
    let text: String = input.iter().map(|byte| char::from(byte & 0x7f)).collect();
    let (mut rules, mut questions) = (Vec::new(), Vec::new());
    for line in text.lines().take(256) {
        let Some(kind) = line.chars().next() else { continue };
        let mut words = line[1..].split(' ');
        let target = words.next().unwrap_or_default();
        let (host, path) = target.split_at(target.find('/').unwrap_or(target.len()));
        if kind == '?' {
            questions.push(Asked::new(host, path, words));
            continue;
        }
        let Some(path) = path_condition(kind, path) else { continue };
        let hosts = if host.is_empty() { Vec::new() } else { vec![host_pattern(host)] };
        let conditions = words.filter_map(condition).collect();
        rules.push(Rule { hosts, path, conditions, target: rules.len() });
    }
    let Ok(tree) = Tree::compile(rules.clone()) else { return };
    let tree = tree.clone();
    assert_eq!(tree.len(), rules.len());
    let never: Vec<usize> = shadowed(&rules).iter().map(|one| one.rule).collect();
    let mut scratch = tree.scratch();
    for asked in &questions {
        let question = asked.question();
        let first = rules.iter().position(|rule| rule.verdict(&question) == Verdict::Holds);
        let decided = tree.decide(&question, &mut scratch).copied();
        assert_eq!(decided, first, "{} {} of {}", asked.host, asked.path, shown(input));
        if let Some(first) = first {
            assert!(!never.contains(&first), "rule {first} of {}", shown(input));
        }
    }
}

fn path_condition(kind: char, path: &str) -> Option<PathCondition> {
    match kind {
        '=' => Some(PathCondition::exact(path)),
        '^' => Some(PathCondition::prefix(path)),
        '{' => Pattern::parse(path).ok().map(PathCondition::Pattern),
        '~' => Program::parse(path.strip_prefix('/')?).ok().map(PathCondition::Regex),
        _ => Some(PathCondition::Any),
    }
}

fn host_pattern(host: &str) -> HostPattern {
    match host.starts_with('.') {
        true => HostPattern::Below(host.to_owned()),
        false => HostPattern::Exact(host.to_owned()),
    }
}

fn condition(word: &str) -> Option<Condition> {
    let (kind, text) = word.split_once(':')?;
    let test = |text: &str| match (text.strip_prefix('!'), text.split_once('=')) {
        (Some(name), _) => (name.to_ascii_lowercase(), Test::Absent),
        (None, Some((name, value))) => (name.to_ascii_lowercase(), Test::Equals(value.to_owned())),
        (None, None) => (text.to_ascii_lowercase(), Test::Present),
    };
    let (name, test) = test(text);
    match kind {
        "m" => Some(Condition::Method(Methods::new(vec![text.to_owned()]))),
        "f" => Some(Condition::Field(name, test)),
        "q" => Some(Condition::Parameter(name, test)),
        _ => None,
    }
}

struct Asked {
    method: String,
    host: String,
    canonical: Vec<u8>,
    path: String,
    query: String,
    fields: Fields,
}

impl Asked {
    fn new<'a>(host: &str, target: &str, words: impl Iterator<Item = &'a str>) -> Asked {
        let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
        let mut asked = Asked {
            method: "GET".to_owned(),
            host: host.to_owned(),
            canonical: canonicalise(path.as_bytes()),
            path: path.to_owned(),
            query: query.to_owned(),
            fields: Fields::default(),
        };
        for word in words {
            match word.split_once(':') {
                Some(("m", method)) => asked.method = method.to_owned(),
                Some(("f", field)) => {
                    let (name, value) = field.split_once('=').unwrap_or((field, ""));
                    asked.fields.push(name.as_bytes(), value.as_bytes());
                }
                _ => {}
            }
        }
        asked
    }

    fn question(&self) -> Question<'_> {
        Question {
            method: self.method.as_bytes(),
            host: self.host.as_bytes(),
            canonical: &self.canonical,
            path: self.path.as_bytes(),
            query: self.query.as_bytes(),
            fields: &self.fields,
            sender: Sender::default(),
        }
    }
}
