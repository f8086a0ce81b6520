//! Who may choose an endpoint before the strategy does. What that is, nobody here knows.

use std::rc::Rc;

use super::{Group, Wish};
use crate::upstream::Settings;
use crate::upstream::ejection;
use crate::upstream::state::State;
use crate::upstream::upstreams::Question;

/// A policy's index in the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyId(pub u32);

pub trait Chooser {
    /// The index of a candidate that it has taken; `None` leaves the choice to the strategy.
    fn choose(&self, candidates: &Candidates<'_>, question: &Question<'_>) -> Option<usize>;
}

/// The endpoints of the rank that is in use, in the order of the configuration. At least one of them
/// may be chosen.
pub struct Candidates<'a> {
    group: &'a Group,
    wish: &'a Wish<'a>,
    ejection: &'a ejection::Settings,
    /// The name of the upstream.
    pub upstream: &'a str,
}

/// One of them, as it is now on this core.
pub struct Candidate<'a> {
    pub state: &'a Rc<State>,
    /// As configured, at least 1.
    pub weight: u32,
    /// It may be chosen.
    pub is_available: bool,
}

impl<'a> Candidates<'a> {
    pub fn new(group: &'a Group, wish: &'a Wish<'a>, settings: &'a Settings) -> Candidates<'a> {
        Candidates { group, wish, ejection: &settings.ejection, upstream: &settings.name }
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = Candidate<'_>> {
        self.group.members().map(|(state, weight)| Candidate {
            state,
            weight,
            is_available: self.wish.allows(state),
        })
    }

    pub fn get(&self, index: usize) -> Option<&'a Rc<State>> {
        self.group.member(index)
    }

    /// Takes one for the request; whether it may be.
    #[must_use]
    pub fn take(&self, state: &Rc<State>) -> bool {
        self.wish.allows(state) && state.vitals().ejection().take_trial(self.ejection, self.wish.now_ms)
    }
}
