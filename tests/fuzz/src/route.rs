//! The decision tree against a scan of all rules. Each line of the input is a rule,
//! `=host/path` exact, `^host/path` prefix, `*host` any path, or, with `?host/path`, a question.

use warpdrive::route::{PathCondition, Question, Rule, Tree};

use crate::shown;

pub fn check(input: &[u8]) {
    let text: String = input.iter().map(|byte| char::from(byte & 0x7f)).collect();
    let (mut rules, mut questions) = (Vec::new(), Vec::new());
    for line in text.lines().take(256) {
        let Some(kind) = line.chars().next() else { continue };
        let (host, path) = line[1..].split_at(line[1..].find('/').unwrap_or(line.len() - 1));
        let path = path.to_owned();
        let condition = match kind {
            '?' => {
                questions.push((host.to_owned(), path));
                continue;
            }
            '=' => PathCondition::Exact(path),
            '^' => PathCondition::Prefix(path.strip_suffix('/').unwrap_or(&path).to_owned()),
            _ => PathCondition::Any,
        };
        let host = (!host.is_empty()).then(|| host.to_owned());
        rules.push(Rule { host, path: condition, target: rules.len() });
    }
    let tree = Tree::compile(rules.clone()).clone();
    assert_eq!(tree.len(), rules.len());
    for (host, path) in &questions {
        let question = Question { host: host.as_bytes(), path: path.as_bytes() };
        let first = rules.iter().position(|rule| holds(rule, host, path));
        assert_eq!(tree.decide(question).copied(), first, "{host} {path} of {}", shown(input));
    }
}

fn holds(rule: &Rule<usize>, host: &str, path: &str) -> bool {
    let path_holds = match &rule.path {
        PathCondition::Any => true,
        PathCondition::Exact(wanted) => wanted == path,
        PathCondition::Prefix(wanted) => {
            let rest = path.strip_prefix(wanted.as_str());
            wanted.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
    };
    path_holds && rule.host.as_deref().is_none_or(|wanted| wanted == host)
}
