//! Policies in a build without components: no upstream has one.

use std::time::Instant;

use super::core::{Active, Core};
use crate::upstream::balance::{Candidates, Chooser};
use crate::upstream::state::Pick;
use crate::upstream::upstreams::Question;
use crate::upstream::{self};
use crate::wasm::hooks::{Said, Seat};

/// There are none.
pub struct Policy<'a> {
    seat: &'a Seat,
}

impl<'a> Policy<'a> {
    pub fn of(_: &'a Core, active: &'a Active, upstream: &upstream::Settings) -> Option<Policy<'a>> {
        let seat = active.policies.get(upstream.policy?.0 as usize)?;
        Some(Policy { seat })
    }

    pub fn text_max(&self) -> usize {
        match *self.seat {}
    }

    pub fn set_text(&mut self, _: Vec<u8>) {
        match *self.seat {}
    }

    pub fn sends(&self) {
        match *self.seat {}
    }

    pub fn head_is_here(&self, _: Instant) {
        match *self.seat {}
    }

    pub fn report(&self, _: &Pick, _: u16, _: bool) {
        match *self.seat {}
    }
}

impl Chooser for Policy<'_> {
    fn choose(&self, _: &Candidates<'_>, _: &Question<'_>) -> Option<usize> {
        match *self.seat {}
    }
}

/// Nobody says anything.
pub fn said(_: &Core) -> Vec<Said> {
    Vec::new()
}
