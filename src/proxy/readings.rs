//! Whether an application could read the path of a request as one that another route guards.
//!
//! The route of a request is chosen by one reading of its path, and the application behind it may
//! have another. Where that would lead past a guard, there is no right answer but a refusal; and it
//! is no challenge, because the route that was asked for is public.

use super::core::Active;
use super::error::Error;
use crate::http::h1::Refusal;
use crate::http::readings;
use crate::http::target::Fault;
use crate::plan::RouteId;
use crate::route::Question;

/// # Errors
/// Another common reading of the path belongs to a route with a guard that `own` does not have, or
/// to an earlier one that denies it; or it leads to where nothing is routed.
#[cold]
pub fn check(active: &Active, question: &Question<'_>, own: RouteId) -> Result<(), Error> {
    let routes = &active.plan.routes;
    let route = &routes[own.0 as usize];
    if !route.reaches_application() {
        return Ok(());
    }
    let mut scratch = active.scratch.borrow_mut();
    let is_ambiguous = readings::any(question.path, |reading| {
        let asked = Question { canonical: reading.path, ..*question };
        let Some(id) = active.tree.decide(&asked, &mut scratch) else {
            return reading.leaves;
        };
        let other = &routes[id.0 as usize];
        // A later route that denies takes what is left over: no more than no route at all.
        route.lacks_guard_of(other) || other.denies() && (*id < own || reading.leaves)
    });
    refuse_if(is_ambiguous)
}

/// The same of the path that a route has made of the one that came, which may begin within it.
///
/// # Errors
/// Some reading of it leads out of what the route makes.
#[cold]
pub fn check_changed(path: &[u8]) -> Result<(), Error> {
    refuse_if(readings::any(path, |reading| reading.leaves))
}

fn refuse_if(is_ambiguous: bool) -> Result<(), Error> {
    match is_ambiguous {
        true => Err(Error::Refused(Refusal::Target(Fault::Ambiguous))),
        false => Ok(()),
    }
}
