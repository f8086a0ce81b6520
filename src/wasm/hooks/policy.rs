//! A policy of one plan, whether it could be loaded or not.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest, Sha256};
use wasmtime::component::Component as Compiled;

use super::account::Account;
use super::engine::Engine;
use super::facilities::{Component, Facilities};
use super::inspect;
use super::instance::{Code, Instance};
use super::maker::{Maker, Order};
use super::settings;
use super::store::Store;
use crate::wasm::code_cache::Cache;
use crate::wasm::compiler;

pub struct Policy {
    pub settings: settings::Policy,
    pub component: Arc<Component>,
    /// What it looks at.
    pub subscription: Subscription,
    /// What it calls itself.
    pub about: Option<About>,
    loaded: Result<Loaded, String>,
    spares: Box<[Spare]>,
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
    digest: [u8; 32],
    compiled: Compiled,
}

/// An instance that waits until its core takes it.
#[derive(Default)]
struct Spare {
    is_there: AtomicBool,
    instance: Mutex<Option<Instance>>,
}

/// More than this is not waited for.
const TEXT_MAX: u32 = 64 << 10;

impl Policy {
    fn absent(
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
            spares: spares(cores),
        }
    }

    /// Why it is not there, if it is not.
    pub fn failure(&self) -> Option<&str> {
        self.loaded.as_ref().err().map(String::as_str)
    }

    /// It wants to know how requests went.
    pub fn has_feedback(&self) -> bool {
        self.loaded.as_ref().is_ok_and(|loaded| loaded.code.has_feedback())
    }

    /// The instance that was made for a core, if one is there. One load if none is.
    pub fn take_spare(&self, core: usize) -> Option<Instance> {
        let spare = &self.spares[core];
        if !spare.is_there.load(Ordering::Acquire) {
            return None;
        }
        spare.is_there.store(false, Ordering::Relaxed);
        spare.instance.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Wants another instance instead of one that has failed.
    pub fn order(self: &Arc<Policy>, core: usize, failed: Option<Instance>) {
        if let Ok(loaded) = &self.loaded {
            loaded.maker.order(Order::new(self, core, failed));
        }
    }

    /// Makes an instance for a core. Takes its time.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn make(&self, core: usize) -> Result<(), String> {
        let loaded = self.loaded.as_ref().map_err(Clone::clone)?;
        let (instance, _) = make(&loaded.code, &self.component, &self.settings.limits, core)?;
        self.put_spare(core, instance);
        Ok(())
    }

    fn put_spare(&self, core: usize, instance: Instance) {
        self.component.account.cores[core].made.add(1);
        let spare = &self.spares[core];
        *spare.instance.lock().unwrap_or_else(PoisonError::into_inner) = Some(instance);
        spare.is_there.store(true, Ordering::Release);
    }
}

fn make(
    code: &Code,
    component: &Arc<Component>,
    limits: &settings::Limits,
    core: usize,
) -> Result<(Instance, Subscription), String> {
    let facilities = Facilities::new(component, core).map_err(|error| error.to_string())?;
    let (instance, wanted) = code.instantiate(facilities, limits.memory, limits.time)?;
    let text_max = wanted.text_max.min(TEXT_MAX) as usize;
    Ok((instance, Subscription { head: wanted.head, text_max }))
}

/// Keeps the engine, what was loaded last, and what outlives it: numbers and stores.
#[derive(Default)]
pub struct Loader {
    engine: Option<(Engine, Maker)>,
    known: Vec<Arc<Policy>>,
    accounts: HashMap<String, Arc<Account>>,
    stores: HashMap<String, Arc<Store>>,
    has_run: bool,
}

/// What was loaded and is not in force yet. Without [`Loader::keep`], all is as it was before.
pub struct Draft {
    policies: Vec<Arc<Policy>>,
    accounts: HashMap<String, Arc<Account>>,
    stores: HashMap<String, Arc<Store>>,
}

impl Loader {
    /// Loads what is new; what is the same as before stays the same, with its instances. What cannot
    /// be loaded at the first time is left to the fallbacks of its upstreams, and says so.
    ///
    /// # Errors
    /// A policy cannot be loaded, and others run that can stay.
    pub fn load(
        &mut self,
        policies: &[settings::Policy],
        cores: usize,
        cache: Option<&Cache>,
    ) -> Result<Draft, String> {
        let mut draft = Draft {
            policies: Vec::with_capacity(policies.len()),
            accounts: self.accounts.clone(),
            stores: self.stores.clone(),
        };
        for settings in policies {
            let component = Arc::new(draft.component(settings, cores));
            let policy = match self.one(settings, Arc::clone(&component), cores, cache) {
                Ok(policy) => policy,
                Err(reason) if !self.has_run => {
                    let (name, place) = (&settings.name, &settings.place);
                    tracing::error!("{place}: policy `{name}` is left to the fallback: {reason}");
                    Arc::new(Policy::absent(settings, component, cores, reason))
                }
                Err(reason) => {
                    return Err(format!("{}: policy `{}`: {reason}", settings.place, settings.name));
                }
            };
            draft.policies.push(policy);
        }
        Ok(draft)
    }

