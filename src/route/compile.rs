//! Rules to a [`Tree`]. Runs once for each configuration; may allocate.

use std::collections::BTreeMap;

use super::index::{Index, Slots};
use super::pattern::Segment;
use super::program::{Program, ProgramFault, ProgramSet};
use super::rule::{self, HostPattern, PathCondition, Rule};
use super::tree::{
    Asks, Candidates, Condition, Entry, Expressions, List, NONE, Node, Paths, Run, Test, Tree, field_key,
};
use crate::http::told::is_name_told;

/// Rules of one place that are asked in turn; if there are more, those that ask for a name with
/// a value are looked up.
const LISTED_MAX: usize = 8;

impl<T> Tree<T> {
    /// # Errors
    /// The expressions for paths are too large together.
    ///
    /// # Panics
    /// There are 2³¹ rules or more, or 4 GiB of conditions.
    pub fn compile(rules: Vec<Rule<T>>) -> Result<Tree<T>, ProgramFault> {
        let mut layout = Layout { tree: Tree::empty() };
        let mut any_host = Branch::default();
        let mut hosts: BTreeMap<HostPattern, Branch> = BTreeMap::new();
        let mut expressions = Vec::new();
        for rule in rules {
            let number = number(layout.tree.targets.len());
            layout.tree.targets.push(rule.target);
            let conditional = Conditional { rule: number, conditions: rule.conditions };
            conditional.conditions.iter().for_each(|condition| layout.tree.asks.add(condition));
            if let PathCondition::Regex(program) = rule.path {
                expressions.push((program, rule.hosts, conditional));
                continue;
            }
            if rule.hosts.is_empty() {
                any_host.add(&rule.path, conditional);
                continue;
            }
            for host in rule.hosts {
                hosts.entry(host).or_default().add(&rule.path, conditional.clone());
            }
        }
        layout.lay_branch(any_host);
        layout.lay_hosts(hosts);
        layout.lay_expressions(expressions)?;
        Ok(layout.tree)
    }

    fn empty() -> Tree<T> {
        Tree {
            targets: Vec::new(),
            bytes: Vec::new(),
            slots: Slots::default(),
            hosts: Index::EMPTY,
            domains: Index::EMPTY,
            paths: Vec::new(),
            nodes: Vec::new(),
            lists: Vec::new(),
            entries: Vec::new(),
            conditions: Vec::new(),
            texts: Vec::new(),
            networks: Vec::new(),
            programs: Vec::new(),
            expressions: None,
            asks: Asks::default(),
        }
    }
}

impl Asks {
    fn add(&mut self, condition: &rule::Condition) {
        match condition {
            rule::Condition::Field(name, _) => {
                self.fields = true;
                self.told |= is_name_told(name.as_bytes());
            }
            rule::Condition::Client(_) | rule::Condition::Scheme(_) => self.sender = true,
            rule::Condition::Method(_) | rule::Condition::Parameter(..) => {}
        }
    }
}

fn number(position: usize) -> u32 {
    let number = u32::try_from(position).ok().filter(|number| *number < NONE / 2);
    number.expect("a configuration has fewer than 2³¹ rules")
}

/// A rule at the place that its host and path lead to.
#[derive(Clone)]
struct Conditional {
    rule: u32,
    conditions: Vec<rule::Condition>,
}

/// The rules of one place, in document order; none after one that always holds.
#[derive(Default)]
struct Rules(Vec<Conditional>);

impl Rules {
    fn add(&mut self, conditional: Conditional) {
        if self.0.last().is_none_or(|last| !last.conditions.is_empty()) {
            self.0.push(conditional);
        }
    }

    fn least(&self) -> u32 {
        self.0.first().map_or(NONE, |first| first.rule)
    }
}

/// The rules of one host, or of none, while they are collected.
#[derive(Default)]
struct Branch {
    any: Rules,
    exacts: BTreeMap<String, Rules>,
    root: Segments,
}

impl Branch {
    fn add(&mut self, path: &PathCondition, conditional: Conditional) {
        match path {
            PathCondition::Any => self.any.add(conditional),
            PathCondition::Exact(path) => self.exacts.entry(path.clone()).or_default().add(conditional),
            PathCondition::Prefix(prefix) => {
                let segments = prefix.split('/').skip(1);
                segments.fold(&mut self.root, Segments::literal).prefix.add(conditional);
            }
            PathCondition::Pattern(pattern) => {
                let mut at = &mut self.root;
                for segment in pattern.segments() {
                    at = match segment {
                        Segment::Literal(text) => at.literal(text),
                        Segment::Capture(_) => at.capture.get_or_insert_default(),
                        Segment::Rest(_) => return at.rest.add(conditional),
                    };
                }
                at.end.add(conditional);
            }
            PathCondition::Regex(_) => unreachable!("expressions are of no branch"),
        }
    }

    fn least(&self) -> u32 {
        let exacts = self.exacts.values().map(Rules::least);
        exacts.fold(self.any.least().min(self.root.least()), u32::min)
    }
}

