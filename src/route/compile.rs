//! Rules to a [`Tree`]. Runs once for each configuration; may allocate.

use std::collections::BTreeMap;

use super::tree::{Edge, Exact, Host, NONE, Node, Paths, Run};
use super::{PathCondition, Rule, Tree};

impl<T> Tree<T> {
    /// # Panics
    /// There are 2³² rules or more, or as many bytes of conditions.
    pub fn compile(rules: Vec<Rule<T>>) -> Tree<T> {
        let mut hosts: BTreeMap<String, Branch> = BTreeMap::new();
        let mut any_host = Branch::default();
        let mut targets = Vec::with_capacity(rules.len());
        for rule in rules {
            let branch = match rule.host {
                Some(host) => hosts.entry(host).or_default(),
                None => &mut any_host,
            };
            branch.add(rule.path, index(targets.len()));
            targets.push(rule.target);
        }
        let mut tree = Tree {
            targets,
            bytes: Vec::new(),
            hosts: Vec::new(),
            any_host: Paths { any: NONE, exacts: Run::default(), root: 0 },
            exacts: Vec::new(),
            nodes: Vec::new(),
            edges: Vec::new(),
        };
        tree.any_host = tree.lay_branch(any_host);
        for (name, branch) in hosts {
            let name = tree.lay_text(name.as_bytes());
            let paths = tree.lay_branch(branch);
            tree.hosts.push(Host { name, paths });
        }
        tree
    }

    fn lay_branch(&mut self, branch: Branch) -> Paths {
        let start = index(self.exacts.len());
        for (path, rule) in branch.exacts {
            let path = self.lay_text(path.as_bytes());
            self.exacts.push(Exact { path, rule });
        }
        Paths {
            any: branch.any.unwrap_or(NONE),
            exacts: Run { start, end: index(self.exacts.len()) },
            root: self.lay_prefixes(branch.prefixes),
        }
    }

    /// Level by level, so that the edges of a node lie together, and the nodes near the root.
    fn lay_prefixes(&mut self, root: Prefixes) -> u32 {
        let first = self.nodes.len();
        self.nodes.push(root.node());
        let mut level = vec![(first, root)];
        while !level.is_empty() {
            let mut next = Vec::new();
            for (parent, prefixes) in level {
                let start = index(self.edges.len());
                for (segment, below) in prefixes.below {
                    let segment = self.lay_text(segment.as_bytes());
                    let node = self.nodes.len();
                    self.edges.push(Edge { segment, node: index(node) });
                    self.nodes.push(below.node());
                    next.push((node, below));
                }
                self.nodes[parent].edges = Run { start, end: index(self.edges.len()) };
            }
            level = next;
        }
        index(first)
    }

    fn lay_text(&mut self, text: &[u8]) -> Run {
        let start = index(self.bytes.len());
        self.bytes.extend_from_slice(text);
        Run { start, end: index(self.bytes.len()) }
    }
}

fn index(position: usize) -> u32 {
    u32::try_from(position).expect("a configuration is smaller than 4 GiB")
}

/// The rules of one host, or of none, while they are collected.
#[derive(Default)]
struct Branch {
    any: Option<u32>,
    exacts: BTreeMap<String, u32>,
    prefixes: Prefixes,
}

impl Branch {
    /// Rules are added in document order: of two with the same condition the first stays.
    fn add(&mut self, condition: PathCondition, rule: u32) {
        match condition {
            PathCondition::Any => drop(self.any.get_or_insert(rule)),
            PathCondition::Exact(path) => drop(self.exacts.entry(path).or_insert(rule)),
            PathCondition::Prefix(prefix) => self.prefixes.add(&prefix, rule),
        }
    }
}

#[derive(Default)]
struct Prefixes {
    rule: Option<u32>,
    /// The first rule of this and all below.
    least: Option<u32>,
    below: BTreeMap<String, Prefixes>,
}

impl Prefixes {
    fn add(&mut self, prefix: &str, rule: u32) {
        let mut at = self;
        at.least.get_or_insert(rule);
        for segment in prefix.split('/').skip(1) {
            at = at.below.entry(segment.to_owned()).or_default();
            at.least.get_or_insert(rule);
        }
        at.rule.get_or_insert(rule);
    }

    fn node(&self) -> Node {
        Node { rule: self.rule.unwrap_or(NONE), least: self.least.unwrap_or(NONE), edges: Run::default() }
    }
}
