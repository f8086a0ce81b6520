//! A policy or a middleware of one plan, whether it could be loaded or not: what both have in common.

use std::sync::Arc;
use std::time::Instant;

use wasmtime::component::Component as Compiled;

use super::engine::Engine;
use super::facilities::{Component, Facilities};
use super::loader::{Built, Refused, Source};
use super::maker::{Maker, Model};
use super::running::{Running, Turn};
use super::settings;
use super::spares::Spares;

/// The code of one kind of guest, compiled and linked.
pub trait Code: Send + Sync + Sized + 'static {
    /// What is called of its instances.
    type Exports: Send + 'static;
    /// What an instance wants, which is what all others want.
    type Subscription: Copy + PartialEq + Send + Sync;

    /// Such as "policy".
    const KIND: &'static str;
    /// A core makes an instance itself where that takes no longer than a call may.
    const IS_MADE_HERE: bool;

    /// # Errors
    /// It is no such guest, or wants what there is not.
    fn link(engine: &Engine, component: &Compiled) -> wasmtime::Result<Self>;

    /// Makes an instance and configures it.
    ///
    /// # Errors
    /// There is no room, it fails, or it does not like its configuration.
    fn instantiate(
        &self,
        facilities: Facilities,
        limits: &settings::Limits,
        turn: Turn,
    ) -> Result<(Running<Self::Exports>, Self::Subscription), Refused>;
}

pub struct Guest<C: Code> {
    pub settings: settings::Guest,
    pub component: Arc<Component>,
    pub subscription: C::Subscription,
    loaded: Result<Loaded<C>, String>,
    spares: Spares<Running<C::Exports>>,
    is_quick: bool,
}

struct Loaded<C> {
    code: C,
    maker: Maker,
    source: Source,
    /// Of the thread that makes instances.
    turn: Turn,
}

/// What there is of one before its code.
#[derive(Clone)]
pub struct Parts<'a> {
    pub settings: &'a settings::Guest,
    pub component: Arc<Component>,
    pub cores: usize,
}

impl<C: Code> Guest<C> {
    /// Whatever is asked of it, it is not there.
    pub fn absent(parts: Parts<'_>, subscription: C::Subscription, reason: String) -> Guest<C> {
        let Parts { settings, component, cores } = parts;
        Guest {
            settings: settings.clone(),
            component,
            subscription,
            loaded: Err(reason),
            spares: Spares::new(cores),
            is_quick: false,
        }
    }

    /// Links it, and makes and configures an instance for each core. `meet` is shown the first.
    ///
    /// # Errors
    /// One of these fails.
    pub fn load<R>(
        parts: Parts<'_>,
        built: Built,
        meet: impl FnOnce(&mut Running<C::Exports>, Turn) -> Result<R, String>,
    ) -> Result<(Guest<C>, R), Refused> {
        let Parts { settings, component, cores } = parts;
        let Built { engine, maker, source } = built;
        let code = C::link(&engine, &source.compiled).map_err(|error| format!("{error:#}"))?;
        let turn = Turn::of_loader(&engine);
        let make = |core| make(&code, &component, &settings.limits, core, turn);
        let spares = Spares::new(cores);
        let begun = Instant::now();
        let (mut first, subscription) = make(0)?;
        let mut is_quick = begun.elapsed() <= settings.limits.time;
        let met = meet(&mut first, turn)?;
        spares.put(0, first);
        for core in 1..cores {
            let begun = Instant::now();
            let (instance, wanted) = make(core)?;
            is_quick |= begun.elapsed() <= settings.limits.time;
            agree(subscription, wanted)?;
            spares.put(core, instance);
        }
        (0..cores).for_each(|core| component.account.cores[core].made.add(1));
        let loaded = Ok(Loaded { code, maker, source, turn: Turn::of_maker(&engine) });
        Ok((Guest { settings: settings.clone(), component, subscription, loaded, spares, is_quick }, met))
    }

    /// What it was made of, if it is there.
    pub fn source(&self) -> Option<&Source> {
        self.loaded.as_ref().ok().map(|loaded| &loaded.source)
    }

    /// It was made of this file, and for these settings.
    pub fn is(&self, settings: &settings::Guest, digest: &[u8; 32]) -> bool {
        self.settings == *settings && self.source().is_some_and(|source| source.digest == *digest)
    }

    pub fn code(&self) -> Option<&C> {
        self.loaded.as_ref().ok().map(|loaded| &loaded.code)
    }

    /// Why it is not there, if it is not.
    pub fn failure(&self) -> Option<&str> {
        self.loaded.as_ref().err().map(String::as_str)
    }

    /// The instance that was made for a core, if one is there. One load if none is.
    pub fn take_spare(&self, core: usize) -> Option<Running<C::Exports>> {
        self.spares.take(core)
    }

    /// To make an instance takes no longer than a call may, and a core may do it itself.
    pub fn is_quick(&self) -> bool {
        C::IS_MADE_HERE && self.is_quick
    }

    /// Makes one on its core.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn make_here(&self, core: usize) -> Result<Running<C::Exports>, String> {
        self.another(core, |_| Turn::of_core(core, self.settings.limits.time))
    }

    /// Wants another instance instead of one that has failed. False if nobody makes any.
    pub fn order(self: &Arc<Self>, core: usize, failed: Option<Running<C::Exports>>) -> bool {
        let Ok(loaded) = &self.loaded else { return false };
        loaded.maker.order(self, core, failed);
        true
    }

    fn another(
        &self,
        core: usize,
        turn: impl FnOnce(&Loaded<C>) -> Turn,
    ) -> Result<Running<C::Exports>, String> {
        let loaded = self.loaded.as_ref().map_err(Clone::clone)?;
        let made = make(&loaded.code, &self.component, &self.settings.limits, core, turn(loaded));
        let (instance, wanted) = made.map_err(|refused| refused.reason)?;
        agree(self.subscription, wanted)?;
        self.component.account.cores[core].made.add(1);
        Ok(instance)
    }
}

impl<C: Code> Model for Guest<C> {
    fn title(&self) -> String {
        format!("{} `{}`", C::KIND, self.settings.name)
    }

    fn make(&self, core: usize) -> Result<(), String> {
        self.spares.put(core, self.another(core, |loaded| loaded.turn)?);
        Ok(())
    }
}

fn make<C: Code>(
    code: &C,
    component: &Arc<Component>,
    limits: &settings::Limits,
    core: usize,
    turn: Turn,
) -> Result<(Running<C::Exports>, C::Subscription), Refused> {
    let facilities = Facilities::new(component, core).map_err(|error| error.to_string())?;
    code.instantiate(facilities, limits, turn)
}

/// # Errors
/// All instances subscribe to the same.
fn agree<S: PartialEq>(one: S, other: S) -> Result<(), String> {
    match one == other {
        true => Ok(()),
        false => Err("configure: it subscribes to something else than before".to_owned()),
    }
}