#[derive(Default)]
struct Segments {
    prefix: Rules,
    end: Rules,
    rest: Rules,
    literals: BTreeMap<String, Segments>,
    capture: Option<Box<Segments>>,
}

impl Segments {
    fn literal(&mut self, text: &str) -> &mut Segments {
        self.literals.entry(text.to_owned()).or_default()
    }

    fn least(&self) -> u32 {
        let own = [self.prefix.least(), self.end.least(), self.rest.least()];
        let below = self.literals.values().chain(self.capture.as_deref()).map(Segments::least);
        below.chain(own).fold(NONE, u32::min)
    }
}

/// Lays what was collected into flat arrays.
struct Layout<T> {
    tree: Tree<T>,
}

impl<T> Layout<T> {
    fn lay_hosts(&mut self, hosts: BTreeMap<HostPattern, Branch>) {
        let (mut exact, mut domains) = (Vec::new(), Vec::new());
        for (host, branch) in hosts {
            let paths = self.lay_branch(branch);
            match host {
                HostPattern::Exact(name) => exact.push((self.lay_text(name.as_bytes()), paths)),
                HostPattern::Below(end) => domains.push((self.lay_text(end.as_bytes()), paths)),
            }
        }
        self.tree.hosts = self.lay_index(&exact);
        self.tree.domains = self.lay_index(&domains);
    }

    fn lay_branch(&mut self, branch: Branch) -> u32 {
        let least = branch.least();
        let any = self.lay_rules(branch.any);
        let mut exacts = Vec::with_capacity(branch.exacts.len());
        for (path, rules) in branch.exacts {
            let candidates = self.lay_rules(rules);
            exacts.push((self.lay_text(path.as_bytes()), candidates.number()));
        }
        let exacts = self.lay_index(&exacts);
        let root = self.lay_segments(branch.root);
        self.tree.paths.push(Paths { least, any, exacts, root });
        number(self.tree.paths.len() - 1)
    }

    fn lay_segments(&mut self, segments: Segments) -> u32 {
        let least = segments.least();
        let node = Node {
            least,
            prefix: self.lay_rules(segments.prefix),
            end: self.lay_rules(segments.end),
            rest: self.lay_rules(segments.rest),
            capture: NONE,
            literals: Index::EMPTY,
        };
        let at = self.tree.nodes.len();
        self.tree.nodes.push(node);
        let mut literals = Vec::with_capacity(segments.literals.len());
        for (text, below) in segments.literals {
            let node = self.lay_segments(below);
            literals.push((self.lay_text(text.as_bytes()), node));
        }
        let literals = self.lay_index(&literals);
        let capture = segments.capture.map_or(NONE, |below| self.lay_segments(*below));
        let node = &mut self.tree.nodes[at];
        (node.literals, node.capture) = (literals, capture);
        number(at)
    }

    fn lay_rules(&mut self, rules: Rules) -> Candidates {
        match rules.0.as_slice() {
            [] => Candidates::NONE,
            [only] if only.conditions.is_empty() => Candidates::rule(only.rule),
            _ => Candidates::list(self.lay_list(rules)),
        }
    }

    fn lay_list(&mut self, rules: Rules) -> u32 {
        let least = rules.least();
        let mut listed = rules.0;
        let plain = listed.pop_if(|last| last.conditions.is_empty()).map_or(NONE, |last| last.rule);
        let mut by_field: BTreeMap<Vec<u8>, Vec<Conditional>> = BTreeMap::new();
        let mut by_parameter: BTreeMap<Vec<u8>, Vec<Conditional>> = BTreeMap::new();
        let mut keyed_least = NONE;
        if listed.len() > LISTED_MAX {
            for conditional in std::mem::take(&mut listed) {
                match key_of(&conditional.conditions) {
                    None => listed.push(conditional),
                    Some((at, key)) => {
                        keyed_least = keyed_least.min(conditional.rule);
                        let mut rest = conditional;
                        let table = match rest.conditions.remove(at) {
                            rule::Condition::Parameter(..) => &mut by_parameter,
                            _ => &mut by_field,
                        };
                        table.entry(key).or_default().push(rest);
                    }
                }
            }
        }
        let list = List {
            least,
            listed: self.lay_entries(listed),
            by_field: self.lay_keyed(by_field),
            by_parameter: self.lay_keyed(by_parameter),
            keyed_least,
            plain,
        };
        self.tree.lists.push(list);
        number(self.tree.lists.len() - 1)
    }

    fn lay_keyed(&mut self, table: BTreeMap<Vec<u8>, Vec<Conditional>>) -> Index {
        let mut keys = Vec::with_capacity(table.len());
        for (key, conditionals) in table {
            let mut rules = Rules::default();
            conditionals.into_iter().for_each(|one| rules.add(one));
            let least = rules.least();
            let mut listed = rules.0;
            let plain = listed.pop_if(|last| last.conditions.is_empty()).map_or(NONE, |last| last.rule);
            let listed = self.lay_entries(listed);
            let (by_field, by_parameter, keyed_least) = (Index::EMPTY, Index::EMPTY, NONE);
            self.tree.lists.push(List { least, listed, by_field, by_parameter, keyed_least, plain });
            keys.push((self.lay_text(&key), number(self.tree.lists.len() - 1)));
        }
        self.lay_index(&keys)
    }

