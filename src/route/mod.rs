//! Which rule a request matches: document order, first match wins, whatever the kinds of match.
//!
//! [`Rule`] says what one rule means; [`Tree`] is all of them compiled, so that the first that
//! holds is found without asking those before it. Pure and generic over the target: no I/O, no
//! clock, no allocation per decision.

pub use change::{FieldChanges, PathChange, location};
pub use pattern::{Pattern, PatternFault, Segment};
pub use program::{Program, ProgramFault};
pub use template::{Captures, Template, TemplateFault};
pub use tree::{Scratch, Tree};

mod change;
mod compile;
pub mod cover;
mod index;
mod pattern;
mod program;
mod rule;
mod template;
#[cfg(test)]
mod tests;
mod tree;

pub use rule::{
    Condition, HostPattern, Methods, PathCondition, Question, Rule, Sender, Test, Verdict, field_name,
};
