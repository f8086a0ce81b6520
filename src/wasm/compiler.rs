//! From files to code that runs. Blocks and takes its time: for threads that serve nobody.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use wasmtime::component::Component;
use wasmtime_wasi_config::WasiConfigVariables;
use wasmtime_wasi_http::p2::bindings::ProxyPre;

use super::Tally;
use super::code_cache::{Cache, Key};
use super::engine::Engine;
use super::host::Host;
use super::pool::Counters;
use super::settings::{self, Settings, WorkloadId};
use super::throttle::{Bounds, Dropped, Throttle};
use super::workload::Router;
use super::{hooks, host, inspect};
use crate::net::total::Total;
use crate::telemetry::counters::Counter;

/// Lines of its output that a component may write on one core in a second.
const OUTPUT_LINES_MAX: u32 = 1000;

/// Components ready to be instantiated on any core, and how requests come to them. Without any,
/// nothing at all.
#[derive(Clone, Default)]
pub struct Guests {
    /// Indexed by [`settings::ComponentId`].
    pub components: Vec<Arc<Guest>>,
    workloads: Vec<Arc<Router>>,
    /// Indexed by the number of a policy.
    pub policies: Vec<Arc<hooks::Policy>>,
    /// Indexed by [`settings::FilterId`].
    pub filters: Vec<Arc<hooks::filter::Filter>>,
    /// Of the bodies that these are to see whole, by whatever plan.
    pub bodies: Arc<Total>,
}

/// One component and what its instances may do.
pub struct Guest {
    pub settings: settings::Component,
    pub(super) engine: Engine,
    pub(super) pre: ProxyPre<Host>,
    pub(super) config: Arc<WasiConfigVariables>,
    /// What all components together may have of one core.
    pub(super) share: Share,
    /// One for each core.
    pub counters: Box<[Counters]>,
    /// Of its output; one for each core.
    pub(super) output: Box<[Arc<Throttle>]>,
    digest: [u8; 32],
    component: Component,
}

/// A core's part of what there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    pub memory: u64,
    pub instances: u32,
}

impl Guests {
    /// How requests come to the components of a workload.
    pub fn router(&self, workload: WorkloadId) -> &Router {
        &self.workloads[workload.index()]
    }

    /// What each component has done.
    pub fn tallies(&self) -> Vec<Tally> {
        self.components.iter().map(|guest| guest.tally()).collect()
    }
}

impl Guest {
    fn tally(&self) -> Tally {
        let sum = |of: fn(&Counters) -> &Counter| self.counters.iter().map(|core| of(core).value()).sum();
        let dropped = |of: fn(&Dropped) -> u64| self.output.iter().map(|core| of(&core.dropped())).sum();
        Tally {
            name: self.settings.name.clone(),
            requests: sum(|core| &core.requests),
            failed: sum(|core| &core.failed),
            made: sum(|core| &core.made),
            reused: sum(|core| &core.reused),
            queued: sum(|core| &core.queued),
            refused: sum(|core| &core.refused),
            pauses: sum(|core| &core.pauses),
            shut_out: sum(|core| &core.shut_out),
            cpu_us: sum(|core| &core.cpu_us),
            outgoing: sum(|core| &core.outgoing),
            dropped_lines: dropped(|dropped| dropped.lines),
            dropped_bytes: dropped(|dropped| dropped.bytes),
        }
    }
}

/// Keeps the engine, and what was compiled last.
#[derive(Default)]
pub struct Compiler {
    engine: Option<Engine>,
    known: Vec<Arc<Guest>>,
    hooks: hooks::Loader,
    bodies: Arc<Total>,
}

