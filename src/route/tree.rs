//! The compiled rules and how they are asked.
//!
//! The host picks sets of paths: its own, those of the domains that it is below, and that of
//! the rules without a host. Each set has a table of exact paths and a trie of path segments. Every
//! rule found on the way is a candidate; the one that was written first wins, and what could
//! only yield later rules is skipped. Expressions are asked last, all in one pass.
//!
//! Hot path: no allocation, no lock, no formatting. Flat arrays of numbers over one string of
//! bytes, so that a clone is a copy. Must not know: how it was built.

use std::ops::Range;

use regex_automata::meta::Cache;

use super::index::{Index, Slots};
use super::program::{Program, ProgramSet, SetScratch};
use super::rule::Question;
use crate::http::fields::is_same_name;
use crate::http::forwarding::{Network, Scheme};
use crate::http::query::{decoded, parameters};

/// No rule: later than every rule.
pub(super) const NONE: u32 = u32::MAX;

/// The compiled rules. A flat structure: `clone` copies it, nothing is compiled again.
#[derive(Clone, Debug)]
pub struct Tree<T> {
    pub(super) targets: Vec<T>,
    /// All hosts, paths, segments, names and values.
    pub(super) bytes: Vec<u8>,
    pub(super) slots: Slots,
    /// Exact hosts to `paths`.
    pub(super) hosts: Index,
    /// Ends of hosts, each with its dot, to `paths`.
    pub(super) domains: Index,
    /// The first is of the rules without a host.
    pub(super) paths: Vec<Paths>,
    pub(super) nodes: Vec<Node>,
    pub(super) lists: Vec<List>,
    pub(super) entries: Vec<Entry>,
    pub(super) conditions: Vec<Condition>,
    /// Methods and hosts, where several may hold.
    pub(super) texts: Vec<Run>,
    /// Of clients.
    pub(super) networks: Vec<Network>,
    /// Of values of fields and parameters.
    pub(super) programs: Vec<Program>,
    pub(super) expressions: Option<Expressions>,
    pub(super) asks: Asks,
}

/// What the conditions of a tree refer to that has to be computed for each request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asks {
    /// Any field.
    pub fields: bool,
    /// A field that an upstream may not get as it was received.
    pub told: bool,
    /// The client or the scheme.
    pub sender: bool,
}

/// What a decision writes to: one for each core.
#[derive(Debug)]
pub struct Scratch {
    /// As [`Tree::programs`].
    programs: Vec<Cache>,
    /// Apart, so that taking it out for a search moves no more than a pointer.
    expressions: Option<Box<SetScratch>>,
    key: Vec<u8>,
    /// A value with its escapes undone.
    text: Vec<u8>,
}

impl Scratch {
    /// Bytes that it has come to take: expressions keep what they met, up to a limit.
    pub fn bytes(&self) -> usize {
        self.programs.iter().map(Cache::memory_usage).sum::<usize>()
            + self.expressions.as_ref().map_or(0, |expressions| expressions.bytes())
            + self.key.capacity()
            + self.text.capacity()
    }
}

/// A range of one of the arrays.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Run {
    start: u32,
    end: u32,
}

impl Run {
    /// # Panics
    /// The end is beyond 2³².
    pub fn new(start: usize, end: usize) -> Run {
        let number = |at: usize| u32::try_from(at).expect("a configuration is smaller than 4 GiB");
        Run { start: number(start), end: number(end) }
    }

    pub fn of<E>(self, array: &[E]) -> &[E] {
        &array[self.range()]
    }

    fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// The rules that hold once host and path do: the number of a rule that has no further
/// condition, or of a [`List`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidates(u32);

impl Candidates {
    pub const NONE: Candidates = Candidates(NONE);
    /// Lists are numbered downwards from here; rules upwards from 0.
    const LISTS: u32 = NONE - 1;

    pub fn rule(rule: u32) -> Candidates {
        Candidates(rule)
    }

    pub fn number(self) -> u32 {
        self.0
    }

    pub fn list(list: u32) -> Candidates {
        Candidates(Candidates::LISTS - list)
    }
}

/// The rules of one host, of one domain, or of none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paths {
    /// The first of all of them.
    pub least: u32,
    /// Those without a path.
    pub any: Candidates,
    /// Paths to candidates.
    pub exacts: Index,
    /// The node of the empty prefix.
    pub root: u32,
}

/// A place in the trie: the segments from the root to here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    /// The first rule of this node and all below it.
    pub least: u32,
    /// Whatever follows.
    pub prefix: Candidates,
    /// The path ends here.
    pub end: Candidates,
    /// At least one byte follows.
    pub rest: Candidates,
    /// The node for any segment that is not empty, or [`NONE`].
    pub capture: u32,
    /// Segments to nodes.
    pub literals: Index,
}

