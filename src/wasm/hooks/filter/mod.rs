//! Middleware: guests that see the requests and responses of a route, and change or answer them.
//!
//! A [`Filter`] is one of them, whether it could be loaded or not; [`seat`] is one on one core, which
//! is called. `instance` is a running copy, `crew` several of one whose calls wait, [`passing`] the exchange that a call is about, `messages`
//! what the guest may do with it, [`stream`] a body that passes it chunk by chunk, [`smg`] those of another gateway, [`notes`] what its hooks tell each other, [`tally`] what is counted.
//!
//! Must not know: connections, upstreams, the plan.

mod crew;
mod instance;
mod messages;
pub mod notes;
pub mod passing;
pub mod seat;
pub mod smg;
pub mod stream;
pub mod tally;

use std::sync::Arc;

use self::instance::Code;
use self::tally::Tally;
use super::bindings::middleware::exports::warpdrive::middleware::filter as interface;
use super::guest::{Guest, Parts};
use super::loader::{Built, Refused};
use super::settings::{self, OnFailure};

pub use instance::{Call, Instance};
pub use interface::{Answer, RequestAction, ResponseAction, Summary};
pub use notes::Notes;
pub use seat::{Filters, Seat, Seats};

/// A middleware of one plan, whether it could be loaded or not.
pub struct Filter {
    pub guest: Arc<Guest<Code>>,
    pub on_failure: OnFailure,
    /// Bytes of a body that it may see at once.
    pub body_max: usize,
    /// What it subscribes to, as far as it may.
    pub hooks: Hooks,
    pub waiting: settings::Waiting,
    pub tally: Arc<Tally>,
}

/// The hooks that it subscribes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hooks {
    pub request: bool,
    pub response: bool,
    pub log: bool,
    pub request_body: Access,
    pub response_body: Access,
    /// Responses whose end nobody knows beforehand pass it unseen.
    pub skips_streams: bool,
}

/// How it sees a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    #[default]
    None,
    /// At once, if it has at most so many bytes.
    Whole(usize),
    /// Chunk by chunk.
    Stream,
}

impl Access {
    fn at_most(self, most: usize) -> Access {
        match self {
            Access::Whole(wanted) => Access::Whole(wanted.min(most)),
            other => other,
        }
    }
}

impl Filter {
    /// Whatever is asked of it, it is not there.
    pub fn absent(
        parts: Parts<'_>,
        settings: &settings::Filter,
        tally: Arc<Tally>,
        reason: String,
    ) -> Filter {
        let hooks = Hooks { request: true, ..Hooks::default() };
        Filter::of(Guest::absent(parts, hooks, reason), settings, tally)
    }

    /// # Errors
    /// As [`Guest::load`].
    pub fn load(
        parts: Parts<'_>,
        settings: &settings::Filter,
        tally: Arc<Tally>,
        built: Built,
    ) -> Result<Filter, Refused> {
        let (guest, ()) = Guest::load(parts, built, |_, _| Ok(()))?;
        Ok(Filter::of(guest, settings, tally))
    }

    fn of(guest: Guest<Code>, settings: &settings::Filter, tally: Arc<Tally>) -> Filter {
        let wanted = guest.subscription;
        let hooks = Hooks {
            request_body: wanted.request_body.at_most(settings.body_max),
            response_body: wanted.response_body.at_most(settings.body_max),
            ..wanted
        };
        let settings::Filter { on_failure, body_max, waiting, .. } = *settings;
        Filter { guest: Arc::new(guest), on_failure, body_max, hooks, waiting, tally }
    }

    /// Its calls may wait, because it sends requests of its own.
    pub fn waits(&self) -> bool {
        self.guest.code().is_some_and(Code::waits)
    }

    /// It was loaded for these settings, from this file.
    pub fn is(&self, settings: &settings::Filter, digest: &[u8; 32]) -> bool {
        (self.on_failure, self.body_max, self.waiting)
            == (settings.on_failure, settings.body_max, settings.waiting)
            && self.guest.is(&settings.guest, digest)
    }
}