impl Compiler {
    /// Compiles what is new; what is the same as before stays the same, with its instances.
    ///
    /// # Errors
    /// A component cannot be read, compiled or linked.
    pub fn compile(&mut self, settings: &Settings) -> Result<Guests, String> {
        let has_components = !settings.components.is_empty() || !settings.workloads.is_empty();
        let cache = match has_components || !settings.policies.is_empty() || !settings.filters.is_empty() {
            true => open_cache(settings),
            false => None,
        };
        let Settings { policies, filters, cores, .. } = settings;
        let hooks = self.hooks.load(policies, filters, *cores, cache.as_ref())?;
        if !has_components {
            self.known.clear();
            let hooks::Known { policies, filters } = self.hooks.keep(hooks);
            let bodies = Arc::clone(&self.bodies);
            return Ok(Guests { policies, filters, bodies, ..Guests::default() });
        }
        let engine = match &self.engine {
            Some(engine) => engine.clone(),
            None => Engine::new(settings.instances_total, settings.cores)?,
        };
        self.engine = Some(engine.clone());
        let work = Work { engine, cache, known: &self.known, settings };
        let components: Vec<Arc<Guest>> =
            settings.components.iter().map(|one| work.guest(one)).collect::<Result<_, _>>()?;
        let workloads = settings.workloads.iter().map(|workload| {
            let router =
                Router::new(workload).map_err(|wrong| format!("workload {}: {wrong}", workload.name));
            router.map(Arc::new)
        });
        let workloads = workloads.collect::<Result<_, _>>()?;
        self.known.clone_from(&components);
        let hooks::Known { policies, filters } = self.hooks.keep(hooks);
        Ok(Guests { components, workloads, policies, filters, bodies: Arc::clone(&self.bodies) })
    }
}

/// One run of the compiler.
struct Work<'a> {
    engine: Engine,
    cache: Option<Cache>,
    known: &'a [Arc<Guest>],
    settings: &'a Settings,
}

impl Work<'_> {
    fn guest(&self, wanted: &settings::Component) -> Result<Arc<Guest>, String> {
        let wrong = |reason: &str| format!("{}: {}: {reason}", wanted.place, wanted.file.display());
        let bytes = inspect::read(&wanted.file).map_err(|refusal| wrong(&refusal.message))?;
        let world = inspect::world(&bytes).map_err(|refusal| wrong(&refusal.message))?;
        inspect::check(&world).map_err(|refusal| wrong(&refusal.message))?;
        let digest: [u8; 32] = Sha256::digest(&bytes).into();
        let share = self.share();
        let is_alike = |guest: &&Arc<Guest>| guest.digest == digest;
        let is_same = |guest: &&Arc<Guest>| guest.settings == *wanted && guest.share == share;
        if let Some(same) = self.known.iter().filter(is_alike).find(is_same) {
            return Ok(Arc::clone(same));
        }
        let component = match self.known.iter().find(is_alike) {
            Some(alike) => alike.component.clone(),
            None => component(&self.engine.wasmtime, self.cache.as_ref(), &bytes)
                .map_err(|error| wrong(&format!("{error:#}")))?,
        };
        let linked = host::link(&self.engine.wasmtime, &component).and_then(ProxyPre::new);
        let pre = linked.map_err(|error| wrong(&format!("{error:#}")))?;
        let counters = std::iter::repeat_with(Counters::default).take(self.settings.cores).collect();
        let bounds = Bounds { lines: OUTPUT_LINES_MAX, bytes: wanted.limits.output_rate };
        let output = std::iter::repeat_with(|| Arc::new(Throttle::new(bounds)));
        Ok(Arc::new(Guest {
            settings: wanted.clone(),
            engine: self.engine.clone(),
            pre,
            config: Arc::new(wanted.config.iter().cloned().collect()),
            share,
            counters,
            output: output.take(self.settings.cores).collect(),
            digest,
            component,
        }))
    }

    fn share(&self) -> Share {
        let cores = self.settings.cores.max(1);
        Share {
            memory: self.settings.memory_total / cores as u64,
            instances: (self.settings.instances_total / cores as u32).max(1),
        }
    }
}

fn open_cache(settings: &Settings) -> Option<Cache> {
    let cache = Cache::open(&settings.cache_dir).map_err(|error| {
        let directory = settings.cache_dir.display();
        tracing::warn!("compiled components are not kept: {directory}: {error}");
    });
    cache.ok()
}

/// From the cache, or compiled and put there.
pub(super) fn component(
    engine: &wasmtime::Engine,
    cache: Option<&Cache>,
    bytes: &[u8],
) -> wasmtime::Result<Component> {
    let Some(cache) = cache else {
        return Component::from_binary(engine, bytes);
    };
    let key = Key::new(engine, bytes);
    if let Some(component) = cache.load(engine, &key) {
        return Ok(component);
    }
    let code = engine.precompile_component(bytes)?;
    if let Err(error) = cache.store(&key, &code) {
        tracing::warn!("a compiled component is not kept: {error}");
    }
    match cache.load(engine, &key) {
        Some(component) => Ok(component),
        None => Component::from_binary(engine, bytes),
    }
}
