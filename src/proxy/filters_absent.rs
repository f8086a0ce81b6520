//! Middleware in a build without components: no route has any.

use std::convert::Infallible;
use std::marker::PhantomData;

use super::connection::Work;
use super::core::{Active, Core};
use super::error::Error;
use super::trace::Trace;
use crate::http::forwarding::{Peer, Stamp};
use crate::http::head::{RequestHead, ResponseHead};
use crate::http::target::Target;
use crate::plan::{Allowed, Route, RouteId};

#[derive(Default)]
pub struct Passage;

pub struct Passed<'a> {
    pub to: Option<&'a Allowed>,
    pub answer: Option<Vec<u8>>,
}

impl Passage {
    pub fn begin(&mut self) {}

    pub fn leave(&mut self, _: &Active, _: Option<RouteId>) {}

    pub fn target(&self, head: &RequestHead) -> Target {
        head.target
    }
}

/// # Errors
/// Never: there is nothing to pass.
pub fn request<'a>(
    _: &Core,
    _: &'a Active,
    _: &'a Route,
    _: &mut Work,
    _: &Stamp,
) -> Result<Passed<'a>, Error> {
    Ok(Passed { to: None, answer: None })
}

#[derive(Clone, Copy)]
pub struct Filtered<'a>(Infallible, PhantomData<&'a ()>);

impl<'a> Filtered<'a> {
    pub fn of(_: &'a Core, _: &'a Active, _: &'a Route, _: &'a Peer, _: &'a Passage) -> Option<Filtered<'a>> {
        None
    }

    /// # Errors
    /// Never.
    pub fn response(
        &self,
        _: &RequestHead,
        _: &mut ResponseHead,
        _: &Stamp,
    ) -> Result<Option<Vec<u8>>, Error> {
        match self.0 {}
    }
}

pub fn log(_: &Core, _: &Active, _: &Trace, _: &Work) {}