/// Rules that differ in what they ask beside host and path.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    pub least: u32,
    /// Asked in turn.
    pub listed: Run,
    /// Names and values of fields to candidates, and of parameters: see [`field_key`].
    pub by_field: Index,
    pub by_parameter: Index,
    /// The first of those that are found by a field or a parameter.
    pub keyed_least: u32,
    /// The first rule that asks for nothing more.
    pub plain: u32,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub rule: u32,
    pub conditions: Run,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Condition {
    /// A run of [`Tree::texts`]. One must hold.
    Method(Run),
    Field(Run, Test),
    Parameter(Run, Test),
    /// A run of [`Tree::networks`]. One must hold.
    Client(Run),
    Scheme(Scheme),
    /// Of an expression: runs of [`Tree::texts`] that are hosts, and ends of hosts. One must hold.
    Host(Run, Run),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Test {
    Present,
    Absent,
    Equals(Run),
    /// Index of a program.
    Matches(u32),
}

/// The rules whose path is an expression.
#[derive(Clone, Debug)]
pub(super) struct Expressions {
    pub set: ProgramSet,
    /// For each expression.
    pub entries: Run,
    /// The first of them.
    pub least: u32,
}

impl<T> Tree<T> {
    /// The target of the first rule, in document order, that holds.
    pub fn decide(&self, question: &Question<'_>, scratch: &mut Scratch) -> Option<&T> {
        self.targets.get(self.first(question, scratch) as usize)
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.targets.len()
    }

    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    pub fn asks(&self) -> Asks {
        self.asks
    }

    /// Bytes of memory that each copy takes; the programs are shared.
    pub fn bytes(&self) -> usize {
        size_of_val(self.targets.as_slice())
            + self.bytes.len()
            + self.slots.bytes()
            + size_of_val(self.paths.as_slice())
            + size_of_val(self.nodes.as_slice())
            + size_of_val(self.lists.as_slice())
            + size_of_val(self.entries.as_slice())
            + size_of_val(self.conditions.as_slice())
            + size_of_val(self.texts.as_slice())
            + size_of_val(self.networks.as_slice())
            + size_of_val(self.programs.as_slice())
    }

    /// What decisions of one core need beside the tree.
    pub fn scratch(&self) -> Scratch {
        Scratch {
            programs: self.programs.iter().map(Program::scratch).collect(),
            expressions: self.expressions.as_ref().map(|all| Box::new(all.set.scratch())),
            key: Vec::new(),
            text: Vec::new(),
        }
    }

    /// The number of the first rule that holds, or [`NONE`].
    fn first(&self, question: &Question<'_>, scratch: &mut Scratch) -> u32 {
        let mut search = Search { tree: self, question, scratch, best: NONE };
        search.paths(self.paths[0]);
        search.host();
        search.expressions();
        search.best
    }
}

/// A decision on its way.
struct Search<'a, T> {
    tree: &'a Tree<T>,
    question: &'a Question<'a>,
    scratch: &'a mut Scratch,
    /// The first rule that was found to hold.
    best: u32,
}

