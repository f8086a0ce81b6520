//! What a route changes of one request and its response, put together before anything is sent.
//!
//! At once, and before the first await: what was captured is noted once per core.
//! Hot path: a route that changes nothing costs four stores, one that does allocates nothing
//! once the texts have grown.

use std::cell::RefCell;

use super::error::Error;
use crate::http::h1::Refusal;
use crate::plan::{Action, Route, RouteId};
use crate::route::{Captures, FieldChanges, PathChange, Question, location};

/// The texts of one exchange; handed from one to the next.
#[derive(Default)]
pub struct Changes {
    /// The path that is forwarded; empty if it is the one that was asked for.
    pub path: Vec<u8>,
    /// Fields of the request, each with its line end.
    pub request: Vec<u8>,
    /// Fields of the response.
    pub response: Vec<u8>,
    /// Where the client is sent.
    pub location: Vec<u8>,
}

impl Changes {
    pub fn clear(&mut self) {
        self.path.clear();
        self.request.clear();
        self.response.clear();
        self.location.clear();
    }

    /// # Errors
    /// The route makes no path, or no place, of this request.
    pub fn expand(
        &mut self,
        captures: &RefCell<Captures>,
        id: RouteId,
        route: &Route,
        question: &Question<'_>,
    ) -> Result<(), Error> {
        let captures = &mut *captures.borrow_mut();
        if let Some(condition) = &route.captured {
            captures.take(id.0 as usize, condition, question);
        }
        route.response.write(question, captures, &mut self.response);
        match &route.action {
            Action::Forward(forward) => {
                self.pass_on(&forward.path, &forward.fields, question, captures)?;
            }
            Action::Workload(to) => self.pass_on(&to.path, &to.fields, question, captures)?,
            Action::Redirect(redirect) => {
                // Only HTTP/1.0 can leave it out.
                if redirect.to.has_host() && question.host.is_empty() {
                    return Err(Error::Refused(Refusal::Host("no host to be sent to")));
                }
                location(&redirect.to, question, captures, &mut self.location);
            }
            Action::Respond(_) => {}
        }
        Ok(())
    }

    /// The path and the fields that an upstream or a component is told.
    fn pass_on(
        &mut self,
        path: &PathChange,
        fields: &FieldChanges,
        question: &Question<'_>,
        captures: &mut Captures,
    ) -> Result<(), Error> {
        fields.write(question, captures, &mut self.request);
        if *path != PathChange::Keep {
            let changed = path.apply(question, captures, &mut self.path);
            changed.map_err(|fault| Error::Refused(Refusal::Target(fault)))?;
        }
        Ok(())
    }
}
