//! The compiled rules and how they are asked.
//!
//! The host picks up to two sets of paths: its own, and that of the rules without a host. Each
//! set has a table of exact paths and a trie of path segments. Every rule found on the way is a
//! candidate; the one that was written first wins. What could only yield later rules is skipped.
//!
//! Hot path: no allocation, no lock, no formatting. Flat arrays of indices over one string of
//! bytes, so that a clone is a copy. Must not know: how it was built.

use std::ops::Range;

use super::Question;

/// No rule: later than every rule.
pub(super) const NONE: u32 = u32::MAX;

/// The compiled rules. A flat structure: `clone` copies it, nothing is compiled again.
#[derive(Clone, Debug)]
pub struct Tree<T> {
    pub(super) targets: Vec<T>,
    /// All hosts, paths and segments.
    pub(super) bytes: Vec<u8>,
    /// Sorted by name.
    pub(super) hosts: Vec<Host>,
    /// The rules without a host.
    pub(super) any_host: Paths,
    /// A run for each set of paths, sorted by path.
    pub(super) exacts: Vec<Exact>,
    pub(super) nodes: Vec<Node>,
    /// A run for each node, sorted by segment.
    pub(super) edges: Vec<Edge>,
}

/// A range of indices into one of the arrays.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Run {
    pub start: u32,
    pub end: u32,
}

impl Run {
    fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Host {
    pub name: Run,
    pub paths: Paths,
}

/// The rules of one host, or of none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paths {
    /// The first rule without a path.
    pub any: u32,
    pub exacts: Run,
    /// The node of the empty prefix.
    pub root: u32,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Exact {
    pub path: Run,
    pub rule: u32,
}

/// A prefix: the segments from the root to here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    /// The first rule with this prefix.
    pub rule: u32,
    /// The first rule of this node and all below it.
    pub least: u32,
    pub edges: Run,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Edge {
    pub segment: Run,
    pub node: u32,
}

impl<T> Tree<T> {
    /// The target of the first rule, in document order, that holds.
    pub fn decide(&self, question: Question<'_>) -> Option<&T> {
        self.targets.get(self.first(question) as usize)
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.targets.len()
    }

    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// The index of the first rule that holds, or [`NONE`].
    fn first(&self, question: Question<'_>) -> u32 {
        let best = self.first_of(self.any_host, question.path, NONE);
        match find(&self.hosts, question.host, |host| self.text(host.name)) {
            Some(host) => self.first_of(host.paths, question.path, best),
            None => best,
        }
    }

    /// The lesser of `best` and the first rule among these that holds.
    fn first_of(&self, paths: Paths, path: &[u8], best: u32) -> u32 {
        let mut best = best.min(paths.any);
        if let Some(exact) = find(&self.exacts[paths.exacts.range()], path, |exact| self.text(exact.path)) {
            best = best.min(exact.rule);
        }
        let mut node = self.nodes[paths.root as usize];
        best = best.min(node.rule);
        // `*` has no segments: only the empty prefix takes it.
        let mut rest = path.strip_prefix(b"/");
        while let Some(path) = rest
            && node.least < best
        {
            let end = memchr::memchr(b'/', path).unwrap_or(path.len());
            rest = path.get(end + 1..);
            let edges = &self.edges[node.edges.range()];
            match find(edges, &path[..end], |edge| self.text(edge.segment)) {
                Some(edge) => node = self.nodes[edge.node as usize],
                None => break,
            }
            best = best.min(node.rule);
        }
        best
    }

    fn text(&self, run: Run) -> &[u8] {
        &self.bytes[run.range()]
    }
}

/// The entry with this key, among entries sorted by key.
fn find<'a, E>(entries: &'a [E], key: &[u8], key_of: impl Fn(&'a E) -> &'a [u8]) -> Option<&'a E> {
    let index = entries.binary_search_by(|entry| key_of(entry).cmp(key)).ok()?;
    Some(&entries[index])
}