impl<T> Search<'_, T> {
    fn host(&mut self) {
        let Tree { slots, bytes, .. } = self.tree;
        let host = self.question.host;
        let found = slots.find(bytes, self.tree.hosts, host);
        if found != NONE {
            self.paths(self.tree.paths[found as usize]);
        }
        if self.tree.domains.is_empty {
            return;
        }
        for dot in memchr::memchr_iter(b'.', host).filter(|dot| *dot > 0) {
            let found = slots.find(bytes, self.tree.domains, &host[dot..]);
            if found != NONE {
                self.paths(self.tree.paths[found as usize]);
            }
        }
    }

    fn paths(&mut self, paths: Paths) {
        if paths.least >= self.best {
            return;
        }
        self.candidates(paths.any);
        let path = self.question.canonical;
        let exact = self.tree.slots.find(&self.tree.bytes, paths.exacts, path);
        self.candidates(Candidates(exact));
        let root = self.tree.nodes[paths.root as usize];
        self.candidates(root.prefix);
        // `*` has no segments: only the empty prefix takes it.
        if let Some(rest) = path.strip_prefix(b"/") {
            self.below(root, rest);
        }
    }

    /// Looks for the segments of `rest` below a node. Recurses where a capture and a literal
    /// both fit, so no deeper than the rules have captures.
    fn below(&mut self, mut node: Node, mut rest: &[u8]) {
        while node.least < self.best {
            if !rest.is_empty() {
                self.candidates(node.rest);
            }
            let end = memchr::memchr(b'/', rest).unwrap_or(rest.len());
            let segment = &rest[..end];
            let after = rest.get(end + 1..);
            let literal = self.tree.slots.find(&self.tree.bytes, node.literals, segment);
            let capture = if segment.is_empty() { NONE } else { node.capture };
            let next = match (literal, capture) {
                (NONE, NONE) => return,
                (NONE, only) | (only, NONE) => only,
                (literal, capture) => {
                    let literal = self.tree.nodes[literal as usize];
                    self.enter(literal, after);
                    if let Some(after) = after {
                        self.below(literal, after);
                    }
                    capture
                }
            };
            node = self.tree.nodes[next as usize];
            self.enter(node, after);
            match after {
                Some(after) => rest = after,
                None => return,
            }
        }
    }

    fn enter(&mut self, node: Node, after: Option<&[u8]>) {
        self.candidates(node.prefix);
        if after.is_none() {
            self.candidates(node.end);
        }
    }

    fn candidates(&mut self, candidates: Candidates) {
        let number = candidates.0;
        if number == NONE {
            return;
        }
        let list = Candidates::LISTS - number;
        match self.tree.lists.get(list as usize) {
            None => self.best = self.best.min(number),
            Some(list) => self.list(*list),
        }
    }

    fn list(&mut self, list: List) {
        if list.least >= self.best {
            return;
        }
        self.best = self.best.min(list.plain);
        self.listed(list.listed);
        if list.keyed_least < self.best {
            self.keyed(list);
        }
    }

    fn listed(&mut self, run: Run) {
        for entry in run.of(&self.tree.entries) {
            if entry.rule >= self.best {
                return;
            }
            if self.hold(entry.conditions) {
                self.best = entry.rule;
                return;
            }
        }
    }

    /// The rules that ask for a name with a value: looked up by those of the request.
    fn keyed(&mut self, list: List) {
        let mut key = std::mem::take(&mut self.scratch.key);
        if !list.by_field.is_empty {
            for field in self.question.fields.iter() {
                field_key(
                    &mut key,
                    field
                        .name
                        .iter()
                        .map(|byte| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() }),
                    field.value.iter().copied(),
                );
                self.found(list.by_field, &key);
            }
        }
        if !list.by_parameter.is_empty {
            for (name, value) in parameters(self.question.query) {
                field_key(&mut key, decoded(name), decoded(value));
                self.found(list.by_parameter, &key);
            }
        }
        self.scratch.key = key;
    }

    fn found(&mut self, index: Index, key: &[u8]) {
        let found = self.tree.slots.find(&self.tree.bytes, index, key);
        if found != NONE {
            let list = self.tree.lists[found as usize];
            self.best = self.best.min(list.plain);
            self.listed(list.listed);
        }
    }

    fn expressions(&mut self) {
        let Some(expressions) = &self.tree.expressions else { return };
        if expressions.least >= self.best {
            return;
        }
        let entries = expressions.entries.of(&self.tree.entries);
        let Some(mut scratch) = self.scratch.expressions.take() else { return };
        expressions.set.each_found(&mut scratch, self.question.canonical, |index| {
            let entry = entries[index];
            if entry.rule < self.best && self.hold(entry.conditions) {
                self.best = entry.rule;
            }
        });
        self.scratch.expressions = Some(scratch);
    }

    fn hold(&mut self, conditions: Run) -> bool {
        conditions.of(&self.tree.conditions).iter().all(|condition| self.holds(*condition))
    }

    fn holds(&mut self, condition: Condition) -> bool {
        let Search { tree, question, scratch, .. } = self;
        let text = |run: Run| run.of(&tree.bytes);
        let any =
            |run: Run, fits: &dyn Fn(&[u8]) -> bool| run.of(&tree.texts).iter().any(|one| fits(text(*one)));
        match condition {
            Condition::Method(run) => any(run, &|method| method == question.method),
            Condition::Host(names, ends) => {
                let host = question.host;
                any(names, &|name| name == host)
                    || any(ends, &|end| host.len() > end.len() && host.ends_with(end))
            }
            Condition::Field(name, test) => {
                let name = text(name);
                let named = question.fields.iter().filter(|field| is_same_name(field.name, name));
                let mut values = named.map(|field| field.value);
                match test {
                    Test::Present => values.next().is_some(),
                    Test::Absent => values.next().is_none(),
                    Test::Equals(wanted) => values.any(|value| value == text(wanted)),
                    Test::Matches(index) => {
                        let cache = &mut scratch.programs[index as usize];
                        values.any(|value| tree.programs[index as usize].holds(cache, value))
                    }
                }
            }
            Condition::Client(networks) => {
                let networks = networks.of(&tree.networks);
                networks.iter().any(|network| network.contains(question.sender.client))
            }
            Condition::Scheme(scheme) => scheme == question.sender.scheme,
            Condition::Parameter(name, test) => {
                let name = text(name).iter().copied();
                let named = parameters(question.query).filter(|(key, _)| decoded(key).eq(name.clone()));
                let mut values = named.map(|(_, value)| value);
                match test {
                    Test::Present => values.next().is_some(),
                    Test::Absent => values.next().is_none(),
                    Test::Equals(wanted) => {
                        values.any(|value| decoded(value).eq(text(wanted).iter().copied()))
                    }
                    Test::Matches(index) => {
                        let cache = &mut scratch.programs[index as usize];
                        let buffer = &mut scratch.text;
                        values.any(|value| {
                            buffer.clear();
                            buffer.extend(decoded(value));
                            tree.programs[index as usize].holds(cache, buffer)
                        })
                    }
                }
            }
        }
    }
}

/// What a field, or a parameter, with this name and value is looked up by.
pub(super) fn field_key(key: &mut Vec<u8>, name: impl Iterator<Item = u8>, value: impl Iterator<Item = u8>) {
    key.clear();
    key.extend(name);
    // Where the name ends is part of the key: both may have any byte.
    let len = key.len();
    key.extend(value);
    key.extend_from_slice(&len.to_le_bytes());
}
