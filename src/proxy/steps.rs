//! The steps of a route, in the order in which they are taken.
//!
//! Hot path: no allocation.

use super::error::Error;
use crate::http::head::RequestHead;
use crate::middleware::auth;
use crate::plan::Step;

/// What a route does with a request before it is forwarded.
///
/// # Errors
/// A step refuses it.
pub fn request(steps: &[Step], request: &RequestHead) -> Result<(), Error> {
    for step in steps {
        match step {
            Step::Auth(settings) => {
                auth::authenticate(settings, &request.fields).map_err(Error::Denied)?;
            }
        }
    }
    Ok(())
}
