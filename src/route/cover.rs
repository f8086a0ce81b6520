//! Rules that can never match, because an earlier one holds for all that they could hold for.
//!
//! Exact for hosts, paths by segments, methods, names and values; of expressions only what is
//! plain: the same text covers itself. Several earlier rules that cover one only together are
//! not found.

use std::collections::HashMap;

use super::pattern::{Pattern, Segment};
use super::rule::{Condition, HostPattern, PathCondition, Rule, Test};

/// A rule that can never match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shadowed {
    /// Numbers of rules, in document order.
    pub rule: usize,
    pub by: usize,
    /// Both ask for the same.
    pub is_same: bool,
}

/// Every rule that an earlier one covers, with the first that does.
pub fn shadowed<T>(rules: &[Rule<T>]) -> Vec<Shadowed> {
    let mut earlier: HashMap<Key<'_>, Vec<usize>> = HashMap::new();
    let mut found = Vec::new();
    for (number, rule) in rules.iter().enumerate() {
        let candidates = keys_above(rule).into_iter().filter_map(|key| earlier.get(&key)).flatten();
        let covering = candidates.copied().filter(|candidate| covers(&rules[*candidate], rule));
        if let Some(by) = covering.min() {
            found.push(Shadowed { rule: number, by, is_same: covers(rule, &rules[by]) });
        }
        for key in keys_of(rule) {
            earlier.entry(key).or_default().push(number);
        }
    }
    found
}

/// What a rule that covers another must share with it; keeps the search from being quadratic.
#[derive(PartialEq, Eq, Hash)]
struct Key<'a> {
    /// A host, or the end of one; empty for any.
    host: &'a str,
    /// The path as far as it is certain.
    lead: String,
    /// A condition that only the same condition implies.
    equal: Option<(&'a str, &'a str)>,
}

fn keys_of<T>(rule: &Rule<T>) -> Vec<Key<'_>> {
    let lead = lead(&rule.path);
    let equal = equals(rule).next();
    let hosts: Vec<&str> = match rule.hosts.as_slice() {
        [] => vec![""],
        hosts => hosts.iter().map(host_text).collect(),
    };
    hosts.into_iter().map(|host| Key { host, lead: lead.clone(), equal }).collect()
}

/// The keys that a covering rule may have.
fn keys_above<T>(rule: &Rule<T>) -> Vec<Key<'_>> {
    let lead = lead(&rule.path);
    let ends = lead.match_indices('/').map(|(at, _)| at).chain([lead.len()]);
    let ends: Vec<usize> = std::iter::once(0).chain(ends.filter(|end| *end > 0)).collect();
    let mut hosts = vec![""];
    // Each of its hosts has to be covered: the first is as good as any.
    if let Some(first) = rule.hosts.first() {
        let text = host_text(first);
        hosts.push(text);
        hosts.extend(text.match_indices('.').filter(|(at, _)| *at > 0).map(|(at, _)| &text[at..]));
    }
    let mut keys = Vec::new();
    for host in hosts {
        for end in &ends {
            for equal in std::iter::once(None).chain(equals(rule).map(Some)) {
                keys.push(Key { host, lead: lead[..*end].to_owned(), equal });
            }
        }
    }
    keys
}

fn host_text(host: &HostPattern) -> &str {
    match host {
        HostPattern::Exact(text) | HostPattern::Below(text) => text,
    }
}

fn equals<T>(rule: &Rule<T>) -> impl Iterator<Item = (&str, &str)> {
    rule.conditions.iter().filter_map(|condition| match condition {
        Condition::Field(name, Test::Equals(value)) | Condition::Parameter(name, Test::Equals(value)) => {
            Some((name.as_str(), value.as_str()))
        }
        _ => None,
    })
}

/// The segments that every matching path begins with.
pub fn lead(path: &PathCondition) -> String {
    match path {
        PathCondition::Any | PathCondition::Regex(_) => String::new(),
        PathCondition::Exact(path) | PathCondition::Prefix(path) => path.clone(),
        PathCondition::Pattern(pattern) => {
            let mut lead = String::new();
            for segment in pattern.segments() {
                let Segment::Literal(text) = segment else { break };
                lead.push('/');
                lead.push_str(text);
            }
            lead
        }
    }
}