    /// What was loaded is to be in force, where the next load begins; what it does not need any more
    /// is forgotten.
    pub fn keep(&mut self, draft: Draft) -> Vec<Arc<Policy>> {
        let Draft { policies, mut accounts, mut stores } = draft;
        accounts.retain(|name, _| policies.iter().any(|policy| policy.settings.name == *name));
        stores.retain(|name, _| policies.iter().any(|policy| policy.settings.store == *name));
        *self =
            Loader { engine: self.engine.take(), known: policies.clone(), accounts, stores, has_run: true };
        policies
    }

    fn one(
        &mut self,
        settings: &settings::Policy,
        component: Arc<Component>,
        cores: usize,
        cache: Option<&Cache>,
    ) -> Result<Arc<Policy>, String> {
        let bytes = read(&settings.file)?;
        let digest: [u8; 32] = Sha256::digest(&bytes).into();
        let is_alike = |policy: &Arc<Policy>| policy.loaded.as_ref().is_ok_and(|one| one.digest == digest);
        if let Some(same) = self.known.iter().find(|policy| is_alike(policy) && policy.settings == *settings)
        {
            return Ok(Arc::clone(same));
        }
        let alike = self.known.iter().find(|policy| is_alike(policy)).cloned();
        let (engine, maker) = self.engine(cores)?;
        let compiled = match alike.as_ref().and_then(|alike| alike.loaded.as_ref().ok()) {
            Some(alike) => alike.compiled.clone(),
            None => {
                compiler::component(&engine.wasmtime, cache, &bytes).map_err(|error| format!("{error:#}"))?
            }
        };
        let code = Code::link(&engine, &compiled).map_err(|error| format!("{error:#}"))?;
        let mut instances = Vec::with_capacity(cores);
        let mut about = None;
        let mut subscription = Subscription::default();
        for core in 0..cores {
            let (mut instance, wanted) = make(&code, &component, &settings.limits, core)?;
            if core == 0 {
                subscription = wanted;
                let introduced = instance.introduce().map_err(|failed| failed.message)?;
                about = introduced.map(|(name, version)| About { name, version });
            }
            instances.push(instance);
        }
        let loaded = Ok(Loaded { code, maker, digest, compiled });
        let policy = Policy {
            settings: settings.clone(),
            component,
            subscription,
            about,
            loaded,
            spares: spares(cores),
        };
        for (core, instance) in instances.into_iter().enumerate() {
            policy.put_spare(core, instance);
        }
        Ok(Arc::new(policy))
    }

    fn engine(&mut self, cores: usize) -> Result<(Engine, Maker), String> {
        if let Some(there) = &self.engine {
            return Ok(there.clone());
        }
        let maker = Maker::start()
            .map_err(|error| format!("cannot start the thread that makes instances of policies: {error}"))?;
        let made = (Engine::new(cores)?, maker);
        self.engine = Some(made.clone());
        Ok(made)
    }
}

impl Draft {
    /// What guests of a policy share, which outlives their code.
    fn component(&mut self, settings: &settings::Policy, cores: usize) -> Component {
        let account = self.accounts.entry(settings.name.clone());
        let store = self.stores.entry(settings.store.clone());
        let store = store.or_insert_with(|| Arc::new(Store::new(settings.store_bytes)));
        Component {
            name: settings.name.clone(),
            config: settings.config.clone(),
            store: Arc::clone(store),
            account: Arc::clone(account.or_insert_with(|| Arc::new(Account::new(cores)))),
        }
    }
}

fn spares(cores: usize) -> Box<[Spare]> {
    std::iter::repeat_with(Spare::default).take(cores).collect()
}

/// The bytes of a file that is a policy.
fn read(file: &Path) -> Result<Vec<u8>, String> {
    let bytes = crate::wasm::inspect::read(file).and_then(|bytes| {
        inspect::check(&crate::wasm::inspect::world(&bytes)?)?;
        Ok(bytes)
    });
    bytes.map_err(|refusal| format!("{}: {}", file.display(), refusal.message))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::settings::Limits;
    use super::*;

    fn missing(name: &str, store_bytes: usize) -> settings::Policy {
        settings::Policy {
            name: name.to_owned(),
            place: "warpdrive.toml:1".to_owned(),
            file: "/nonexistent/policy.wasm".into(),
            config: serde_json::Map::new(),
            limits: Limits { memory: 1 << 20, time: Duration::from_millis(1) },
            store: "all".to_owned(),
            store_bytes,
        }
    }

    #[test]
    fn a_load_that_fails_leaves_everything_as_it_was() {
        let mut loader = Loader::default();
        let draft = loader.load(&[missing("a", 1 << 20)], 2, None).expect("the first load leaves it out");
        let kept = loader.keep(draft);
        assert!(kept[0].failure().is_some_and(|why| why.contains("/nonexistent/policy.wasm")));
        let refused = loader.load(&[missing("a", 0), missing("b", 0)], 2, None).err();
        assert!(refused.is_some_and(|why| why.starts_with("warpdrive.toml:1: policy `a`: ")));
        assert_eq!((loader.accounts.len(), loader.stores.len()), (1, 1));
        assert_eq!(kept[0].component.store.set("key", b"value", 0), Ok(()), "the store has its room");
    }
}
