//! The tree against a table, and against an oracle that asks every rule in turn.

use super::PathCondition::{Any, Exact, Prefix};
use super::*;

fn rule(host: Option<&str>, path: PathCondition, target: usize) -> Rule<usize> {
    Rule { host: host.map(str::to_owned), path, target }
}

fn exact(path: &str) -> PathCondition {
    Exact(path.to_owned())
}

fn prefix(path: &str) -> PathCondition {
    Prefix(path.to_owned())
}

fn decide(tree: &Tree<usize>, host: &str, path: &str) -> Option<usize> {
    let question = Question { host: host.as_bytes(), path: path.as_bytes() };
    tree.decide(question).copied()
}

#[test]
fn the_first_rule_that_holds_wins() {
    let tree = Tree::compile(vec![
        rule(None, prefix("/api/v1"), 0),
        rule(Some("a.example"), exact("/api"), 1),
        rule(None, prefix("/api"), 2),
        rule(Some("a.example"), Any, 3),
        rule(Some("a.example"), prefix("/late"), 4),
        rule(None, exact("/"), 5),
        rule(Some("b.example"), prefix(""), 6),
        rule(None, prefix("/x//y"), 7),
    ]);
    let cases = [
        ("a.example", "/api/v1", Some(0)),
        ("a.example", "/api/v1/", Some(0)),
        ("a.example", "/api/v1x", Some(2)),
        ("a.example", "/api", Some(1)),
        ("b.example", "/api", Some(2)),
        ("", "/api", Some(2)),
        ("", "/apix", None),
        ("", "/ap", None),
        ("a.example", "/apix", Some(3)),
        ("a.example", "/late", Some(3)),
        ("c.example", "/", Some(5)),
        ("b.example", "/", Some(5)),
        ("b.example", "/any", Some(6)),
        ("b.example", "*", Some(6)),
        ("a.example", "*", Some(3)),
        ("c.example", "*", None),
        ("c.example", "/x//y/z", Some(7)),
        ("c.example", "/x/y", None),
    ];
    for (host, path, expected) in cases {
        assert_eq!(decide(&tree, host, path), expected, "{host} {path}");
    }
    assert_eq!(tree.len(), 8);
}

#[test]
fn a_tree_without_rules_matches_nothing() {
    let tree: Tree<usize> = Tree::compile(Vec::new());
    assert!(tree.is_empty());
    for path in ["/", "/a", "*", ""] {
        assert_eq!(decide(&tree, "a.example", path), None);
    }
}

/// What a rule means, said as plainly as possible.
fn holds(rule: &Rule<usize>, host: &str, path: &str) -> bool {
    let host_holds = rule.host.as_deref().is_none_or(|wanted| wanted == host);
    let path_holds = match &rule.path {
        Any => true,
        Exact(wanted) => wanted == path,
        Prefix(wanted) if wanted.is_empty() => true,
        Prefix(wanted) => {
            path.strip_prefix(wanted.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
    };
    host_holds && path_holds
}

struct Xorshift(u64);

impl Xorshift {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % bound
    }

    /// From few segments, so that rules and questions overlap often.
    fn path(&mut self, segments_max: usize) -> String {
        let segments = ["a", "b", "ab", "", "a%2Fb", "c"];
        let count = self.below(segments_max + 1);
        (0..count).map(|_| format!("/{}", segments[self.below(segments.len())])).collect()
    }

    fn host(&mut self) -> &'static str {
        ["a.example", "b.example", "a.example.org", "", "example"][self.below(5)]
    }

    fn rule(&mut self, target: usize) -> Rule<usize> {
        let host = (self.below(3) > 0).then(|| self.host());
        let path = match self.below(8) {
            0 => Any,
            1..4 => Exact(match self.path(3) {
                path if path.is_empty() => "/".to_owned(),
                path => path,
            }),
            _ => Prefix(self.path(3)),
        };
        rule(host, path, target)
    }
}

#[test]
fn the_tree_decides_as_a_scan_of_all_rules_does() {
    let mut random = Xorshift(0x9E37_79B9_7F4A_7C15);
    let mut matched = 0;
    for _ in 0..1500 {
        let count = random.below(40);
        let rules: Vec<_> = (0..count).map(|target| random.rule(target)).collect();
        let tree = Tree::compile(rules.clone()).clone();
        for _ in 0..40 {
            let host = random.host();
            let path = match random.path(5) {
                path if path.is_empty() => ["/", "*"][random.below(2)].to_owned(),
                path => path,
            };
            let expected = rules.iter().position(|rule| holds(rule, host, &path));
            assert_eq!(decide(&tree, host, &path), expected, "{host} {path} {rules:#?}");
            matched += usize::from(expected.is_some());
        }
    }
    assert!((10_000..59_000).contains(&matched), "{matched}");
}
