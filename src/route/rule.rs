//! What one rule means, said plainly: every condition asked in turn.
//!
//! This is what a rule is explained by. Requests are decided by the tree, which must agree.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use super::pattern::Pattern;
use super::program::Program;
use crate::http::fields::{Fields, is_same_name};
use crate::http::forwarding::{Network, Scheme};
use crate::http::head::RequestHead;
use crate::http::query::{decoded, parameters};
use crate::http::target::canonicalise;

/// One rule: all of its conditions must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule<T> {
    /// One of them must hold; without any, every host does.
    pub hosts: Vec<HostPattern>,
    pub path: PathCondition,
    pub conditions: Vec<Condition>,
    pub target: T,
}

/// In lower case, without a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostPattern {
    Exact(String),
    /// What stands before the host's end, with the dot that it begins with: `.example.com` is any
    /// name below `example.com`, at any depth, but not `example.com` itself.
    Below(String),
}

/// Its texts are in canonical form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathCondition {
    Any,
    Exact(String),
    /// Without a trailing slash (`/` is the empty string): matches itself and what follows a `/`.
    Prefix(String),
    Pattern(Pattern),
    /// Searched, not anchored.
    Regex(Program),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    Method(Methods),
    /// A field of the request; its name as [`field_name`] has it.
    Field(String, Test),
    /// A parameter of the query, by its name once escapes are undone.
    Parameter(String, Test),
    /// The client's address is in one of these networks.
    Client(Vec<Network>),
    Scheme(Scheme),
}

/// Methods, as they are written: they are case-sensitive (RFC 9110 9.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Methods(Vec<String>);

/// What is asked of the values that a name has. A name may have several: one has to fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    Present,
    Absent,
    Equals(String),
    Matches(Program),
}

/// What is decided on, and what templates are made of.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    pub method: &'a [u8],
    /// In lower case, without a port.
    pub host: &'a [u8],
    /// In canonical form, which the conditions of paths are compared with.
    pub canonical: &'a [u8],
    /// In normal form, without the query: what is forwarded, and captured from.
    pub path: &'a [u8],
    /// With its `?`, or empty.
    pub query: &'a [u8],
    pub fields: &'a Fields,
    pub sender: Sender,
}

/// What is known of the sender of a request: its own claims count only if it is a trusted proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    pub client: IpAddr,
    pub scheme: Scheme,
}

impl Default for Sender {
    /// For questions in which it does not matter.
    fn default() -> Sender {
        Sender { client: IpAddr::V4(Ipv4Addr::UNSPECIFIED), scheme: Scheme::Http }
    }
}

impl Question<'_> {
    /// What is asked of a request with this head, whoever sent it.
    pub fn of(head: &RequestHead) -> Question<'_> {
        Question {
            method: head.text(head.method_text),
            host: head.text(head.target.host),
            canonical: head.text(head.target.canonical),
            path: head.text(head.target.path),
            query: head.text(head.target.query),
            fields: &head.fields,
            sender: Sender::default(),
        }
    }
}

/// Whether a rule holds, and if not, what it fails on first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    Holds,
    Host,
    Path,
    Condition(&'a Condition),
}

impl<T> Rule<T> {
    /// Asks everything, slowly.
    pub fn verdict(&self, question: &Question<'_>) -> Verdict<'_> {
        if !self.hosts.is_empty() && !self.hosts.iter().any(|host| host.holds(question.host)) {
            return Verdict::Host;
        }
        if !self.path.holds(question.canonical) {
            return Verdict::Path;
        }
        match self.conditions.iter().find(|condition| !condition.holds(question)) {
            Some(failing) => Verdict::Condition(failing),
            None => Verdict::Holds,
        }
    }
}

impl HostPattern {
    pub fn holds(&self, host: &[u8]) -> bool {
        match self {
            HostPattern::Exact(name) => name.as_bytes() == host,
            HostPattern::Below(end) => host.len() > end.len() && host.ends_with(end.as_bytes()),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostPattern::Exact(name) => f.write_str(name),
            HostPattern::Below(end) => write!(f, "*{end}"),
        }
    }
}

impl PathCondition {
    /// For one path, in normal form.
    pub fn exact(path: &str) -> PathCondition {
        PathCondition::Exact(canonical(path))
    }

    /// For a path in normal form and what is below it; `/` alone is above every path.
    pub fn prefix(path: &str) -> PathCondition {
        let mut prefix = canonical(path);
        if prefix.ends_with('/') {
            prefix.pop();
        }
        PathCondition::Prefix(prefix)
    }

    /// Whether it holds for a path in canonical form.
    pub fn holds(&self, path: &[u8]) -> bool {
        match self {
            PathCondition::Any => true,
            PathCondition::Exact(wanted) => wanted.as_bytes() == path,
            PathCondition::Prefix(prefix) if prefix.is_empty() => true,
            PathCondition::Prefix(prefix) => {
                let rest = path.strip_prefix(prefix.as_bytes());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
            }
            PathCondition::Pattern(pattern) => pattern.holds(path),
            PathCondition::Regex(program) => program.holds_once(path),
        }
    }
}

/// A name as it is compared with those of fields: in lower case, and with `-` for `_`.
pub fn field_name(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

fn canonical(path: &str) -> String {
    String::from_utf8_lossy(&canonicalise(path.as_bytes())).into_owned()
}

impl Condition {
    pub fn holds(&self, question: &Question<'_>) -> bool {
        match self {
            Condition::Method(methods) => methods.contain(question.method),
            Condition::Field(name, test) => {
                let named = question.fields.iter().filter(|one| is_same_name(one.name, name.as_bytes()));
                test.holds(named.map(|field| field.value.to_vec()))
            }
            Condition::Parameter(name, test) => {
                let named = parameters(question.query)
                    .filter(|(key, _)| decoded(key).eq(name.bytes()))
                    .map(|(_, value)| decoded(value).collect());
                test.holds(named)
            }
            Condition::Client(networks) => {
                networks.iter().any(|network| network.contains(question.sender.client))
            }
            Condition::Scheme(scheme) => *scheme == question.sender.scheme,
        }
    }
}

impl Methods {
    /// The order says nothing.
    pub fn new(mut names: Vec<String>) -> Methods {
        names.sort_unstable();
        names.dedup();
        Methods(names)
    }

    pub fn names(&self) -> &[String] {
        &self.0
    }

    pub fn contain(&self, method: &[u8]) -> bool {
        self.0.iter().any(|name| name.as_bytes() == method)
    }
}

impl Test {
    fn holds(&self, mut values: impl Iterator<Item = Vec<u8>>) -> bool {
        match self {
            Test::Present => values.next().is_some(),
            Test::Absent => values.next().is_none(),
            Test::Equals(wanted) => values.any(|value| value == wanted.as_bytes()),
            Test::Matches(program) => values.any(|value| program.holds_once(&value)),
        }
    }
}
