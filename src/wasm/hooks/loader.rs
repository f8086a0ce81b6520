//! From files to policies and middleware that can be called. Blocks and takes its time: for threads
//! that serve nobody.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use wasmtime::component::Component as Compiled;

use super::account::Account;
use super::engine::Engine;
use super::facilities::Component;
use super::filter::tally::Tally;
use super::filter::{self, Filter};
use super::inspect::{self, Interface};
use super::maker::Maker;
use super::policy::Policy;
use super::settings;
use super::store::Store;
use crate::wasm::code_cache::Cache;
use crate::wasm::compiler;

/// Keeps the engine, what was loaded last, and what outlives it: numbers and stores.
#[derive(Default)]
pub struct Loader {
    engine: Option<(Engine, Maker)>,
    known: Known,
    kept: Kept,
    has_run: bool,
}

/// What was loaded.
#[derive(Clone, Default)]
pub struct Known {
    pub policies: Vec<Arc<Policy>>,
    pub filters: Vec<Arc<Filter>>,
}

/// What outlives the code of a guest, by name.
#[derive(Clone, Default)]
struct Kept {
    accounts: HashMap<String, Arc<Account>>,
    tallies: HashMap<String, Arc<Tally>>,
    stores: HashMap<String, Arc<Store>>,
}

/// What was loaded and is not in force yet. Without [`Loader::keep`], all is as it was before.
pub struct Draft {
    loaded: Known,
    kept: Kept,
}

/// A component as a file.
#[derive(Clone)]
pub struct Source {
    digest: [u8; 32],
    pub compiled: Compiled,
}

/// What a guest is made of, and who makes it.
pub struct Built {
    pub engine: Engine,
    pub maker: Maker,
    pub source: Source,
}

/// Why a guest is not loaded.
pub struct Refused {
    pub reason: String,
    /// Nobody may go on without it.
    pub is_final: bool,
}

impl From<String> for Refused {
    fn from(reason: String) -> Refused {
        Refused { reason, is_final: false }
    }
}

/// Where a guest comes from.
struct Origin<'a> {
    bytes: &'a [u8],
    digest: [u8; 32],
    cores: usize,
    cache: Option<&'a Cache>,
}

impl Loader {
    /// Loads what is new; what is the same as before stays the same, with its instances. What cannot
    /// be loaded at the first time is left out, and says so.
    ///
    /// # Errors
    /// One cannot be loaded, and others run that can stay.
    pub fn load(
        &mut self,
        policies: &[settings::Policy],
        filters: &[settings::Filter],
        cores: usize,
        cache: Option<&Cache>,
    ) -> Result<Draft, String> {
        let mut draft = Draft { loaded: Known::default(), kept: self.kept.clone() };
        for settings in policies {
            let component = Arc::new(draft.kept.component(Shared::of_policy(settings), cores));
            let policy = self.policy(settings, Arc::clone(&component), cores, cache).or_else(|reason| {
                self.pass_over("policy", (&settings.name, &settings.place), &reason, "left to the fallback")?;
                Ok::<_, String>(Arc::new(Policy::absent(settings, component, cores, reason)))
            })?;
            draft.loaded.policies.push(policy);
        }
        for settings in filters {
            let component = Arc::new(draft.kept.component(Shared::of_filter(settings), cores));
            let tally = draft.kept.tally(&settings.name, cores);
            let parts = filter::Parts { settings, component, tally, cores };
            let filter = self.filter(parts.clone(), cache).or_else(|refused| {
                let Refused { reason, is_final } = refused;
                if is_final {
                    return Err(format!("{}: middleware `{}`: {reason}", settings.place, settings.name));
                }
                self.pass_over("middleware", (&settings.name, &settings.place), &reason, "not there")?;
                Ok(Arc::new(Filter::absent(parts, reason)))
            })?;
            draft.loaded.filters.push(filter);
        }
        Ok(draft)
    }

    /// # Errors
    /// This may not be passed over.
    fn pass_over(
        &self,
        kind: &str,
        (name, place): (&str, &str),
        reason: &str,
        so: &str,
    ) -> Result<(), String> {
        if self.has_run {
            return Err(format!("{place}: {kind} `{name}`: {reason}"));
        }
        tracing::error!("{place}: {kind} `{name}` is {so}: {reason}");
        Ok(())
    }

    /// What was loaded is to be in force, where the next load begins; what it does not need any more
    /// is forgotten.
    pub fn keep(&mut self, draft: Draft) -> Known {
        let Draft { loaded, mut kept } = draft;
        let policies = || loaded.policies.iter().map(|policy| &policy.settings);
        let filters = || loaded.filters.iter().map(|filter| &filter.settings);
        kept.tallies.retain(|name, _| filters().any(|filter| filter.name == *name));
        kept.accounts.retain(|name, _| {
            policies().any(|policy| policy.name == *name) || filters().any(|filter| filter.name == *name)
        });
        kept.stores.retain(|name, _| {
            policies().any(|policy| policy.store == *name) || filters().any(|filter| filter.store == *name)
        });
        *self = Loader { engine: self.engine.take(), known: loaded.clone(), kept, has_run: true };
        loaded
    }

