//! Middleware in a build without components: no route has any.

use std::convert::Infallible;
use std::marker::PhantomData;

use crate::http::forwarding::{Peer, Stamp};
use crate::http::framing::BodyLength;
use crate::http::head::{RequestHead, ResponseHead};
use crate::http::target::Target;
use crate::net::{Buffer, Reader, Stream};
use crate::plan::{Allowed, Route, RouteId};
use crate::proxy::body::h1_source::Bounds;
use crate::proxy::body::{H1Source, Source, SourceFault};
use crate::proxy::connection::Work;
use crate::proxy::core::{Active, Core};
use crate::proxy::error::Error;
use crate::proxy::trace::Trace;

#[derive(Default)]
pub struct Passage;

pub struct Passed<'a> {
    pub to: Option<&'a Allowed>,
    pub answer: Option<Option<Buffer>>,
}

impl Passage {
    pub fn begin(&mut self) {}

    pub fn end(&mut self) {}

    pub fn leave(&mut self, _: &Active, _: Option<RouteId>) {}

    pub fn target(&self, head: &RequestHead) -> Target {
        head.target
    }

    pub fn source<'a>(
        &mut self,
        core: &'a Core,
        reader: Reader<'a>,
        input: &'a mut Option<Buffer>,
        length: BodyLength,
        bounds: Bounds,
    ) -> Source<'a> {
        Source::H1(H1Source::new(reader, &core.buffers, input, length, bounds))
    }
}

/// # Errors
/// Never: there is nothing to pass.
pub async fn request<'a>(
    _: &Core,
    _: &'a Active,
    _: &'a Route,
    _: &mut Stream,
    _: &mut Work,
    _: &mut Trace,
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
    pub async fn response(
        &self,
        _: &RequestHead,
        _: &mut ResponseHead,
        _: &mut Source<'_>,
        _: &Stamp,
        _: impl Fn(SourceFault) -> Error,
    ) -> Result<(), Error> {
        match self.0 {}
    }
}

pub fn log(_: &Core, _: &Active, _: &Trace, _: &Work) {}
