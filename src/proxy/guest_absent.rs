//! The way of a request to a component, in a build without components: no request takes it.

use std::rc::Rc;

use super::connection::Work;
use super::core::{Active, Core};
use super::error::Error;
use super::exchange::Next;
use super::trace::Trace;
use crate::net::Stream;
use crate::plan::{Route, ToWorkload};

/// There is no workload that a route could lead to.
pub async fn run(
    _: &Rc<Core>,
    _: &Rc<Active>,
    _: &Route,
    to: &ToWorkload,
    _: &mut Stream,
    _: &mut Work,
    _: &mut Trace,
) -> Result<Next, Error> {
    match to.workload {}
}
