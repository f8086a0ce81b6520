//! Middleware: guests that see the requests and responses of a route, and change or answer them.
//!
//! A [`Filter`] is one of them, whether it could be loaded or not; [`seat`] is one on one core, which
//! is called. `instance` is a running copy, [`passing`] the exchange that a call is about, `messages`
//! what the guest may do with it, [`notes`] what its hooks tell each other, [`tally`] what is counted.
//!
//! Must not know: connections, upstreams, the plan.

mod instance;
mod messages;
pub mod notes;
pub mod passing;
pub mod seat;
pub mod tally;

use std::sync::Arc;

use self::instance::Code;
use self::tally::Tally;
use super::bindings::middleware::exports::warpdrive::middleware::filter as interface;
use super::guest::{Guest, Parts};
use super::loader::{Built, Refused};
use super::settings::OnFailure;

pub use interface::{Answer, RequestAction, ResponseAction, Summary};
pub use notes::Notes;
pub use seat::{Filters, Seat, Seats};

/// A middleware of one plan, whether it could be loaded or not.
pub struct Filter {
    pub guest: Arc<Guest<Code>>,
    pub on_failure: OnFailure,
    pub tally: Arc<Tally>,
}

/// The hooks that it subscribes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hooks {
    pub request: bool,
    pub response: bool,
    pub log: bool,
}

impl Filter {
    /// Whatever is asked of it, it is not there.
    pub fn absent(parts: Parts<'_>, on_failure: OnFailure, tally: Arc<Tally>, reason: String) -> Filter {
        let hooks = Hooks { request: true, response: false, log: false };
        Filter { guest: Arc::new(Guest::absent(parts, hooks, reason)), on_failure, tally }
    }

    /// # Errors
    /// As [`Guest::load`].
    pub fn load(
        parts: Parts<'_>,
        on_failure: OnFailure,
        tally: Arc<Tally>,
        built: Built,
    ) -> Result<Filter, Refused> {
        let (guest, ()) = Guest::load(parts, built, |_, _| Ok(()))?;
        Ok(Filter { guest: Arc::new(guest), on_failure, tally })
    }

    pub fn hooks(&self) -> Hooks {
        self.guest.subscription
    }
}