    fn policy(
        &mut self,
        settings: &settings::Policy,
        component: Arc<Component>,
        cores: usize,
        cache: Option<&Cache>,
    ) -> Result<Arc<Policy>, String> {
        let bytes = read(&settings.file, &inspect::POLICY)?;
        let digest: [u8; 32] = Sha256::digest(&bytes).into();
        let is_same = |policy: &&Arc<Policy>| {
            policy.settings == *settings && policy.source().is_some_and(|source| source.digest == digest)
        };
        if let Some(same) = self.known.policies.iter().find(is_same) {
            return Ok(Arc::clone(same));
        }
        let built = self.build(Origin { bytes: &bytes, digest, cores, cache })?;
        Policy::load(settings, component, cores, built).map(Arc::new)
    }

    fn filter(&mut self, parts: filter::Parts<'_>, cache: Option<&Cache>) -> Result<Arc<Filter>, Refused> {
        let bytes = read(&parts.settings.file, &inspect::FILTER)?;
        let digest: [u8; 32] = Sha256::digest(&bytes).into();
        let is_same = |filter: &&Arc<Filter>| {
            filter.settings == *parts.settings
                && filter.source().is_some_and(|source| source.digest == digest)
        };
        if let Some(same) = self.known.filters.iter().find(is_same) {
            return Ok(Arc::clone(same));
        }
        let built = self.build(Origin { bytes: &bytes, digest, cores: parts.cores, cache })?;
        Filter::load(parts, built).map(Arc::new)
    }

    /// Compiles a component, unless that was done already.
    fn build(&mut self, origin: Origin<'_>) -> Result<Built, String> {
        let Origin { bytes, digest, cores, cache } = origin;
        let (engine, maker) = self.engine(cores)?;
        let policies = self.known.policies.iter().filter_map(|policy| policy.source());
        let filters = self.known.filters.iter().filter_map(|filter| filter.source());
        let compiled = match policies.chain(filters).find(|source| source.digest == digest) {
            Some(alike) => alike.compiled.clone(),
            None => {
                compiler::component(&engine.wasmtime, cache, bytes).map_err(|error| format!("{error:#}"))?
            }
        };
        Ok(Built { engine, maker, source: Source { digest, compiled } })
    }

    fn engine(&mut self, cores: usize) -> Result<(Engine, Maker), String> {
        if let Some(there) = &self.engine {
            return Ok(there.clone());
        }
        let maker = Maker::start()
            .map_err(|error| format!("cannot start the thread that makes instances of guests: {error}"))?;
        let made = (Engine::new(cores)?, maker);
        self.engine = Some(made.clone());
        Ok(made)
    }
}

/// What of a guest's settings is about what it shares.
struct Shared<'a> {
    name: &'a str,
    config: &'a serde_json::Map<String, serde_json::Value>,
    store: &'a str,
    store_bytes: usize,
}

impl<'a> Shared<'a> {
    fn of_policy(settings: &'a settings::Policy) -> Shared<'a> {
        let settings::Policy { name, config, store, store_bytes, .. } = settings;
        Shared { name, config, store, store_bytes: *store_bytes }
    }

    fn of_filter(settings: &'a settings::Filter) -> Shared<'a> {
        let settings::Filter { name, config, store, store_bytes, .. } = settings;
        Shared { name, config, store, store_bytes: *store_bytes }
    }
}

impl Kept {
    /// What the instances of a guest share.
    fn component(&mut self, shared: Shared<'_>, cores: usize) -> Component {
        let Shared { name, config, store, store_bytes } = shared;
        let account = self.accounts.entry(name.to_owned());
        let store = self.stores.entry(store.to_owned());
        Component {
            name: name.to_owned(),
            config: config.clone(),
            store: Arc::clone(store.or_insert_with(|| Arc::new(Store::new(store_bytes)))),
            account: Arc::clone(account.or_insert_with(|| Arc::new(Account::new(cores)))),
        }
    }

    fn tally(&mut self, name: &str, cores: usize) -> Arc<Tally> {
        let tally = self.tallies.entry(name.to_owned());
        Arc::clone(tally.or_insert_with(|| Arc::new(Tally::new(cores))))
    }
}

/// The bytes of a file with such a component.
fn read(file: &Path, interface: &Interface) -> Result<Vec<u8>, String> {
    let bytes = crate::wasm::inspect::read(file).and_then(|bytes| {
        interface.check(&crate::wasm::inspect::world(&bytes)?)?;
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
        let draft =
            loader.load(&[missing("a", 1 << 20)], &[], 2, None).expect("the first load leaves it out");
        let kept = loader.keep(draft).policies;
        assert!(kept[0].failure().is_some_and(|why| why.contains("/nonexistent/policy.wasm")));
        let refused = loader.load(&[missing("a", 0), missing("b", 0)], &[], 2, None).err();
        assert!(refused.is_some_and(|why| why.starts_with("warpdrive.toml:1: policy `a`: ")));
        assert_eq!((loader.kept.accounts.len(), loader.kept.stores.len()), (1, 1));
        assert_eq!(kept[0].component.store.set("key", b"value", 0), Ok(()), "the store has its room");
    }
}
