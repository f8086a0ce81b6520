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
use std::time::Instant;

use self::instance::{Code, Exports, Instance};
use self::tally::Tally;
use super::account::Account;
use super::bindings::middleware::exports::warpdrive::middleware::filter::{
    self as interface, BodyAccess, Subscription,
};
use super::facilities::{Component, Facilities};
use super::loader::{Built, Refused, Source};
use super::maker::{Maker, Model};
use super::post::Guest;
use super::running::Turn;
use super::settings;
use super::spares::Spares;

pub use interface::{Answer, RequestAction, ResponseAction, Summary};
pub use notes::Notes;
pub use seat::{Filters, Seat, Seats};

/// A middleware of one plan, whether it could be loaded or not.
pub struct Filter {
    pub settings: settings::Filter,
    pub component: Arc<Component>,
    pub tally: Arc<Tally>,
    pub hooks: Hooks,
    loaded: Result<Loaded, String>,
    spares: Spares<Instance>,
    is_quick: bool,
}

/// The hooks that it subscribes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hooks {
    pub request: bool,
    pub response: bool,
    pub log: bool,
}

struct Loaded {
    code: Code,
    maker: Maker,
    source: Source,
    /// Of the thread that makes instances.
    turn: Turn,
}

/// What there is of one before its code.
#[derive(Clone)]
pub struct Parts<'a> {
    pub settings: &'a settings::Filter,
    pub component: Arc<Component>,
    pub tally: Arc<Tally>,
    pub cores: usize,
}

impl Filter {
    /// Whatever is asked of it, it is not there.
    pub fn absent(parts: Parts<'_>, reason: String) -> Filter {
        let Parts { settings, component, tally, cores } = parts;
        Filter {
            settings: settings.clone(),
            component,
            tally,
            hooks: Hooks { request: true, response: false, log: false },
            loaded: Err(reason),
            spares: Spares::new(cores),
            is_quick: false,
        }
    }

    /// Links it, and makes and configures an instance for each core.
    ///
    /// # Errors
    /// One of these fails.
    pub fn load(parts: Parts<'_>, built: Built) -> Result<Filter, Refused> {
        let Parts { settings, component, tally, cores } = parts;
        let Built { engine, maker, source } = built;
        let code = Code::link(&engine, &source.compiled).map_err(|error| format!("{error:#}"))?;
        let turn = Turn::of_loader(&engine);
        let spares = Spares::new(cores);
        let mut hooks = None;
        let mut is_quick = false;
        for core in 0..cores {
            let begun = Instant::now();
            let (instance, wanted) = make(&code, &component, &settings.limits, core, turn)?;
            is_quick |= begun.elapsed() <= settings.limits.time;
            agree(*hooks.get_or_insert(wanted), wanted)?;
            spares.put(core, instance);
        }
        (0..cores).for_each(|core| component.account.cores[core].made.add(1));
        let loaded = Ok(Loaded { code, maker, source, turn: Turn::of_maker(&engine) });
        let hooks = hooks.unwrap_or_default();
        Ok(Filter { settings: settings.clone(), component, tally, hooks, loaded, spares, is_quick })
    }

    /// What it was made of, if it is there.
    pub fn source(&self) -> Option<&Source> {
        self.loaded.as_ref().ok().map(|loaded| &loaded.source)
    }

    /// Why it is not there, if it is not.
    pub fn failure(&self) -> Option<&str> {
        self.loaded.as_ref().err().map(String::as_str)
    }

    fn another(&self, core: usize, turn: impl FnOnce(&Loaded) -> Turn) -> Result<Instance, String> {
        let loaded = self.loaded.as_ref().map_err(Clone::clone)?;
        let limits = &self.settings.limits;
        let (instance, hooks) = make(&loaded.code, &self.component, limits, core, turn(loaded))
            .map_err(|refused| refused.reason)?;
        agree(self.hooks, hooks)?;
        self.component.account.cores[core].made.add(1);
        Ok(instance)
    }
}

impl Model for Filter {
    fn title(&self) -> String {
        format!("middleware `{}`", self.settings.name)
    }

    fn make(&self, core: usize) -> Result<(), String> {
        self.spares.put(core, self.another(core, |loaded| loaded.turn)?);
        Ok(())
    }
}

impl Guest for Filter {
    type Exports = Exports;

    fn account(&self) -> &Account {
        &self.component.account
    }

    fn spares(&self) -> &Spares<Instance> {
        &self.spares
    }

    fn maker(&self) -> Option<&Maker> {
        self.loaded.as_ref().ok().map(|loaded| &loaded.maker)
    }

    fn is_quick(&self) -> bool {
        self.is_quick
    }

    fn make_here(&self, core: usize) -> Result<Instance, String> {
        self.another(core, |_| Turn::of_core(core, self.settings.limits.time))
    }
}

fn make(
    code: &Code,
    component: &Arc<Component>,
    limits: &settings::Limits,
    core: usize,
    turn: Turn,
) -> Result<(Instance, Hooks), Refused> {
    let facilities = Facilities::new(component, core).map_err(|error| error.to_string())?;
    let (instance, wanted) = code.instantiate(facilities, limits, turn)?;
    Ok((instance, subscribed(&wanted)?))
}

/// # Errors
/// All instances subscribe to the same.
fn agree(one: Hooks, other: Hooks) -> Result<(), String> {
    match one == other {
        true => Ok(()),
        false => Err("configure: it subscribes to something else than before".to_owned()),
    }
}

/// # Errors
/// It subscribes to what does not work yet.
fn subscribed(wanted: &Subscription) -> Result<Hooks, Refused> {
    for (body, of) in [(wanted.request_body, "request"), (wanted.response_body, "response")] {
        let access = match body {
            BodyAccess::None => continue,
            BodyAccess::Whole(_) => "whole",
            BodyAccess::Stream => "stream",
        };
        let reason =
            format!("it subscribes to the {of} body as `{access}`, which does not work yet in this version");
        return Err(Refused { reason, is_final: true });
    }
    let has = |hook| wanted.hooks.contains(hook);
    Ok(Hooks {
        request: has(interface::Hooks::REQUEST),
        response: has(interface::Hooks::RESPONSE),
        log: has(interface::Hooks::LOG),
    })
}
