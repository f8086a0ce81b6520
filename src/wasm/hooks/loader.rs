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
use super::filter::Filter;
use super::filter::tally::Tally;
use super::guest::Parts;
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

/// What a guest is compiled from.
#[derive(Clone)]
pub struct Source {
    pub digest: [u8; 32],
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

/// A file with a component, as it is now.
struct File {
    bytes: Vec<u8>,
    digest: [u8; 32],
}

impl Loader {
    /// Loads what is new; what is the same as before stays the same, with its instances. What cannot
    /// be loaded at the first time is left out, and says so.
    ///
    /// # Errors
    /// One cannot be loaded, and others run that can stay.
    pub fn load(
        &mut self,
        policies: &[settings::Guest],
        filters: &[settings::Filter],
        cores: usize,
        cache: Option<&Cache>,
    ) -> Result<Draft, String> {
        let mut draft = Draft { loaded: Known::default(), kept: self.kept.clone() };
        for settings in policies {
            let parts = draft.kept.parts(settings, cores);
            let policy = self.policy(parts.clone(), cache).or_else(|refused| {
                let reason = self.pass_over("policy", settings, refused, "left to the fallback")?;
                Ok::<_, String>(Arc::new(Policy::absent(parts, reason)))
            })?;
            draft.loaded.policies.push(policy);
        }
        for settings in filters {
            let parts = draft.kept.parts(&settings.guest, cores);
            let tally = draft.kept.tally(&settings.guest.name, cores);
            let filter = self.filter(parts.clone(), settings, &tally, cache).or_else(|refused| {
                let reason = self.pass_over("middleware", &settings.guest, refused, "not there")?;
                Ok::<_, String>(Arc::new(Filter::absent(parts, settings, tally, reason)))
            })?;
            draft.loaded.filters.push(filter);
        }
        Ok(draft)
    }

    /// Why it is left out, which is told.
    ///
    /// # Errors
    /// This may not be passed over.
    fn pass_over(
        &self,
        kind: &str,
        settings: &settings::Guest,
        refused: Refused,
        so: &str,
    ) -> Result<String, String> {
        let settings::Guest { name, place, .. } = settings;
        let Refused { reason, is_final } = refused;
        if self.has_run || is_final {
            return Err(format!("{place}: {kind} `{name}`: {reason}"));
        }
        tracing::error!("{place}: {kind} `{name}` is {so}: {reason}");
        Ok(reason)
    }

    /// What was loaded is to be in force, where the next load begins; what it does not need any more
    /// is forgotten.
    pub fn keep(&mut self, draft: Draft) -> Known {
        let Draft { loaded, mut kept } = draft;
        let guests = || {
            let policies = loaded.policies.iter().map(|policy| &policy.guest.settings);
            policies.chain(loaded.filters.iter().map(|filter| &filter.guest.settings))
        };
        kept.tallies.retain(|name, _| loaded.filters.iter().any(|one| one.guest.settings.name == *name));
        kept.accounts.retain(|name, _| guests().any(|guest| guest.name == *name));
        kept.stores.retain(|name, _| guests().any(|guest| guest.store == *name));
        *self = Loader { engine: self.engine.take(), known: loaded.clone(), kept, has_run: true };
        loaded
    }

    fn policy(&mut self, parts: Parts<'_>, cache: Option<&Cache>) -> Result<Arc<Policy>, Refused> {
        let file = File::read(&parts.settings.file, &inspect::POLICY)?;
        let is_same = |policy: &&Arc<Policy>| policy.guest.is(parts.settings, &file.digest);
        if let Some(same) = self.known.policies.iter().find(is_same) {
            return Ok(Arc::clone(same));
        }
        let built = self.build(&file, parts.cores, cache)?;
        Policy::load(parts, built).map(Arc::new)
    }

    fn filter(
        &mut self,
        parts: Parts<'_>,
        settings: &settings::Filter,
        tally: &Arc<Tally>,
        cache: Option<&Cache>,
    ) -> Result<Arc<Filter>, Refused> {
        let file = File::read(&parts.settings.file, &inspect::FILTER)?;
        if let Some(same) = self.known.filters.iter().find(|one| one.is(settings, &file.digest)) {
            return Ok(Arc::clone(same));
        }
        let built = self.build(&file, parts.cores, cache)?;
        Filter::load(parts, settings, Arc::clone(tally), built).map(Arc::new)
    }

    /// Compiles a component, unless that was done already.
    fn build(&mut self, file: &File, cores: usize, cache: Option<&Cache>) -> Result<Built, String> {
        let File { bytes, digest } = file;
        let (engine, maker) = self.engine(cores)?;
        let policies = self.known.policies.iter().filter_map(|policy| policy.guest.source());
        let filters = self.known.filters.iter().filter_map(|filter| filter.guest.source());
        let compiled = match policies.chain(filters).find(|source| source.digest == *digest) {
            Some(alike) => alike.compiled.clone(),
            None => {
                compiler::component(&engine.wasmtime, cache, bytes).map_err(|error| format!("{error:#}"))?
            }
        };
        Ok(Built { engine, maker, source: Source { digest: *digest, compiled } })
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

impl Kept {
    /// A guest before its code: with what its instances share.
    fn parts<'a>(&mut self, settings: &'a settings::Guest, cores: usize) -> Parts<'a> {
        let account = self.accounts.entry(settings.name.clone());
        let store = self.stores.entry(settings.store.clone());
        let component = Component {
            name: settings.name.clone(),
            config: settings.config.clone(),
            store: Arc::clone(store.or_insert_with(|| Arc::new(Store::new(settings.store_bytes)))),
            account: Arc::clone(account.or_insert_with(|| Arc::new(Account::new(cores)))),
        };
        Parts { settings, component: Arc::new(component), cores }
    }

    fn tally(&mut self, name: &str, cores: usize) -> Arc<Tally> {
        let tally = self.tallies.entry(name.to_owned());
        Arc::clone(tally.or_insert_with(|| Arc::new(Tally::new(cores))))
    }
}

impl File {
    /// # Errors
    /// It cannot be read, or has no component with this interface.
    fn read(path: &Path, interface: &Interface) -> Result<File, String> {
        let bytes = crate::wasm::inspect::read(path).and_then(|bytes| {
            interface.check(&crate::wasm::inspect::world(&bytes)?)?;
            Ok(bytes)
        });
        let bytes = bytes.map_err(|refusal| format!("{}: {}", path.display(), refusal.message))?;
        Ok(File { digest: Sha256::digest(&bytes).into(), bytes })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::settings::Limits;
    use super::*;

    fn missing(name: &str, store_bytes: usize) -> settings::Guest {
        settings::Guest {
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
        assert!(kept[0].guest.failure().is_some_and(|why| why.contains("/nonexistent/policy.wasm")));
        let refused = loader.load(&[missing("a", 0), missing("b", 0)], &[], 2, None).err();
        assert!(refused.is_some_and(|why| why.starts_with("warpdrive.toml:1: policy `a`: ")));
        assert_eq!((loader.kept.accounts.len(), loader.kept.stores.len()), (1, 1));
        assert_eq!(kept[0].guest.component.store.set("key", b"value", 0), Ok(()), "the store has its room");
    }
}
