//! Which rule a request matches: document order, first match wins.
//!
//! Pure and generic over the target: no I/O, no clock, no allocation per decision.

pub use tree::Tree;

mod compile;
#[cfg(test)]
mod tests;
mod tree;

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