    fn lay_entries(&mut self, conditionals: Vec<Conditional>) -> Run {
        let mut entries = Vec::with_capacity(conditionals.len());
        for Conditional { rule, conditions } in conditionals {
            let conditions: Vec<Condition> =
                conditions.into_iter().map(|condition| self.lay_condition(condition)).collect();
            entries.push(Entry { rule, conditions: extend(&mut self.tree.conditions, conditions) });
        }
        extend(&mut self.tree.entries, entries)
    }

    fn lay_condition(&mut self, condition: rule::Condition) -> Condition {
        match condition {
            rule::Condition::Method(methods) => {
                Condition::Method(self.lay_texts(methods.names().iter().map(String::as_str)))
            }
            rule::Condition::Field(name, test) => {
                Condition::Field(self.lay_text(name.as_bytes()), self.lay_test(test))
            }
            rule::Condition::Parameter(name, test) => {
                Condition::Parameter(self.lay_text(name.as_bytes()), self.lay_test(test))
            }
            rule::Condition::Client(networks) => Condition::Client(extend(&mut self.tree.networks, networks)),
            rule::Condition::Scheme(scheme) => Condition::Scheme(scheme),
        }
    }

    fn lay_test(&mut self, test: rule::Test) -> Test {
        match test {
            rule::Test::Present => Test::Present,
            rule::Test::Absent => Test::Absent,
            rule::Test::Equals(value) => Test::Equals(self.lay_text(value.as_bytes())),
            rule::Test::Matches(program) => {
                self.tree.programs.push(program);
                Test::Matches(number(self.tree.programs.len() - 1))
            }
        }
    }

    fn lay_expressions(
        &mut self,
        expressions: Vec<(Program, Vec<HostPattern>, Conditional)>,
    ) -> Result<(), ProgramFault> {
        let Some((_, _, first)) = expressions.first() else { return Ok(()) };
        let least = first.rule;
        let programs: Vec<&Program> = expressions.iter().map(|(program, _, _)| program).collect();
        let set = ProgramSet::compile(&programs)?;
        let mut entries = Vec::with_capacity(expressions.len());
        for (_, hosts, Conditional { rule, conditions }) in expressions {
            let mut laid = Vec::with_capacity(conditions.len() + 1);
            if !hosts.is_empty() {
                laid.push(self.lay_host_condition(&hosts));
            }
            laid.extend(conditions.into_iter().map(|condition| self.lay_condition(condition)));
            entries.push(Entry { rule, conditions: extend(&mut self.tree.conditions, laid) });
        }
        let entries = extend(&mut self.tree.entries, entries);
        self.tree.expressions = Some(Expressions { set, entries, least });
        Ok(())
    }

    fn lay_host_condition(&mut self, hosts: &[HostPattern]) -> Condition {
        let names = hosts.iter().filter_map(|host| match host {
            HostPattern::Exact(name) => Some(name.as_str()),
            HostPattern::Below(_) => None,
        });
        let names = self.lay_texts(names);
        let ends = hosts.iter().filter_map(|host| match host {
            HostPattern::Below(end) => Some(end.as_str()),
            HostPattern::Exact(_) => None,
        });
        Condition::Host(names, self.lay_texts(ends))
    }

    fn lay_texts<'a>(&mut self, texts: impl Iterator<Item = &'a str>) -> Run {
        let runs = texts.map(|text| self.lay_text(text.as_bytes())).collect();
        extend(&mut self.tree.texts, runs)
    }

    fn lay_text(&mut self, text: &[u8]) -> Run {
        let start = self.tree.bytes.len();
        self.tree.bytes.extend_from_slice(text);
        Run::new(start, self.tree.bytes.len())
    }

    fn lay_index(&mut self, entries: &[(Run, u32)]) -> Index {
        self.tree.slots.lay(&self.tree.bytes, entries)
    }
}

fn extend<E>(array: &mut Vec<E>, more: Vec<E>) -> Run {
    let start = array.len();
    array.extend(more);
    Run::new(start, array.len())
}

/// The first condition that asks for a name with a value: where it is, and its key.
fn key_of(conditions: &[rule::Condition]) -> Option<(usize, Vec<u8>)> {
    conditions.iter().enumerate().find_map(|(at, condition)| match condition {
        rule::Condition::Field(name, rule::Test::Equals(value))
        | rule::Condition::Parameter(name, rule::Test::Equals(value)) => {
            let mut key = Vec::new();
            field_key(&mut key, name.bytes(), value.bytes());
            Some((at, key))
        }
        _ => None,
    })
}