/// Whether `wide` holds whenever `narrow` does.
pub fn covers<T>(wide: &Rule<T>, narrow: &Rule<T>) -> bool {
    let is_host_covered = wide.hosts.is_empty()
        || !narrow.hosts.is_empty()
            && narrow.hosts.iter().all(|host| wide.hosts.iter().any(|wide| covers_host(wide, host)));
    is_host_covered
        && covers_path(&wide.path, &narrow.path)
        && wide.conditions.iter().all(|condition| narrow.conditions.iter().any(|one| implies(one, condition)))
}

fn covers_host(wide: &HostPattern, narrow: &HostPattern) -> bool {
    match (wide, narrow) {
        (HostPattern::Below(end), HostPattern::Below(narrow)) => narrow.ends_with(end.as_str()),
        (wide, HostPattern::Exact(name)) => wide.holds(name.as_bytes()),
        (HostPattern::Exact(_), HostPattern::Below(_)) => false,
    }
}

fn covers_path(wide: &PathCondition, narrow: &PathCondition) -> bool {
    use PathCondition::{Any, Exact, Pattern, Prefix, Regex};
    match (wide, narrow) {
        (Any, _) => true,
        (Prefix(prefix), _) if prefix.is_empty() => true,
        (_, Any) => false,
        (wide, Exact(path)) => wide.holds(path.as_bytes()),
        (Prefix(_), Prefix(path)) => wide.holds(path.as_bytes()),
        // A segment that was captured may be anything.
        (Prefix(prefix), Pattern(_)) => {
            let lead = lead(narrow);
            lead.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
        (Exact(path), Pattern(pattern)) => pattern.names().next().is_none() && lead(narrow) == *path,
        (Pattern(wide), Pattern(narrow)) => covers_segments(wide.segments(), narrow.segments()),
        (Pattern(wide), Prefix(prefix)) => covers_prefix(wide, prefix),
        (Regex(wide), Regex(narrow)) => wide == narrow,
        (Exact(_), Prefix(_))
        | (Exact(_) | Prefix(_) | Pattern(_), Regex(_))
        | (Regex(_), Prefix(_) | Pattern(_)) => false,
    }
}

fn covers_segments(wide: &[Segment], narrow: &[Segment]) -> bool {
    match (wide, narrow) {
        ([], []) => true,
        ([Segment::Rest(_)], narrow) => is_never_empty(narrow),
        ([wide, wide_rest @ ..], [narrow, narrow_rest @ ..]) => {
            let is_covered = match (wide, narrow) {
                (Segment::Literal(wide), Segment::Literal(narrow)) => wide == narrow,
                (Segment::Capture(_), Segment::Literal(narrow)) => !narrow.is_empty(),
                (Segment::Capture(_), Segment::Capture(_)) => true,
                _ => false,
            };
            is_covered && covers_segments(wide_rest, narrow_rest)
        }
        _ => false,
    }
}

/// Whether at least one byte is taken by these.
fn is_never_empty(segments: &[Segment]) -> bool {
    match segments {
        [] => false,
        [Segment::Literal(text)] => !text.is_empty(),
        _ => true,
    }
}

fn covers_prefix(wide: &Pattern, prefix: &str) -> bool {
    let Some((Segment::Rest(_), before)) = wide.segments().split_last() else { return false };
    let narrow: Vec<Segment> =
        prefix.split('/').skip(1).map(|text| Segment::Literal(text.to_owned())).collect();
    narrow.len() > before.len()
        && covers_segments(before, &narrow[..before.len()])
        && is_never_empty(&narrow[before.len()..])
}

/// Whether `narrow` holds only when `wide` does.
fn implies(narrow: &Condition, wide: &Condition) -> bool {
    match (narrow, wide) {
        (Condition::Method(narrow), Condition::Method(wide)) => {
            narrow.names().iter().all(|name| wide.contain(name.as_bytes()))
        }
        (Condition::Field(narrow, test), Condition::Field(wide, of))
        | (Condition::Parameter(narrow, test), Condition::Parameter(wide, of)) => {
            narrow == wide && implies_test(test, of)
        }
        (Condition::Client(narrow), Condition::Client(wide)) => {
            narrow.iter().all(|network| wide.iter().any(|wide| wide.covers(network)))
        }
        (Condition::Scheme(narrow), Condition::Scheme(wide)) => narrow == wide,
        _ => false,
    }
}

fn implies_test(narrow: &Test, wide: &Test) -> bool {
    match (narrow, wide) {
        (Test::Absent, _) | (_, Test::Absent) => narrow == wide,
        (_, Test::Present) => true,
        (Test::Equals(value), Test::Matches(program)) => program.holds_once(value.as_bytes()),
        (narrow, wide) => narrow == wide,
    }
}
