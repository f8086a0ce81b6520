//! A policy of one plan, whether it could be loaded or not.

use std::sync::Arc;

use super::account::Account;
use super::facilities::{Component, Facilities};
use super::instance::{Code, Exports, Instance};
use super::loader::{Built, Source};
use super::maker::{Maker, Model};
use super::post::Guest;
use super::running::Turn;
use super::settings;
use super::spares::Spares;

pub struct Policy {
    pub settings: settings::Policy,
    pub component: Arc<Component>,
    /// What it looks at.
    pub subscription: Subscription,
    /// What it calls itself.
    pub about: Option<About>,
    loaded: Result<Loaded, String>,
    spares: Spares<Instance>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    pub head: bool,
    /// Bytes of the body that it waits for.
    pub text_max: usize,
}

/// As the guest tells it.
#[derive(Clone, Debug)]
pub struct About {
    pub name: String,
    pub version: String,
}

struct Loaded {
    code: Code,
    maker: Maker,
    source: Source,
    /// Of the thread that makes instances.
    turn: Turn,
}

/// More than this is not waited for.
const TEXT_MAX: u32 = 64 << 10;

impl Policy {
    pub fn absent(
        settings: &settings::Policy,
        component: Arc<Component>,
        cores: usize,
        reason: String,
    ) -> Policy {
        Policy {
            settings: settings.clone(),
            component,
            subscription: Subscription::default(),
            about: None,
            loaded: Err(reason),
            spares: Spares::new(cores),
        }
    }

    /// Links it, and makes and configures an instance for each core.
    ///
    /// # Errors
    /// One of these fails.
    pub fn load(
        settings: &settings::Policy,
        component: Arc<Component>,
        cores: usize,
        Built { engine, maker, source }: Built,
    ) -> Result<Policy, String> {
        let code = Code::link(&engine, &source.compiled).map_err(|error| format!("{error:#}"))?;
        let turn = Turn::of_loader(&engine);
        let spares = Spares::new(cores);
        let mut about = None;
        let mut subscription = Subscription::default();
        for core in 0..cores {
            let (mut instance, wanted) = make(&code, &component, &settings.limits, core, turn)?;
            if core == 0 {
                subscription = wanted;
                let introduced = instance.introduce(turn).map_err(|failed| failed.message)?;
                about = introduced.map(|(name, version)| About { name, version });
            }
            spares.put(core, instance);
        }
        (0..cores).for_each(|core| component.account.cores[core].made.add(1));
        let loaded = Ok(Loaded { code, maker, source, turn: Turn::of_maker(&engine) });
        Ok(Policy { settings: settings.clone(), component, subscription, about, loaded, spares })
    }

    /// What it was made of, if it is there.
    pub fn source(&self) -> Option<&Source> {
        self.loaded.as_ref().ok().map(|loaded| &loaded.source)
    }

    /// Why it is not there, if it is not.
    pub fn failure(&self) -> Option<&str> {
        self.loaded.as_ref().err().map(String::as_str)
    }

    /// It wants to know how requests went.
    pub fn has_feedback(&self) -> bool {
        self.loaded.as_ref().is_ok_and(|loaded| loaded.code.has_feedback())
    }

    fn another(&self, core: usize, turn: impl FnOnce(&Loaded) -> Turn) -> Result<Instance, String> {
        let loaded = self.loaded.as_ref().map_err(Clone::clone)?;
        let limits = &self.settings.limits;
        let (instance, wanted) = make(&loaded.code, &self.component, limits, core, turn(loaded))?;
        if wanted != self.subscription {
            return Err("configure: it subscribes to something else than before".to_owned());
        }
        self.component.account.cores[core].made.add(1);
        Ok(instance)
    }
}

impl Guest for Policy {
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

    fn make_here(&self, core: usize) -> Result<Instance, String> {
        self.another(core, |_| Turn::of_core(core, self.settings.limits.time))
    }
}

impl Model for Policy {
    fn title(&self) -> String {
        format!("policy `{}`", self.settings.name)
    }

    fn make(&self, core: usize) -> Result<(), String> {
        self.spares.put(core, self.another(core, |loaded| loaded.turn)?);
        Ok(())
    }
}

fn make(
    code: &Code,
    component: &Arc<Component>,
    limits: &settings::Limits,
    core: usize,
    turn: Turn,
) -> Result<(Instance, Subscription), String> {
    let facilities = Facilities::new(component, core).map_err(|error| error.to_string())?;
    let (instance, wanted) = code.instantiate(facilities, limits, turn)?;
    let text_max = wanted.text_max.min(TEXT_MAX) as usize;
    Ok((instance, Subscription { head: wanted.head, text_max }))
}
